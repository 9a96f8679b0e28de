"""Install the programs that `tests/host/tools.py` asks: `python -m tests.host.install_tools` (or `make tools`).

Into `.comfy-host/tools` (or the folder of FITDIFF_TOOLS) go Python packages and Babylon.js. assimp and Godot 3 come
from apt, where there is one and this is root; they stay on the system. What cannot be had is left out, and said.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from .install import TOOLS

# bpy has wheels for one version of Python in each release; pip finds the one that fits
PACKAGES = ("trimesh", "pygltflib", "usd-core", "bpy")
MODULES = ("babylonjs", "babylonjs-loaders")
PROGRAMS = {"assimp": "assimp-utils", "godot3-server": "godot3-server"}


def attempt(*command: object) -> None:
    """Run a command; say so if it fails, and go on."""
    command = [str(c) for c in command]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        print(f"tools: {' '.join(command[-3:])} failed: {(done.stderr or done.stdout).strip()[-200:]}", flush=True)


def main() -> None:
    python = TOOLS / "venv" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(TOOLS / "venv")], check=True)
    for package in PACKAGES:
        extra = os.environ.get("PIP_ARGS", "").split()
        attempt(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *extra, package)
    if any(not (TOOLS / "node_modules" / name).is_dir() for name in MODULES):
        attempt("npm", "install", "--prefix", TOOLS, "--no-audit", "--no-fund", "--loglevel=error", *MODULES)
    for program, package in PROGRAMS.items():
        if not shutil.which(program) and shutil.which("apt-get") and os.geteuid() == 0:
            attempt("apt-get", "install", "-y", "-qq", "--no-install-recommends", package)


if __name__ == "__main__":
    main()
