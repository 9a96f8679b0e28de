"""Values of vertices, laid out in the atlas."""

from __future__ import annotations

import torch
from torch import Tensor

from .interpolate import interpolate
from .rasterize import rasterize


@torch.no_grad()
def bake(values: Tensor, head, size: int) -> tuple[Tensor, Tensor]:
    """values `[V, C]` of a head's vertices -> `[1, C, size, size]` in image orientation, and where the skin covers the atlas
    `[1, 1, size, size]`. Eyeballs, which begin at `head.n_skin` where it has any, are left out: both share one island."""
    tri, uv = head.triangles.long(), head.uv.to(values)
    n_skin = getattr(head, "n_skin", len(uv))
    skin = tri[(tri < n_skin).all(1)]
    one = torch.ones_like(uv[:, :1])
    rast = rasterize(torch.cat([uv * 2 - 1, 0 * one, one], 1)[None], skin, (size, size))
    found = interpolate(values[None], rast, skin).flip(1).permute(0, 3, 1, 2)
    return found, (rast[..., 3:] > 0).flip(1).permute(0, 3, 1, 2).to(values)
