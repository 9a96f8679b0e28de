"""What the recogniser may ask of the picture.

A network is easily fooled: driven by its gradient alone, maps turn to coloured noise that it takes for the person and nobody
else does. Such noise is fine-grained and needs large gradients. So on its way back the recogniser's gradient is blurred, and
held to a share of what the photo's own pixels ask.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def blur(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of `[B, C, H, W]`, sigma in px; 0 leaves it."""
    if sigma <= 0:
        return x
    r = max(1, int(3 * sigma))
    t = torch.arange(-r, r + 1, dtype=x.dtype, device=x.device)
    k = torch.exp(-t.square() / (2 * sigma**2))
    k, c = k / k.sum(), x.shape[1]
    x = F.conv2d(F.pad(x, (r, r, 0, 0)), k.expand(c, 1, 1, -1), groups=c)
    return F.conv2d(F.pad(x, (0, 0, r, r)), k[:, None].expand(c, 1, -1, 1), groups=c)


class _Balance(torch.autograd.Function):
    @staticmethod
    def forward(ctx, image: Tensor, sigma: float, share: float) -> tuple[Tensor, Tensor]:
        ctx.sigma, ctx.share = sigma, share
        return image.clone(), image.clone()

    @staticmethod
    def backward(ctx, photo: Tensor, features: Tensor):
        features = blur(features, ctx.sigma)
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
