"""What the camera sees of the head at each pixel: atlas position, normal, view. Without gradients: for weights and
light."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..head import HeadModel
from ..maps import TextureMaps
from ..render import Light, interpolate, rasterize, shade, texture, vertex_normals
from ..render.orientation import flip_rows, raster_to_image
from ..scene import Scene
from ..vectors import unit


@dataclass
class GBuffer:
    """Geometry of B pictures of `(h, w)` pixels, row 0 at the top.

    uv: `[B, h, w, 2]`
    normal, view: `[B, 3, h, w]` unit vectors in world space; view points to the camera
    mask: `[B, 1, h, w]` 1 where the head is
    exposure: `[B, 1, h, w]` ambient occlusion of the head, 1 for open sky
    rast, triangles: the result of `rasterize`, and the triangles it was made with
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
    def render(cls, vertices: Tensor, head: HeadModel, scene: Scene, size: tuple[int, int]) -> GBuffer:
        """Vertices `[B, V, 3]` metres, through the scene's camera, at `size` (h, w) pixels."""
        tri, n = head.triangles, len(vertices)
        rast = rasterize(scene.camera.clip(vertices, size[1] / size[0]), tri, size)
        exposure = head.occlusion.to(vertices)[None, :, None]
        parts = [head.uv.to(vertices)[None], vertex_normals(vertices, tri), exposure]
        values = interpolate(torch.cat([p.expand(n, -1, -1) for p in parts], -1), rast, tri)
        image = raster_to_image(values)
        view = raster_to_image(-scene.camera.rays(size).expand(n, -1, -1, -1))
        mask = raster_to_image(rast[..., 3:] > 0).to(vertices)
        return cls(flip_rows(values[..., :2]), unit(image[:, 2:5]), view, mask, image[:, 5:], rast, tri)

    @property
    def facing(self) -> Tensor:
        """`[B, 1, h, w]` weight from 0 at grazing angles, where the fit is off by a pixel and texels are stretched, to
        1."""
        cosine = (self.normal * self.view).sum(1, keepdim=True)
        return (cosine - 0.15).div(0.35).clamp(0, 1) * self.mask

    def sample(self, tex: Tensor) -> Tensor:
        """Sample a texture `[B or 1, C, Ht, Wt]` at the pixels -> `[B, C, h, w]`."""
        return texture(tex.detach().expand(len(self.uv), -1, -1, -1), self.uv).permute(0, 3, 1, 2)

    def interpolate(self, values: Tensor) -> Tensor:
        """Interpolate values of the vertices `[B or 1, V, C]` at the pixels -> `[B, C, h, w]`."""
        values = values.expand(len(self.rast), -1, -1)
        return raster_to_image(interpolate(values, self.rast, self.triangles))

    def albedo(self, maps: TextureMaps) -> Tensor:
        """Linear diffuse albedo times exposure `[B, 3, h, w]`: the radiance under unit irradiance / pi."""
        return self.sample(maps.diffuse) * self.exposure

    @torch.no_grad()
    def specular(self, maps: TextureMaps, light: Light, visibility: Tensor | None = None) -> Tensor:
        """Specular radiance `[B, 3, h, w]`. visibility: `[B, L, h, w]` of each directional light, 0 in its shadow."""
        specular, normal, view = (x.flatten(2).mT for x in (self.sample(maps.specular), self.normal, self.view))
        visibility = None if visibility is None else visibility.flatten(2).mT
        radiance = shade(torch.zeros_like(specular), specular, normal, view, light, visibility=visibility)
        return radiance.mT.reshape(self.normal.shape) * self.exposure * self.mask
