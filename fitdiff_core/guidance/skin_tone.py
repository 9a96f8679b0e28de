"""Skin tone is held where the prior has it: a photo alone does not tell a dark skin in strong light from a pale one in weak.

The light is fitted to whatever albedo the guidance arrives at, so nothing in the picture resists a drift of the tone, and a
recogniser's gradient does drift. What the features of the photo say of the tone is in the denoiser's estimate already.
"""

from __future__ import annotations

from torch import Tensor

from ..maps import ALBEDO_EPSILON

SCALE = 0.1  # of the log albedo: a step that one just sees


def skin_tone(stack: Tensor, skin: Tensor) -> Tensor:
    """Map stack `[B, 9, h, w]`, weight of plain skin in the atlas `[1, 1, h, w]` -> mean log albedo `[B, 3]`."""
    shades = (stack[:, :3].clamp(min=0) + ALBEDO_EPSILON).log()
    return (shades * skin).sum((2, 3)) / skin.sum((2, 3)).clamp(min=1e-6)


def tone_loss(tone: Tensor, target: Tensor) -> Tensor:
    """`[B, 3]` against `[B, 3]` -> `[B]`, 1 at a mean distance of SCALE."""
    return ((tone - target) / SCALE).square().mean(1)
