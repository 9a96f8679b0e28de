"""The parts that the small UNets share (Ronneberger et al. 2015): the block, and the way down and up again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """Two convolutions with group normalisation, and a skip connection."""

    def __init__(self, i: int, o: int, project: bool = False):
        """i, o: features in and out, multiples of 8. project: whether the skip has weights also where i is o."""
        super().__init__()
        self.a, self.b = nn.Conv2d(i, o, 3, padding=1), nn.Conv2d(o, o, 3, padding=1)
        self.norm_a, self.norm_b = nn.GroupNorm(8, o), nn.GroupNorm(8, o)
        self.skip = nn.Identity() if i == o and not project else nn.Conv2d(i, o, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.b(F.silu(self.norm_a(self.a(x))))
        return self.skip(x) + F.silu(self.norm_b(y))


def blocks_down(widths: Sequence[int], project: bool = False) -> nn.ModuleList:
    """A block for each level, finest first. widths: features of the levels."""
    return nn.ModuleList(Block(a, b, project) for a, b in zip((widths[0], *widths[:-1]), widths, strict=True))


def blocks_up(widths: Sequence[int], project: bool = False) -> nn.ModuleList:
    """A block for each level but the coarsest, coarsest first in use and last in the list."""
    return nn.ModuleList(Block(b + a, a, project) for a, b in zip(widths[:-1], widths[1:], strict=True))


def down_and_up(
    x: Tensor, down: nn.ModuleList, up: nn.ModuleList, bottom: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """`[B, widths[0], S, S]` -> the same shape; S a multiple of 2 for each level but the first.

    bottom: applied at the coarsest level, None for nothing
    """
    skips = []
    for i, block in enumerate(down):
        x = block(x if i == 0 else F.avg_pool2d(x, 2))
        skips.append(x)
    x = x if bottom is None else bottom(x)
    for block, skip in zip(reversed(up), reversed(skips[:-1]), strict=True):
        x = block(torch.cat([F.interpolate(x, scale_factor=2, mode="nearest"), skip], 1))
    return x
