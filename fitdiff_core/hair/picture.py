"""Pictures of heads with hair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ..render import Camera, Light, render
from ..render.hair import hair_geometry, hair_layer, hair_shadows
from ..render.passes import Passes, render_passes
from ..render.rasterizer import rasterize
from ..render.shadow import light_visibility
from .groom import grow_hair
from .lashes import grow_lashes
from .underlay import worn_maps

if TYPE_CHECKING:
    from ..avatar import Avatar
    from ..scene import Scene

FINE = 900  # pixels; in smaller pictures each pixel of hair is the mean of 2 x 2
FAR = 9.0  # z/w of where nothing is


@torch.no_grad()
def render_with_hair(
    avatar: Avatar,
    scene: Scene,
    camera: Camera,
    light: Light,
    size: tuple[int, int],
    background: Sequence[float] | None = None,
) -> tuple[Tensor, Tensor]:
    """Linear radiance `[B, 3, H, W]` and coverage `[B, 1, H, W]` of heads, their lashes and their hair.

    camera, light, scene: one for all heads or one for each.
    """
    device, count = avatar.shape.device, max(len(avatar), len(scene), len(camera.focal), len(light))
    pick = lambda x, n, i: x if n == 1 else x[i]  # noqa: E731
    found = []
    for i in range(count):
        lens = Camera(
            *(pick(x, len(camera.focal), slice(i, i + 1)) for x in (camera.focal, camera.rotation, camera.translation))
        )
        lamp = pick(light, len(light), i)
        pictures = _one(pick(avatar, len(avatar), i), pick(scene, len(scene), i), lens, lamp, size, background)
        found.append([x.to(device) for x in pictures])
    return torch.cat([f[0] for f in found]), torch.cat([f[1] for f in found])


def _one(avatar, scene, camera, light, size, background) -> tuple[Tensor, Tensor]:
    head, vertices = avatar.whole, avatar.posed(scene)
    style = avatar.hair[0] if avatar.hair else None
    hair = None if style is None else grow_hair(avatar.head, avatar.shape, style)
    points = vertices[0].cpu().float()
    lamp, lens = light.to("cpu"), Camera(*(x.cpu() for x in vars(camera).values()))
    n = 2 if max(size) < FINE else 1
    # at the hair's own pixels: the cap lies less than a millimetre over the skin
    fine = (size[0] * n, size[1] * n)
    rast = rasterize(lens.clip(points[None], size[1] / size[0]), head.triangles.cpu(), fine)[0]
    depth = torch.where(rast[..., 3] > 0, rast[..., 2], FAR)
    lashes = grow_lashes(avatar.head, avatar.shape, points)
    layers = [hair_layer(lashes, lashes.positions, lens, lamp, fine, depth)]
    visibility = ambient = None
    if hair is not None:
        positions = hair.on(points)
        to_hair, to_head = hair_shadows(hair, positions, points, head.triangles.cpu(), lamp)
        visibility = to_head[None].to(vertices)
        if light.shadows and light.direction.shape[1]:
            visibility = visibility * light_visibility(vertices, head.triangles, light)
        ambient = F.pad(hair.head_light, (0, len(points) - len(hair.head_light)), value=1.0).to(vertices)[None]
        layers.append(hair_layer(hair, positions, lens, lamp, fine, depth, to_hair))
    out = render(
        vertices, head, worn_maps(avatar), camera, light, size, background, visibility=visibility, ambient=ambient
    )
    image, mask = out.image, out.mask
    for color, cover in layers:
        color, cover = (F.avg_pool2d(x, n).to(vertices) for x in (color, cover))
        image, mask = image * (1 - cover) + color, torch.maximum(mask, cover + mask * (1 - cover))
    return image, mask


@torch.no_grad()
def render_passes_with_hair(
    avatar: Avatar, scene: Scene, size: tuple[int, int], detail: bool = True, samples: int = 2
) -> tuple[Passes, Tensor]:
    """`render_passes` of one head with its hair through the scene's camera, and the hair's coverage `[1, 1, H, W]`.

    detail: the avatar's normal map bends the normals. samples: as in `render_passes`
    """
    head, vertices = avatar.whole, avatar.posed(scene)
    maps = avatar.maps if detail else None
    passes = render_passes(vertices, head, scene.camera, size, maps, samples)
    style = avatar.hair[0] if avatar.hair else None
    hair = None if style is None else grow_hair(avatar.head, avatar.shape, style)
    if hair is None:
        return passes, torch.zeros_like(passes.mask)
    fine = (size[0] * samples, size[1] * samples)
    lens = Camera(*(x.cpu().float() for x in vars(scene.camera).values()))
    points = vertices[0].cpu().float()
    rast = rasterize(lens.clip(points[None], size[1] / size[0]), head.triangles.cpu(), fine)[0]
    limit = torch.where(rast[..., 3] > 0, rast[..., 2], FAR)
    cover, depth, normal = hair_geometry(hair, hair.on(points), lens, fine, limit)
    weight = F.avg_pool2d(cover, samples)
    mean = lambda x: F.avg_pool2d(x * cover, samples) / weight.clamp(min=1e-6)  # noqa: E731
    edge = (F.max_pool2d(cover, 3, 1, 1) > 0.5) & (cover < 0.5)
    line = F.avg_pool2d(edge.to(cover), samples)
    weight, depth, normal, line = (x.to(vertices) for x in (weight, mean(depth), mean(normal), line))
    over = weight > 0.5
    mask = torch.maximum(passes.mask, weight + passes.mask * (1 - weight))
    return Passes(
        torch.where(over | ((passes.mask < 1e-3) & (weight > 1e-3)), depth, passes.depth),
        F.normalize(passes.normal * (1 - weight) + normal * weight, dim=1, eps=1e-8),
        mask,
        passes.uv * (1 - over.to(passes.uv)),
        torch.maximum(passes.line * (1 - weight), line),
    ), weight
