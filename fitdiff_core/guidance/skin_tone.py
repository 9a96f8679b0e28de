"""A loss that holds the skin tone where the prior has it.

One photo cannot tell dark skin in strong light from pale skin in weak light. The light is refitted to whatever albedo
the guidance arrives at, so the photometric loss does not resist a drift of the tone, and the recogniser's gradient
causes one. The tone that the prior suggests is already in the denoiser's estimate. Where
`broad_colour.py` holds the broad colour, it holds the tone too.
"""

from __future__ import annotations

from torch import Tensor

from ..maps import ALBEDO_EPSILON

SCALE = 0.1  # of the log albedo: a just visible step


def skin_tone(stack: Tensor, skin: Tensor) -> Tensor:
    """Mean log albedo `[B, 3]` of a map stack `[B, 9, h, w]` under skin, the weight of plain skin in UV `[1, 1, h,
    w]`."""
    shades = (stack[:, :3].clamp(min=0) + ALBEDO_EPSILON).log()
    return (shades * skin).sum((2, 3)) / skin.sum((2, 3)).clamp(min=1e-6)


def tone_loss(tone: Tensor, target: Tensor) -> Tensor:
    """Squared distance of two tones `[B, 3]` -> `[B]`; 1 at a mean distance of SCALE."""
    return ((tone - target) / SCALE).square().mean(1)
