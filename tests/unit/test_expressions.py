"""Expressions by name, turned heads, and blends of scenes."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from fitdiff_core.errors import UserError
from fitdiff_core.expressions import (
    PRESETS,
    blend_scenes,
    expression_of,
    head_rotation,
    look_gaze,
    parse_weights,
    turn_head,
    weight_vector,
)
from fitdiff_core.render import Light
from fitdiff_core.render.rig import combine_lights, directional_light
from fitdiff_core.scene import Scene


def test_presets_name_shapes_of_the_head(head):
    for name, weights in PRESETS.items():
        assert set(weights) <= set(head.expression_names), name
        assert all(0 < w <= 1 for w in weights.values()), name
    assert len(PRESETS) == 9


def test_strength_and_own_weights(head):
    names = head.expression_names
    half = expression_of("smile", 0.5, {"jawOpen": 0.3, "mouthSmileLeft": 0.0}, names)[0]
    at = dict(zip(names, half.tolist(), strict=True))
    assert at["mouthSmileRight"] == pytest.approx(PRESETS["smile"]["mouthSmileRight"] / 2)
    assert at["jawOpen"] == pytest.approx(0.3) and at["mouthSmileLeft"] == 0
    with pytest.raises(UserError, match="Unknown expression"):
        expression_of("grin", 1, {}, names)


def test_weights_as_json(head):
    names = head.expression_names
    assert parse_weights('{"jawopen": 0.5, "MouthSmile_L": 1}', names) == {"jawOpen": 0.5, "mouthSmileLeft": 1.0}
    assert parse_weights(" ", names) == parse_weights(None, names) == {}


@pytest.mark.parametrize(
    "text", ["{", "[1]", '{"grin": 1}', '{"jawOpen": 2}', '{"jawOpen": NaN}', '{"jawOpen": "1"}', '{"jawOpen": true}']
)
def test_bad_weights(head, text):
    with pytest.raises(UserError):
        parse_weights(text, head.expression_names)


def test_a_turned_head_is_seen_from_its_other_side():
    """The nose of a head that turns to its left moves to the right of the picture, and up where it looks up."""
    nose = torch.tensor([[[0.0, 0.0, 0.12]]])
    scene = Scene.portrait()
    start = scene.camera.project(nose, (200, 200))[0, 0]
    left = turn_head(scene, 30, 0).camera.project(nose, (200, 200))[0, 0]
    up = turn_head(scene, 0, 20).camera.project(nose, (200, 200))[0, 0]
    assert left[0] > start[0] + 10 and abs(left[1] - start[1]) < 2
    assert up[1] < start[1] - 10
    crown = torch.tensor([[[0.0, 0.12, 0.0]]])
    tilted = turn_head(scene, 0, 0, 20).camera.project(crown, (200, 200))[0, 0]
    assert tilted[0] > scene.camera.project(crown, (200, 200))[0, 0, 0] + 5, (
        "the subject's left is right in the picture"
    )


def test_the_light_stays_where_it_was():
    """In the world, camera and lamp keep their angle."""
    scene = Scene.portrait()
    turned = turn_head(scene, 40, -15, 10)
    for s in (scene, turned):
        s.seen = s.light.direction @ s.camera.matrix()[0].T
    torch.testing.assert_close(scene.seen, turned.seen, atol=1e-5, rtol=0)
    direction = torch.tensor([[[0.3, 0.5, 0.8]]])
    direction = direction / direction.norm()
    turn = head_rotation(40, -15, 10)
    torch.testing.assert_close(
        turned.light.radiance(direction), scene.light.radiance(direction @ turn.T), atol=1e-5, rtol=0
    )


def test_looks_become_gaze(head):
    names = head.expression_names
    look = weight_vector({"eyeLookOutLeft": 1, "eyeLookInRight": 1, "eyeLookUpLeft": 0.5, "eyeLookUpRight": 0.5}, names)
    yaw, pitch = look_gaze(look, names, math.radians(30))[0].rad2deg().tolist()
    assert yaw == pytest.approx(30) and pitch == pytest.approx(15)


def test_blend_ends_at_both_scenes():
    a = Scene.portrait(yaw=-20)
    b = replace(Scene.portrait(yaw=40, pitch=10), expression=torch.ones(1, 52), gaze=torch.tensor([[0.2, 0.0]]))
    b = replace(b, light=Light.preset("sunset"))
    point = torch.tensor([[[0.02, 0.03, 0.1]]])
    for weight, end in ((0.0, a), (1.0, b)):
        found = blend_scenes(a, b, weight)
        torch.testing.assert_close(found.camera.view(point), end.camera.view(point), atol=1e-5, rtol=0)
        torch.testing.assert_close(found.light.irradiance(point), end.light.irradiance(point))
        assert torch.equal(found.expression, end.expression)
    middle = blend_scenes(a, b, 0.5)
    assert middle.expression.mean() == 0.5
    assert middle.light.color.sum() == pytest.approx(float(a.light.color.sum() + b.light.color.sum()) / 2, rel=1e-5)
    assert blend_scenes(a, b, 0.5, "expression").camera is not None
    kept = blend_scenes(a, b, 0.5, "expression")
    torch.testing.assert_close(kept.camera.view(point), a.camera.view(point))
    assert torch.equal(kept.light.sh, a.light.sh)


def test_blends_that_do_not_fit():
    with pytest.raises(UserError, match="2 and 3 pictures"):
        blend_scenes(Scene.portrait(2), Scene.portrait(3), 0.5)
    with pytest.raises(UserError, match="Unknown part"):
        blend_scenes(Scene.portrait(), Scene.portrait(), 0.5, "hat")


def test_a_light_turned_by_a_matrix_turns_as_by_its_angle():
    light = combine_lights(Light.preset("sunset"), directional_light(10, 20, (1, 2, 3)))
    c, s = math.cos(0.5), math.sin(0.5)
    turned = light.turned(torch.tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]]))
    yaw = light.rotated(math.degrees(0.5))
    torch.testing.assert_close(turned.direction, yaw.direction)
    torch.testing.assert_close(turned.sh, yaw.sh)
