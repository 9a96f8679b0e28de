"""Cameras and lights of a series of pictures round a head."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import UserError
from .camera import Camera

if TYPE_CHECKING:
    from ..scene import Scene

SPINS = ("head", "camera", "light")


def angles(frames: int, start: float, end: float) -> Tensor:
    """`[frames]` degrees from start to end. Full turns leave the end out: in a loop it would come twice."""
    full = frames > 1 and end != start and (end - start) % 360 == 0
    return torch.linspace(start, end, frames + 1)[:-1] if full else torch.linspace(start, end, frames)


def turntable(
    scene: Scene, frames: int, start: float, end: float, spin: str = "head", yaw: float = 0.0, **lens
) -> Scene:
    """One picture's scene -> a scene of `frames` pictures, seen from `yaw` by a camera of `lens` (`Camera.orbit`).

    spin: what turns by the angles, to the subject's left. "head": camera and light stand still in the room; "camera"
    goes round while the light stays with the head; "light" goes round while camera and head stand still.
    The head never moves in its own coordinates: where it turns, camera and light go round the other way.
    """
    if frames < 1 or len(scene.camera) != 1:
        raise UserError(f"A turntable needs at least one frame and one scene, got {frames} and {len(scene.camera)}.")
    if spin not in SPINS:
        raise UserError(f"Unknown spin '{spin}'; choose one of {', '.join(SPINS)}.")
    turn = angles(frames, start, end).to(scene.expression)
    still = torch.zeros_like(turn)
    around = {"head": -turn, "camera": turn, "light": still}[spin]
    light = {"head": -turn, "camera": still, "light": turn}[spin]
    lamps = scene.light.expand(frames)
    return replace(
        scene,
        camera=Camera.orbit(yaw + around, **lens),
        light=lamps.rotated(light),
        expression=scene.expression.expand(frames, -1),
        gaze=scene.gaze.expand(frames, -1),
        crop=None,
    )
