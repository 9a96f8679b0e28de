"""Render passes of the head: depth, normals, coverage, uv and lines.

They are inputs of models that draw a picture from such passes (ControlNet). The `*_image` functions convert them to the
colours that these models expect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor

from ..filters import dilate
from ..maps import TextureMaps
from ..vectors import unit
from .camera import Camera
from .interpolation import filtered_texture, interpolate, texture, texture_level
from .normals import frames, perturb_normal
from .orientation import raster_to_image
from .parts import PARTS, vertex_parts
from .rasterizer import rasterize

if TYPE_CHECKING:
    from ..head import HeadModel
    from ..head.whole import WholeHead

FLOOR = 0.2  # grey value of the head's farthest point, to differ from the black background
NORMAL_STYLES = ("controlnet", "opengl")
LINE_REGIONS = ("lips", "brows", "eyes", "iris", "mouth_interior")
LINE_WIDTH = 1.6 / 512  # of the picture's height
STEP = 0.003  # metres: a larger jump in depth makes a line
CREASE = 0.28  # radians: a larger turn of the surface within one line's width makes a line
EDGE_ON = 0.16  # a surface with a smaller cosine to the view counts as seen edge-on and makes a line
_region_maps: WeakKeyDictionary[HeadModel | WholeHead, Tensor] = WeakKeyDictionary()  # textures, drawn once


@dataclass
class Passes:
    """Passes of B pictures. Row 0 is at the top; values are 0 where nothing is seen.

    depth:  `[B, 1, H, W]` metres from the camera along its axis
    normal: `[B, 3, H, W]` unit, camera space: x right, y up, z towards the viewer
    mask:   `[B, 1, H, W]` coverage, 0..1
    uv:     `[B, 2, H, W]` of the pixel's centre, v from the bottom
    line:   `[B, 1, H, W]` 0..1: outlines, creases and the borders of lips, brows and eyes
    albedo: `[B, 3, H, W]` linear diffuse albedo
    position: `[B, 3, H, W]` metres, world space
    skin, lips, eyes: `[B, 1, H, W]` coverage, 0..1. Skin is all of it but the lips and the inside of the mouth; brows
        count as skin
    part:   `[B, 1, H, W]` int64, what covers most of the pixel: 1 + index into `PARTS`, 0 for nothing
    """

    depth: Tensor
    normal: Tensor
    mask: Tensor
    uv: Tensor
    line: Tensor
    albedo: Tensor
    position: Tensor
    skin: Tensor
    lips: Tensor
    eyes: Tensor
    part: Tensor

    @classmethod
    def cat(cls, batches: Sequence[Passes]) -> Passes:
        """Batches of passes of one size as one batch."""
        return cls(*(torch.cat([getattr(b, f.name) for b in batches]) for f in fields(cls)))


@torch.no_grad()
def render_passes(
    vertices: Tensor,
    head: HeadModel | WholeHead,
    camera: Camera,
    size: tuple[int, int],
    maps: TextureMaps | None = None,
    samples: int = 2,
    bent: bool = True,
) -> Passes:
    """Passes of B pictures of a head.

    vertices: `[B, V, 3]` metres, of `head`
    camera:   B or 1 cameras
    size:     (H, W) pixels
    maps:     of the albedo and, if `bent`, of the normals. None: no albedo, normals of the mesh
    samples:  samples along each side of a pixel

    The lines follow lips, brows and eyes where the head has these regions.
    """
    height, width = size
    fine = (height * samples, width * samples)
    tri, uv = head.triangles, head.uv.to(vertices)
    pos = camera.clip(vertices, width / height)
    rast = rasterize(pos, tri, fine)
    seen = rast[..., 3:] > 0
    normal, tangent = frames(vertices, uv, tri)
    depth = -camera.view(vertices)[..., 2:]
    values = torch.cat([normal, tangent, depth, uv.expand(len(vertices), -1, -1)], -1)
    normal, tangent, depth, at = interpolate(values, rast, tri).split([3, 4, 1, 2], -1)
    smooth = F.normalize(normal, dim=-1, eps=1e-8)
    if maps is not None and bent:
        bend = maps.normal.to(vertices)
        level = texture_level(at, seen[..., 0], (bend.shape[-2], bend.shape[-1]))
        smooth_map = filtered_texture(bend, at, level.clamp(max=4))
        normal = perturb_normal(normal, tangent, F.normalize(smooth_map, dim=-1, eps=1e-8))
    turn = camera.matrix().mT[:, None]
    flat, normal = smooth @ turn, F.normalize(normal, dim=-1, eps=1e-8) @ turn

    mask = _mean(raster_to_image(seen.to(vertices)), samples)
    share = 1 / mask.clamp(min=1e-6)
    line = _lines(
        raster_to_image(depth),
        raster_to_image(flat * seen),
        raster_to_image(seen),
        raster_to_image(_regions(head, at)),
        height * samples,
    )
    coarse = interpolate(uv, rasterize(pos, tri, size), tri)
    parts = raster_to_image(_part_ids(head, rast, at)[..., None])
    covers = {n: _mean((parts == 1 + k).to(vertices), samples) for k, n in enumerate(PARTS)}
    away = _mean(raster_to_image(depth * seen), samples) * share
    albedo = torch.zeros_like(normal)
    if maps is not None:
        level = texture_level(at, seen[..., 0], maps.size)
        albedo = filtered_texture(maps.diffuse.to(vertices), at, level) * seen
    return Passes(
        away,
        unit(_mean(raster_to_image(normal * seen), samples)),
        mask,
        raster_to_image(coarse),
        _mean(line, samples),
        _mean(raster_to_image(albedo), samples) * share,
        positions(camera, away),
        covers["skin"],
        covers["lips"],
        covers["left eye"] + covers["right eye"],
        largest_part(torch.cat(list(covers.values()), 1)),
    )


def positions(camera: Camera, depth: Tensor) -> Tensor:
    """World positions `[B, 3, H, W]` of pixels with a depth `[B, 1, H, W]` along the camera's axis, 0 where it is 0."""
    rays = raster_to_image(camera.rays((depth.shape[-2], depth.shape[-1])))
    axis = -camera.matrix()[:, 2]
    along = depth / torch.einsum("bchw,bc->bhw", rays, axis)[:, None]
    return (camera.position()[:, :, None, None] + rays * along) * (depth > 0)


def largest_part(covers: Tensor) -> Tensor:
    """`[B, P, H, W]` coverage of `PARTS` -> ids `[B, 1, H, W]` int64; 0 where less than half a pixel is covered."""
    part = 1 + covers.argmax(1, keepdim=True)
    return torch.where(covers.sum(1, keepdim=True) < 0.5, 0, part)


def _part_ids(head: HeadModel | WholeHead, rast: Tensor, at: Tensor) -> Tensor:
    """Ids `[B, H, W]` int64 of what each sample sees, 0 for nothing. Lips and mouth are regions of the skin."""
    names = list(PARTS)
    tri = head.triangles.long()
    triangle = vertex_parts(head).to(rast.device)[tri[:, 0]]
    seen = rast[..., 3].long()
    part = torch.where(seen > 0, triangle[(seen - 1).clamp(min=0)], 0)
    regions = [n for n in LINE_REGIONS if n in head.region_names]
    share = _regions(head, at)
    for region, name in (("lips", "lips"), ("mouth_interior", "mouth")):
        if region in regions:
            inside = (share[..., regions.index(region)] > 0.5) & (part == 1)
            part = torch.where(inside, 1 + names.index(name), part)
    return part


def part_image(part: Tensor) -> Tensor:
    """Ids `[B, 1, H, W]` -> flat colours `[B, 3, H, W]` in 0..1, sRGB; black for nothing."""
    table = torch.tensor([(0, 0, 0), *PARTS.values()], device=part.device) / 255
    return table[part[:, 0]].permute(0, 3, 1, 2)


def position_image(position: Tensor, mask: Tensor) -> Tensor:
    """Positions `[B, 3, H, W]` and coverage -> colours 0.5 + 2 * metres, clipped to 0..1; black for nothing."""
    return (position * 2 + 0.5).clamp(0, 1) * (mask > 0.5)


def depth_image(depth: Tensor, mask: Tensor) -> Tensor:
    """Depth `[B, 1, H, W]` and mask `[B, 1, H, W]` -> inverse depth as grey `[B, 3, H, W]`, as MiDaS draws it.

    Near is white, the background is black, the farthest point of the head is FLOOR. The whole batch has one range, so
    that a turning head does not flicker.
    """
    seen = mask > 1e-3
    if not seen.any():
        return torch.zeros_like(mask).expand(-1, 3, -1, -1)
    inverse = 1 / torch.where(seen, depth, 1.0).clamp(min=1e-6)
    low, high = inverse[seen].min(), inverse[seen].max()
    grey = FLOOR + (1 - FLOOR) * (inverse - low) / (high - low).clamp(min=1e-9)
    return (grey * mask).clamp(0, 1).expand(-1, 3, -1, -1)


def normal_image(normal: Tensor, mask: Tensor, style: str = "controlnet") -> Tensor:
    """Normals `[B, 3, H, W]` and mask `[B, 1, H, W]` -> colours `[B, 3, H, W]`; the background faces the viewer.

    style: "controlnet": blue is front, red is left, green is top (the convention of ControlNet 1.1's normal model, from
           NYU-V2 and Bae); "opengl": red is right, as 3D programs draw camera-space normals.

    Raises ValueError for another style.
    """
    if style not in NORMAL_STYLES:
        raise ValueError(f"Unknown style '{style}'; choose one of {', '.join(NORMAL_STYLES)}.")
    sign = normal.new_tensor([-1.0 if style == "controlnet" else 1.0, 1.0, 1.0])[:, None, None]
    wall = normal.new_tensor([0.5, 0.5, 1.0])[:, None, None]
    return (normal * sign / 2 + 0.5) * mask + wall * (1 - mask)


def uv_image(uv: Tensor, mask: Tensor) -> Tensor:
    """uv `[B, 2, H, W]` -> red is u, green is v (from the bottom), blue is the coverage."""
    return torch.cat([uv, mask], 1)


def _mean(x: Tensor, samples: int) -> Tensor:
    return x if samples == 1 else F.avg_pool2d(x.contiguous(), samples)


def _regions(head: HeadModel | WholeHead, at: Tensor) -> Tensor:
    """Weights of LINE_REGIONS at texture coordinates `[B, H, W, 2]` -> `[B, H, W, R]`; R may be 0."""
    names = [n for n in LINE_REGIONS if n in head.region_names]
    if not names:
        return at[..., :0]
    if head not in _region_maps:
        _region_maps[head] = torch.stack([head.region(n, 512) for n in names])[None]
    return texture(_region_maps[head].to(at), at)


def _lines(depth: Tensor, normal: Tensor, seen: Tensor, regions: Tensor, height: int) -> Tensor:
    """1 where depth jumps, the surface turns sharply or is seen edge-on, or a region ends: `[B, 1, H, W]`, 0 or 1."""
    width = max(1, round(LINE_WIDTH * height))
    line = torch.zeros_like(depth)
    for axis in (2, 3):
        n = depth.shape[axis]
        near, far = (lambda x, a=axis, m=n: x.narrow(a, 0, m - 1)), (lambda x, a=axis, m=n: x.narrow(a, 1, m - 1))
        both = near(seen) & far(seen)
        outline = near(seen) != far(seen)
        # a slanted surface has the same slope on both sides; a jump does not
        slope = far(depth) - near(depth)
        around = torch.minimum(_shift(slope, 1, axis).abs(), _shift(slope, -1, axis).abs())
        jump = both & (slope.abs() - 3 * around > STEP)
        border = (both & ((near(regions) > 0.5) != (far(regions) > 0.5))).any(1, keepdim=True)
        line.narrow(axis, 0, n - 1).add_((outline | jump | border).to(line))
    line = line + _creases(normal, seen, width)
    line = (line > 0).to(depth)
    odd = width // 2 * 2 + 1
    return dilate(line, odd) if width > 1 else line


def _creases(normal: Tensor, seen: Tensor, width: int) -> Tensor:
    """Thin lines along concave and convex folds and along surfaces seen edge-on: `[B, 1, H, W]`."""
    bend = torch.zeros_like(normal[:, :1])
    for axis in (2, 3):
        a, b = _shift(normal, width, axis), _shift(normal, -width, axis)
        inside = _shift(seen, width, axis) & _shift(seen, -width, axis) & seen
        turn = torch.acos((a * b).sum(1, keepdim=True).clamp(-1, 1))
        peak = (turn >= _shift(turn, 1, axis)) & (turn > _shift(turn, -1, axis))
        bend = bend + (inside & peak & (turn > 2 * CREASE)).to(bend)
    front = (normal[:, 2:] > EDGE_ON) | ~seen
    for axis in (2, 3):
        bend = bend + (seen & (front != _shift(front, 1, axis)) & _shift(seen, 1, axis)).to(bend)
    return bend


def _shift(x: Tensor, by: int, axis: int) -> Tensor:
    """`x` shifted by `by` pixels along `axis`; the border repeats."""
    n = x.shape[axis]
    index = (torch.arange(n, device=x.device) - by).clamp(0, n - 1)
    return x.index_select(axis, index)
