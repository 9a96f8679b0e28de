"""Shape encoder: a small convolutional network from the recogniser's activation layers to features of the head shape.

The linear prior also uses the activation layers averaged over a few cells. The averages hold tone, sex, age and most
of the shape, but not the exact position of a contour. The shape encoder keeps that position. Its features are
additional inputs of the prior's regression. `fitdiff_lab.train.shape_encoder` trains it; its weights stay fixed while
the denoiser is trained.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

SIDES = (36, 18, 9)  # the layers are resized to these sides, so that stride 2 leads from one to the next
NARROW = 32  # channels of each coarse cell before all cells are joined


def group_count(width: int) -> int:
    """Number of groups of a group normalisation over `width` channels: 8, or the largest of 4, 2, 1 that divides it."""
    return next(n for n in (8, 4, 2, 1) if width % n == 0)


class Residual(nn.Module):
    """Pre-activation residual block `[B, i, h, w]` -> `[B, o, h / stride, w / stride]`.

    The second convolution is zero at initialisation, so the block begins as its skip connection.
    """

    def __init__(self, i: int, o: int, stride: int = 1):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(group_count(i), i), nn.GroupNorm(group_count(o), o)
        self.conv1 = nn.Conv2d(i, o, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(o, o, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        self.skip = nn.Conv2d(i, o, 1, stride) if i != o or stride != 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        return self.skip(x) + h


class ShapeEncoder(nn.Module):
    """Standardised activation layers, each `[B, C, h, w]`, fine to coarse -> shape features `[B, N]`.

    activations: channels C of the three layers
    widths: features at the three `SIDES`, and N
    """

    def __init__(self, activations: tuple[int, int, int], widths: tuple[int, int, int, int]):
        super().__init__()
        fine, middle, coarse, features = widths
        self.reads = nn.ModuleList(nn.Conv2d(a, w, 3, padding=1) for a, w in zip(activations, widths, strict=False))
        self.fine = nn.Sequential(Residual(fine, fine, 2), nn.Conv2d(fine, middle, 1))
        self.middle = nn.Sequential(Residual(middle, middle), Residual(middle, middle), Residual(middle, coarse, 2))
        self.coarse = nn.Sequential(
            Residual(coarse, coarse), Residual(coarse, coarse), nn.SiLU(), nn.Conv2d(coarse, NARROW, 1)
        )
        self.join = nn.Linear(NARROW * SIDES[2] ** 2, features)

    def forward(self, activations: list[Tensor], dropout: float = 0.0) -> Tensor:
        """Features `[B, N]`. dropout: probability for each value of the coarse cells, for training; default 0."""
        a = [
            read(F.interpolate(layer, (side, side), mode="bilinear"))
            for read, layer, side in zip(self.reads, activations, SIDES, strict=True)
        ]
        h = self.middle(self.fine(a[0]) + a[1]) + a[2]
        cells = F.dropout(self.coarse(h).flatten(1), dropout, training=dropout > 0)
        return F.silu(self.join(cells))
