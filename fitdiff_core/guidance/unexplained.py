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
RANGE = 2.5  # of the log ratio of a pixel: beyond it something else is seen than lit skin
PULL = 0.02  # weight of "no gain": far from plain skin nothing is known


@dataclass(frozen=True)
class Unexplained:
    """share: how much of the broad residual counts as light; 0 gives all of it to the skin. sigma: Gaussian width as a share
    of the crop's side; limit: of the log gain."""

    share: float = 1.0
    sigma: float = 0.05
    limit: float = 1.5


@torch.no_grad()
def light_gain(render: Tensor, photo: Tensor, skin: Tensor, settings: Unexplained) -> Tensor:
    """Linear render `[B, 3, h, w]`, sRGB photo `[B or 1, 3, h, w]`, skin `[B, 1, h, w]` the weight of plain skin -> gain
    `[B, 3, h, w]` for the linear render."""
    ratio = ((srgb_to_linear(photo) + EPSILON) / (render.clamp(min=0) + EPSILON)).log().clamp(-RANGE, RANGE)
    sigma = settings.sigma * render.shape[-1]
    # normalised convolution: brows, lips and eyes take the gain of the skin around them
    broad = blur(ratio * skin, sigma) / (blur(skin, sigma) + PULL)
    return (settings.share * broad).clamp(-settings.limit, settings.limit).exp()
