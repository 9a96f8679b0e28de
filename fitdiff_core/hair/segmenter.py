"""A small UNet that finds the hair in a wide view of the photo, given where the fitted head lies in it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .photo import View

INPUTS = 9


@dataclass(frozen=True)
class SegmenterConfig:
    """widths: features at 160, 80, 40, 20 and 10 pixels a side."""

    widths: tuple[int, ...] = (16, 32, 56, 80, 104)


class Block(nn.Module):
    """Two convolutions with group normalisation, and a skip connection."""

    def __init__(self, i: int, o: int):
        super().__init__()
        self.a, self.b = nn.Conv2d(i, o, 3, padding=1), nn.Conv2d(o, o, 3, padding=1)
        self.norm_a, self.norm_b = nn.GroupNorm(8, o), nn.GroupNorm(8, o)
        self.skip = nn.Conv2d(i, o, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.b(F.silu(self.norm_a(self.a(x))))
        return self.skip(x) + F.silu(self.norm_b(y))


class HairSegmenter(nn.Module):
    """The UNet (Ronneberger et al. 2015) on views of `photo.wide_view`."""

    def __init__(self, config: SegmenterConfig | None = None):
        super().__init__()
        self.config = config or SegmenterConfig()
        w = self.config.widths
        self.stem = nn.Conv2d(INPUTS, w[0], 3, padding=1)
        self.down = nn.ModuleList(Block(a, b) for a, b in zip((w[0], *w[:-1]), w, strict=True))
        self.up = nn.ModuleList(Block(b + a, a) for a, b in zip(w[:-1], w[1:], strict=True))
        self.out = nn.Conv2d(w[0], 1, 3, padding=1)

    def describe(self) -> dict:
        """The architecture, for metadata."""
        return asdict(self.config)

    def forward(self, planes: Tensor) -> Tensor:
        """Planes of `view_planes` `[B, INPUTS, S, S]` -> logits of hair `[B, 1, S, S]`; S a multiple of 16."""
        x, skips = self.stem(planes), []
        for i, block in enumerate(self.down):
            x = block(x if i == 0 else F.avg_pool2d(x, 2))
            skips.append(x)
        for block, skip in zip(reversed(self.up), reversed(skips[:-1]), strict=True):
            x = block(torch.cat([F.interpolate(x, scale_factor=2, mode="nearest"), skip], 1))
        return self.out(x)

    @torch.no_grad()
    def find(self, view: View) -> Tensor:
        """Hair in a view: `[S, S]`, 0..1. The mean over the view and its mirror image."""
        planes = view_planes(view.image, view.valid, view.edge, view.face, view.ears, view.metre)[None]
        logits = self(torch.cat([planes, planes.flip(-1)]))
        return torch.sigmoid(torch.lerp(logits[:1], logits[1:].flip(-1), 0.5))[0, 0] * view.valid


def view_planes(image: Tensor, valid: Tensor, edge: Tensor, face: Tensor, ears: Tensor, metre: Tensor) -> Tensor:
    """The input planes `[INPUTS, S, S]` of one view; arguments as in `View`."""
    on = edge > -0.9
    planes = [valid, on, torch.where(on, edge * 10, 0).clamp(-1, 1), face, ears]
    return torch.cat([(image - 0.5) * 2 * valid, torch.stack([p.to(image) for p in planes]), metre[None, ..., 1] * 4])
