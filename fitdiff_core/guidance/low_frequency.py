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

from ..filters import gaussian_blur
from ..image import srgb_to_linear

EPSILON = 0.02  # linear radiance; keeps the logarithms of dark pixels tame
RANGE = 2.5  # of the log ratio of a pixel: beyond it something else is seen than lit skin
PULL = 0.02  # weight of "no gain": far from plain skin nothing is known


@dataclass(frozen=True)
class Unexplained:
    """share: how much of the broad residual counts as light; 0 gives all of it to the skin. sigma: Gaussian width as a share
    of the crop's side; limit: of the log gain."""

    share: float = 0.85  # the rest keeps the skin's brightness tied to the photo
    sigma: float = 0.03
    limit: float = 1.5


def broad(x: Tensor, skin: Tensor, sigma: float) -> Tensor:
    """What of `x [B, C, h, w]` varies slowly over the skin, `[B, 1, h, w]` its weight: a normalised convolution, so brows,
    lips and eyes get the value of the skin around them."""
    return gaussian_blur(x * skin, sigma) / (gaussian_blur(skin, sigma) + PULL)


@torch.no_grad()
def light_gain(render: Tensor, photo: Tensor, skin: Tensor, settings: Unexplained) -> Tensor:
    """Linear render `[B, 3, h, w]`, sRGB photo `[B or 1, 3, h, w]`, skin `[B, 1, h, w]` the weight of plain skin -> gain
    `[B, 3, h, w]` for the linear render."""
    s = settings
    ratio = ((srgb_to_linear(photo) + EPSILON) / (render.clamp(min=0) + EPSILON)).log().clamp(-RANGE, RANGE)
    return (s.share * broad(ratio, skin, s.sigma * render.shape[-1])).clamp(-s.limit, s.limit).exp()


class _WithoutBroad(torch.autograd.Function):
    @staticmethod
    def forward(ctx, image: Tensor, skin: Tensor, sigma: float) -> Tensor:
        ctx.save_for_backward(skin)
        ctx.sigma = sigma
        return image.clone()

    @staticmethod
    def backward(ctx, grad: Tensor):
        (skin,) = ctx.saved_tensors
        return grad - skin * broad(grad, skin, ctx.sigma), None, None


def without_broad_pull(image: Tensor, skin: Tensor, settings: Unexplained) -> Tensor:
    """The picture `[B, 3, H, W]` as it is; on its way back the gradient loses what varies slowly over the skin. The
    photometric loss asks for none of that once the gain is on; a recogniser would, and it likes pale faces."""
    return _WithoutBroad.apply(image, settings.share * skin, settings.sigma * image.shape[-1])
