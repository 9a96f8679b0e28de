"""Is there one strong lamp, and where? Harmonics of order 2 know neither the edge where its light ends nor the shadows it casts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..render.light import Light, toward
from ..render.shadow import lamp_shares
from .light import LightPrior, Pixels, solve_light, sun_basis
from .surface import Surface

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
    pixels: Pixels, vertices: Tensor, head, surface: Surface, stride: int, prior: LightPrior | None = None
) -> Sun | None:
    """pixels: of the skin, with an albedo guessed for them, every stride-th of surface; vertices `[1, V, 3]`, posed."""
    prior = prior or LightPrior()

    def error(direction: Tensor, arrives: Tensor | float = 1.0) -> float:
        share = sun_basis(pixels.normal, direction) * arrives
        found = solve_light(pixels.radiance, pixels.albedo, pixels.normal, pixels.weight, pixels.clipped, prior, share)
        return found.energy if found.sun.max() > 0 else math.inf

    def shadowed(yaw: float, pitch: float) -> tuple[float, Tensor, Tensor]:
        direction = at(yaw, pitch)
        lamp = Light(torch.zeros(1, 9, 3), direction[None, None], torch.ones(1, 1, 3))
        arrives = lamp_shares(vertices, head.triangles, lamp)
        seen = surface.carry(arrives)[..., ::stride, ::stride][0, 0][pixels.used]
        return error(direction, seen.cpu().double()[:, None]), direction, arrives

    if pixels.weight.sum() <= 1e-6:
        return None
    without = solve_light(pixels.radiance, pixels.albedo, pixels.normal, pixels.weight, pixels.clipped, prior).energy
    near = sorted((error(at(yaw, pitch)), yaw, pitch) for yaw in YAWS for pitch in PITCHES)[:SHADOWED]
    if near[0][0] > PROMISING * without:
        return None
    best = min(((*shadowed(yaw, pitch), yaw, pitch) for _, yaw, pitch in near), key=lambda x: x[0])
    yaw, pitch = best[3:]
    finer = [(yaw + a, pitch + b) for a in (-10, 0, 10) for b in (-10, 0, 10) if a or b]
    best = min([best[:3], *(shadowed(*angles) for angles in finer)], key=lambda x: x[0])
    return Sun(best[1].to(vertices), best[2]) if best[0] < min(WORTH * without, without - LEAST) else None


def at(yaw: float, pitch: float) -> Tensor:
    """Degrees -> unit vector `[3]`."""
    return toward(*(torch.tensor(math.radians(a)) for a in (yaw, pitch)))
