"""Write workflows/NAME.json, for people, from workflows/api/NAME.json, for programs: same graph, laid out and explained.

    python -m tests.host.layout        (or `make workflows`; needs the test host)

The real frontend does the conversion, so the files are what it would save itself.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from .browser import open_tab
from .install import ROOT
from .server import PACK, Server

REGISTRY_NAME = "fitdiff"  # by which ComfyUI's manager offers to install the pack where it is missing
PLACE = """({nodes, notes, groups, seed}) => {
    for (const node of app.graph.nodes)
        for (const widget of node.widgets ?? [])
            if (widget.name === 'control_after_generate') widget.value = seed;
    for (const [id, [x, y, w, h]] of Object.entries(nodes)) {
        const node = app.graph.getNodeById(Number(id));
        const least = node.computeSize();
        node.pos = [x, y];
        node.setSize([w, Math.max(h, least[1])]);
    }
    for (const [text, x, y, w, h] of notes) {
        const note = LiteGraph.createNode('MarkdownNote');
        app.graph.add(note);
        note.title = 'About';
        note.pos = [x, y];
        note.setSize([w, h]);
        note.widgets[0].value = text;
    }
    for (const [title, color, x, y, w, h] of groups) {
        const group = new LiteGraph.LGraphGroup(title);
        group.color = color;
        group.pos = [x, y];
        group.size = [w, h];
        app.graph.add(group);
    }
}"""

INPUT, METHOD, OUTPUT = "#88AAAA", "#b58b2a", "#88AA88"
LAYOUTS = {
    "photo_to_avatar": {
        "seed": "fixed",
        "nodes": {
            "1": (20, 60, 300, 340), "2": (20, 450, 300, 60), "3": (20, 560, 300, 60),
            "4": (380, 60, 300, 100), "12": (380, 210, 300, 260), "5": (380, 520, 300, 240),
            "6": (740, 60, 320, 480), "7": (740, 580, 320, 100),
            "8": (1120, 60, 300, 300), "16": (1440, 60, 340, 380), "9": (1120, 500, 300, 300), "17": (1440, 500, 340, 380),
            "10": (1840, 60, 420, 320), "11": (1840, 430, 420, 450),
            "13": (20, 980, 440, 470), "14": (480, 980, 440, 470), "15": (940, 980, 440, 470),
        },
        "notes": [(
            "## One photo, one relightable head\n\nPick a photo with a face at the left and run. The preview in the sampler shows the skin as it emerges.\n\n"
            "- **Likeness**: use a sharp, frontal, evenly lit photo; try another seed.\n"
            "- **Speed**: bypass *FitDiff Guidance* for a quick first look.\n"
            "- **Textures**: put an upscaler between *Decode UV* and a *Replace Maps* node.\n"
            "- The GLB is in `output/fitdiff/`: metres, y up, one UV atlas.",
            1440, 980, 820, 300,
        )],
        "groups": [
            ("1  Photo and networks", INPUT, 0, -20, 340, 920), ("2  Who it is, and the scene", METHOD, 360, -20, 340, 920),
            ("3  Sample and decode", METHOD, 720, -20, 360, 920), ("4  Render", OUTPUT, 1100, -20, 700, 920),
            ("5  Export", OUTPUT, 1820, -20, 460, 920), ("Reflectance maps, free of the photo's light", OUTPUT, 0, 920, 1400, 550),
        ],
    },
    "random_identity": {
        "seed": "randomize",
        "nodes": {
            "1": (20, 60, 320, 60), "2": (20, 170, 320, 480), "3": (20, 700, 320, 100),
            "4": (400, 60, 300, 300), "7": (720, 60, 400, 440), "5": (400, 560, 300, 320), "6": (720, 560, 400, 480),
            "8": (1180, 60, 300, 320), "9": (1180, 400, 300, 320), "10": (1180, 740, 300, 320),
        },
        "notes": [(
            "## A person who does not exist\n\nNo photo: the sampler runs without an identity. The seed changes after each run; "
            "fix it to keep a face.\n\nTwo photos and *FitDiff Blend Identities* give somebody in between.",
            20, 850, 320, 220,
        )],
        "groups": [
            ("1  Sample and decode", METHOD, 0, -20, 360, 1100), ("2  Render and export", OUTPUT, 380, -20, 760, 1100),
            ("Reflectance maps", OUTPUT, 1160, -20, 340, 1100),
        ],
    },
}


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


def main() -> None:
    folder = ROOT / "workflows"
    with tempfile.TemporaryDirectory() as base, Server(Path(base)) as server:
        for name, layout in LAYOUTS.items():
            with open_tab(server.url) as tab:  # a fresh one: the page keeps pictures of nodes by their number
                tab.load(json.loads((folder / "api" / f"{name}.json").read_text()))
                tab.page.evaluate(PLACE, layout)
                graph = tidy(tab.serialize())
            text = json.dumps(graph, indent=1, ensure_ascii=False)
            (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
            print(f"workflows/{name}.json")


if __name__ == "__main__":
    main()
