"""What the camera sees of the head at each pixel: atlas position, normal, view. No gradients: for weights and light."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..maps import TextureMaps
from ..render import Light, interpolate, rasterize, shade, texture, vertex_normals
from ..render.orientation import flip_rows, raster_to_image
from ..scene import Scene


@dataclass
class Surface:
    """Row 0 at the top. uv `[B, h, w, 2]`; normal, view `[B, 3, h, w]` unit, world; mask, exposure `[B, 1, h, w]`.

    exposure: the share of the light that arrives (`head.occlusion`), 1 where the head knows none. rast: as `rasterize` gives
    it, of `triangles`.
    """

    uv: Tensor
    normal: Tensor
    view: Tensor
    mask: Tensor
    exposure: Tensor
    rast: Tensor
    triangles: Tensor

    @classmethod
    @torch.no_grad()
    def seen(cls, vertices: Tensor, head, scene: Scene, size: tuple[int, int]) -> Surface:
        """Vertices `[B, V, 3]` through the scene's camera at `size` (h, w)."""
        tri, n = head.triangles, len(vertices)
        rast = rasterize(scene.camera.clip(vertices, size[1] / size[0]), tri, size)
        exposure = head.occlusion.to(vertices)[None, :, None]
        parts = [head.uv.to(vertices)[None], vertex_normals(vertices, tri), exposure]
        values = interpolate(torch.cat([p.expand(n, -1, -1) for p in parts], -1), rast, tri)
        image = raster_to_image(values)
        view = raster_to_image(-scene.camera.rays(size).expand(n, -1, -1, -1))
        mask = raster_to_image(rast[..., 3:] > 0).to(vertices)
        return cls(flip_rows(values[..., :2]), F.normalize(image[:, 2:5], dim=1), view, mask, image[:, 5:], rast, tri)

    @property
    def facing(self) -> Tensor:
        """`[B, 1, h, w]` from 0 at grazing angles to 1: there the fit is off by a pixel and texels are stretched."""
        cosine = (self.normal * self.view).sum(1, keepdim=True)
        return (cosine - 0.15).div(0.35).clamp(0, 1) * self.mask

    def look_up(self, tex: Tensor) -> Tensor:
        """A texture `[B or 1, C, Ht, Wt]` as seen, `[B, C, h, w]`."""
        return texture(tex.detach().expand(len(self.uv), -1, -1, -1), self.uv).permute(0, 3, 1, 2)

    def carry(self, values: Tensor) -> Tensor:
        """Values of the vertices `[B or 1, V, C]` as seen, `[B, C, h, w]`."""
        values = values.expand(len(self.rast), -1, -1)
        return raster_to_image(interpolate(values, self.rast, self.triangles))

    def albedo(self, maps: TextureMaps) -> Tensor:
        """Linear diffuse albedo times exposure `[B, 3, h, w]`: what unit irradiance / pi makes of it."""
        return self.look_up(maps.diffuse) * self.exposure

    @torch.no_grad()
    def shine(self, maps: TextureMaps, light: Light, arrives: Tensor | None = None) -> Tensor:
        """Specular radiance `[B, 3, h, w]`; arrives `[B, L, h, w]` of each directional light."""
        specular, normal, view = (x.flatten(2).mT for x in (self.look_up(maps.specular), self.normal, self.view))
        arrives = None if arrives is None else arrives.flatten(2).mT
        shine = shade(torch.zeros_like(specular), specular, normal, view, light, visibility=arrives)
        return shine.mT.reshape(self.normal.shape) * self.exposure * self.mask
