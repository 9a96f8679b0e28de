"""Do what a new user does and print the seconds of each step: install, start ComfyUI, drop and run a workflow.

    python -m tests.host.stranger [STEPS [WORKFLOW]]      (needs the test host; STEPS: of the sampler, else 50)

ComfyUI itself and torch are installed already, and the clone is from this disk: add your download.
The pack is what git has. The `input/` folder is empty: the workflow must bring its photo.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .browser import open_tab
from .install import ROOT
from .server import PYTHON, Server

WORKFLOW = "photo_to_head"  # or another, as the second argument
LOADED = "() => app.graph.nodes.some(n => n.type === 'Preview3D')"
STEPS = (
    "(steps) => { for (const n of app.graph.nodes) for (const w of n.widgets ?? [])"
    " if (w.name === 'steps') w.value = steps; }"
)


class Watch:
    """Prints each step's seconds, and adds them up."""

    def __init__(self) -> None:
        self.total, self.start = 0.0, time.monotonic()

    def lap(self, what: str) -> None:
        now = time.monotonic()
        self.total += now - self.start
        print(f"{now - self.start:7.1f} s  {what}", flush=True)
        self.start = time.monotonic()


def main(steps: int | None, workflow: str, base: Path) -> None:
    pack, watch = base / "fitdiff", Watch()
    subprocess.run(["git", "clone", "-q", "--depth", "1", f"file://{ROOT}", str(pack)], check=True)
    size = sum(f.stat().st_size for f in pack.rglob("*") if f.is_file() and ".git" not in f.parts) / 1e6
    watch.lap(f"git clone ({size:.0f} MB of files)")
    pip = [PYTHON, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", pack / "requirements.txt"]
    subprocess.run([str(c) for c in pip], check=True)
    watch.lap("pip install -r requirements.txt")
    with Server(base / "comfyui", pack) as server:
        if any((base / "comfyui" / "input").iterdir()):
            sys.exit("the input folder is not empty")
        watch.lap("ComfyUI starts, until it answers")
        with open_tab(server.url) as tab:
            watch.lap("the browser opens it")
            tab.load_file(pack / "workflows" / f"{workflow}.json")
            tab.page.wait_for_function(LOADED)
            if tab.alerts():
                sys.exit(f"the page complains: {tab.alerts()}")
            watch.lap(f"{workflow}.json dropped and shown")
            if steps:
                tab.page.evaluate(STEPS, steps)
            end = tab.queue(timeout=1200)
            files = list((base / "comfyui" / "output").rglob("*.glb"))
            if end != "execution_success" or not files:
                sys.exit(f"no GLB: {end}")
            watch.lap(f"queued, until all of it is done ({files[0].name}, {files[0].stat().st_size / 1e6:.1f} MB)")
    print(f"{watch.total:7.1f} s  together")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else None, (sys.argv[2:] or [WORKFLOW])[0], Path(folder))
