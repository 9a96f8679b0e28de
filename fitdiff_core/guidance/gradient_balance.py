"""What the recogniser may ask of the picture.

A network is easily fooled: driven by its gradient alone, maps turn to coloured noise that it takes for the person and nobody
else does. Such noise is fine-grained and needs large gradients. So on its way back the recogniser's gradient is blurred, and
held to a share of what the photo's own pixels ask.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..filters import gaussian_blur


class _Balance(torch.autograd.Function):
    @staticmethod
    def forward(ctx, image: Tensor, sigma: float, share: float) -> tuple[Tensor, Tensor]:
        ctx.sigma, ctx.share = sigma, share
        return image.clone(), image.clone()

    @staticmethod
    def backward(ctx, photo: Tensor, features: Tensor):
        features = gaussian_blur(features, ctx.sigma)
        own, other = (g.square().mean((1, 2, 3), keepdim=True).sqrt() for g in (photo, features))
        # where the photo asks for nothing (weight 0), there is nothing to be held to
        scale = torch.where(own > 0, (ctx.share * own / other.clamp(min=1e-20)).clamp(max=1), 1.0)
        return photo + scale * features, None, None


def balance(image: Tensor, sigma: float, share: float) -> tuple[Tensor, Tensor]:
    """The picture twice: for the photometric loss, and for the recogniser.

    Backwards the recogniser's gradient is blurred by `sigma` px and scaled down to at most `share` times the RMS of the
    photometric one, per sample. share 0 or less leaves gradients as they are.
    """
    return _Balance.apply(image, sigma, share) if share > 0 else (image, image)
