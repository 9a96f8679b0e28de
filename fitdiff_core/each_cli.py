"""`fitdiff PHOTO|FOLDER ... --each`: every photo becomes a head of its own, in a folder of its own.

The networks are loaded once. A photo that fails is named at the end and the next one is taken. What a former call has
finished is left alone, so a stopped call goes on where it was.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Callable
from pathlib import Path

from .errors import UserError, out_of_memory
from .files import PICTURES

PHOTOS = (*PICTURES, ".heic", ".heif", ".avif")


def photos_of(paths: list[str]) -> list[Path]:
    """The photos that are meant: files as they are, of a folder the pictures in it by name.

    Raises UserError for a path that does not exist, and where there is no photo.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            found += sorted(p for p in path.iterdir() if p.suffix.lower() in PHOTOS)
        elif path.is_file():
            found.append(path)
        else:
            raise UserError(f"There is no file or folder {path}.")
    if not found:
        raise UserError("--each found no photo; give photos, or folders that hold some.")
    return found


def folders_of(photos: list[Path], out: Path) -> list[Path]:
    """A folder below `out` for each photo, by its name; photos of one name are numbered."""
    taken: dict[str, int] = {}
    found = []
    for photo in photos:
        taken[photo.stem] = n = taken.get(photo.stem, 0) + 1
        found.append(out / (photo.stem if n == 1 else f"{photo.stem}_{n}"))
    return found


def run_each(args: argparse.Namespace, make_one: Callable[[argparse.Namespace], dict]) -> int:
    """All photos of `args.photo`. make_one: makes one head of arguments, and gives its report.

    Exit status: 0 all done, 1 where some failed. Raises UserError as `photos_of`.
    """
    photos = photos_of(args.photo)
    failed: list[str] = []
    made = there = 0
    for photo, folder in zip(photos, folders_of(photos, Path(args.out)), strict=True):
        if (folder / "report.json").is_file():  # written last
            there += 1
            continue
        one = copy.copy(args)
        one.photo, one.out = [str(photo)], str(folder)
        try:
            report = make_one(one)
        except (UserError, OSError) as e:
            failed.append(f"{photo}: {e}")
        except (MemoryError, RuntimeError) as e:
            if not out_of_memory(e):
                raise
            failed.append(f"{photo}: out of memory")
        else:
            made += 1
            likeness = "".join(f", similarity {v:.2f}" for v in report["similarity"].values())
            print(f"{folder}: {report['seconds']['total']:.0f} s{likeness}", flush=True)
    before = f", {there} were there before" if there else ""
    print(f"{made} heads made{before}, {len(failed)} failed")
    for line in failed:
        print(f"error: {line}", file=sys.stderr)
    return 1 if failed else 0
