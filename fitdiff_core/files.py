"""Writing files so that a crash or a full disk leaves the old file, never half a new one."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import UserError


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a temporary path in the folder of `path` to write to; it is renamed to `path` at the end.

    Missing folders are made. After any exception the temporary file is removed. Raises UserError in place of OSError.
    """
    path = Path(path)
    # cut, because a file name has a limited length
    part = path.with_name(f".{path.name[:40]}.{os.getpid()}.part")
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield part
            os.replace(part, path)
        except BaseException:  # also after an interrupt
            with contextlib.suppress(OSError):
                part.unlink()
            raise
    except OSError as e:
        raise UserError(f"Cannot write {path} ({e.strerror or e}); check free space and permissions.") from e


def write_atomic(path: str | os.PathLike, data: bytes) -> Path:
    """Write bytes to `path` as `atomic_path`; returns the path."""
    with atomic_path(path) as part:
        part.write_bytes(data)
    return Path(path)


def write_json(path: str | os.PathLike, value: Any, indent: int = 1) -> Path:
    """Write a value as JSON with a final newline, as `write_atomic`."""
    return write_atomic(path, (json.dumps(value, indent=indent) + "\n").encode())
