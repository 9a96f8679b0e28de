"""The photo in the atlas, coarse: colour, share seen, facing and normal of each texel, for the delighting network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..head import HeadModel
from ..image import srgb_to_linear
from ..render import Camera, interpolate, rasterize, vertex_normals
from ..render.orientation import raster_to_image
from ..vectors import unit

SIZE = 128  # texels a side of what the network sees
FINE = 2 * SIZE  # the photo is sampled at this size and averaged
GRAZING = 0.1  # cosine to the camera below which a texel is not used
# Metres that a texel may lie behind the surface seen there. It grows with the slope: a fixed tolerance makes moire.
TOLERANCE, TOLERANCE_SLOPE = 0.003, 0.0014


@dataclass(frozen=True)
class UVPhoto:
    """One photo in the atlas, `SIZE` texels a side, image orientation.

    colour: `[1, C, S, S]` linear, mean over the seen part of the texel, 0 where nothing is seen
    seen: `[1, 1, S, S]` share of the texel that the photo shows
    facing: `[1, 1, S, S]` cosine to the camera where seen, else 0
    normal: `[1, 3, S, S]` unit vectors in the camera's frame, 0 off the head
    grid: `[1, 2 S, 2 S, 2]` where the photo was sampled, -1..1
    """

    colour: Tensor
    seen: Tensor
    facing: Tensor
    normal: Tensor
    grid: Tensor


class CoarseUnwrapper:
    """Unwraps face crops of one head, on the CPU. It keeps the atlas' rasterisation, which is the same for every
    photo."""

    @torch.no_grad()
    def __init__(self, head: HeadModel):
        self.triangles = head.triangles.cpu().long()
        skin = self.triangles[(self.triangles < head.n_skin).all(1)]
        uv = head.uv.cpu().float()
        one = torch.ones_like(uv[:, :1])
        self.skin = skin
        self.rast = rasterize(torch.cat([uv * 2 - 1, 0 * one, one], 1)[None], skin, (FINE, FINE))
        self.covered = raster_to_image(self.rast[..., 3:] > 0).float()

    @torch.no_grad()
    def __call__(self, image: Tensor, valid: Tensor, vertices: Tensor, camera: Camera) -> UVPhoto:
        """Unwrap one picture.

        image: `[1, C, H, W]`, square; the first three channels are sRGB, further ones are moved as they are
        valid: `[1, 1, H, W]`, 1 where it may be used
        vertices: `[1, V, 3]` metres, posed. camera: of the picture
        """
        size = (image.shape[-2], image.shape[-1])
        values = torch.cat([vertices[0], vertex_normals(vertices, self.triangles)[0]], 1)
        position, normal = raster_to_image(interpolate(values[None], self.rast, self.skin)).split(3, 1)
        normal = unit(normal) * self.covered
        points = position.flatten(2).mT
        pixels = camera.project(points, size)
        grid = (pixels / pixels.new_tensor([size[1], size[0]]) * 2 - 1).view(1, FINE, FINE, 2)
        to_camera = unit(camera.position()[:, :, None, None] - position)
        cosine = (normal * to_camera).sum(1, keepdim=True)
        seen = self._in_front(points, cosine, vertices, camera, size, grid)
        usable = F.grid_sample(valid, grid, mode="nearest", padding_mode="zeros", align_corners=False)
        seen = seen * self.covered * (usable > 0.5) * (cosine > GRAZING)
        colour = torch.cat([srgb_to_linear(image[:, :3]), image[:, 3:]], 1)
        colour = F.grid_sample(colour, grid, padding_mode="border", align_corners=False)
        share = F.avg_pool2d(seen, 2)
        mean = F.avg_pool2d(colour * seen, 2) / share.clamp(min=0.25)
        turned = torch.einsum("ij,bjhw->bihw", camera.matrix()[0], F.avg_pool2d(normal, 2))
        turned = unit(turned) * (F.avg_pool2d(self.covered, 2) > 0)
        return UVPhoto(mean, share, F.avg_pool2d(seen * cosine.clamp(0, 1), 2), turned, grid)

    def _in_front(
        self, points: Tensor, cosine: Tensor, vertices: Tensor, camera: Camera, size: tuple[int, int], grid: Tensor
    ) -> Tensor:
        """1 where no other part of the head lies between texel and camera, `[1, 1, FINE, FINE]`."""
        rast = rasterize(camera.clip(vertices, size[1] / size[0]), self.triangles, size)
        depth = interpolate(-camera.view(vertices)[..., 2:], rast, self.triangles)
        depth = raster_to_image(torch.where(rast[..., 3:] > 0, depth, 1e3))
        front = F.grid_sample(depth, grid, mode="nearest", padding_mode="border", align_corners=False)
        own = -camera.view(points)[..., 2].view(1, 1, FINE, FINE)
        slope = (1 - cosine.square()).clamp(min=0).sqrt() / cosine.clamp(min=GRAZING)
        return ((own < front + TOLERANCE + TOLERANCE_SLOPE * slope) & (own > 0)).to(vertices)
