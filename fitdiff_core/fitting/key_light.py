"""Search for one strong directional light. Spherical harmonics of order 2 express neither its terminator nor its
shadows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..render.light import Light, toward
from ..render.shadow import light_visibility
from .gbuffer import GBuffer
from .sh_light import LightPrior, Pixels, directional_basis, solve_light

YAWS, PITCHES = range(-110, 111, 20), range(-20, 61, 20)  # degrees around the face's front
# Candidates are first compared without shadows. The search goes on if the best leaves less than PROMISING of the error
# without a key light; the shadows of the best SHADOWED are then cast.
PROMISING, SHADOWED = 0.97, 10
# A key light is kept if its error is below WORTH of the error without one, and at least LEAST_GAIN below it. Smaller
# gains may come from hair, make-up or a fold.
WORTH, LEAST_GAIN = 0.9, 0.003


@dataclass(frozen=True)
class KeyLight:
    """direction: `[3]` unit vector in world space, towards the light. visibility: `[1, V, 1]` of the light from each
    vertex, 0 where other parts of the head cast a shadow, to 1."""

    direction: Tensor
    visibility: Tensor


@torch.no_grad()
def find_key_light(
    pixels: Pixels, vertices: Tensor, gbuffer: GBuffer, stride: int, prior: LightPrior | None = None
) -> KeyLight | None:
    """The directional light that explains the photo best beside the harmonics, or None.

    pixels: of plain skin with a guessed albedo, every stride-th of gbuffer. vertices: `[1, V, 3]` metres, posed.
    """
    prior = prior or LightPrior()

    def error(direction: Tensor, visibility: Tensor | float = 1.0) -> float:
        found = solve_light(pixels, prior, directional_basis(pixels.normal, direction) * visibility)
        return found.energy if found.key is not None and found.key.max() > 0 else math.inf

    def with_shadows(angles: list[tuple[int, int]]) -> tuple[float, KeyLight, tuple[int, int]]:
        """Cast the shadows of each candidate (yaw, pitch); the best one's error, light and angles (the first of
        equals)."""
        directions = torch.stack([direction_at(*a) for a in angles])
        lights = Light(torch.zeros(1, 9, 3), directions[None], torch.ones(1, len(angles), 3))
        visibility = light_visibility(vertices, gbuffer.triangles, lights)
        seen = gbuffer.interpolate(visibility)[0, :, ::stride, ::stride][:, pixels.used].cpu().double()
        errors = [error(d, s[:, None]) for d, s in zip(directions, seen, strict=True)]
        i = errors.index(min(errors))
        return errors[i], KeyLight(directions[i].to(vertices), visibility[..., i : i + 1]), angles[i]

    if pixels.weight.sum() <= 1e-6:
        return None
    without = solve_light(pixels, prior).energy
    ranked = sorted((error(direction_at(yaw, pitch)), yaw, pitch) for yaw in YAWS for pitch in PITCHES)[:SHADOWED]
    if ranked[0][0] > PROMISING * without:
        return None
    coarse = with_shadows([(yaw, pitch) for _, yaw, pitch in ranked])
    yaw, pitch = coarse[2]
    fine = with_shadows([(yaw + a, pitch + b) for a in (-10, 0, 10) for b in (-10, 0, 10) if a or b])
    best, key, _ = min(coarse, fine, key=lambda x: x[0])
    return key if best < min(WORTH * without, without - LEAST_GAIN) else None


def direction_at(yaw: float, pitch: float) -> Tensor:
    """Degrees -> unit vector `[3]`."""
    return toward(*(torch.tensor(math.radians(a)) for a in (yaw, pitch)))
