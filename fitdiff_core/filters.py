"""Image filters: Gaussian blur, and filters that take a weight and never look beyond it.

Sizes (sigma, radius, feather) are in pixels or texels of the image that is filtered.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

COARSE = 128  # texels a side at which wide kernels are computed


def gaussian_blur(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of `[B, C, H, W]`, cut at 3 sigma, zero beyond the border; sigma 0 or less returns `x` itself."""
    if sigma <= 0:
        return x
    r = max(1, int(3 * sigma))
    t = torch.arange(-r, r + 1, dtype=x.dtype, device=x.device)
    k = torch.exp(-t.square() / (2 * sigma**2))
    k, c = k / k.sum(), x.shape[1]
    x = F.conv2d(F.pad(x, (r, r, 0, 0)), k.expand(c, 1, 1, -1), groups=c)
    return F.conv2d(F.pad(x, (0, 0, r, r)), k[:, None].expand(c, 1, -1, 1), groups=c)


def gaussian_blur_replicate(x: Tensor, sigma: float, radius: int | None = None) -> Tensor:
    """Gaussian blur of `[..., H, W]`; beyond the border the last pixel repeats.

    radius: of the kernel; None takes 3 sigma, less than the image's shorter side.

    Not an option of `gaussian_blur`: the two compute their weights in another order, which differs in the last bit, and
    results of both must stay as they are.
    """
    height, width = x.shape[-2:]
    if radius is None:
        radius = max(1, min(round(3 * sigma), min(height, width) - 1))
    t = torch.arange(-radius, radius + 1, device=x.device)
    kernel = torch.exp(-0.5 * (t / max(sigma, 1e-3)) ** 2)
    kernel = (kernel / kernel.sum()).to(x)
    y = F.pad(x.reshape(-1, 1, height, width), (radius,) * 4, mode="replicate")
    y = F.conv2d(F.conv2d(y, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))
    return y.view(x.shape)


def normalized_convolution(x: Tensor, weight: Tensor, sigma: float) -> Tensor:
    """Normalised convolution (Knutsson & Westin 1993): `[1, C, S, S]` blurred by `sigma` texels, each texel counted by
    `weight [1, 1, S, S]`. Far from any weight the result goes to 0."""
    small = COARSE / x.shape[-1]
    coarse = sigma * small >= 1.5  # a broad kernel needs no fine grid
    top, bottom = x * weight, weight
    if coarse:
        top, bottom = (F.interpolate(v, (COARSE, COARSE), mode="area") for v in (top, bottom))
        sigma = sigma * small
    top, bottom = gaussian_blur(top, sigma), gaussian_blur(bottom, sigma)
    y = top / (bottom + 1e-4)
    return F.interpolate(y, x.shape[-2:], mode="bilinear", align_corners=False) if coarse else y


def guided_filter(x: Tensor, weight: Tensor, sigma: float, edge: float) -> Tensor:
    """Self-guided filter (He et al. 2010) of `[1, C, S, S]` with a window of `sigma` texels, counting by `weight`.

    Variation well below `edge` is smoothed away, steps well above it stay.
    """
    mean = normalized_convolution(x, weight, sigma)
    variance = (normalized_convolution(x.square(), weight, sigma) - mean.square()).clamp(min=0)
    slope = variance / (variance + edge**2)
    slope, offset = (
        normalized_convolution(slope, weight, sigma),
        normalized_convolution(mean * (1 - slope), weight, sigma),
    )
    return slope * x + offset


def dilate(x: Tensor, side: int) -> Tensor:
    """Largest value of `[..., H, W]` within a square of `side` (odd) pixels; nothing lies beyond the border.

    The same as `F.max_pool2d`, which takes 15 to 200 times as long on a CPU: here each axis on its own, and the span of
    the maximum doubles with each pass.
    """
    for axis in (-1, -2):
        r = side // 2
        x = F.pad(x, (r, r) if axis == -1 else (0, 0, r, r), value=-math.inf)
        width = 1
        while width < side:
            step = min(width, side - width)
            n = x.shape[axis] - step
            x = torch.maximum(x.narrow(axis, 0, n), x.narrow(axis, step, n))
            width += step
    return x


def erode(x: Tensor, side: int) -> Tensor:
    """Smallest value of `[..., H, W]` within a square of `side` (odd) pixels; nothing lies beyond the border."""
    return -dilate(-x, side)


def erode_and_feather(mask: Tensor, radius: float, feather: float) -> Tensor:
    """Mask `[1, 1, S, S]` eroded by `radius` texels, with an edge that fades inwards over about `feather` texels."""
    pull = max(1, round(radius + feather))
    return gaussian_blur(erode(mask, 2 * pull + 1), feather / 2).clamp(0, 1) * mask


def reconstruct(seed: Tensor, mask: Tensor) -> Tensor:
    """The parts of mask that are connected to seed (morphological reconstruction, Vincent 1993).

    seed, mask: `[1, 1, h, w]` 0..1, seed at most as large as mask.
    """
    reached = seed
    for _ in range(mask.shape[-2] * mask.shape[-1]):
        grown = torch.minimum(dilate(reached, 3), mask)
        if torch.equal(grown, reached):
            break
        reached = grown
    return reached
