"""Geometry of the posed head, baked into UV: position, normal and shading inputs of every texel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..head import HeadModel
from ..render import Camera, Light, interpolate, rasterize
from ..render.normals import frames
from ..render.orientation import raster_to_image
from ..render.shadow import light_visibility
from ..vectors import unit


@dataclass
class AtlasGeometry:
    """Texels of one head's skin, image orientation.

    covered: `[1, 1, S, S]`. Eyes are not covered, since both share one UV island
    position, normal: `[1, 3, S, S]` world. tangent: `[1, 4, S, S]`
    occlusion, roughness: `[1, 1, S, S]`
    visibility: `[1, L, S, S]` of each directional light, 0 in its shadow
    """

    covered: Tensor
    position: Tensor
    normal: Tensor
    tangent: Tensor
    occlusion: Tensor
    roughness: Tensor
    visibility: Tensor

    @classmethod
    @torch.no_grad()
    def bake(cls, vertices: Tensor, head: HeadModel, size: int, light: Light) -> AtlasGeometry:
        """Vertices `[1, V, 3]` metres of `head`, in a light of batch 1 -> its geometry in UV, `size` texels a side."""
        tri, uv = head.triangles.long(), head.uv.to(vertices)
        skin = tri[(tri < head.n_skin).all(1)]
        one = torch.ones_like(uv[:, :1])
        rast = rasterize(torch.cat([uv * 2 - 1, 0 * one, one], 1)[None], skin, (size, size))
        normal, tangent = frames(vertices, uv, tri)
        occlusion, roughness = (x.to(vertices)[:, None] for x in (head.occlusion, head.roughness))
        lamps = light.direction.shape[1]
        visibility = light_visibility(vertices, tri, light)[0] if light.shadows and lamps else one.expand(-1, lamps)
        parts = [vertices[0], normal[0], tangent[0], occlusion, roughness, visibility]
        values = raster_to_image(interpolate(torch.cat(parts, 1)[None], rast, skin))
        position, normal, tangent, occlusion, roughness, visibility = values.split((3, 3, 4, 1, 1, lamps), 1)
        covered = raster_to_image(rast[..., 3:] > 0).to(vertices)
        return cls(covered, position, unit(normal), tangent, occlusion, roughness, visibility)

    def view(self, camera: Camera) -> Tensor:
        """Unit vectors to the camera, `[1, 3, S, S]`."""
        return unit(camera.position()[:, :, None, None] - self.position)

    def bent(self, texels: Tensor) -> Tensor:
        """Shading normals `[1, 3, S, S]`: the normal map `[1, 3, S, S]` applied in the tangent frame, as in the
        renderer."""
        tangent, hand = self.tangent[:, :3], self.tangent[:, 3:].sign()
        bitangent = torch.linalg.cross(self.normal, tangent, dim=1) * hand
        bent = tangent * texels[:, 0:1] + bitangent * texels[:, 1:2] + self.normal * texels[:, 2:3]
        return unit(bent)
