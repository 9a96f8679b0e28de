"""Blend two pictures of one surface without a seam: each frequency band is blended over a width of its own.

Laplacian pyramids (Burt & Adelson 1983, "A multiresolution spline with application to image mosaics").
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

LEVELS = 5


def _down(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True, align_corners=False)


def _up(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)


def multiband(inside: Tensor, outside: Tensor, weight: Tensor, levels: int = LEVELS) -> Tensor:
    """Blend `inside` (weight 1) and `outside` (weight 0).

    inside, outside: `[B, C, S, S]`. weight: `[B, 1, S, S]`, 0..1. levels: of the pyramid
    `outside` is unchanged where the weight is 0 in a wide neighbourhood.
    """
    difference = inside - outside
    if levels == 0 or min(weight.shape[-2:]) < 16:
        return outside + weight * difference
    coarse = _down(difference)
    band = difference - _up(coarse, difference)
    low = multiband(coarse, coarse * 0, _down(weight), levels - 1)
    return outside + weight * band + _up(low, difference)
