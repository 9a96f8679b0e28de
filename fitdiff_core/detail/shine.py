"""Shine that is left in an albedo: patches of plain skin that are paler than the skin around them."""

from __future__ import annotations

import torch
from torch import Tensor

from ..filters import normalized_convolution
from ..maps import ALBEDO_EPSILON

AROUND = 0.05  # width of the Gaussian over the skin around, of the UV side
PALE = 0.06  # log step above the skin around from which a patch fully gets the tint of that skin
LEAST, LIMIT = 0.1, 0.12  # log steps above the skin around: kept as it is, and what of the rest is kept at most


@torch.no_grad()
def without_shine(diffuse: Tensor, skin: Tensor) -> Tensor:
    """Plain skin without chalky patches; freckles, moles, lines and stubble are darker than the skin around, and stay.

    Light that a surface reflects has the light's colour and not the skin's (dichromatic reflection, Shafer 1985). So a
    patch that is paler than its surroundings gets their tint. It stays somewhat brighter: a face without any bright
    patch loses its likeness.

    diffuse: linear `[1, 3, S, S]`. skin: `[1, 1, S, S]`, plain skin, 0..1
    """
    sigma = AROUND * diffuse.shape[-1]
    shades = (diffuse + ALBEDO_EPSILON).log()
    light = shades.mean(1, keepdim=True)
    tint = shades - light
    above = light - normalized_convolution(light, skin, sigma)
    usual = normalized_convolution(tint, skin, sigma)
    pale = (above / PALE).clamp(0, 1) * skin
    high = above - LEAST
    gone = (high - LIMIT * (high / LIMIT).tanh()).clamp(min=0) * skin
    changed = (light - gone + torch.lerp(tint, usual, pale)).exp() - ALBEDO_EPSILON
    return torch.where(pale > 0, changed.clamp(0, 1), diffuse)
