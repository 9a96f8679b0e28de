"""From radiance to albedo: divide by the fitted shading, then separate the remaining light from the skin by scale.

The shading of a photo is never known exactly. Low frequencies and large steps (cast shadows, highlights) are therefore
taken from the diffusion model's albedo. Fine detail with the contrast of skin is taken from the photo.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..filters import guided_filter, normalized_convolution
from ..maps import ALBEDO_EPSILON, TextureMaps
from ..render import shade
from ..scene import Scene
from .unwrapping import Unwrapped


@dataclass(frozen=True)
class DelightSettings:
    """Limits of what is taken from the photo.

    broad: Gaussian width, as a share of the UV side, above which the model's tone is kept
    edge: log step above which plain skin is taken for a shadow or a highlight
    brightest, darkest, tint: limits of the log ratio photo / model, of its mean upwards and downwards, and of its
    colour
    black: radiance below which a pixel holds only noise and the camera's rounding
    grey, blocks: radiance below which colour is smoothed, and how widely, as a share of the UV side
    dim: share of the median shading below which a texel is in deep shadow, where only noise is left
    """

    broad: float = 0.06
    edge: float = 0.35
    brightest: float = 0.35
    darkest: float = 1.2
    tint: float = 0.3
    dim: float = 0.2
    black: float = 0.003
    grey: float = 0.06
    blocks: float = 0.015


@torch.no_grad()
def shading(unwrapped: Unwrapped, maps: TextureMaps, scene: Scene) -> tuple[Tensor, Tensor]:
    """Radiance of white matte skin, and specular radiance, in the scene's light; `[1, 3, S, S]` each."""
    g = unwrapped.geometry
    normal, view, occlusion, rough, specular, visibility = (
        x.flatten(2).mT
        for x in (g.bent(maps.normal), g.view(scene.camera), g.occlusion, g.roughness, maps.specular, g.visibility)
    )
    one, none = torch.ones_like(normal), torch.zeros_like(normal)
    matte = shade(one, none, normal, view, scene.light, rough, occlusion=occlusion, visibility=visibility)
    gloss = shade(none, specular, normal, view, scene.light, rough, occlusion=occlusion, visibility=visibility)
    return matte.mT.reshape(g.normal.shape), gloss.mT.reshape(g.normal.shape)


@torch.no_grad()
def delight(unwrapped: Unwrapped, maps: TextureMaps, scene: Scene) -> tuple[Tensor, Tensor]:
    """Divide the photo by the fitted shading.

    Returns the albedo `[1, 3, S, S]` before `anchor`, and its weight `[1, 1, S, S]`: 0 where the photo is burnt out or
    in deep shadow.
    """
    matte, gloss = shading(unwrapped, maps, scene)
    albedo = (unwrapped.radiance - gloss).clamp(min=0) / matte.clamp(min=1e-3)
    s, level = DelightSettings(), matte.mean(1, keepdim=True)
    used = unwrapped.weight > 0.1
    typical = level[used].median() if used.any() else level.mean()
    lit = ((level / typical.clamp(min=1e-6) - s.dim) / s.dim).clamp(0, 1)
    burnt = normalized_convolution(unwrapped.clipped, torch.ones_like(level), 2.0)
    black = normalized_convolution(unwrapped.radiance.mean(1, keepdim=True), unwrapped.weight, 3.0)
    lit = lit * ((black - s.black) / s.black).clamp(0, 1)
    # in dark pixels the colour is mostly noise of the compression
    mean = albedo.mean(1, keepdim=True)
    smooth = normalized_convolution(albedo, unwrapped.weight, s.blocks * albedo.shape[-1])
    quiet = smooth / smooth.mean(1, keepdim=True).clamp(min=1e-3) * mean
    albedo = torch.lerp(quiet, albedo, (black / s.grey).clamp(0, 1))
    return albedo.clamp(0, 2), unwrapped.weight * lit * (1 - 4 * burnt).clamp(0, 1)


@torch.no_grad()
def anchor(
    albedo: Tensor, model: Tensor, weight: Tensor, features: Tensor, settings: DelightSettings | None = None
) -> Tensor:
    """The part of the log ratio photo / model that is kept, `[1, 3, S, S]`: its high frequencies.

    albedo, model: `[1, 3, S, S]` linear. weight: `[1, 1, S, S]`
    features: `[1, 1, S, S]` brows, lids and lips. They have strong edges of their own, so only low frequencies are
        removed there. On plain skin, large steps are removed as well.
    """
    s, size = settings or DelightSettings(), albedo.shape[-1]
    ratio = ((albedo + ALBEDO_EPSILON) / (model + ALBEDO_EPSILON)).log()
    ratio = ratio.clamp(-3, 3) * (weight > 0)
    light = ratio.mean(1, keepdim=True)
    tint = ratio - light
    # the tone comes from skin, not from brows, which may be displaced against the model's
    count = weight * (1 - 0.8 * features) + 1e-6 * (weight > 0)
    broad = normalized_convolution(light, count, s.broad * size)
    stepped = guided_filter(light, weight, s.broad * size / 3, s.edge)
    light = light - torch.lerp(stepped, broad, features)
    tint = tint - normalized_convolution(tint, count, s.broad * size)
    light = torch.where(light > 0, s.brightest * (light / s.brightest).tanh(), s.darkest * (light / s.darkest).tanh())
    return light + s.tint * (tint / s.tint).tanh()
