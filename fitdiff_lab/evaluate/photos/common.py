"""Shared by the commands of this folder: options, photos, judges, means, JSON and table cells."""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import statistics
from collections.abc import Iterable
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path

from fitdiff_core.errors import UserError
from fitdiff_core.sampling import SampleSettings

from ...cli import command_parser

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
FRONTAL = 30.0  # degrees of yaw up to which a photo counts as frontal


def arguments(module: str, doc: str, out: str) -> argparse.ArgumentParser:
    """The options that all commands on a folder of photos share.

    module, doc: as in `command_parser`. out: default of --out.
    """
    p = command_parser(module, doc)
    p.add_argument("photos", type=Path, help="folder of photos")
    p.add_argument("--out", type=Path, default=Path(out), help="folder of the results (%(default)s)")
    p.add_argument("--steps", type=int, default=SampleSettings.steps, help="of the sampler (%(default)s)")
    p.add_argument(
        "--judge", action="append", default=[], metavar="FILE", help="Python file with a class Judge; may be repeated"
    )
    p.add_argument(
        "--recognizer",
        action="append",
        default=[],
        metavar="FILE",
        help="one more recogniser to ask: an ArcFace .onnx file or a pack folder; may be repeated",
    )
    p.add_argument("--limit", type=int, help="only the first N photos")
    return p


def photos_in(folder: Path, limit: int | None = None) -> list[Path]:
    """The folder's photos, sorted by name, at most `limit`. Raises UserError for none, and for two of one name."""
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES) if folder.is_dir() else []
    if not found:
        raise UserError(f"No photos in {folder}; give a folder with {', '.join(sorted(SUFFIXES))} files.")
    stems = [p.stem for p in found]
    if double := sorted({s for s in stems if stems.count(s) > 1}):
        raise UserError(f"Two photos are called {double[0]} in {folder}; results are kept by that name, rename one.")
    return found[:limit]


def load_judge(path: str):
    """The `Judge()` of a Python file.

    `similarity(photo, render)` returns a cosine. `embed(photo)` returns a unit vector, or None where it finds no face.
    The file is executed, with your rights. Raises UserError where there is no such file.
    """
    spec = importlib.util.spec_from_file_location("judge", path)
    if spec is None or not Path(path).is_file():
        raise UserError(f"No judge {path}; give a Python file with a class Judge.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Judge()


def mean(values: Iterable[float | None]) -> float:
    """Mean of the finite values; NaN where there is none."""
    finite = [v for v in values if v is not None and math.isfinite(v)]
    return statistics.fmean(finite) if finite else float("nan")


def plain(value):
    """A value for JSON: NaN and infinity, which JSON does not have, become None."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def default_values(kind: type) -> dict:
    """The defaults of a dataclass, as JSON takes them: a fingerprint of its constants.

    kind: a dataclass. Fields without a default are left out. `default_factory` is called. A default that is a dataclass
    itself becomes a dictionary of all its values, at any depth.
    Raises TypeError for a default that JSON cannot hold.
    """
    found = {}
    for f in fields(kind):
        if f.default is not MISSING:
            found[f.name] = _as_json(f.default)
        elif f.default_factory is not MISSING:
            found[f.name] = _as_json(f.default_factory())
    return found


def _as_json(value):
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _as_json(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict):
        return {str(k): _as_json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(v) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a {type(value).__name__} cannot be part of a fingerprint")


def write_json(path: Path, value) -> None:
    """Write a JSON file in one rename."""
    from fitdiff_core.files import write_atomic

    write_atomic(path, (json.dumps(plain(value), indent=2, allow_nan=False) + "\n").encode())


def cell(value: float | None, digits: int = 2) -> str:
    """A number as text for tables; a dash where there is none."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"
