"""Blender, where there is one: on the path, as the `bpy` package, or named by FITDIFF_BLENDER.

The `bpy` package may be here or in the folder of `make tools`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from .install import TOOLS

SCRIPT = Path(__file__).with_name("blender_scene.py")


def blender() -> list[str] | None:
    """How to run a script in Blender, or None. FITDIFF_BLENDER: a blender executable, or a Python that has bpy."""
    named = os.environ.get("FITDIFF_BLENDER") or shutil.which("blender")
    if named and "python" in Path(named).name:
        return [named]
    if named:
        return [named, "-b", "--factory-startup", "--python-exit-code", "1", "--python"]
    if importlib.util.find_spec("bpy"):
        return [sys.executable]
    installed = list(TOOLS.glob("venv/lib/*/site-packages/bpy"))
    return [str(TOOLS / "venv" / "bin" / "python")] if installed else None


def render(
    glb: Path, picture: Path, side: int, samples: int, weights: dict[str, float], report: str = "REPORT"
) -> dict:
    """Open a GLB, render it with these shape keys, and return what `blender_scene.py` reports of it.

    weights: "second" stands for a time of the file's animation; "PLAYED" then reports what it shows
    """
    done = subprocess.run(
        [
            *blender(),
            str(SCRIPT),
            "--",
            str(glb),
            str(picture),
            str(side),
            str(samples),
            *(f"{k}={v}" for k, v in weights.items()),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    if done.returncode:
        raise RuntimeError(f"Blender failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    line = next(x for x in done.stdout.splitlines() if x.startswith(f"{report} "))
    return json.loads(line.removeprefix(f"{report} "))
