"""The stage's settings as scene and light, its tables, and the page that holds everything."""

from __future__ import annotations

import base64
import json
import math
import re
from dataclasses import replace

import pytest
import torch

from fitdiff_core.avatar import Avatar
from fitdiff_core.errors import UserError
from fitdiff_core.export.mesh import split_parts
from fitdiff_core.export.viewer import script, write_viewer
from fitdiff_core.maps import TextureMaps
from fitdiff_core.render.light import Light
from fitdiff_core.render.panoramas import NAMES, PANORAMAS, named_light
from fitdiff_core.scene import Scene
from fitdiff_core.stage import MODES, parse_stage, split_key, stage_payload, stage_scene, stage_tables
from tests.support import mutations

LAMP = {"azimuth": -60.0, "elevation": 20.0, "intensity": 2.5, "color": "#ffe0c0"}


def settings(**changes) -> str:
    camera = {"position": [0.3, 0.05, 0.8], "target": [0.0, 0.0, 0.02], "fov": 24.0}
    light = {"environment": "rim", "turn": 30.0, "ambient": 0.5, "exposure": 1.0, "lamp": LAMP}
    table = {"v": 1, "camera": camera, "light": light, "expression": {"jawOpen": 0.4}, "gaze": [10.0, -5.0]}
    return json.dumps(table | {"view": {"hair": False, "detail": True, "mode": "shaded"}} | changes)


@pytest.fixture(scope="module")
def avatar(head):
    maps = TextureMaps.from_stack(torch.full((1, 9, 16, 16), 0.4))
    return Avatar(head, torch.zeros(1, head.n_identity), maps)


def test_nothing_set_is_the_portrait(head):
    stage = parse_stage("", head.expression_names)
    found, portrait = stage_scene(stage), Scene.portrait()
    point = torch.tensor([[[0.02, 0.03, 0.1]]])
    torch.testing.assert_close(found.camera.view(point), portrait.camera.view(point))
    torch.testing.assert_close(found.light.irradiance(point), portrait.light.irradiance(point))
    assert found.light.color.sum() == pytest.approx(float(portrait.light.color.sum())) and found.light.shadows


def test_what_is_set_comes_out(head):
    names = head.expression_names
    stage = parse_stage(settings(), names)
    scene = stage_scene(stage)
    torch.testing.assert_close(scene.camera.position()[0], torch.tensor([0.3, 0.05, 0.8]), atol=1e-5, rtol=0)
    assert 2 * math.degrees(math.atan(1 / float(scene.camera.focal))) == pytest.approx(24, abs=1e-3)
    assert scene.expression[0, names.index("jawOpen")] == pytest.approx(0.4) and scene.expression.sum() < 0.41
    torch.testing.assert_close(scene.gaze.rad2deg(), torch.tensor([[10.0, -5.0]]))
    assert stage.hair is False and stage.detail is True
    light, rim = scene.light, Light.preset("rim")
    torch.testing.assert_close(light.sh, rim.rotated(30).sh * 0.5 * 2)
    assert light.direction.shape[1] == 3, "two of the three lamps of the environment, and the movable one"
    lamp = light.direction[0, -1]
    assert math.degrees(math.atan2(lamp[0], lamp[2])) == pytest.approx(-60, abs=1e-3)
    assert light.color[0, -1, 0] == pytest.approx(2.5 * 2)


def test_looks_turn_the_eyes_once(head):
    """A scene of the photo goes through the page and back: the gaze that the page adds again is taken off first."""
    names = head.expression_names
    expression = torch.zeros(1, 52)
    for name in ("eyeLookOutLeft", "eyeLookInRight"):
        expression[0, names.index(name)] = 0.5
    scene = replace(Scene.portrait(yaw=10), expression=expression, gaze=torch.tensor([[0.3, 0.1]]))
    avatar = Avatar(head, torch.zeros(1, head.n_identity), TextureMaps.from_stack(torch.full((1, 9, 8, 8), 0.4)))
    start = stage_tables(avatar, scene)["start"]
    table = {"v": 1, "camera": start["camera"], "expression": start["expression"], "gaze": start["gaze"]}
    found = stage_scene(parse_stage(json.dumps(table), names), scene)
    torch.testing.assert_close(found.gaze, scene.gaze, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.expression, scene.expression, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.camera.position(), scene.camera.position(), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.light.sh, scene.light.sh)


@pytest.mark.parametrize("name", NAMES)
def test_an_environment_with_its_own_lamp_is_itself(avatar, name):
    table = stage_tables(avatar)["environments"][name]
    text = settings(light={"environment": name, "turn": 0, "ambient": 1, "exposure": 0, "lamp": table["lamp"]})
    found = stage_scene(parse_stage(text, avatar.head.expression_names)).light
    light = named_light(name)
    torch.testing.assert_close(found.sh, light.sh)
    point = torch.nn.functional.normalize(torch.tensor([[[0.3, 0.4, 0.7]]]), dim=-1)
    got, want = ((x.color * (point @ x.direction.mT).clamp(min=0).mT).sum(1) for x in (found, light))
    torch.testing.assert_close(got, want, atol=0.02, rtol=0.02)  # the lamp's colour has 8 bits


def test_split_key_takes_the_brightest():
    rest, key = split_key(Light.preset("rim"))
    assert key.color[0, 0, 0] == pytest.approx(4.6) and rest.color.shape[1] == 2
    assert split_key(Light.ambient())[1] is None


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"v": 2}, "version 1"),
        ({"camera": {"position": [0, 0], "target": [0, 0, 0], "fov": 20}}, "position"),
        ({"light": {"environment": "rim", "turn": 0, "ambient": -1, "exposure": 0}}, "range"),
        ({"light": {"lamp": {**LAMP, "azimuth": "left"}}}, "azimuth"),
        ({"expression": {"grin": 1}}, "no shape"),
        ({"gaze": [1]}, "gaze"),
        ({"gaze": [200, 0]}, "range"),
    ],
)
def test_settings_that_cannot_be(head, changes, says):
    with pytest.raises(UserError, match=says):
        parse_stage(settings(**changes), head.expression_names)


@pytest.mark.parametrize("name, says", [("moon", "Unknown light"), ("scene", "connect the scene")])
def test_light_that_is_not_there(head, name, says):
    stage = parse_stage(settings(light={"environment": name}), head.expression_names)
    with pytest.raises(UserError, match=says):
        stage_scene(stage)


def test_damaged_settings_are_read_or_refused(head):
    names, read, refused = head.expression_names, 0, 0
    texts = [*map(json.dumps, mutations.of_json(json.loads(settings()), 300, 0)), "[" * 100_000, "{", "NaN"]
    for text in texts:
        try:
            stage_scene(parse_stage(text, names))
            read += 1
        except UserError as e:
            assert len(str(e)) > 20
            refused += 1
    assert read > 20 and refused > 100


def test_the_page_gets_a_value_for_each_vertex(avatar):
    payload = stage_payload(avatar)
    for part in split_parts(avatar):
        for values in payload["attributes"][part.object].values():
            assert len(base64.b64decode(values)) == len(part.positions)
    slit = payload["slit"]
    assert slit["by"]["jawOpen"] > 0.01 and abs(slit["closed"]) < 0.002, "the jaw opens the lips by a centimetre"
    assert sorted(n for names in payload["groups"].values() for n in names) == sorted(avatar.head.expression_names)
    assert set(payload["modes"]) == set(MODES) and set(payload["panoramas"]) == set(PANORAMAS)
    json.dumps(payload, allow_nan=False)


def test_the_page_asks_for_nothing(avatar, tmp_path):
    text = write_viewer(tmp_path / "viewer.html", avatar, title='<b>"x"</b>').read_text()
    assert "default-src 'none'" in text and "<b>" not in text
    addresses = set(re.findall(r"https?://[\w./-]+", text))
    assert addresses <= {"http://www.w3.org/1999/xhtml", "http://www.w3.org/2000/svg"}
    assert not re.search(r"^\s*import |^export |\bimport\(", script(), re.MULTILINE)
    assert text.count("</script>") == 2
