"""What the fitted light leaves unexplained: cast shadows, near lamps, mixed colours. None of it belongs into the skin.

Order-2 harmonics know no shadows, so whatever they miss would be painted into the albedo. Between photo and render the
residual is split by scale (the idea of Retinex, Land & McCann 1971): what varies slowly over the skin is taken for light
and multiplied onto the render; what is left, features and detail, pulls on the head. The skin's broad tone is then the
prior's, told from the photo by the identity's features, which have seen people under every light.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..image import srgb_to_linear
from .balance import blur

EPSILON = 0.02  # linear radiance; keeps the logarithms of dark pixels tame
RANGE = 4.0  # of the log ratio of a pixel: beyond it something else is seen than lit skin
PULL = 0.02  # weight of "no gain": far from plain skin nothing is known
FINE = 1 / 3  # of sigma: where the gain differs at this width, light changes abruptly
DARK = 1.0  # log gain below the typical one from which on the photo shows ever less of the skin


@dataclass(frozen=True)
class Unexplained:
    """share: how much of the broad residual counts as light; 0 gives all of it to the skin. sigma: Gaussian width as a share
    of the crop's side. edge: log step within that width that halves the weight of a pixel; 0 leaves all of it."""

    share: float = 1.0
    sigma: float = 0.05
    edge: float = 0.15
    limit: float = 3.0


@torch.no_grad()
def light_gain(render: Tensor, photo: Tensor, skin: Tensor, settings: Unexplained) -> tuple[Tensor, Tensor]:
    """Linear render `[B, 3, h, w]`, sRGB photo `[B or 1, 3, h, w]`, skin `[B, 1, h, w]` the weight of plain skin -> gain
    `[B, 3, h, w]` for the linear render, and how far the photo is to be believed beside it, `[B, 1, h, w]` in 0..1: little
    at the edges of shadows, where the gain is off by a pixel, and in deep shadow, where noise is left."""
    s, sigma = settings, settings.sigma * render.shape[-1]
    ratio = ((srgb_to_linear(photo) + EPSILON) / (render.clamp(min=0) + EPSILON)).log().clamp(-RANGE, RANGE)

    def smooth(width: float) -> Tensor:
        # normalised convolution: brows, lips and eyes take the gain of the skin around them
        return blur(ratio * skin, width) / (blur(skin, width) + PULL)

    broad, fine = smooth(sigma), smooth(FINE * sigma)
    believed = torch.ones_like(skin)
    if s.edge > 0:
        step = blur((fine - broad).mean(1, keepdim=True).abs(), FINE * sigma)
        typical = torch.stack([level[m].median() if (m := where > 0.5).any() else level.median()
                               for level, where in zip(broad.mean(1), skin[:, 0], strict=True)]).view(-1, 1, 1, 1)
        depth = typical - broad.mean(1, keepdim=True)
        believed = (2 - depth / DARK).clamp(0, 1) / (1 + (step / s.edge).square())
    return (s.share * broad).clamp(-s.limit, s.limit).exp(), believed
