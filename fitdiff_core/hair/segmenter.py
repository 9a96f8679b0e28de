"""A small UNet that finds the hair in a wide view of the photo, given where the fitted head lies in it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from ..small_unet import blocks_down, blocks_up, down_and_up
from .photo import View

INPUTS = 9


@dataclass(frozen=True)
class SegmenterConfig:
    """widths: features at 160, 80, 40, 20 and 10 pixels a side."""

    widths: tuple[int, ...] = (16, 32, 56, 80, 104)


class HairSegmenter(nn.Module):
    """The UNet (Ronneberger et al. 2015) on views of `photo.wide_view`."""

    def __init__(self, config: SegmenterConfig | None = None):
        super().__init__()
        self.config = config or SegmenterConfig()
        w = self.config.widths
        self.stem = nn.Conv2d(INPUTS, w[0], 3, padding=1)
        self.down, self.up = blocks_down(w, project=True), blocks_up(w, project=True)
        self.out = nn.Conv2d(w[0], 1, 3, padding=1)

    def describe(self) -> dict:
        """The architecture, for metadata."""
        return asdict(self.config)

    def forward(self, planes: Tensor) -> Tensor:
        """Planes of `view_planes` `[B, INPUTS, S, S]` -> logits of hair `[B, 1, S, S]`; S a multiple of 16."""
        return self.out(down_and_up(self.stem(planes), self.down, self.up))

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
