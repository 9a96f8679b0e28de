"""The shipped workflows as files: only core's and our nodes, no overlap, titles, an explanation, a picture."""

from __future__ import annotations

import json
import tomllib

import pytest
from PIL import Image

from tests.support.boxes import bounds, gap, inside
from tests.support.layouts import LAYOUTS
from tests.support.paths import PERFORMANCE_NAME, ROOT, SAMPLE_NAME
from tests.support.pictures import PANELS

NAMES = sorted(p.stem for p in (ROOT / "workflows").glob("*.json"))
TITLE = 30  # LiteGraph draws a node's title above its position
CORE = {
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
    assert NAMES == twins == sorted(LAYOUTS) == sorted(PANELS) and len(NAMES) == 8
    for name, panels in PANELS.items():
        prompt = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text())
        shown = {k for k, v in prompt.items() if v["class_type"] == "PreviewImage"}
        assert {p for p in panels if p != "sample"} <= shown, name


@pytest.mark.parametrize("name", NAMES)
def test_only_core_nodes_ours_and_the_sample(name):
    """Core's Load Image would name a file of the user's input folder, which a new user does not have."""
    for node in graph(name)["nodes"]:
        assert node["type"] in CORE or node["type"].startswith("FitDiff_"), node["type"]
        if node["type"] == "FitDiff_LoadPhoto":
            assert node["widgets_values"][0] in (SAMPLE_NAME, PERFORMANCE_NAME)


@pytest.mark.parametrize("name", NAMES)
def test_nodes_say_which_pack_they_are_of(name):
    """Where a node is missing, ComfyUI's manager offers this pack by these."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    ours = (project["project"]["name"], project["project"]["version"])
    for node in graph(name)["nodes"]:
        pack = tuple(node["properties"].get(key) for key in ("cnr_id", "ver"))
        if node["type"] != "MarkdownNote":
            assert pack == (ours if node["type"].startswith("FitDiff_") else ("comfy-core", "0.3.75")), node["type"]


def test_the_photo_workflow_has_an_app_view():
    """`linearData`, as newer frontends read it: widgets and output nodes by node id. It opens as a graph: the frontend
    of ComfyUI 0.3.75 knows `linearMode` too, but shows no results there."""
    data = graph("photo_to_head")
    nodes = {n["id"]: n for n in data["nodes"]}
    assert data["extra"]["linearMode"] is False
    for number, widget in data["extra"]["linearData"]["inputs"]:
        assert widget in [i["name"] for i in nodes[number]["inputs"] if "widget" in i]
    assert {nodes[n]["type"] for n in data["extra"]["linearData"]["outputs"]} == {"Preview3D", "PreviewImage"}
    assert len([n for n in nodes.values() if n["type"] != "MarkdownNote"]) == 4


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
        assert 5 < len(g["title"]) < g["bounding"][2] / (0.5 * g["font_size"]), f"{name}: '{g['title']}' runs out"
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
def test_group_titles_are_readable_when_the_workflow_opens(name):
    """The page shows the whole graph; a title has 14 screen pixels then, or more."""
    groups = graph(name)["groups"]
    right, low = (max(g["bounding"][i] + g["bounding"][i + 2] for g in groups) for i in (0, 1))
    zoom = min(1700 / right, 900 / low, 1)
    for g in groups:
        assert g["font_size"] * zoom >= 14, g["title"]


@pytest.mark.parametrize("name", NAMES)
def test_the_template_browser_has_a_square_picture(name):
    with Image.open(ROOT / "workflows" / f"{name}.jpg") as picture:
        assert picture.format == "JPEG" and picture.width == picture.height == 800, "run `make previews`"
