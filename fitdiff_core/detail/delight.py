"""From radiance to albedo: the fitted light is divided out, and what it does not explain is told from the skin by scale.

A photo's shading is never known exactly. What is broad, or changes in large steps (cast shadows, shine), is therefore left
to the diffusion model's albedo; what is fine and of skin-like contrast is the photo's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..filters import guided_filter, normalized_convolution
from ..maps import ALBEDO_EPSILON, TextureMaps
from ..render import shade
from ..scene import Scene
from .unwrap import Unwrapped


@dataclass(frozen=True)
class DelightSettings:
    """broad: Gaussian width, as a share of the atlas' side, above which the model's tone stands; edge: log step above which
    plain skin is taken for shadow or shine; brightest, darkest: log ratios photo / model are held to these; tint: and those
    of colour to this."""

    broad: float = 0.06
    edge: float = 0.35
    brightest: float = 0.35
    darkest: float = 1.2
    tint: float = 0.3
    dim: float = 0.2  # share of the median shading below which a texel is in deep shadow: only noise is left there


@torch.no_grad()
def shading(unwrapped: Unwrapped, maps: TextureMaps, scene: Scene) -> tuple[Tensor, Tensor]:
    """What a white matte skin would show, and the specular part: `[1, 3, S, S]` each, in the scene's light."""
    g = unwrapped.geometry
    normal, view, occlusion, rough, specular, arrives = (
        x.flatten(2).mT
        for x in (g.bent(maps.normal), g.view(scene.camera), g.occlusion, g.roughness, maps.specular, g.arrives)
    )
    one, none = torch.ones_like(normal), torch.zeros_like(normal)
    matte = shade(one, none, normal, view, scene.light, rough, occlusion=occlusion, visibility=arrives)
    gloss = shade(none, specular, normal, view, scene.light, rough, occlusion=occlusion, visibility=arrives)
    return tuple(x.mT.reshape(g.normal.shape) for x in (matte, gloss))


@torch.no_grad()
def delight(unwrapped: Unwrapped, maps: TextureMaps, scene: Scene) -> tuple[Tensor, Tensor]:
    """Albedo `[1, 3, S, S]` as the fitted light leaves it, not yet anchored, and the weight `[1, 1, S, S]` that is left:
    burnt-out texels and those in deep shadow say nothing."""
    matte, gloss = shading(unwrapped, maps, scene)
    albedo = (unwrapped.radiance - gloss).clamp(min=0) / matte.clamp(min=1e-3)
    level = matte.mean(1, keepdim=True)
    used = unwrapped.weight > 0.1
    typical = level[used].median() if used.any() else level.mean()
    lit = ((level / typical.clamp(min=1e-6) - DelightSettings.dim) / DelightSettings.dim).clamp(0, 1)
    spoilt = normalized_convolution(unwrapped.clipped, torch.ones_like(level), 2.0)
    return albedo.clamp(0, 2), unwrapped.weight * lit * (1 - 4 * spoilt).clamp(0, 1)


@torch.no_grad()
def anchor(
    albedo: Tensor, model: Tensor, weight: Tensor, features: Tensor, settings: DelightSettings | None = None
) -> Tensor:
    """Log ratio `[1, 3, S, S]` photo / model that is kept: the fine part.

    albedo, model: `[1, 3, S, S]` linear; weight, features `[1, 1, S, S]`: features (brows, lids, lips) have strong edges of
    their own, so there only the broad part is taken off; on plain skin, steps are too.
    """
    s, size = settings or DelightSettings(), albedo.shape[-1]
    ratio = ((albedo + ALBEDO_EPSILON) / (model + ALBEDO_EPSILON)).log()
    ratio = ratio.clamp(-3, 3) * (weight > 0)
    light = ratio.mean(1, keepdim=True)
    tint = ratio - light
    # the tone is read from skin, not from brows that lie a little beside the model's
    count = weight * (1 - 0.8 * features) + 1e-6 * (weight > 0)
    broad = normalized_convolution(light, count, s.broad * size)
    stepped = guided_filter(light, weight, s.broad * size / 3, s.edge)
    light = light - torch.lerp(stepped, broad, features)
    tint = tint - normalized_convolution(tint, count, s.broad * size)
    light = torch.where(light > 0, s.brightest * (light / s.brightest).tanh(), s.darkest * (light / s.darkest).tanh())
    return light + s.tint * (tint / s.tint).tanh()
