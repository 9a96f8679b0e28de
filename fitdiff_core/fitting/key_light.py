"""Is there one strong lamp, and where? Harmonics of order 2 know neither the edge where its light ends nor the shadows it casts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..render.light import Light, toward
from ..render.shadow import light_visibility
from .gbuffer import Surface
from .sh_light import LightPrior, Pixels, solve_light, sun_basis

YAWS, PITCHES = range(-110, 111, 20), range(-20, 61, 20)  # degrees around the face's front
PROMISING, SHADOWED = 0.97, 10  # of the error without a sun, before shadows; candidates whose shadows are then cast
WORTH, LEAST = 0.9, 0.003  # of the error without a sun, and by how much: less of a gain may be hair, make-up or a fold


@dataclass(frozen=True)
class Sun:
    """direction `[3]`: unit, world, towards it; arrives `[1, V, 1]`: the share of its light that other parts of the head let
    through to each vertex."""

    direction: Tensor
    arrives: Tensor


@torch.no_grad()
def find_sun(
    pixels: Pixels, vertices: Tensor, surface: Surface, stride: int, prior: LightPrior | None = None
) -> Sun | None:
    """pixels: of the skin, with an albedo guessed for them, every stride-th of surface; vertices `[1, V, 3]`, posed."""
    prior = prior or LightPrior()

    def error(direction: Tensor, arrives: Tensor | float = 1.0) -> float:
        share = sun_basis(pixels.normal, direction) * arrives
        found = solve_light(pixels, prior, share)
        return found.energy if found.sun.max() > 0 else math.inf

    def shadowed(angles: list[tuple[int, int]]) -> tuple[float, Sun, tuple[int, int]]:
        """The best of these (yaw, pitch) with the shadows of each cast: its error, and the first of equals."""
        directions = torch.stack([at(*a) for a in angles])
        arrives = light_visibility(
            vertices, surface.triangles, Light(torch.zeros(1, 9, 3), directions[None], torch.ones(1, len(angles), 3))
        )
        seen = surface.carry(arrives)[0, :, ::stride, ::stride][:, pixels.used].cpu().double()
        errors = [error(d, s[:, None]) for d, s in zip(directions, seen, strict=True)]
        i = errors.index(min(errors))
        return errors[i], Sun(directions[i].to(vertices), arrives[..., i : i + 1]), angles[i]

    if pixels.weight.sum() <= 1e-6:
        return None
    without = solve_light(pixels, prior).energy
    near = sorted((error(at(yaw, pitch)), yaw, pitch) for yaw in YAWS for pitch in PITCHES)[:SHADOWED]
    if near[0][0] > PROMISING * without:
        return None
    coarse = shadowed([(yaw, pitch) for _, yaw, pitch in near])
    yaw, pitch = coarse[2]
    finer = shadowed([(yaw + a, pitch + b) for a in (-10, 0, 10) for b in (-10, 0, 10) if a or b])
    left, sun, _ = min(coarse, finer, key=lambda x: x[0])
    return sun if left < min(WORTH * without, without - LEAST) else None


def at(yaw: float, pitch: float) -> Tensor:
    """Degrees -> unit vector `[3]`."""
    return toward(*(torch.tensor(math.radians(a)) for a in (yaw, pitch)))
