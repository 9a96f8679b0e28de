"""Make the picture of each node that README and help pages show: the node alone, as the newest frontend draws it.

    python -m tests.host.node_pictures [FitDiff_X ...]      (or `make previews`; needs the test host)

Nothing runs: a node shows its slots and widgets with their defaults. Each PNG names its node's slots and widgets in its
`shows` text, so that a test can tell when a node has changed and its picture has not.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image, PngImagePlugin

from tests.support.pictures import FOLDER, SCALE, WIDTH, shows

from .browser import Tab, open_tab
from .client import Client
from .install import ROOT
from .server import NEWEST_FRONTEND, PACK, Server

MARGIN = 12  # page pixels of canvas round it
CANVAS = "#3a3c42"  # lighter than the nodes, so that their edge shows
COLOURS = 256  # a node is a flat drawing: few colours make a small file
CALM = """async (colour) => {  // no badges with the test's folder name, no grid
    for (const badge of ['NodeSource', 'NodeId', 'NodeLifeCycle'])
        await app.extensionManager.setting.set(`Comfy.NodeBadge.${badge}BadgeMode`, 'None');
    app.canvas.background_image = '';
    app.canvas.clear_background_color = colour;
}"""
ADD = """([type, width]) => {
    app.graph.clear();
    const node = LiteGraph.createNode(type);
    app.graph.add(node);
    node.pos = [400, 200];
    node.setSize([width, 20]);  // as low as its widgets allow
    app.canvas.deselectAll();
}"""
BOX = """() => {
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = [0, 0];
    app.canvas.setDirty(true, true);
    const box = document.querySelector('[data-node-id]')?.getBoundingClientRect();
    return box && {x: box.x, y: box.y, width: box.width, height: box.height};
}"""


def standing_still(tab: Tab, seconds: float = 30) -> dict[str, float]:
    """Where the only node is, once it stopped moving there."""
    before = None
    for _ in range(int(seconds / 0.5)):
        tab.page.wait_for_timeout(500)
        box = tab.page.evaluate(BOX)
        if box and box == before and abs(box["width"] - WIDTH) < 1:
            return box
        before = box
    raise SystemExit(f"the node does not settle: {before}")


def picture(tab: Tab, node: str) -> Image.Image:
    tab.page.evaluate(ADD, [node, WIDTH])
    box = standing_still(tab)
    clip = {
        "x": box["x"] - MARGIN,
        "y": box["y"] - MARGIN,
        "width": box["width"] + 2 * MARGIN,
        "height": box["height"] + 2 * MARGIN,
    }
    image = Image.open(io.BytesIO(tab.page.screenshot(clip=clip, timeout=120_000))).convert("RGB")
    return image.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)


def main(names: list[str]) -> None:
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as base, Server(Path(base), frontend=NEWEST_FRONTEND) as server:
        (Path(base) / "input" / "studio.hdr").touch()  # a name for Load Environment's list
        nodes = {
            k: v
            for k, v in Client(server.url).get_json("/object_info").items()
            if v["python_module"] == f"custom_nodes.{PACK}"
        }
        with open_tab(server.url, vue=True, scale=SCALE) as tab:
            tab.page.evaluate(CALM, CANVAS)
            # Load Photo last: the page keeps its photo by the node's number, and would show it on the next node
            for node in sorted(names or nodes, key="FitDiff_LoadPhoto".__eq__):
                text = PngImagePlugin.PngInfo()
                text.add_text("shows", shows(nodes[node]))
                file = FOLDER / f"{node}.png"
                picture(tab, node).save(file, optimize=True, pnginfo=text)
                print(f"{file.relative_to(ROOT)}  {file.stat().st_size / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
