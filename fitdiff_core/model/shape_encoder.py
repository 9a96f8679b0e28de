"""What the recogniser's activation layers tell of a head's shape: a small convolutional network over them.

The linear prior reads layers averaged to a few cells, which tell tone, sex, age and much of the shape. Where a contour lies
to a fraction of a cell is lost in the average. The reader keeps it; its features are further columns of the prior's
regression. `train.reader` trains it, and nothing else does: under the denoiser's training it is as fixed as the recogniser.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

SIDES = (36, 18, 9)  # the layers are brought to these, so that two halvings lead from the finest to the coarsest
NARROW = 32  # channels left of each of the last cells before they are joined


def groups(width: int) -> int:
    """Of a group normalisation: eight, or as many as divide the width."""
    return next(n for n in (8, 4, 2, 1) if width % n == 0)


class Residual(nn.Module):
    """Two convolutions on normalised input, the second zero at first; stride 2 halves the side."""

    def __init__(self, i: int, o: int, stride: int = 1):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(groups(i), i), nn.GroupNorm(groups(o), o)
        self.conv1 = nn.Conv2d(i, o, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(o, o, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        self.skip = nn.Conv2d(i, o, 1, stride) if i != o or stride != 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        return self.skip(x) + h


class ShapeReader(nn.Module):
    """Normalised activation layers, each `[B, C, h, w]`, fine to coarse -> features `[B, N]`.

    activations: the three layers' channels; widths: at the three sides, and N
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
        """dropout: of the cells' values, while it is trained."""
        a = [
            read(F.interpolate(layer, (side, side), mode="bilinear"))
            for read, layer, side in zip(self.reads, activations, SIDES, strict=True)
        ]
        h = self.middle(self.fine(a[0]) + a[1]) + a[2]
        cells = F.dropout(self.coarse(h).flatten(1), dropout, training=dropout > 0)
        return F.silu(self.join(cells))
