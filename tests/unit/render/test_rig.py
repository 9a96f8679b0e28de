"""Lamps, colour temperatures, and series of pictures round a head."""

from __future__ import annotations

import pytest
import torch

from fitdiff_core.errors import UserError
from fitdiff_core.image import LUMINANCE
from fitdiff_core.render import Camera, Light, rig
from fitdiff_core.render.turn import angles, turntable
from fitdiff_core.scene import Scene

FRONT, LEFT, UP = torch.eye(3)[[2, 0, 1]].unbind()


def test_a_lamp_stands_where_it_is_put():
    for azimuth, elevation, toward in ((0, 0, FRONT), (90, 0, LEFT), (0, 90, UP), (180, 0, -FRONT)):
        light = rig.directional_light(azimuth, elevation, (1.0, 2.0, 3.0))
        assert torch.allclose(light.direction[0, 0], toward, atol=1e-6)
        assert light.color.flatten().tolist() == [1.0, 2.0, 3.0] and not light.sh.any()


def test_uniform_light_is_the_same_from_everywhere():
    light = rig.uniform_light((0.25, 0.5, 1.0))
    for direction in (FRONT, LEFT, -UP):
        assert torch.allclose(light.radiance(direction.view(1, 1, 3)).flatten(), torch.tensor([0.25, 0.5, 1.0]))
        assert torch.allclose(light.irradiance(direction.view(1, 1, 3)).flatten(), torch.tensor([0.25, 0.5, 1.0]))


def test_lights_add_up():
    a, b = (
        Light.preset("studio"),
        rig.combine_lights(rig.directional_light(10, 20, (1.0, 1, 1)), rig.uniform_light((0.5,) * 3)),
    )
    both = rig.combine_lights(a, b)
    assert both.direction.shape[1] == a.direction.shape[1] + 1
    at = torch.nn.functional.normalize(torch.randn(1, 7, 3, generator=torch.Generator().manual_seed(1)), dim=-1)
    assert torch.allclose(both.radiance(at), a.radiance(at) + 0.5, atol=1e-6)
    assert len(rig.combine_lights(Light.preset("side", 3), b)) == 3
    with pytest.raises(UserError, match="2, 3"):
        rig.combine_lights(Light.preset("side", 2), Light.preset("side", 3))


@pytest.mark.parametrize(
    "kelvin, x, y", [(2856, 0.4476, 0.4074), (2000, 0.5267, 0.4133), (5000, 0.3451, 0.3516), (10000, 0.2806, 0.2883)]
)
def test_black_bodies_lie_where_the_cie_has_them(kelvin, x, y):
    assert rig.planckian_xy(kelvin) == (pytest.approx(x, abs=2e-3), pytest.approx(y, abs=2e-3))


def test_colour_temperature_is_a_tint_without_brightness():
    weights = torch.tensor(LUMINANCE)
    for kelvin in (1700, 2700, 4000, 6500, 9000, 25000):
        assert (rig.temperature_rgb(kelvin) @ weights).item() == pytest.approx(1, abs=1e-5)
    assert torch.allclose(rig.temperature_rgb(6500), torch.ones(3), atol=1e-5)
    warm, cool = rig.temperature_rgb(2700), rig.temperature_rgb(10000)
    assert warm[0] > 1.5 * warm[1] > 3 * warm[2] and cool[2] > cool[1] > cool[0]
    with pytest.raises(UserError, match="kelvin"):
        rig.temperature_rgb(-1)


def test_colours_are_written_as_on_the_web():
    assert torch.allclose(rig.hex_rgb("#ffffff"), torch.ones(3)) and torch.allclose(
        rig.hex_rgb(" f00 "), FRONT[[2, 0, 1]]
    )
    assert rig.hex_rgb("#808080")[0].item() == pytest.approx(0.2158605, abs=1e-5), "sRGB to linear"
    for wrong in ("", "red", "#12345", "#gggggg", "#1234567"):
        with pytest.raises(UserError, match="#rrggbb"):
            rig.hex_rgb(wrong)


def test_full_turns_have_no_double_picture():
    assert angles(4, 0, 360).tolist() == [0, 90, 180, 270] and angles(2, 0, -720).tolist() == [0, -360]
    assert angles(3, -45, 45).tolist() == [-45, 0, 45] and angles(1, 10, 20).tolist() == [10]
    assert angles(3, 30, 30).tolist() == [30, 30, 30]


def seen_from(scene: Scene, i: int) -> torch.Tensor:
    """Where the first lamp of picture i stands, in camera space."""
    camera = scene.camera[i] if len(scene.camera) > 1 else scene.camera
    return (camera.matrix()[0] @ scene.light.direction[i, 0]).round(decimals=4)


def test_what_turns_and_what_stays():
    still = Scene.portrait(1)
    for spin in ("head", "camera", "light"):
        scene = turntable(still, 3, 0.0, 90.0, spin)
        assert {len(scene.camera), len(scene.light), len(scene.expression), len(scene.gaze)} == {3}
        moved = (scene.camera.position()[2] - scene.camera.position()[0]).norm() > 0.1
        relit = not torch.allclose(scene.light.direction[0], scene.light.direction[2], atol=1e-3)
        assert (moved, relit) == {"head": (True, True), "camera": (True, False), "light": (False, True)}[spin]
        same = torch.allclose(seen_from(scene, 0), seen_from(scene, 2), atol=1e-3)
        assert same == (spin == "head"), "the room's light stays where it is, as the camera sees it"
    assert turntable(still, 3, 0.0, 90.0, "camera").camera.position()[2, 0] > 0.5, "to the subject's left"
    assert turntable(still, 3, 0.0, 90.0, "head").camera.position()[2, 0] < -0.5, "its left cheek goes away from us"


def test_a_turning_head_looks_to_its_left():
    """The nose, in front of the middle, moves to the picture's right: the subject's left."""
    scene = turntable(Scene.portrait(1), 2, 0.0, 40.0, "head", pitch_deg=5.0)
    nose = torch.tensor([[[0.0, 0.0, 0.12]]])
    x = [scene.camera[i].project(nose, (100, 100))[0, 0, 0].item() for i in range(2)]
    assert x[0] == pytest.approx(50, abs=0.1) and x[1] > 60


def test_a_turntable_needs_something_to_turn():
    still = Scene.portrait(1)
    for frames, scene, spin in ((0, still, "head"), (2, Scene.portrait(2), "head"), (2, still, "top")):
        with pytest.raises(UserError):
            turntable(scene, frames, 0, 10, spin)


def test_a_light_that_went_round_twice_is_the_light_it_was():
    scene = turntable(Scene.portrait(1), 2, 0.0, 720.0, "light")
    assert torch.allclose(scene.light.sh[0], scene.light.sh[1], atol=1e-4)
    assert torch.allclose(scene.camera.position(), Camera.orbit(0.0).position().expand(2, -1), atol=1e-5)
