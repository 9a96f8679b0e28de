"""The albedo of the neck, which is a thin rim in the atlas."""

from __future__ import annotations

from dataclasses import replace

import torch

from .filters import normalized_convolution
from .fitting.regions import regions
from .head import HeadModel
from .maps import TextureMaps

WIDTH = 0.04  # of the Gaussian along the rim, of the UV side


@torch.no_grad()
def even_neck(maps: TextureMaps, head: HeadModel) -> TextureMaps:
    """Maps with an even neck: a texel there covers a tall stripe of skin, so what varies along the rim shows as
    streaks. Pores and furrows are added later (`detail.mesostructure`), in space."""
    size = maps.size[0]
    neck = regions(head, ("neck",), size) * (1 - regions(head, ("mouth_interior", "teeth", "eyes"), size))
    neck = neck.to(maps.diffuse)
    albedos = torch.cat([maps.diffuse, maps.specular], 1)
    diffuse, specular = torch.lerp(albedos, normalized_convolution(albedos, neck, WIDTH * size), neck).split(3, 1)
    return replace(maps, diffuse=diffuse, specular=specular)
