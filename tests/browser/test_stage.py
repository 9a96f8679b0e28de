"""The viewer as an offline page, in a real browser."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from fitdiff_core.export.viewer import write_viewer
from fitdiff_core.pipeline import photograph
from fitdiff_core.stage import parse_stage, stage_scene
from tests.support.paths import OUTPUT
from tests.support.plain_avatar import plain_avatar

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]
SIDE = 400
RELOADS = 12


def seen(page) -> np.ndarray:
    """What the stage draws, `[H, W, 3]` in 0..1, without its controls."""
    page.evaluate(
        "() => { for (const e of document.querySelectorAll('.fd-bar, .fd-panel')) e.style.visibility = 'hidden'; }"
    )
    page.evaluate("() => stage.world.drawNow()")
    png = page.screenshot(timeout=120_000)
    page.evaluate("() => { for (const e of document.querySelectorAll('.fd-bar, .fd-panel')) e.style.visibility = ''; }")
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")) / 255.0


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """(page, avatar, requests, problems) of viewer.html, opened from the disk."""
    pytest.importorskip("playwright", reason="playwright is not installed: run `make install-test`")
    from playwright.sync_api import sync_playwright

    from tests.host.browser import FLAGS
    from tests.host.install import find_browser

    if find_browser() is None:
        pytest.skip("Chromium is missing: run `make host`")
    avatar, requests, problems = plain_avatar(), [], []
    path = write_viewer(tmp_path_factory.mktemp("viewer") / "viewer.html", avatar)
    with sync_playwright() as p:
        flags = [*FLAGS, "--js-flags=--expose-gc"]
        browser = p.chromium.launch(executable_path=find_browser(), headless=True, args=flags)
        page = browser.new_page(viewport={"width": SIDE, "height": SIDE})
        page.on("request", lambda r: requests.append(r.url))
        page.on("console", lambda m: problems.append(m.text[:300]) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: problems.append(str(e)[:300]))
        page.goto(path.as_uri())
        page.wait_for_function("() => window.loaded", timeout=240_000)
        yield page, avatar, requests, problems
        browser.close()


def state(page) -> dict:
    page.evaluate("() => stage.flush()")
    return json.loads(page.evaluate("() => JSON.stringify(stage.state)"))


def test_the_page_shows_the_head_and_asks_for_nothing(opened):
    page, _, requests, problems = opened
    picture = seen(page)
    red, _, blue = np.moveaxis(picture[SIDE // 3 : 2 * SIDE // 3, SIDE // 3 : 2 * SIDE // 3], -1, 0)
    assert 0.2 < red.mean() < 0.85 and red.mean() > 1.1 * blue.mean(), "lit skin in the middle"
    assert not [r for r in requests[1:] if not r.startswith(("blob:", "data:"))], requests
    # what software drawing says about reading its pictures is no fault of the page
    assert not [p for p in problems if "GPU stall" not in p], problems


def test_pointer_keys_and_sliders_do_what_they_say(opened):
    page, _, _, _ = opened
    page.evaluate("() => stage.set('')")
    before, first = state(page), seen(page)
    page.mouse.move(200, 200)
    page.mouse.down()
    page.mouse.move(260, 200, steps=4)
    page.mouse.up()
    assert state(page)["camera"]["position"] != before["camera"]["position"], "a drag turns the head"
    page.keyboard.press("2")
    page.mouse.move(200, 150)
    page.mouse.down()
    page.mouse.move(100, 200, steps=4)
    page.mouse.up()
    lamp = state(page)["light"]["lamp"]
    assert lamp["azimuth"] < before["light"]["lamp"]["azimuth"] - 20 and lamp["elevation"] < 30, "the lamp follows"
    page.keyboard.press("ArrowRight")
    assert state(page)["light"]["lamp"]["azimuth"] == pytest.approx(lamp["azimuth"] + 5)
    page.keyboard.press("r")  # the camera is in front again
    page.keyboard.press("3")
    page.mouse.move(390, 200)
    assert state(page)["gaze"][0] > 8, "the eyes follow the pointer to the right, the subject's left"
    page.keyboard.press("1")
    page.keyboard.press("p")
    page.evaluate("() => { for (const d of document.querySelectorAll('details')) d.open = true; }")
    slider = page.locator("input[data-name=jawOpen]")
    slider.evaluate("(e) => { e.value = 0.8; e.dispatchEvent(new Event('input')); }")
    assert state(page)["expression"]["jawOpen"] == 0.8
    page.keyboard.press("p")
    assert np.abs(seen(page) - first)[200:].mean() > 0.01, "the jaw has moved"
    page.locator("canvas").focus()
    page.keyboard.press("r")
    again = state(page)
    assert again["expression"] == {} and again["light"] == before["light"]


def test_one_finger_moves_the_lamp(opened):
    page, _, _, _ = opened
    page.evaluate("() => stage.set('')")
    page.locator("canvas").focus()
    page.keyboard.press("2")
    touch = page.context.new_cdp_session(page)
    for kind, points in (("touchStart", [(200, 200)]), ("touchMove", [(150, 200)]), ("touchMove", [(100, 200)])):
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in points]})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert state(page)["light"]["lamp"]["azimuth"] < 10
    page.keyboard.press("1")


@pytest.mark.parametrize("name", ["studio", "side", "clouds"])
def test_render_repeats_the_viewers_picture(opened, name):
    """Framing to a pixel or two, light to a few hundredths: both pictures stand side by side in tests/output."""
    page, avatar, _, _ = opened
    page.evaluate("() => stage.set('')")
    page.evaluate(
        """(name) => {
        const s = stage.state;
        Object.assign(s.light, { environment: name, turn: 20, lamp: { ...stage.tables.environments[name].lamp } });
        s.light.lamp.azimuth += 20;
        Object.assign(s, { expression: { jawOpen: 0.3, mouthSmileLeft: 0.6 }, gaze: [12, 4] });
        s.camera.position = [0.25, 0.06, 0.8];
        s.view.hair = false;
        stage.set(JSON.stringify(s));
    }""",
        name,
    )
    viewer = seen(page)
    text = json.dumps(state(page))
    scene = stage_scene(parse_stage(text, avatar.head.expression_names))
    picture, mask = photograph(avatar.with_hair(None), scene, SIDE)
    ours, head = picture[0].permute(1, 2, 0).numpy(), mask[0, 0].numpy()
    OUTPUT.mkdir(parents=True, exist_ok=True)
    both = np.concatenate([viewer, ours], 1)
    Image.fromarray((both * 255 + 0.5).astype(np.uint8)).save(OUTPUT / f"stage and render {name}.png")
    assert np.abs(viewer - ours)[head > 0.99].mean() < 0.045
    assert np.abs(viewer - ours).mean() < 0.035
    for axis in (0, 1):  # the edge of the head: where the picture's rows and columns change most
        profile = [np.abs(np.diff(x.mean(2), axis=axis)).sum(1 - axis) for x in (viewer, ours)]
        shift = [np.corrcoef(np.roll(profile[0], k), profile[1])[0, 1] for k in range(-6, 7)]
        assert abs(int(np.argmax(shift)) - 6) <= 2


def test_memory_stays_flat_over_reloads(opened):
    page, _, _, _ = opened
    page.evaluate("() => stage.set('')")
    counts = page.evaluate(
        """async (times) => {
        const data = JSON.parse(document.getElementById('data').textContent);
        const glb = Uint8Array.from(atob(data.glb), (c) => c.charCodeAt(0)).buffer;
        const found = [];
        for (let i = 0; i < times; i++) {
            await stage.show(glb.slice(0), data.tables, '');
            stage.world.drawNow();
            const { memory, programs } = stage.world.renderer.info;
            found.push([memory.geometries, memory.textures, programs.length]);
        }
        return found;
    }""",
        RELOADS,
    )
    assert counts[2] == counts[-1], counts
