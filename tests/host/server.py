"""Start the ComfyUI test host on a free port of this machine, in a folder of its own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from . import install
from .install import FRONTEND, ROOT

# another ComfyUI than the one of `make host`, a newer one say: its folder, and a Python that has its requirements
APP = Path(os.environ.get("FITDIFF_COMFYUI") or install.APP)
PYTHON = Path(os.environ.get("FITDIFF_COMFYUI_PYTHON") or install.PYTHON)
SHIM = Path(__file__).parent / "shim"
FOREIGN_PACK = Path(__file__).parent / "foreign_pack"
PACK = "fd-pack"  # on purpose not the repository's name: the nodes must not depend on the folder they sit in
START_SECONDS = 180
NEWEST_FRONTEND = FRONTEND / "comfyui_frontend_package" / "static"
SETTINGS = {  # a first visit without tutorial and pop-ups
    "Comfy.TutorialCompleted": True,
    "Comfy.InstalledVersion": "1.32.9",
    "Comfy.Minimap.Visible": False,
    "Comfy.Graph.CanvasInfo": False,
    "Comfy.Workflow.ShowMissingModelsWarning": False,
}


def installed() -> bool:
    return PYTHON.exists() and (APP / "main.py").exists()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """ComfyUI with this repository as a custom node, beside a small foreign one, and an empty `input/`.

    base: the folder of its models, input, output and log.
    frontend: a folder with index.html; None serves the one that belongs to this ComfyUI.
    """

    def __init__(self, base: Path, pack: Path = ROOT, frontend: Path | None = None):
        self.base, self.port, self.frontend = Path(base), free_port(), frontend
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_file = self.base / "server.log"
        for name in ("custom_nodes", "models", "input", "output", "temp", "user/default"):
            (self.base / name).mkdir(parents=True, exist_ok=True)
        for name, target in ((PACK, pack), ("another-pack", FOREIGN_PACK)):
            link = self.base / "custom_nodes" / name
            if not link.exists():
                link.symlink_to(target, target_is_directory=True)
        (self.base / "user/default/comfy.settings.json").write_text(json.dumps(SETTINGS))
        self.process: subprocess.Popen | None = None

    def start(self) -> Server:
        # offline, and one thread: two on a busy machine of two cores are slower
        env = dict(os.environ, PYTHONPATH=str(SHIM), HF_HUB_OFFLINE="1", PYTHONUNBUFFERED="1", OMP_NUM_THREADS="1")
        command = [
            PYTHON,
            "-B",
            APP / "main.py",
            "--cpu",
            "--listen",
            "127.0.0.1",
            "--port",
            self.port,
            "--base-directory",
            self.base,
            "--user-directory",
            self.base / "user",
            "--database-url",
            f"sqlite:///{self.base}/user/comfyui.db",
            "--disable-api-nodes",
            *(["--front-end-root", self.frontend] if self.frontend else []),
        ]
        with self.log_file.open("w") as log:
            self.process = subprocess.Popen(
                [str(c) for c in command],
                cwd=self.base,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + START_SECONDS
        try:
            while not self.answers():
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"ComfyUI did not start:\n{self.log()[-3000:]}")
                time.sleep(0.2)
        except BaseException:  # a test's time limit too must not leave it running
            self.stop()
            raise
        return self

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/system_stats", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *exc) -> None:
        self.stop()


if __name__ == "__main__":  # python -m tests.host.server DIR: a host to play with
    with Server(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / ".comfy-host/base").resolve()) as server:
        print(server.url, flush=True)
        server.process.wait()
