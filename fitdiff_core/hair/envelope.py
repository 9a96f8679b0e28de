"""The outer surface of smooth hair: no strand stands over it alone, and it has no holes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from .body import HIGH, LOW, Body
from .growth import SKIN, Strands, ramp, resample
from .style import HairStyle

VOXEL = 0.008  # metres
POWER = 6  # of the mean that stands for the upper strands
ROUNDS, BROAD = 3, 7  # of blurring by a voxel to each side; voxels of the broad one
CLOSED = 1.1  # of the broad surface's height, to which valleys at partings and whorls are filled
DEEPEST = 0.01  # metres by which strands are lifted there at most, or one would see below them
STEEP = 0.04  # of a strand's length that is left out at its root where it is lifted by so much
INSIDE = (0.015, 0.04)  # metres inside the hairline of strands that fill them
OVER, LEFT = 1.04, 0.15  # a strand may rise to this share of the surface's height; what is left of the rest
FILL = 1.7  # largest factor that lifts the strands of a hole
HANGS = (-0.05, 0.01)  # metres; below the first hair hangs, above the second it lies on the head
UNTIDY = 0.5  # frizz from which hair has no such surface


def settle(strands: Strands, style: HairStyle, body: Body) -> Strands:
    """Strands whose upper ones lie in one smooth surface over the head."""
    if style.strand != "straight" or style.flow in ("out", "up") or style.frizz >= UNTIDY or len(strands) < 200:
        return strands
    points = strands.points
    height, out = body(points)
    height = np.maximum(height, 0)
    size = np.ceil((HIGH - LOW) / VOXEL).astype(int) + 1
    foot = points - height[..., None] * out
    at = np.clip(np.round((foot - LOW) / VOXEL).astype(int), 0, size - 1)
    index = ((at[..., 2] * size[1] + at[..., 1]) * size[0] + at[..., 0])[:, 1:].reshape(-1)
    grid = np.stack(
        [np.bincount(index, w, int(size.prod())) for w in (np.ones(len(index)), height[:, 1:].reshape(-1) ** POWER)]
    )
    near = _blurred(torch.from_numpy(grid.reshape(2, *size[::-1]))[None], 3, 1)
    wide = _blurred(near, 3, ROUNDS - 1)
    broad = _blurred(wide, BROAD, 2)
    places = torch.from_numpy((foot.reshape(-1, 3) - LOW) / ((size - 1) * VOXEL) * 2 - 1)[None, :, None, None]

    def surface(total: torch.Tensor) -> np.ndarray:
        count, powers = F.grid_sample(total, places, align_corners=True)[0, :, :, 0, 0].numpy()
        return (powers / np.maximum(count, 1e-9)).reshape(height.shape) ** (1 / POWER)

    local, smooth = surface(near), surface(wide)
    factor = np.clip(smooth / np.maximum(local, 1e-4), 1.0, FILL)
    wanted = height * factor
    top = OVER * smooth
    wanted = np.where(wanted > top, top + LEFT * (wanted - top), wanted)
    # from the root on, or the strands would stand beside the parting as loops
    inner = (ramp(strands.roots.edge, *INSIDE) * strands.layer)[:, None]
    lift = np.clip(CLOSED * surface(broad) - np.maximum(wanted, smooth), 0, DEEPEST) * inner
    wanted = wanted + lift
    share = ramp(points[..., 1], *HANGS) * (1 - style.frizz / UNTIDY)
    moved = points + ((wanted - height) * share)[..., None] * out
    moved[:, 1:] = body.push_out(moved[:, 1:], SKIN)
    # what leaves the scalp steeply would stand over the surface as a tuft
    moved = resample(moved[:, ::-1], 1 - STEEP * lift[:, 0] / DEEPEST)[:, ::-1]
    return replace(strands, points=moved, out=body(moved)[1])


def _blurred(grid: torch.Tensor, size: int, rounds: int) -> torch.Tensor:
    """Mean of `size` voxels along each axis of `[1, C, Z, Y, X]`, `rounds` times."""
    for _ in range(rounds):
        for axis in range(3):
            kernel = [size if k == axis else 1 for k in range(3)]
            grid = F.avg_pool3d(grid, kernel, 1, [k // 2 for k in kernel], count_include_pad=True)
    return grid
