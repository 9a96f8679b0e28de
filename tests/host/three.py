"""A GLB in three.js, in a real browser with WebGL on the CPU; nothing is served but files of this machine."""

from __future__ import annotations

import io
import mimetypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
from PIL import Image
from playwright.sync_api import Page, Route, sync_playwright

from .browser import FLAGS
from .install import HOST, find_browser

PAGE = Path(__file__).with_name("three.html")
THREE = HOST / "node_modules" / "three"
OLD_THREE = HOST / "node_modules" / "three-r145"  # before morph targets and colours changed; ComfyUI packs ship such
ORIGIN = "http://viewer.test"  # never looked up: every request is answered below


def installed(three: Path = THREE) -> bool:
    return three.is_dir() and find_browser() is not None


@dataclass
class Viewer:
    """The page. `problems`: errors and warnings of its console."""

    page: Page
    problems: list[str] = field(default_factory=list)

    def about(self) -> dict:
        """What the loader made of each mesh: material, maps, morph targets."""
        return self.page.evaluate("() => viewer.about()")

    def clips(self) -> list[dict]:
        """Name, seconds and number of tracks of each animation in the file."""
        return self.page.evaluate("() => viewer.clips")

    def play(self, seconds: float) -> dict:
        """The animation at a time: jawOpen of each mesh, and the joints' rotations (x, y, z, w) in the world."""
        return self.page.evaluate("(t) => viewer.play(t)", seconds)

    def picture(self, weights: dict[str, float] | None = None) -> np.ndarray:
        """`[H, W, 3]` in 0..1 with these morph weights by name; None: as the file has them."""
        self.page.evaluate("(w) => w ? viewer.pose(w) : viewer.draw()", weights)
        return np.asarray(Image.open(io.BytesIO(self.page.screenshot(timeout=120_000))).convert("RGB")) / 255.0


@contextmanager
def open_viewer(glb: Path, side: int = 320, three: Path = THREE) -> Iterator[Viewer]:
    """The GLB shown in a square window of `side` pixels. three: `THREE` or `OLD_THREE`."""

    def answer(route: Route) -> None:
        path = urlparse(route.request.url).path
        file = {"/": PAGE, "/avatar.glb": glb}.get(path) or three / path.removeprefix("/three/")
        if file.is_file():
            kind = "text/javascript" if file.suffix == ".js" else mimetypes.guess_type(file.name)[0]
            route.fulfill(body=file.read_bytes(), content_type=kind or "application/octet-stream")
        else:
            route.fulfill(status=404)

    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=find_browser(), headless=True, args=FLAGS)
        try:
            page = browser.new_page(viewport={"width": side, "height": side})
            viewer = Viewer(page)
            page.on(
                "console", lambda m: viewer.problems.append(m.text[:300]) if m.type in ("error", "warning") else None
            )
            page.on("pageerror", lambda e: viewer.problems.append(str(e)[:300]))
            page.route(f"{ORIGIN}/**", answer)
            page.goto(ORIGIN + "/")
            page.wait_for_function("() => window.loaded", timeout=120_000)
            yield viewer
        finally:
            browser.close()
