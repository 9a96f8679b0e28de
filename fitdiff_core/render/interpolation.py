"""Vertex attributes and textures sampled at the pixels of a rasterization."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def covered(rast: Tensor) -> Tensor:
    """Indices into the flattened `[B*H*W]` pixels that see a triangle, int64 `[P]`, ascending."""
    return torch.nonzero(rast[..., 3].reshape(-1) > 0).squeeze(1)


def interpolate_at(attr: Tensor, rast: Tensor, tri: Tensor, pixel: Tensor, batch: Tensor) -> Tensor:
    """Vertex attributes at chosen pixels -> `[P, C]`. A pixel that sees nothing gets an arbitrary finite value.

    attr:  `[B, V, C]`, or `[V, C]` for all batch entries
    rast:  `[B, H, W, 4]` output of `rasterize`
    pixel: `[P]` indices into the flattened `[B*H*W]` pixels
    batch: `[P]` batch entry of each pixel
    """
    value = rast.reshape(-1, 4).index_select(0, pixel)
    corner = tri.long().index_select(0, (value[:, 3].detach().long() - 1).clamp(min=0))
    if attr.ndim == 3:
        corner = corner + (batch * (attr.shape[1] if attr.shape[0] > 1 else 0))[:, None]
        attr = attr.reshape(-1, attr.shape[-1])
    u, v = value[:, 0:1], value[:, 1:2]
    a0, a1, a2 = (attr.index_select(0, corner[:, k]) for k in range(3))
    return a2 + u * (a0 - a2) + v * (a1 - a2)


def interpolate(attr: Tensor, rast: Tensor, tri: Tensor) -> Tensor:
    """Vertex attributes at all pixels -> `[B, H, W, C]`, 0 where nothing is seen; row 0 at the bottom as in `rast`.

    attr: `[B, V, C]`, or `[V, C]` or `[1, V, C]` for all batch entries.
    Differentiable with respect to `attr` and, through u and v of `rast`, the positions.
    """
    n_batch, height, width, _ = rast.shape
    pixel = covered(rast)
    batch = torch.div(pixel, height * width, rounding_mode="floor")
    values = interpolate_at(attr, rast, tri, pixel, batch)
    flat = values.new_zeros(n_batch * height * width, values.shape[-1]).index_copy(0, pixel, values)
    return flat.view(n_batch, height, width, -1)


def texture(tex: Tensor, uv: Tensor) -> Tensor:
    """Bilinear texture lookup -> `[B, H, W, C]`. Differentiable with respect to both arguments.

    tex: `[B or 1, C, Ht, Wt]`, image orientation: row 0 is v = 1. Texel centres lie at (i + 0.5) / size; beyond the
         border the edge texel repeats.
    uv:  `[B, H, W, 2]`
    """
    grid = torch.stack([uv[..., 0] * 2 - 1, 1 - uv[..., 1] * 2], -1)
    tex = tex.expand(uv.shape[0], -1, -1, -1)
    out = F.grid_sample(tex, grid.to(tex.dtype), mode="bilinear", padding_mode="border", align_corners=False)
    return out.permute(0, 2, 3, 1)


def filtered_texture(tex: Tensor, uv: Tensor, level: Tensor) -> Tensor:
    """`texture`, read from a copy of `tex` shrunk by 2**level, so that a large map does not alias in a small picture.

    level: `[B]` int64, of each batch entry (see `texture_level`).
    """
    tex = tex.expand(uv.shape[0], -1, -1, -1)
    levels = level.unique().tolist()
    if len(levels) == 1:
        return texture(_shrink(tex, levels[0]), uv)
    parts = [texture(_shrink(tex[i : i + 1], k), uv[i : i + 1]) for i, k in enumerate(level.tolist())]
    return torch.cat(parts)


def _shrink(tex: Tensor, level: int) -> Tensor:
    for _ in range(level):
        if min(tex.shape[-2:]) < 2 or tex.shape[-1] % 2 or tex.shape[-2] % 2:
            break
        # the mean of 2x2; avg_pool2d takes three times as long on a CPU
        upper, lower = tex.unflatten(-2, (-1, 2)).unbind(-2)
        left, right = (upper + lower).unflatten(-1, (-1, 2)).unbind(-1)
        tex = (left + right) * 0.25
    return tex


@torch.no_grad()
def texture_level(uv: Tensor, mask: Tensor, size: tuple[int, int]) -> Tensor:
    """The number of halvings that brings a texture closest to one texel a pixel: `[B]` int64, 0 to 4.

    uv:   `[B, H, W, 2]` texture coordinates of the pixels
    mask: `[B, H, W]` bool, pixels that count
    size: (H, W) of the texture

    The footprint of a pixel is averaged in log2 over the picture. One level for a whole picture needs a single lookup
    and has no seams.
    """
    dx, dy = uv[:, :-1, 1:] - uv[:, :-1, :-1], uv[:, 1:, :-1] - uv[:, :-1, :-1]
    area = (dx[..., 0] * dy[..., 1] - dx[..., 1] * dy[..., 0]).abs() * (size[0] * size[1])
    whole = mask[:, :-1, :-1] & mask[:, :-1, 1:] & mask[:, 1:, :-1]
    log = 0.5 * torch.log2(area.clamp(min=1e-4)) * whole
    mean = log.sum((1, 2)) / whole.sum((1, 2)).clamp(min=1)
    return mean.round().clamp(0, 4).long()
