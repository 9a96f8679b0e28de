"""Turntables: cameras and lights of a series of pictures around a head."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import UserError
from .camera import Camera
from .viewer_camera import turn_camera

if TYPE_CHECKING:
    from ..scene import Scene

SPINS = ("head", "camera", "light")


def angles(frames: int, start: float, end: float) -> Tensor:
    """`[frames]` degrees from start to end. Full turns leave out the end, which would come twice in a loop."""
    full = frames > 1 and end != start and (end - start) % 360 == 0
    return torch.linspace(start, end, frames + 1)[:-1] if full else torch.linspace(start, end, frames)


def turntable(
    scene: Scene,
    frames: int,
    start: float,
    end: float,
    spin: str = "head",
    yaw: float = 0.0,
    camera: Camera | None = None,
    **lens,
) -> Scene:
    """The scene of one picture -> a scene of `frames` pictures.

    start, end: degrees to the subject's left, see `angles`
    spin:       what turns. "head": the head, while camera and light stand still; "camera": the camera, while the
                light stays with the head; "light": the light, while camera and head stand still
    yaw, lens:  arguments of `Camera.orbit`
    camera:     one camera in place of that orbit; default None

    The head never moves in its own coordinates: to turn it, camera and light move the other way. Raises UserError for
    no frame, several scenes, or an unknown spin.
    """
    if frames < 1 or len(scene.camera) != 1:
        raise UserError(f"A turntable needs at least one frame and one scene, got {frames} and {len(scene.camera)}.")
    if spin not in SPINS:
        raise UserError(f"Unknown spin '{spin}'; choose one of {', '.join(SPINS)}.")
    turn = angles(frames, start, end).to(scene.expression)
    still = torch.zeros_like(turn)
    around = {"head": -turn, "camera": turn, "light": still}[spin]
    light = {"head": -turn, "camera": still, "light": turn}[spin]
    return replace(
        scene,
        camera=Camera.orbit(yaw + around, **lens) if camera is None else turn_camera(camera, around),
        light=scene.light.expand(frames).rotated(light),
        expression=scene.expression.expand(frames, -1),
        gaze=scene.gaze.expand(frames, -1),
        crop=None,
    )
