"""Steady a series of frames without delay: the One Euro filter (Casiez et al. 2012), run forwards and backwards.

The filter follows slow changes smoothly and fast ones closely: its cutoff grows with the speed. The whole film is
known, so the mean of both directions has no lag.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

SPEED_CUTOFF = 3.0  # Hz, of the speed estimate


@dataclass(frozen=True)
class Steadiness:
    """cutoff: Hz at rest. follow: Hz more for each unit a second."""

    cutoff: float
    follow: float


def steady(values: Tensor, fps: float, how: Steadiness, strength: float = 1.0) -> Tensor:
    """Values `[F, ...]` after the filter. strength: 0 (as they are) and up; divides the cutoff."""
    if strength <= 0 or len(values) < 3:
        return values
    x = values.double()
    found = (_one_euro(x, fps, how, strength) + _one_euro(x.flip(0), fps, how, strength).flip(0)) / 2
    return found.to(values.dtype)


def _one_euro(x: Tensor, fps: float, how: Steadiness, strength: float) -> Tensor:
    def share(cutoff):
        return 1 / (1 + fps / (2 * math.pi * cutoff))

    out, speed = [x[0]], torch.zeros_like(x[0])
    for before, value in zip(x[:-1], x[1:], strict=True):
        speed = torch.lerp(speed, (value - before) * fps, share(SPEED_CUTOFF))
        cutoff = (how.cutoff + how.follow * speed.abs()) / strength
        out.append(out[-1] + share(cutoff) * (value - out[-1]))
    return torch.stack(out)


def filled(values: Tensor, known: Tensor) -> Tensor:
    """Values `[F, ...]` with the frames that are not `known` `[F]` between their neighbours, or as the nearest one."""
    places = known.nonzero()[:, 0].tolist()
    out = values.clone()
    if not places:
        return out
    out[: places[0]], out[places[-1] :] = values[places[0]], values[places[-1]]
    for a, b in zip(places[:-1], places[1:], strict=True):
        for i in range(a + 1, b):
            out[i] = torch.lerp(values[a], values[b], (i - a) / (b - a))
    return out
