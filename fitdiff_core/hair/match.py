"""The colour of hair like that of a photo: the groom is drawn in the photo's light and compared with it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..filters import erode, gaussian_blur
from ..image import srgb_to_linear
from ..render.hair import hair_layer, hair_shadows
from .colour import lab
from .groom import grow_hair
from .invent import painted_hair
from .photo import SIDE, Seen, View
from .style import HairStyle

if TYPE_CHECKING:
    from ..avatar import Avatar
    from ..scene import Scene

GREY, DIM = 0.1, 0.2  # linear colour in which the hair is drawn to find its own, and that of the second picture over it
STREAKS = (0.7, 1.6)  # contrast of strands that is fitted
BRIGHTER = 1.7  # how much brighter than the photo's hair its albedo may be, in a light that leaves it in the dark
DARKEST, BRIGHTEST = 0.003, 0.8  # linear albedo
LOCK = 3.0  # pixels of the view, 11 mm: shading is broader
SHARE = 0.5  # of the hue that comes from all of the hair, highlights and all; the rest is that of its darker part
LEAST = 20, 40  # pixels of hair that tell its colour, and of those that do so best


@torch.no_grad()
def colours(
    avatar: Avatar, scene: Scene, view: View, seen: Seen, style: HairStyle
) -> tuple[np.ndarray, float, Tensor | None]:
    """Linear RGB `[3]` of hair that has the photo's mean lightness and hue when drawn in its light, and `streaks`.

    style: with the dye GREY. Also returns the coverage `[S, S]` of the hair that was drawn, None for a bald style.
    """
    hair = grow_hair(avatar.head, avatar.shape, style, keep=False)
    if hair is None:
        return painted_hair(avatar).colour, style.streaks, None
    light = scene.light.to("cpu")
    vertices = avatar.vertices(scene)[0].float().cpu()
    positions = hair.on(vertices)
    to_hair, _ = hair_shadows(hair, positions, vertices, avatar.head.triangles.cpu(), light)
    color, cover = hair_layer(hair, positions, view.camera, light, (SIDE, SIDE), view.depth, to_hair)
    solid = (cover[0, 0] > 0.8) & (erode(seen.mask, 3) > 0.5)
    solid = solid if solid.sum() > LEAST[1] else cover[0, 0] > 0.8
    if solid.sum() < LEAST[0]:
        return painted_hair(avatar).colour, style.streaks, cover[0, 0]
    # highlights don't take the hair's colour: a darker picture of the same hair tells them apart
    dim = replace(hair, texture=replace(hair.texture, color=hair.texture.color * DIM))
    darker, _ = hair_layer(dim, positions, view.camera, light, (SIDE, SIDE), view.depth, to_hair)
    drawn, dark = ((c[0] / cover[0].clamp(min=0.1))[:, solid].double().numpy() for c in (color, darker))
    matte = np.maximum(drawn - dark, 1e-4) / (1 - DIM) / GREY  # of white hair
    shine = np.maximum(drawn - GREY * matte, 0)
    photo = srgb_to_linear(view.image)
    mean, light_ = photo[:, solid].double().mean(1).numpy(), matte.mean(1)
    hue = (mean / mean.mean()) ** SHARE * (seen.color / seen.color.mean()) ** (1 - SHARE) / (light_ / light_.mean())
    wanted = lab(photo[:, solid].double().numpy().T)[:, 0].mean()
    low, high = DARKEST, min(BRIGHTEST, BRIGHTER * float(mean.mean()))
    for _ in range(12):  # bisection: the lightness rises with the albedo
        level = np.sqrt(low * high)
        below = lab((shine + (level * hue)[:, None] * matte).T)[:, 0].mean() < wanted
        low, high = (level, high) if below else (low, level)
    colour = np.clip(level * hue, DARKEST, BRIGHTEST)
    toned = torch.zeros_like(photo)
    toned[:, solid] = torch.from_numpy(shine + colour[:, None] * matte).to(photo)
    made = max(_contrast(toned, solid), 0.5)
    return colour, float(np.clip(_contrast(photo, solid) / made, *STREAKS)), cover[0, 0]


def _contrast(rgb: Tensor, where: Tensor) -> float:
    """Standard deviation of CIELAB lightness from the mean about each pixel, linear `[3, S, S]` at `where` `[S, S]`."""
    lightness = torch.from_numpy(lab(rgb.permute(1, 2, 0).double().numpy())[..., 0]).float()
    total = gaussian_blur(torch.stack([lightness * where, where.float()])[None], LOCK)[0]
    return float((lightness - total[0] / total[1].clamp(min=1e-3))[where].std())
