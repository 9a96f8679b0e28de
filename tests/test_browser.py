"""Chromium loads the shipped workflows as a person would, runs one, and shows its results without complaint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.comfy, pytest.mark.timeout(500)]
ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "tests" / "output"
SHOWN = """() => Object.fromEntries(app.graph.nodes.filter(n => n.type === 'PreviewImage')
    .map(n => [n.title, (n.imgs ?? []).map(i => i.naturalWidth)]))"""
FEWER_STEPS = "() => { for (const n of app.graph.nodes) for (const w of n.widgets ?? []) if (w.name === 'steps') w.value = 3; }"


@pytest.fixture
def tab(comfy):
    from tests.host.browser import open_tab

    with open_tab(comfy.url) as opened:
        yield opened


def test_photo_workflow_runs_in_the_browser(tab):
    tab.load_file(ROOT / "workflows" / "photo_to_avatar.json")
    tab.page.wait_for_function("() => app.graph.nodes.some(n => n.type === 'FitDiff_Sampler')")
    assert tab.alerts() == []
    tab.page.evaluate(FEWER_STEPS)
    before = len(tab.problems)
    end = tab.queue(timeout=400)
    tab.picture(PICTURES / "photo_to_avatar.png", settle=5)
    assert end == "execution_success"
    assert tab.alerts() == []
    shown = tab.page.evaluate(SHOWN)
    assert len(shown) == 6 and all(widths and widths[0] > 0 for widths in shown.values()), shown
    # the viewer fetched the GLB and complained about nothing
    assert not [p for p in tab.problems[before:] if "glb" in p.lower() or "gltf" in p.lower()], tab.problems[before:]


def test_random_workflow_loads_complete(tab):
    tab.load_file(ROOT / "workflows" / "random_cast.json")
    tab.page.wait_for_function("() => app.graph.nodes.some(n => n.type === 'FitDiff_Sampler')")
    assert tab.alerts() == []
    saved = {n["id"]: n for n in json.loads((ROOT / "workflows" / "random_cast.json").read_text())["nodes"]}
    again = {n["id"]: n for n in tab.serialize()["nodes"]}
    assert {k: (n["type"], n.get("widgets_values") or []) for k, n in again.items()} == {
        k: (n["type"], n.get("widgets_values") or []) for k, n in saved.items()
    }


def test_a_mistake_is_shown_on_the_page(tab):
    tab.load_file(ROOT / "workflows" / "random_cast.json")
    tab.page.wait_for_function("() => app.graph.nodes.some(n => n.type === 'FitDiff_ExportMesh')")
    tab.page.evaluate(
        "() => { app.graph.nodes.find(n => n.type === 'FitDiff_ExportMesh').widgets[0].value = '../outside'; }"
    )
    end = tab.queue(timeout=60)
    assert end.startswith("rejected") and "leads out of the output folder" in end
