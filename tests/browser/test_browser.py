"""Chromium loads the shipped workflows as a person would, runs one, and shows its results without complaint.

Twice: in the frontend that belongs to the test host, and in the newest one with its Vue nodes.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.support.boxes import bounds, gap, inside
from tests.support.paths import OUTPUT, ROOT

pytestmark = [pytest.mark.browser, pytest.mark.comfy, pytest.mark.timeout(500)]
PICTURES = OUTPUT
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
SHOWN = """() => Object.fromEntries(app.graph.nodes.filter(n => n.type === 'PreviewImage')
    .map(n => [n.title, (n.imgs ?? []).map(i => i.naturalWidth)]))"""
FEWER_STEPS = (
    "() => { for (const n of app.graph.nodes) for (const w of n.widgets ?? []) if (w.name === 'steps') w.value = 3; }"
)
UNKNOWN = "() => app.graph.nodes.map(n => n.type).filter(t => !LiteGraph.registered_node_types[t])"
TOGGLE_APP = "() => app.extensionManager.command.execute('Comfy.ToggleLinear')"
SAMPLE_WIDTH = "() => app.graph.nodes.find(n => n.type === 'FitDiff_LoadPhoto').imgs?.[0]?.naturalWidth"
HAS = "(types) => types.every(t => app.graph.nodes.some(n => n.type === t))"


@pytest.fixture(scope="module", params=["of the host", "newest"])
def page(request, comfy, tmp_path_factory):
    """One tab for all tests: starting a frontend takes as long as any of them."""
    from tests.host.browser import open_tab
    from tests.host.server import NEWEST_FRONTEND, Server

    if request.param == "of the host":
        with open_tab(comfy.url) as opened:
            yield opened
        return
    if not NEWEST_FRONTEND.is_dir():
        pytest.skip("the newest frontend is not installed: run `make host`")
    with (
        Server(tmp_path_factory.mktemp("newest"), frontend=NEWEST_FRONTEND) as server,
        open_tab(server.url, vue=True) as opened,
    ):
        yield opened


@pytest.fixture
def tab(page):
    """The tab without a dialog that the test before left open."""
    page.page.keyboard.press("Escape")
    return page


def load(tab, path: Path) -> dict:
    """Drop the file on the page; what it holds."""
    graph = json.loads(path.read_text())
    tab.load_file(path)
    tab.page.wait_for_function(HAS, arg=[n["type"] for n in graph["nodes"]])
    tab.page.wait_for_timeout(1000)  # a complaint needs a moment to appear
    return graph


def assert_apart(boxes: dict[str, list[float]], groups: list[dict]) -> None:
    """No node touches another or leaves its group."""
    nodes = list(boxes.items())
    for i, (one, a) in enumerate(nodes):
        assert any(inside(a, bounds(g)) for g in groups), f"{one} leaves its group"
        for other, b in nodes[i + 1 :]:
            assert gap(a, b) >= 30, f"{one} and {other} stand {gap(a, b):.0f} pixels apart"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_loads_complete(tab, path):
    """No missing nodes, no dialog; it would queue the prompt of its headless twin and save itself unchanged."""
    saved = {n["id"]: n for n in load(tab, path)["nodes"]}
    assert tab.alerts() == [] and tab.page.evaluate(UNKNOWN) == []
    prompt = tab.prompt()
    twin = json.loads((ROOT / "workflows" / "api" / path.name).read_text())
    assert prompt.keys() == twin.keys()
    for key, node in twin.items():
        assert prompt[key]["class_type"] == node["class_type"]
        assert {k: prompt[key]["inputs"].get(k) for k in node["inputs"]} == node["inputs"], key
    again = {n["id"]: n for n in tab.serialize()["nodes"]}
    assert {k: (n["type"], n.get("widgets_values") or []) for k, n in again.items()} == {
        k: (n["type"], n.get("widgets_values") or []) for k, n in saved.items()
    }


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_nodes_stand_apart(tab, path):
    """Nodes as high as this frontend draws them. Before any run: the page keeps pictures of nodes by their number."""
    groups = load(tab, path)["groups"]
    assert_apart(tab.boxes(), groups)


def test_a_missing_node_would_be_seen(tab, tmp_path):
    graph = json.loads((ROOT / "workflows" / "random_cast.json").read_text())
    next(n for n in graph["nodes"] if n["type"] == "FitDiff_Sampler")["type"] = "FitDiff_Gone"
    (tmp_path / "gone.json").write_text(json.dumps(graph))
    load(tab, tmp_path / "gone.json")
    assert "FitDiff_Gone" in " ".join(tab.alerts()) and tab.page.evaluate(UNKNOWN) == ["FitDiff_Gone"]


def test_a_mistake_is_shown_on_the_page(tab):
    """The page knows node and message; ComfyUI runs the graph's other branch all the same."""
    load(tab, ROOT / "workflows" / "random_cast.json")
    tab.page.evaluate(FEWER_STEPS)
    tab.page.evaluate(
        "() => { app.graph.nodes.find(n => n.type === 'FitDiff_ExportMesh').widgets[0].value = '../outside'; }"
    )
    end = tab.queue(timeout=200)
    assert end.startswith("rejected") and "leads out of the output folder" in end and end.endswith("execution_success")
    assert tab.page.evaluate(
        "() => app.graph.nodes.filter(n => (app.lastNodeErrors ?? {})[n.id]).map(n => n.type)"
    ) == ["FitDiff_ExportMesh"]


def test_the_first_run_needs_nothing_but_the_run_button(tab, request):
    """The short workflow on an empty input folder: the page shows the sample, and a head comes out."""
    load(tab, ROOT / "workflows" / "photo_to_head.json")
    name = request.node.callspec.id
    if name == "of the host":
        tab.page.wait_for_function(SAMPLE_WIDTH, timeout=60_000)
        assert tab.page.evaluate(SAMPLE_WIDTH) == 512
    tab.page.evaluate(FEWER_STEPS)
    assert tab.queue(timeout=400) == "execution_success"
    tab.picture(PICTURES / f"first run {name}.png", settle=5)
    assert tab.alerts() == []
    assert tab.page.evaluate(SHOWN) == {"Photo, head, head in another light": [4 * 512]}
    if name == "newest":  # its app mode shows the inputs that the workflow names
        tab.page.evaluate(TOGGLE_APP)
        tab.page.wait_for_selector('[data-testid="linear-widgets"]', timeout=60_000)
        tab.page.wait_for_timeout(3000)
        tab.page.screenshot(path=PICTURES / "first run as an app.png", timeout=120_000)
        shown = tab.page.inner_text('[data-testid="linear-widgets"]')
        assert all(word in shown for word in ("image", "face", "photo_detail", "seed")) and "steps" not in shown
        tab.page.keyboard.press("Escape")  # the page's own tour of apps
        tab.page.evaluate(TOGGLE_APP)


def test_photo_workflow_runs_in_the_browser(tab, request):
    groups = load(tab, ROOT / "workflows" / "photo_to_avatar.json")["groups"]
    assert tab.alerts() == []
    tab.page.evaluate(FEWER_STEPS)
    before = len(tab.problems)
    end = tab.queue(timeout=400)
    tab.picture(PICTURES / f"photo_to_avatar {request.node.callspec.id}.png", settle=5)
    assert end == "execution_success"
    assert tab.alerts() == []
    shown = tab.page.evaluate(SHOWN)
    assert len(shown) == 6 and all(widths and widths[0] > 0 for widths in shown.values()), shown
    assert_apart(tab.boxes(), groups)  # previews may grow with their pictures
    # the viewer fetched the GLB, complained about nothing, and shows a head: skin is redder than it is blue
    assert not [p for p in tab.problems[before:] if "glb" in p.lower() or "gltf" in p.lower()], tab.problems[before:]
    red, _, blue = np.moveaxis(tab.viewer(), -1, 0)
    assert 0.02 < float((red - blue > 0.1).mean()) < 0.6
