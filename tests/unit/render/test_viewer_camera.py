"""Cameras of ComfyUI's 3D viewer: there and back, and where points come to lie in the picture."""

from __future__ import annotations

import math

import pytest
import torch

from fitdiff_core.errors import UserError
from fitdiff_core.render import Camera
from fitdiff_core.render.viewer_camera import camera_from_viewer, camera_to_viewer, turn_camera

POINTS = torch.tensor([[[0.0, 0.0, 0.1], [0.05, 0.02, 0.08], [-0.07, 0.11, -0.03], [0.02, -0.1, 0.0]]])
INFO = {
    "position": {"x": 0.3, "y": 0.1, "z": 0.7},
    "target": {"x": 0.0, "y": 0.02, "z": 0.0},
    "zoom": 1,
    "cameraType": "perspective",
}


def pixels(camera):
    return camera.project(POINTS, (512, 512))


@pytest.mark.parametrize("yaw", [-170.0, -30.0, 0.0, 60.0, 180.0])
@pytest.mark.parametrize("pitch", [-80.0, 0.0, 35.0])
def test_a_camera_goes_there_and_back(yaw, pitch):
    camera = Camera.orbit(yaw, pitch, 0.7, 30.0)
    again = camera_from_viewer(camera_to_viewer(camera))
    torch.testing.assert_close(pixels(again), pixels(camera), atol=0.01, rtol=0)
    turned = Camera(camera.focal, camera.rotation + torch.tensor([[0.02, 0.01, 0.3]]), camera.translation)  # with roll
    torch.testing.assert_close(pixels(camera_from_viewer(camera_to_viewer(turned))), pixels(turned), atol=0.01, rtol=0)


def test_viewer_without_quaternion_looks_at_its_target():
    """As three.js' `lookAt`: the target comes to the middle, up stays up."""
    camera = camera_from_viewer(INFO | {"fov": 30})
    target = torch.tensor([[[0.0, 0.02, 0.0], [0.0, 0.12, 0.0]]])
    middle, above = camera.project(target, (400, 400))[0]
    torch.testing.assert_close(middle, torch.tensor([200.0, 200.0]), atol=1e-3, rtol=0)
    assert abs(above[0] - 200) < 1e-3 and above[1] < 200
    assert abs(math.degrees(2 * math.atan(1 / float(camera.focal))) - 30) < 1e-4
    torch.testing.assert_close(camera.position()[0], torch.tensor([0.3, 0.1, 0.7]), atol=1e-5, rtol=0)


def test_zoom_is_a_longer_lens():
    one, two = (camera_from_viewer(INFO | {"fov": 30, "zoom": z}) for z in (1, 2))
    torch.testing.assert_close(two.focal, one.focal * 2)


def test_old_viewers_scale_is_taken_back():
    """They show a head of 0.3 m as 5 units, on the ground and centred."""
    low, high = torch.tensor([-0.1, -0.15, -0.12]), torch.tensor([0.1, 0.15, 0.08])
    centre = {"x": 0.0, "y": 2.5, "z": 0.0}
    camera = camera_from_viewer(
        INFO | {"position": {"x": 0.0, "y": 2.5, "z": 10.0}, "target": centre}, bounds=(low, high)
    )
    torch.testing.assert_close(camera.position()[0], torch.tensor([0.0, 0.0, 10 * 0.06 - 0.02]), atol=1e-5, rtol=0)
    metres = camera_from_viewer(INFO | {"fov": 30}, bounds=(low, high))  # newer ones say fov, and scale nothing
    torch.testing.assert_close(metres.position()[0], torch.tensor([0.3, 0.1, 0.7]), atol=1e-5, rtol=0)


def test_orthographic_camera_shows_the_same_height():
    frustum = {"left": -0.2, "right": 0.2, "top": 0.2, "bottom": -0.2}
    info = INFO | {"fov": 35, "cameraType": "orthographic", "frustum": frustum, "position": {"x": 0, "y": 0.02, "z": 3}}
    points = torch.tensor([[[0.0, 0.22, 0.0], [0.0, 0.22, 0.1]]])
    y = camera_from_viewer(info).project(points, (400, 400))[0, :, 1]
    assert y.abs().max() < 6, "the top of the frustum is the top of the picture, near and far"


def test_from_straight_above_and_below():
    for y in (2.0, -2.0):
        camera = camera_from_viewer(INFO | {"position": {"x": 0, "y": y, "z": 0}, "target": {"x": 0, "y": 0, "z": 0}})
        assert torch.isfinite(pixels(camera)).all()


@pytest.mark.parametrize(
    "bad",
    [
        None,
        "camera",
        {},
        INFO | {"position": None},
        INFO | {"position": {"x": 1, "y": 2}},
        INFO | {"position": {"x": float("nan"), "y": 0, "z": 0}},
        INFO | {"position": INFO["target"]},
        INFO | {"zoom": 0},
        INFO | {"fov": 180},
        INFO | {"zoom": "1"},
        INFO | {"quaternion": [0, 0, 0, 1]},
    ],
)
def test_anything_else_is_refused_with_what_to_do(bad):
    with pytest.raises(UserError, match="Connect camera_info"):
        camera_from_viewer(bad)


def test_a_batch_has_no_one_camera():
    with pytest.raises(UserError, match="pick one picture"):
        camera_to_viewer(Camera.orbit(torch.zeros(2)))


def test_turning_a_camera_is_turning_the_orbit():
    turn = torch.tensor([-40.0, 0.0, 130.0])
    turned = turn_camera(Camera.orbit(20.0, 15.0, 0.7, 30.0, (0.0, 0.0, 0.0)), turn)
    torch.testing.assert_close(
        turned.project(POINTS.expand(3, -1, -1), (512, 512)),
        Camera.orbit(20.0 + turn, 15.0, 0.7, 30.0, (0.0, 0.0, 0.0)).project(POINTS.expand(3, -1, -1), (512, 512)),
        atol=0.01,
        rtol=0,
    )
