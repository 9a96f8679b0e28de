"""Write workflows/NAME.json, for people, from workflows/api/NAME.json, for programs: same graph, laid out and explained.

    python -m tests.host.layout [NAME ...]      (or `make workflows`; needs the test host)

The real frontend does the conversion, so the files are what it would save itself. `layouts.py` says what stands where.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from .browser import open_tab
from .install import ROOT
from .layouts import LAYOUTS
from .server import PACK, Server

REGISTRY_NAME = "fitdiff"  # by which ComfyUI's manager offers to install the pack where it is missing
# Groups stand side by side in rows; in a group columns side by side; in a column nodes below one another, as high as
# their widgets need and as wide as the column's widest. LiteGraph draws a node's title above its position, 30 px high.
# GAP leaves room for the newer frontend's Vue nodes, which are a little higher and have a footer.
PLACE = """({seed, rows}) => {
    const TITLE = 30, GAP = 50, EDGE = 20, HEAD = 50;
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
            left += EDGE;
            for (const {width: wanted, items} of columns) {
                const nodes = items.map(make);
                const least = nodes.map((n, i) => items[i].node ? n.computeSize() : [0, 0]);
                const width = Math.ceil(Math.max(wanted, ...least.map(s => s[0])));
                let y = top + HEAD + TITLE;
                nodes.forEach((node, i) => {
                    node.pos = [left, y];
                    node.setSize([width, Math.max(items[i].height, least[i][1])]);
                    y += node.size[1] + GAP + TITLE;
                });
                bottom = Math.max(bottom, y - TITLE);
                left += width + EDGE;
            }
            const group = new LiteGraph.LGraphGroup(title);
            group.color = color;
            groups.push([group, start, left - start]);
            left += EDGE;
        }
        for (const [group, x, width] of groups) {
            group.pos = [x, top];
            group.size = [width, bottom - top];
            app.graph.add(group);
        }
        top = bottom + 2 * GAP;
    }
}"""


def tidy(graph: dict) -> dict:
    """Drop what belongs to this machine: the test's folder name, the view, the random id."""
    for node in graph["nodes"]:
        properties = node.get("properties", {})
        for key in ("cnr_id", "aux_id"):
            if properties.get(key) == PACK:
                properties[key] = REGISTRY_NAME
        if node["type"].startswith("FitDiff_"):
            properties.pop("ver", None)
    graph["extra"] = {}
    return graph


def main(names: list[str], pictures: Path | None = None) -> None:
    """pictures: a folder for a screenshot of each graph, to look at."""
    folder = ROOT / "workflows"
    with tempfile.TemporaryDirectory() as base, Server(Path(base)) as server:
        for name in names or LAYOUTS:
            with open_tab(server.url) as tab:  # a fresh one: the page keeps pictures of nodes by their number
                tab.load(json.loads((folder / "api" / f"{name}.json").read_text()))
                tab.page.evaluate(PLACE, LAYOUTS[name])
                graph = tidy(tab.serialize())
                if pictures is not None:
                    tab.picture(pictures / f"{name}.png", settle=1)
            text = json.dumps(graph, indent=1, ensure_ascii=False)
            (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
            print(f"workflows/{name}.json", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
