"""The shipped workflows as files: only core's and our nodes, no overlap, titles, an explanation, a picture."""

from __future__ import annotations

import json

import pytest

from tests.support.boxes import bounds, gap, inside
from tests.support.layouts import LAYOUTS
from tests.support.paths import ROOT
from tests.support.pictures import PANELS

NAMES = sorted(p.stem for p in (ROOT / "workflows").glob("*.json"))
TITLE = 30  # LiteGraph draws a node's title above its position
CORE = {
    "LoadImage",
    "PreviewImage",
    "Preview3D",
    "ImageFlip",
    "ResizeAndPadImage",
    "ImageBatch",
    "RebatchImages",
    "ImageGrid",
    "LatentFromBatch",
    "SaveAnimatedWEBP",
    "MaskToImage",
    "ImageScaleBy",
    "ImageSharpen",
    "ImageCompositeMasked",
    "MarkdownNote",
}


def graph(name: str) -> dict:
    return json.loads((ROOT / "workflows" / f"{name}.json").read_text())


def box(node: dict) -> tuple[float, float, float, float]:
    """Left, top, right, bottom, the title included."""
    (x, y), (w, h) = node["pos"], node["size"]
    return x, y - TITLE, x + w, y + h


def test_each_workflow_has_its_twin_layout_and_picture_panels():
    twins = sorted(p.stem for p in (ROOT / "workflows" / "api").glob("*.json"))
    assert NAMES == twins == sorted(LAYOUTS) == sorted(PANELS) and len(NAMES) == 6
    for name, panels in PANELS.items():
        prompt = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text())
        shown = {k for k, v in prompt.items() if v["class_type"] == "PreviewImage"}
        assert {p for p in panels if not p.endswith(".jpg")} <= shown, name


@pytest.mark.parametrize("name", NAMES)
def test_only_core_nodes_ours_and_the_sample(name):
    for node in graph(name)["nodes"]:
        assert node["type"] in CORE or node["type"].startswith("FitDiff_"), node["type"]
        if node["type"] == "LoadImage":
            assert node["widgets_values"][0] == "eileen_collins.jpg"


@pytest.mark.parametrize("name", NAMES)
def test_all_stand_apart_and_in_a_group(name):
    """As the file has it. How high nodes really are in either frontend is measured in tests/browser/test_browser.py."""
    nodes = {n["id"]: box(n) for n in graph(name)["nodes"]}
    groups = [bounds(g) for g in graph(name)["groups"]]
    boxes = list(nodes.items())
    for i, (one, a) in enumerate(boxes):
        for other, b in boxes[i + 1 :]:
            assert gap(a, b) >= 40, f"{name}: {one} and {other} stand {gap(a, b):.0f} pixels apart"
        around = [g for g in groups if inside(a, g)]
        assert len(around) == 1, f"{name}: node {one} is in {len(around)} groups"
    for i, a in enumerate(groups):
        assert all(gap(a, b) >= 30 for b in groups[i + 1 :]), f"{name}: groups touch"


@pytest.mark.parametrize("name", NAMES)
def test_it_explains_itself(name):
    notes = [n for n in graph(name)["nodes"] if n["type"] == "MarkdownNote"]
    assert len(notes) == 1 and notes[0]["widgets_values"][0].startswith("## ")
    for g in graph(name)["groups"]:
        assert 5 < len(g["title"]) < g["bounding"][2] / 12, f"{name}: '{g['title']}' runs out of its group"
    pictures = [n["title"] for n in graph(name)["nodes"] if n["type"] in ("PreviewImage", "Preview3D")]
    assert len(set(pictures)) == len(pictures) and "Preview Image" not in pictures
    several = {}
    for node in graph(name)["nodes"]:
        several.setdefault(node["type"], []).append(node.get("title"))
    for kind, titles in several.items():
        assert len(set(titles)) == len(titles), f"{name}: nodes {kind} with the same title"


@pytest.mark.parametrize("name", NAMES)
def test_links_run_from_left_to_right_or_down(name):
    """Of two linked nodes the second never ends left of where the first begins, unless it stands in a lower row."""
    data = graph(name)
    boxes = {n["id"]: box(n) for n in data["nodes"]}
    for _, source, _, target, *_ in data["links"]:
        a, b = boxes[source], boxes[target]
        assert b[0] >= a[0] or b[1] >= a[1], f"{name}: {source} -> {target} runs back"


@pytest.mark.parametrize("name", NAMES)
def test_the_template_browser_has_a_picture(name):
    assert (ROOT / "workflows" / f"{name}.jpg").read_bytes()[:3] == b"\xff\xd8\xff", "run `make previews`"
