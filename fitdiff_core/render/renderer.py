"""Render a head with its maps, a camera and a light. Differentiable with respect to all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from ..maps import TextureMaps
from ..progress import report
from .antialiasing import EdgeTable, antialias
from .camera import Camera
from .interpolation import filtered_texture, interpolate_at, texture_level
from .light import Light
from .normals import frames, perturb_normal
from .orientation import flip_rows, image_to_raster, raster_to_image
from .rasterizer import rasterize
from .shading import shade
from .shadow import light_visibility

if TYPE_CHECKING:
    from ..head import HeadModel
    from ..head.whole import WholeHead

_edge_tables = WeakTensorKeyDictionary()


@dataclass
class RenderOutput:
    """Result of `render`. Row 0 is at the top, except in `rast`.

    image:  `[B, 3, H, W]` linear radiance over the background
    mask:   `[B, 1, H, W]` coverage, 0..1
    normal: `[B, 3, H, W]` unit shading normals in world space, 0 outside
    uv:     `[B, H, W, 2]`, 0 outside
    rast:   `[B, H, W, 4]` output of `rasterize`, row 0 at the BOTTOM
    """

    image: Tensor
    mask: Tensor
    normal: Tensor
    uv: Tensor
    rast: Tensor


def render(
    vertices: Tensor,
    head: HeadModel | WholeHead,
    maps: TextureMaps,
    camera: Camera,
    light: Light,
    size: tuple[int, int] = (256, 256),
    background: Tensor | tuple[float, float, float] | None = None,
    visibility: Tensor | None = None,
    ambient: Tensor | None = None,
) -> RenderOutput:
    """Render B pictures of a head.

    vertices:         `[B, V, 3]` metres, of `head`
    head:             `triangles`, `uv`, `roughness` and `light_at(vertices)` are used
    maps, camera, light: B or 1 entries
    size:             (H, W) pixels
    background:       linear RGB, or an image `[B or 1, 3, H, W]`; None is black
    visibility:       `[B or 1, V, L]` share of each directional light that reaches each vertex, 0..1; None computes the
                      shadows if `light.shadows` is set
    ambient:          `[B or 1, V]` share of the ambient light that hair leaves to each vertex; None leaves all of it
    """
    height, width = size
    tri = head.triangles
    if visibility is None and light.shadows and light.direction.shape[1]:
        visibility = light_visibility(vertices, tri, light)
    pos = camera.clip(vertices, width / height)
    report(1, 4)
    rast = rasterize(pos, tri, size)
    report(2, 4)
    pixels = _CoveredPixels(rast)
    values = pixels.interpolate(_vertex_attributes(vertices, head, visibility, ambient), tri)
    at = values[..., 7:9]

    seen = rast[..., 3:4].detach() > 0
    uv_image = pixels.spread(at)
    level = texture_level(uv_image, seen[..., 0], maps.size)
    texels = filtered_texture(maps.stack().to(vertices.dtype), at[:, None], level)[:, 0]
    normal = perturb_normal(values[..., 0:3], values[..., 3:7], texels[..., 6:9])
    color = shade(
        texels[..., 0:3],
        texels[..., 3:6],
        normal,
        -pixels.gather(camera.rays(size)),
        light,
        roughness=values[..., 9:10],
        occlusion=values[..., 10:11],
        visibility=None if visibility is None else values[..., 11:],
    )

    report(3, 4)
    mask = seen.to(color.dtype)
    image = torch.cat([pixels.spread(color) + (1 - mask) * _background(background, color), mask], -1)
    image = raster_to_image(antialias(image, rast, pos, tri, edge_table(tri)))
    return RenderOutput(image[:, :3], image[:, 3:], raster_to_image(pixels.spread(normal)), flip_rows(uv_image), rast)


def _vertex_attributes(
    vertices: Tensor, head: HeadModel | WholeHead, visibility: Tensor | None, ambient: Tensor | None = None
) -> Tensor:
    """`[B, V, 11 + L]`: normal 3, tangent 4, uv 2, roughness 1, occlusion 1, visibility L (0 for None)."""
    n_batch, uv = len(vertices), head.uv.to(vertices)
    parts = [*frames(vertices, uv, head.triangles), uv.expand(n_batch, -1, -1)]
    occlusion = head.light_at(vertices) if ambient is None else head.light_at(vertices) * ambient
    parts += [x.to(vertices).expand(n_batch, -1)[..., None] for x in (head.roughness, occlusion)]
    if visibility is not None:
        parts.append(visibility.to(vertices).expand(n_batch, -1, -1))
    return torch.cat(parts, -1)


class _CoveredPixels:
    """The covered pixels of a rasterization `[B, H, W, 4]` as one row a picture, `[B, N]` with N the largest count.

    Shading works on these pixels only. Shorter rows are filled up with a pixel behind the last one.
    """

    def __init__(self, rast: Tensor):
        self.rast = rast
        n_batch, self.height, self.width, _ = rast.shape
        self.count = n_batch * self.height * self.width
        seen = rast[..., 3].detach().reshape(n_batch, -1) > 0
        batch, within = torch.nonzero(seen, as_tuple=True)
        count = seen.sum(1)
        rank = torch.arange(len(batch), device=rast.device) - (torch.cumsum(count, 0) - count)[batch]
        rows = batch.new_full((n_batch, max(int(count.max()), 1)), self.count)
        rows[batch, rank] = batch * (self.height * self.width) + within
        self.shape, self.flat = rows.shape, rows.reshape(-1)
        self.inside = self.flat.clamp(max=self.count - 1)

    def interpolate(self, attr: Tensor, tri: Tensor) -> Tensor:
        """Vertex attributes `[B, V, C]` -> `[B, N, C]`."""
        batch = torch.arange(self.shape[0], device=self.flat.device)[:, None].expand(self.shape).reshape(-1)
        return interpolate_at(attr, self.rast, tri, self.inside, batch).view(*self.shape, -1)

    def gather(self, image: Tensor) -> Tensor:
        """`[B or 1, H, W, C]`, rows as in `rast` -> `[B, N, C]`."""
        channels = image.shape[-1]
        flat = image.expand(self.shape[0], -1, -1, -1).reshape(self.count, channels)
        return flat.index_select(0, self.inside).view(*self.shape, channels)

    def spread(self, values: Tensor) -> Tensor:
        """`[B, N, C]` -> `[B, H, W, C]`, rows as in `rast`, 0 at the other pixels."""
        out = values.new_zeros(self.count + 1, values.shape[-1]).index_copy(0, self.flat, values.flatten(0, 1))
        return out[:-1].view(self.shape[0], self.height, self.width, -1)


def _background(background: Tensor | tuple[float, float, float] | None, like: Tensor) -> Tensor:
    """The background as a tensor that broadcasts to `[B, H, W, 3]`, row 0 at the bottom."""
    if background is None:
        return like.new_zeros(1, 1, 1, 3)
    background = torch.as_tensor(background, dtype=like.dtype, device=like.device)
    return background.reshape(1, 1, 1, 3) if background.ndim == 1 else image_to_raster(background)


def edge_table(tri: Tensor) -> EdgeTable:
    """The edge table of these triangles. It is built once and kept as long as the tensor `tri` exists."""
    if tri not in _edge_tables:
        _edge_tables[tri] = EdgeTable.build(tri)
    return _edge_tables[tri]
