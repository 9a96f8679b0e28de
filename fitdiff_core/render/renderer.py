"""From a head, its maps, a camera and a light to a picture, differentiable in all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from ..maps import TextureMaps
from .antialias import EdgeTable
from .antialias import antialias as smooth_edges
from .camera import Camera
from .interpolate import filtered_texture, interpolate_at, texture_level
from .light import Light
from .normals import frames, perturb_normal
from .orientation import flip_rows, image_to_raster, raster_to_image
from .rasterize import rasterize
from .shading import shade
from .shadow import lamp_shares

if TYPE_CHECKING:
    from ..head import HeadModel

_edge_tables = WeakTensorKeyDictionary()


@dataclass
class RenderOutput:
    """What `render` saw. All but `rast` have row 0 at the top.

    image:  `[B, 3, H, W]` linear radiance over the background
    mask:   `[B, 1, H, W]` coverage, 0..1
    normal: `[B, 3, H, W]` unit shading normals in world space, 0 outside
    uv:     `[B, H, W, 2]`, 0 outside
    rast:   `[B, H, W, 4]` as `rasterize` gives it, row 0 at the BOTTOM
    """

    image: Tensor
    mask: Tensor
    normal: Tensor
    uv: Tensor
    rast: Tensor


def render(
    vertices: Tensor,
    head: HeadModel,
    maps: TextureMaps,
    camera: Camera,
    light: Light,
    size: tuple[int, int] = (256, 256),
    background: Tensor | tuple[float, float, float] | None = None,
    antialias: bool = True,
    backend: str = "auto",
    arrives: Tensor | None = None,
) -> RenderOutput:
    """Render vertices `[B, V, 3]` (metres) of `head` at `size` (H, W).

    head: its `triangles`, `uv`, `roughness` and `light_at(vertices)` are used.
    maps, camera, light: B or 1 entries. background: linear RGB, or an image `[B or 1, 3, H, W]`; None is black.
    arrives: `[B or 1, V, L]`, what each vertex gets of each directional light; None looks for shadows if the light has them.
    """
    n_batch, (height, width) = vertices.shape[0], size
    tri, uv = head.triangles, head.uv.to(vertices)
    if arrives is None and light.shadows and light.direction.shape[1]:
        arrives = lamp_shares(vertices, tri, light)
    pos = camera.clip(vertices, width / height)
    rast = rasterize(pos, tri, size, backend)

    # Shading works on the covered pixels only, as one row a picture: [B, N], padded with a pixel behind the last
    pixel = _covered_rows(rast)
    batch = torch.arange(n_batch, device=pixel.device)[:, None].expand_as(pixel).reshape(-1)
    flat, n_pixels = pixel.reshape(-1), n_batch * height * width

    def spread(values: Tensor) -> Tensor:
        out = values.new_zeros(n_pixels + 1, values.shape[-1]).index_copy(0, flat, values.flatten(0, 1))
        return out[:-1].view(n_batch, height, width, -1)

    parts = [*frames(vertices, uv, tri), uv.expand(n_batch, -1, -1)]
    parts += [x.to(vertices).expand(n_batch, -1)[..., None] for x in (head.roughness, head.light_at(vertices))]
    if arrives is not None:
        parts.append(arrives.to(vertices).expand(n_batch, -1, -1))
    values = interpolate_at(torch.cat(parts, -1), rast, tri, flat.clamp(max=n_pixels - 1), batch)
    values = values.view(*pixel.shape, -1)
    at = values[..., 7:9]

    seen = rast[..., 3:4].detach() > 0
    uv_image = spread(at)
    level = texture_level(uv_image, seen[..., 0], maps.size)
    texels = filtered_texture(maps.stack().to(vertices.dtype), at[:, None], level)[:, 0]
    normal = perturb_normal(values[..., 0:3], values[..., 3:7], texels[..., 6:9])
    rays = camera.rays(size).expand(n_batch, -1, -1, -1).reshape(n_pixels, 3)
    view = -rays.index_select(0, flat.clamp(max=n_pixels - 1)).view(*pixel.shape, 3)
    color = shade(
        texels[..., 0:3],
        texels[..., 3:6],
        normal,
        view,
        light,
        roughness=values[..., 9:10],
        occlusion=values[..., 10:11],
        arrives=None if arrives is None else values[..., 11:],
    )

    mask = seen.to(color.dtype)
    image = torch.cat([spread(color) + (1 - mask) * _background(background, color), mask], -1)
    if antialias:
        image = smooth_edges(image, rast, pos, tri, _edges(tri))
    image = raster_to_image(image)
    return RenderOutput(image[:, :3], image[:, 3:], raster_to_image(spread(normal)), flip_rows(uv_image), rast)


def _covered_rows(rast: Tensor) -> Tensor:
    """Flat indices of the covered pixels, `[B, N]` with N the largest count; rows are filled up with B*H*W."""
    n_batch, height, width, _ = rast.shape
    seen = rast[..., 3].detach().reshape(n_batch, -1) > 0
    batch, within = torch.nonzero(seen, as_tuple=True)
    count = seen.sum(1)
    rank = torch.arange(len(batch), device=rast.device) - (torch.cumsum(count, 0) - count)[batch]
    rows = batch.new_full((n_batch, max(int(count.max()), 1)), n_batch * height * width)
    rows[batch, rank] = batch * (height * width) + within
    return rows


def _background(background: Tensor | tuple[float, float, float] | None, like: Tensor) -> Tensor:
    """Something that broadcasts to `[B, H, W, 3]`, row 0 at the bottom."""
    if background is None:
        return like.new_zeros(1, 1, 1, 3)
    background = torch.as_tensor(background, dtype=like.dtype, device=like.device)
    return background.reshape(1, 1, 1, 3) if background.ndim == 1 else image_to_raster(background)


def _edges(tri: Tensor) -> EdgeTable:
    """The edge table of these triangles, built once and kept for as long as the tensor lives."""
    if tri not in _edge_tables:
        _edge_tables[tri] = EdgeTable.build(tri)
    return _edge_tables[tri]
