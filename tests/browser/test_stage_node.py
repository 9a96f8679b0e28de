"""FitDiff Stage in both node designs of ComfyUI's page."""

from __future__ import annotations

import json

import pytest

from fitdiff_core.avatar_file import save_avatar
from tests.support.paths import OUTPUT
from tests.support.plain_avatar import plain_avatar

pytestmark = [pytest.mark.browser, pytest.mark.comfy, pytest.mark.timeout(600)]
STAGE = "app.graph.nodes.find(n => n.type === 'FitDiff_Stage')"


@pytest.fixture(scope="module", params=["of the host", "newest"])
def tab(request, tmp_path_factory):
    from tests.host import server
    from tests.host.browser import open_tab

    if not server.installed():
        pytest.skip("the ComfyUI test host is not installed: run `make host`")
    newest = request.param == "newest"
    if newest and not server.NEWEST_FRONTEND.is_dir():
        pytest.skip("the newest frontend is not installed: run `make host`")
    base = tmp_path_factory.mktemp("stage")
    (base / "input").mkdir()
    save_avatar(base / "input" / "head.avatar.safetensors", plain_avatar().with_hair(None))
    frontend = server.NEWEST_FRONTEND if newest else None
    with (
        server.Server(base, frontend=frontend) as running,
        open_tab(running.url, ready="FitDiff_Stage", vue=newest) as opened_tab,
    ):
        yield opened_tab


def test_the_node_shows_the_head_and_the_workflow_keeps_what_is_set(tab):
    def node(kind, **inputs):
        return {"class_type": f"FitDiff_{kind}", "inputs": inputs}

    prompt = {
        "1": node("LoadAvatar", file="head.avatar.safetensors"),
        "2": node("Stage", avatar=["1", 0]),
        "3": node("Render", avatar=["2", 2], scene=["2", 0], camera="scene", light="scene", width=128, height=128),
        "4": {"class_type": "PreviewImage", "inputs": {"images": ["3", 0]}},
    }
    tab.load(prompt)
    assert tab.queue(timeout=300) == "execution_success"
    tab.page.wait_for_function(f"() => {STAGE}.fitdiffStage?.state", timeout=120_000)
    assert tab.page.evaluate(f"() => Object.keys({STAGE}.fitdiffStage.world.parts).includes('Head')")
    box = tab.page.evaluate(
        f"() => {{ const b = {STAGE}.fitdiffStage.canvas.getBoundingClientRect();"
        "return [b.x, b.y, b.width, b.height]; }"
    )
    assert min(box[2:]) > 150, "the view has room in the node"
    x, y = box[0] + box[2] / 2, box[1] + box[3] / 2
    before = tab.page.evaluate(f"() => [...{STAGE}.pos]")
    tab.page.evaluate(f"() => {STAGE}.fitdiffStage.tools.light.click()")
    tab.page.mouse.move(x, y)
    tab.page.mouse.down()
    tab.page.mouse.move(x - 60, y + 10, steps=4)
    tab.page.mouse.up()
    assert tab.page.evaluate(f"() => [...{STAGE}.pos]") == before, "a drag in the view does not move the node"
    tab.page.evaluate(
        f"() => {{ const e = {STAGE}.fitdiffStage.root.querySelector('[data-name=jawOpen]');"
        "e.value = 0.5; e.dispatchEvent(new Event('input')); }"
    )
    tab.page.wait_for_timeout(600)
    saved = tab.serialize()
    text = tab.prompt()["2"]["inputs"]["settings"]
    found = json.loads(text)
    assert found["expression"] == {"jawOpen": 0.5} and found["light"]["lamp"]["azimuth"] < 25
    tab.load(saved)
    tab.page.wait_for_function(f"() => {STAGE}?.fitdiffStage", timeout=60_000)
    assert tab.prompt()["2"]["inputs"]["settings"] == text
    assert tab.queue(timeout=300) == "execution_success"
    tab.page.wait_for_function(f"() => {STAGE}.fitdiffStage.state", timeout=120_000)
    assert (
        tab.page.evaluate(f"() => {STAGE}.fitdiffStage.state.light.lamp.azimuth") == found["light"]["lamp"]["azimuth"]
    )
    tab.picture(OUTPUT / f"stage {'vue' if tab.page.query_selector('[data-node-id]') else 'canvas'}.png", settle=2)
    assert tab.alerts() == []
