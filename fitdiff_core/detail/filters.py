"""Smoothing that knows where there is something to smooth: all filters take a weight and never look beyond it."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ..guidance.gradient_balance import blur

COARSE = 128  # texels a side at which broad things are computed


def smooth(x: Tensor, weight: Tensor, sigma: float) -> Tensor:
    """Normalised convolution (Knutsson & Westin 1993): `[1, C, S, S]` blurred by `sigma` texels, counting by `weight`
    `[1, 1, S, S]`. Far from any weight it goes to 0."""
    small = COARSE / x.shape[-1]
    coarse = sigma * small >= 1.5  # a broad kernel needs no fine grid
    top, bottom = x * weight, weight
    if coarse:
        top, bottom = (F.interpolate(v, (COARSE, COARSE), mode="area") for v in (top, bottom))
        sigma = sigma * small
    top, bottom = blur(top, sigma), blur(bottom, sigma)
    y = top / (bottom + 1e-4)
    return F.interpolate(y, x.shape[-2:], mode="bilinear", align_corners=False) if coarse else y


def edge_aware(x: Tensor, weight: Tensor, sigma: float, edge: float) -> Tensor:
    """Self-guided filter (He et al. 2010) of `[1, C, S, S]`, window of `sigma` texels: variation well below `edge` is
    smoothed away, steps well above it are kept as they are."""
    mean = smooth(x, weight, sigma)
    variance = (smooth(x.square(), weight, sigma) - mean.square()).clamp(min=0)
    slope = variance / (variance + edge**2)
    slope, offset = smooth(slope, weight, sigma), smooth(mean * (1 - slope), weight, sigma)
    return slope * x + offset


def shrink(mask: Tensor, radius: float, feather: float) -> Tensor:
    """Mask `[1, 1, S, S]` 0..1 pulled in by `radius` texels, then faded out over about `feather` texels, inwards."""
    pull = max(1, round(radius + feather))
    inner = mask
    for step in [8] * (pull // 8) + [pull % 8]:  # small windows one after the other
        if step:
            inner = -F.max_pool2d(-inner, 2 * step + 1, 1, step)
    return blur(inner, feather / 2).clamp(0, 1) * mask
