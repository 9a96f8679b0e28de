"""The tint of the skin and the colour of the lips as the photo shows them.

The decoder was trained on skins that differ little in redness, so it cannot draw the tint for which guidance fitted the
light (`guidance/broad_colour.py`); it is added here.

Lips are a narrow band: what the diffusion model leaves of their colour is too pale, and the wide filters of `anchor`
take most of the rest for light. But the skin around them tells the light, so lips against skin is known well.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..filters import gaussian_blur, normalized_convolution
from ..maps import ALBEDO_EPSILON

NEAR = 0.06  # width of the Gaussian over the skin that tells the light, of the UV side
ALONG = 0.025  # width of the Gaussian along the lips
LEAST = 0.03  # weight of "as the model has it", where the photo shows little of the lips
SHINE = 0.15  # log step above the lips' median from which a texel counts little: a highlight, or a tooth
RED = 0.06  # log step of red against green over which a texel counts for lips
LARGEST = 0.6  # of the log ratio
LEAST_TEXELS, LARGEST_TINT = 500, 0.15  # of plain skin that shows, and of the log tint of the skin


@torch.no_grad()
def skin_tint(albedo: Tensor, model: Tensor, weight: Tensor) -> Tensor:
    """How the tint of the skin as a whole differs from the model's, log `[1, 3, 1, 1]` of mean 0.

    albedo, model: as of `lip_tone`. weight: `[1, 1, S, S]`, how well the photo shows plain skin
    """
    used = weight[0, 0] > 0.5
    if used.sum() < LEAST_TEXELS:
        return torch.zeros_like(albedo[..., :1, :1])
    ratio = ((albedo + ALBEDO_EPSILON) / (model + ALBEDO_EPSILON)).log()[0, :, used]
    tint = (ratio - ratio.mean(0)).median(1).values
    return (tint - tint.mean()).clamp(-LARGEST_TINT, LARGEST_TINT).view(1, 3, 1, 1)


@torch.no_grad()
def lip_tone(albedo: Tensor, model: Tensor, weight: Tensor, lips: Tensor, skin: Tensor) -> Tensor:
    """How the log albedo of the lips differs from the model's, smooth along the lips, `[1, 3, S, S]`, 0 elsewhere.

    albedo, model: `[1, 3, S, S]` linear, of the photo without its light, and of the maps
    weight: `[1, 1, S, S]`, how well the photo shows the texel
    lips, skin: `[1, 1, S, S]`, the lips without the mouth's inside, and plain skin
    """
    size = albedo.shape[-1]
    ratio = ((albedo + ALBEDO_EPSILON) / (model + ALBEDO_EPSILON)).log().clamp(-3, 3) * (weight > 0)
    ratio = ratio - normalized_convolution(ratio, weight * skin, NEAR * size)
    used = (weight * lips)[0, 0] > 0.2
    if used.sum() < 30:
        return torch.zeros_like(albedo)
    light = ratio.mean(1, keepdim=True)
    above = (light - light[0, 0][used].median()) / SHINE
    # skin and teeth that lie on the lips are less red than they are
    shades = (albedo + ALBEDO_EPSILON).log()
    red = shades[:, :1] - shades[:, 1:2]
    red = (red - red[0, 0][used].median()) / RED
    trust = weight * lips * red.sigmoid() / (1 + above.clamp(min=0).square() + (above / 3).square())
    sigma = ALONG * size
    tone = gaussian_blur(ratio * trust, sigma) / (
        gaussian_blur(trust, sigma) + LEAST * gaussian_blur(lips, sigma) + 1e-4
    )
    return tone.clamp(-LARGEST, LARGEST) * lips
