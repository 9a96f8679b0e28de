"""The albedo of the neck, which is a thin rim in the atlas."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from .filters import normalized_convolution
from .fitting.regions import regions
from .head import HeadModel
from .maps import TextureMaps

WIDTH = 0.04  # of the Gaussian along the rim, of the UV side


@torch.no_grad()
def even_neck(maps: TextureMaps, head: HeadModel) -> TextureMaps:
    """Maps with an even neck: a texel there covers a tall stripe of skin, so what varies along the rim shows as
    streaks. Pores and furrows are added later (`detail.mesostructure`), in space."""
    neck = regions(head, ("neck",), maps.size[0]) * (
        1 - regions(head, ("mouth_interior", "teeth", "eyes"), maps.size[0])
    )
    neck = neck.to(maps.diffuse)

    def even(x: Tensor) -> Tensor:
        broad = torch.cat([normalized_convolution(each, neck, WIDTH * x.shape[-1]) for each in x.split(1)])
        return torch.lerp(x, broad, neck)

    return replace(maps, diffuse=even(maps.diffuse), specular=even(maps.specular))
