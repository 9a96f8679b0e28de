"""The low-frequency residual between photo and render: light that the scene's light model cannot express.

Spherical harmonics of order 2 know no cast shadows, near lamps or mixed colours. Without countermeasures the guidance
would paint them into the albedo. The residual is therefore split by scale (the idea of Retinex, Land & McCann 1971).
What varies slowly over the skin is taken for light and multiplied onto the render. What remains, features and detail,
guides the head. The overall skin tone then comes from the prior, which knows it from the identity's features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..filters import gaussian_blur
from ..image import srgb_to_linear

EPSILON = 0.02  # linear radiance, added before logarithms of dark pixels
LARGEST_RATIO = 2.5  # of the log ratio of a pixel: beyond it the pixel does not show lit skin
LEAST_SIGMA = 1.5  # pixels of the grid on which the low pass is computed
NO_GAIN_WEIGHT = 0.02  # weight of "no gain", which decides far from plain skin


@dataclass(frozen=True)
class LowFrequency:
    """How the low-frequency residual is treated.

    share: how much of it counts as light; 0 gives all of it to the skin, 1 would untie the skin's brightness from the
    photo
    sigma: width of the Gaussian that separates low from high frequencies, as a share of the crop's side
    limit: of the log gain
    """

    share: float = 0.85
    sigma: float = 0.03
    limit: float = 1.5


def low_pass(x: Tensor, skin: Tensor, sigma: float) -> Tensor:
    """Low frequencies of `x [B, C, h, w]` over the skin, weights `[B, 1, h, w]`; sigma in pixels.

    A normalised convolution: brows, lips and eyes get the value of the skin around them. A broad kernel needs no fine
    grid: it is computed on a coarser one.
    """
    top, bottom, size = x * skin, skin, x.shape[-2:]
    while sigma >= 2 * LEAST_SIGMA and not (top.shape[-1] % 2 or top.shape[-2] % 2):
        top, bottom, sigma = F.avg_pool2d(top, 2), F.avg_pool2d(bottom, 2), sigma / 2
    low = gaussian_blur(top, sigma) / (gaussian_blur(bottom, sigma) + NO_GAIN_WEIGHT)
    return low if low.shape[-2:] == size else F.interpolate(low, size, mode="bilinear", align_corners=False)


@torch.no_grad()
def light_gain(render: Tensor, photo: Tensor, skin: Tensor, settings: LowFrequency) -> Tensor:
    """Gain `[B, 3, h, w]` for the linear render that accounts for the unmodelled light.

    render: `[B, 3, h, w]` linear. photo: `[B or 1, 3, h, w]` sRGB. skin: `[B, 1, h, w]` weight of plain skin.
    """
    s = settings
    ratio = ((srgb_to_linear(photo) + EPSILON) / (render.clamp(min=0) + EPSILON)).log()
    ratio = ratio.clamp(-LARGEST_RATIO, LARGEST_RATIO)
    return (s.share * low_pass(ratio, skin, s.sigma * render.shape[-1])).clamp(-s.limit, s.limit).exp()


class _WithoutLowFrequency(torch.autograd.Function):
    @staticmethod
    def forward(ctx, image: Tensor, skin: Tensor, sigma: float) -> Tensor:
        ctx.save_for_backward(skin)
        ctx.sigma = sigma
        return image.clone()

    @staticmethod
    def backward(ctx, grad: Tensor):
        (skin,) = ctx.saved_tensors
        return grad - skin * low_pass(grad, skin, ctx.sigma), None, None


def without_low_frequency_gradient(image: Tensor, skin: Tensor, settings: LowFrequency) -> Tensor:
    """The picture `[B, 3, H, W]` unchanged; backwards its gradient loses the low frequencies over the skin.

    With the gain the photometric loss has no such gradient. A recogniser has: it prefers pale faces.
    """
    return _WithoutLowFrequency.apply(image, settings.share * skin, settings.sigma * image.shape[-1])
