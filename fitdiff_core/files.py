"""Atomic file writing (a crash or a full disk leaves the old file unchanged), and a check of file names."""

from __future__ import annotations

import contextlib
import contextvars
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import UserError
from .progress import check

# names that Windows keeps for devices
RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in range(1, 10))}
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")  # suffixes that Pillow reads everywhere
LONGEST = 200  # bytes of one name; file systems take 255, and a number and a suffix are added


_new_files: contextvars.ContextVar[list[Path] | None] = contextvars.ContextVar("new_files", default=None)


@contextlib.contextmanager
def all_or_none() -> Iterator[None]:
    """Removes the new files that `atomic_path` wrote inside, if an exception ends the block. Folders stay."""
    files: list[Path] = []
    token = _new_files.set(files)
    try:
        yield
    except BaseException:
        for path in files:
            with contextlib.suppress(OSError):
                path.unlink()
        raise
    finally:
        _new_files.reset(token)


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
            check()
            yield part
            check()
            new, files = not path.exists(), _new_files.get()
            os.replace(part, path)
            if new and files is not None:
                files.append(path)
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


def bad_prefix(prefix: str) -> str | None:
    """What is wrong with a relative file name prefix such as "fitdiff/avatar", or None.

    The rules are the same on every system, so that a graph made on one runs on the others.
    """
    parts = prefix.strip().replace("\\", "/").split("/")
    if not parts[-1] or parts[-1] == ".":
        return "The file name prefix is empty; give a name such as fitdiff/avatar."
    drive = any(part[1:2] == ":" and part[0].isalpha() for part in parts)
    if ".." in parts or os.path.isabs(prefix.strip()) or drive or parts[0] in ("", "~"):
        return (
            f"The file name prefix '{prefix}' leads out of the output folder; give a relative one such as "
            "fitdiff/avatar."
        )
    if any(ord(c) < 32 or 0xD800 <= ord(c) < 0xE000 for c in prefix):
        return "The file name prefix holds control characters; give a plain name such as fitdiff/avatar."
    for part in parts:
        if (
            part.endswith((".", " "))
            and part != "."
            or set(part) & set('<>:"|?*')
            or part.split(".")[0].lower() in RESERVED
        ):
            return f"'{part}' in the file name prefix is no name on Windows; give a plain one such as fitdiff/avatar."
        if len(part.encode()) > LONGEST:
            return f"The file name prefix is too long ({len(part.encode())} bytes in one name); use at most {LONGEST}."
    return None
