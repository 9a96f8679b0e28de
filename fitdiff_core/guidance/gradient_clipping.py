"""Limits on the gradient that the recogniser may send back into the picture.

A recognition network is easily fooled. Optimised for its features alone, the maps turn into fine coloured noise that
this network takes for the person and no other network does. Such noise is of high frequency and needs large gradients.
So on the way back the recogniser's gradient is blurred, and clipped to a share of the photometric gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..filters import gaussian_blur


class _ClipGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, image: Tensor, sigma: float, share: float) -> tuple[Tensor, Tensor]:
        ctx.sigma, ctx.share = sigma, share
        return image.clone(), image.clone()

    @staticmethod
    def backward(ctx, photometric: Tensor, recognizer: Tensor):
        recognizer = gaussian_blur(recognizer, ctx.sigma)
        own, other = (g.square().mean((1, 2, 3), keepdim=True).sqrt() for g in (photometric, recognizer))
        # without a photometric gradient (weight 0) there is no limit
        scale = torch.where(own > 0, (ctx.share * own / other.clamp(min=1e-20)).clamp(max=1), 1.0)
        return photometric + scale * recognizer, None, None


def clip_recognizer_gradient(image: Tensor, sigma: float, share: float) -> tuple[Tensor, Tensor]:
    """Return the picture twice: for the photometric loss, and for the recogniser.

    image: `[B, 3, H, W]`
    sigma: width of the blur of the recogniser's gradient, pixels
    share: largest RMS of that gradient per sample, as a share of the photometric one; 0 or less turns both off
    """
    return _ClipGradient.apply(image, sigma, share) if share > 0 else (image, image)
