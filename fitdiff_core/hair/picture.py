"""Pictures of heads with hair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ..filters import dilate
from ..head.gloss import whole_roughness
from ..portrait.picture import Hair, portrait
from ..render import Camera, Light
from ..render.hair import Window, hair_geometry, hair_layer, hair_shadows
from ..render.parts import PARTS
from ..render.passes import Passes, positions, render_passes
from ..render.rasterizer import rasterize
from .groom import grow_hair
from .lashes import grow_lashes
from .underlay import worn_maps

if TYPE_CHECKING:
    from ..avatar import Avatar
    from ..scene import Scene

FINE = 448  # pixels; in smaller pictures each pixel of hair is the mean of 2 x 2
LASHES = 3  # samples along each side of a pixel of lashes
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
    layers = [_fine_layer(lashes, lashes.positions, lens, lamp, fine, depth)]
    shade = None
    if hair is not None:
        positions = hair.on(points)
        to_hair, _ = hair_shadows(hair, positions, points, head.triangles.cpu(), lamp)
        shade = Hair(hair, positions, hair.head_light)
        layers.append([*hair_layer(hair, positions, lens, lamp, fine, depth, to_hair)])
    rough = whole_roughness(avatar.head, avatar.shape)
    behind = None if background is None else torch.as_tensor(background).view(1, 1, 3)
    image, mask = portrait(vertices, head, worn_maps(avatar), camera, light, size, rough, behind, shade)
    for color, cover in layers:
        color, cover = (F.avg_pool2d(x, n).to(vertices) for x in (color, cover))
        image, mask = image * (1 - cover) + color, torch.maximum(mask, cover + mask * (1 - cover))
    return image, mask


def _fine_layer(lashes, positions, lens, lamp, size, depth) -> list[Tensor]:
    """`hair_layer` of lashes, each pixel the mean of LASHES x LASHES: they are thinner than a pixel."""
    height, width = size
    at = lens.project(positions[None], size)[0]
    low, high = at.amin(0).floor().long() - 1, at.amax(0).ceil().long() + 2
    x0, y0 = (int(v) for v in low.clamp(min=0))
    x1, y1 = min(int(high[0]), width), min(int(high[1]), height)
    empty = [positions.new_zeros(1, c, height, width) for c in (3, 1)]
    if x1 <= x0 or y1 <= y0:
        return empty
    rows = slice(height - y1, height - y0)  # of the depth, whose row 0 is at the bottom
    window = Window(size, (y1 - y0, x1 - x0), x0, height - y1)
    near = depth[rows, x0:x1].repeat_interleave(LASHES, 0).repeat_interleave(LASHES, 1)
    fine = ((y1 - y0) * LASHES, (x1 - x0) * LASHES)
    for whole, part in zip(empty, hair_layer(lashes, positions, lens, lamp, fine, near, window=window), strict=True):
        whole[:, :, y0:y1, x0:x1] = F.avg_pool2d(part, LASHES)
    return empty


@torch.no_grad()
def render_passes_with_hair(
    avatar: Avatar, scene: Scene, size: tuple[int, int], detail: bool = True, samples: int = 2
) -> tuple[Passes, Tensor]:
    """`render_passes` of one head with its hair through the scene's camera, and the hair's coverage `[1, 1, H, W]`.

    detail: the avatar's normal map bends the normals. samples: as in `render_passes`
    """
    head, vertices = avatar.whole, avatar.posed(scene)
    passes = render_passes(vertices, head, scene.camera, size, worn_maps(avatar), samples, detail)
    style = avatar.hair[0] if avatar.hair else None
    hair = None if style is None else grow_hair(avatar.head, avatar.shape, style)
    if hair is None:
        return passes, torch.zeros_like(passes.mask)
    fine = (size[0] * samples, size[1] * samples)
    lens = Camera(*(x.cpu().float() for x in vars(scene.camera).values()))
    points = vertices[0].cpu().float()
    rast = rasterize(lens.clip(points[None], size[1] / size[0]), head.triangles.cpu(), fine)[0]
    limit = torch.where(rast[..., 3] > 0, rast[..., 2], FAR)
    cover, depth, normal, color = hair_geometry(hair, hair.on(points), lens, fine, limit)
    weight = F.avg_pool2d(cover, samples)
    mean = lambda x: F.avg_pool2d(x * cover, samples) / weight.clamp(min=1e-6)  # noqa: E731
    edge = (dilate(cover, 3) > 0.5) & (cover < 0.5)
    line = F.avg_pool2d(edge.to(cover), samples)
    found = (weight, mean(depth), mean(normal), line, mean(color))
    weight, depth, normal, line, color = (x.to(vertices) for x in found)
    over = weight > 0.5
    mask = torch.maximum(passes.mask, weight + passes.mask * (1 - weight))
    left = 1 - weight
    depth = torch.where(over | ((passes.mask < 1e-3) & (weight > 1e-3)), depth, passes.depth)
    inside = torch.lerp(passes.albedo, color, weight / mask.clamp(min=1e-6))
    return Passes(
        depth,
        F.normalize(passes.normal * left + normal * weight, dim=1, eps=1e-8),
        mask,
        passes.uv * (1 - over.to(passes.uv)),
        torch.maximum(passes.line * left, line),
        inside,
        positions(scene.camera, depth),
        passes.skin * left,
        passes.lips * left,
        passes.eyes * left,
        torch.where(over, 1 + list(PARTS).index("hair"), passes.part),
    ), weight
