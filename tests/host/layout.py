"""Write workflows/NAME.json (for people) from workflows/api/NAME.json (for programs): the same graph with a layout.

    python -m tests.host.layout [NAME ...]      (or `make workflows`; needs the test host)

The real frontend does the conversion, so the files are what it would save itself. `layouts.py` says what stands where.
"""

from __future__ import annotations

import json
import sys
import tempfile
import tomllib
from pathlib import Path

from tests.support.layouts import LAYOUTS

from .browser import open_tab
from .install import ROOT
from .server import NEWEST_FRONTEND, Server

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
VERSION = PROJECT["project"]["version"]
COMFYUI = PROJECT["tool"]["comfy"]["requires-comfyui"].removeprefix(">=")
REGISTRY_NAME = "fitdiff"  # by which ComfyUI's manager offers to install the pack where it is missing
LATER_SLOTS = {"ImageBatch": 1}  # that hosts newer than the one of `make host` show too
VIEW, POINTS = (1700, 900), 18  # pixels of the canvas on a usual screen; of a group's title on it
SLOT = 24  # pixels of one input or output
# How high nodes are as page elements (Vue nodes), title and footer included, when they may be as low as they can.
LEAST_HEIGHTS = """async () => {
    for (const node of app.graph.nodes) node.setSize([node.size[0], 20]);
    await new Promise(done => setTimeout(done, 1500));
    return Object.fromEntries([...document.querySelectorAll('[data-node-id]')]
        .map(e => [e.dataset.nodeId, e.offsetHeight]));
}"""
# Groups stand side by side in rows; in a group columns side by side; in a column nodes below one another, as high as
# their widgets need and as wide as the column's widest. LiteGraph draws a node's title above its position, 30 px high.
# `tall` is what a node takes at most in either frontend: the next one stands below that.
PLACE = """({seed, rows, tall, view, points}) => {
    const TITLE = 30, GAP = 40, COLUMN = 50, EDGE = 20, BETWEEN = 40, HEAD = 90;
    for (const node of app.graph.nodes)
        for (const widget of node.widgets ?? [])
            if (widget.name === 'control_after_generate') widget.value = seed;
    const make = (item) => {
        if (item.node) return app.graph.getNodeById(Number(item.node));
        const note = LiteGraph.createNode('MarkdownNote');
        app.graph.add(note);
        note.title = 'About';
        note.widgets[0].value = item.note;
        return note;
    };
    let top = 0;
    for (const row of rows) {
        let left = 0, bottom = 0;
        const groups = [];
        for (const {title, color, columns} of row) {
            const start = left;
            let end = 0;
            left += EDGE;
            for (const {width: wanted, items} of columns) {
                const nodes = items.map(make);
                const least = nodes.map((n, i) => items[i].node ? n.computeSize() : [0, 0]);
                const width = Math.ceil(Math.max(wanted, ...least.map(s => s[0])));
                let y = top + HEAD + TITLE;
                nodes.forEach((node, i) => {
                    node.pos = [left, y];
                    node.setSize([width, Math.max(items[i].height, least[i][1])]);
                    y += Math.max(node.size[1], (tall[node.id] ?? 0) - TITLE) + GAP + TITLE;
                });
                end = Math.max(end, y - TITLE - GAP + EDGE);
                left += width + COLUMN;
            }
            left += EDGE - COLUMN;
            const group = new LiteGraph.LGraphGroup(title);
            group.color = color;
            bottom = Math.max(bottom, end);
            const notes = columns.every(c => c.items.every(i => i.note));
            groups.push([group, start, left - start, notes && end]);
            left += BETWEEN;
        }
        for (const [group, x, width, end] of groups) {  // all as high as the highest, but for notes
            group.pos = [x, top];
            group.size = [width, (end || bottom) - top];
            app.graph.add(group);
        }
        top = bottom + 2 * BETWEEN;
    }
    // titles as large as they must be to be read when the page shows the whole graph, where their group is wide enough
    const groups = app.graph._groups ?? app.graph.groups;
    const right = Math.max(...groups.map(g => g.pos[0] + g.size[0]));
    const low = Math.max(...groups.map(g => g.pos[1] + g.size[1]));
    const zoom = Math.min(view[0] / right, view[1] / low, 1);
    for (const g of groups)
        g.font_size = Math.floor(Math.min(Math.max(24, points / zoom), 56, (g.size[0] - 20) / (0.56 * g.title.length)));
}"""


def tidy(graph: dict, app: dict | None = None) -> dict:
    """Drop what belongs to this machine (the view, the random id), and say which pack each node is of.

    app: what the app mode of newer frontends shows: "inputs" (node id, widget) and "outputs" (node ids). The
    workflow opens as a graph all the same: the frontend of ComfyUI 0.3.75 knows `linearMode` too, but shows no results.
    """
    for node in graph["nodes"]:
        if node["type"] == "MarkdownNote":
            continue
        properties = node.setdefault("properties", {})
        ours = node["type"].startswith("FitDiff_")
        properties |= {"cnr_id": REGISTRY_NAME, "ver": VERSION} if ours else {"cnr_id": "comfy-core", "ver": COMFYUI}
        properties.pop("aux_id", None)
    graph["extra"] = {}
    if app:
        inputs = [[int(node), widget] for node, widget in app["inputs"]]
        graph["extra"] = {
            "linearMode": False,
            "linearData": {"inputs": inputs, "outputs": list(map(int, app["outputs"]))},
        }
    return graph


def twin(name: str) -> dict:
    return json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text())


def heights(names: list[str]) -> dict[str, dict[str, float]]:
    """Workflow -> node id -> the least height of its Vue node in the newest frontend, with the slots of newer hosts."""
    found = {}
    with tempfile.TemporaryDirectory() as base, Server(Path(base), frontend=NEWEST_FRONTEND) as server:
        for name in names:
            with open_tab(server.url, vue=True) as tab:
                tab.load(twin(name))
                tab.page.wait_for_timeout(1000)
                tall = tab.page.evaluate(LEAST_HEIGHTS)
            found[name] = {k: tall[k] + SLOT * LATER_SLOTS.get(v["class_type"], 0) for k, v in twin(name).items()}
    return found


def main(names: list[str]) -> None:
    names = names or list(LAYOUTS)
    tall = heights(names)
    with tempfile.TemporaryDirectory() as base, Server(Path(base)) as server:
        for name in names:
            with open_tab(server.url) as tab:  # a fresh one: the page keeps pictures of nodes by their number
                tab.load(twin(name))
                tab.page.evaluate(PLACE, LAYOUTS[name] | {"tall": tall[name], "view": VIEW, "points": POINTS})
                graph = tidy(tab.serialize(), LAYOUTS[name].get("app"))
            text = json.dumps(graph, indent=1, ensure_ascii=False)
            (ROOT / "workflows" / f"{name}.json").write_text(text + "\n", encoding="utf-8")
            print(f"workflows/{name}.json", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
