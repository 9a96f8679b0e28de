"""How much of the environment each vertex of a posed head sees, from depth maps of many directions."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..render.light import Light, sh_basis
from ..render.rasterizer import rasterize
from .frames import light_frame

DIRECTIONS = 48
SIDE = 128  # pixels of a depth map
TOGETHER = 16  # depth maps drawn at a time
LIFT = 0.0022  # metres along the normal: a surface does not hide itself
SOFT = 0.0016  # metres of depth over which a point goes into shadow
KEPT = 2  # poses whose visibility is kept: pictures of a turntable share it
_poses: OrderedDict[bytes, Tensor] = OrderedDict()


@dataclass
class Sky:
    """Environment light at V vertices.

    share: `[V, 3]` irradiance over that of a head without any occlusion, with the light that skin sends to skin
    open:  `[V, 1]` share of the sky above the surface that is seen, weighted by the cosine
    """

    share: Tensor
    open: Tensor


def directions(like: Tensor) -> Tensor:
    """DIRECTIONS unit vectors `[K, 3]` of equal solid angle (a Fibonacci lattice)."""
    k = torch.arange(DIRECTIONS, dtype=like.dtype, device=like.device)
    y = 1 - (2 * k + 1) / DIRECTIONS
    ring, turn = (1 - y * y).sqrt(), k * (math.pi * (3 - math.sqrt(5)))
    return torch.stack([ring * torch.cos(turn), y, ring * torch.sin(turn)], 1)


def see_sky(points: Tensor, normals: Tensor, triangles: Tensor, light: Light, albedo: Tensor) -> Sky:
    """The sky over a posed head.

    points, normals: `[V, 3]` metres, unit vectors; triangles: `[T, 3]`
    light: batch 1; albedo: `[3]` mean linear albedo of the skin, which lights hollows
    """
    seen = visibility(points, normals, triangles)
    way = directions(points)
    cosine = (normals @ way.T).clamp(min=0)
    weight = cosine / cosine.sum(1, keepdim=True).clamp(min=1e-6)
    radiance = (sh_basis(way) @ light.sh[0]).clamp(min=0) + 1e-4
    open_ = (weight * seen).sum(1, keepdim=True)
    share = (weight * seen) @ radiance / (weight @ radiance)
    # light that skin sends to skin, for a hollow that is lit evenly (Jimenez et al. 2016)
    return Sky(share / (1 - albedo * (1 - share)), open_)


def visibility(points: Tensor, normals: Tensor, triangles: Tensor) -> Tensor:
    """Share `[V, K]` of each of `directions` that reaches each vertex, 0..1; 0 for those behind the surface."""
    key = points.detach().cpu().float().numpy().tobytes()
    if key not in _poses:
        _poses[key] = _visibility(points, normals, triangles)
        while len(_poses) > KEPT:
            _poses.popitem(last=False)
    _poses.move_to_end(key)
    return _poses[key].to(points)


def _visibility(points: Tensor, normals: Tensor, triangles: Tensor) -> Tensor:
    way = directions(points)
    centre = (points.amin(0) + points.amax(0)) / 2
    reach = float((points - centre).norm(dim=1).max()) * 1.02
    frames = torch.stack([light_frame(d) for d in way])  # [K, 3, 3]
    seen = points.new_zeros(len(points), len(way))
    lifted = points + normals * LIFT
    for start in range(0, len(way), TOGETHER):
        turn = frames[start : start + TOGETHER] / reach
        flat = torch.einsum("kij,vj->kvi", turn, points - centre)
        depth = rasterize(F.pad(flat, (0, 1), value=1.0), triangles, (SIDE, SIDE))
        depth = torch.where(depth[..., 3] > 0, depth[..., 2], 2.0)
        for k in range(len(turn)):
            rows = torch.nonzero(normals @ way[start + k] > 0).squeeze(1)
            at = (lifted[rows] - centre) @ turn[k].T
            seen[rows, start + k] = _soft_test(depth[k], at, SOFT / reach)
    return seen


def _soft_test(depth: Tensor, at: Tensor, soft: float) -> Tensor:
    """Share `[N]` of the four nearest texels that lie behind points `[N, 3]`, by their bilinear weights."""
    side = depth.shape[0]
    x, y = ((at[:, :2] + 1) * (side / 2) - 0.5).unbind(1)
    left, low = x.floor(), y.floor()
    fx, fy = x - left, y - low
    flat, total = depth.flatten(), torch.zeros_like(x)
    for dx, wx in ((0, 1 - fx), (1, fx)):
        for dy, wy in ((0, 1 - fy), (1, fy)):
            column = (left + dx).long().clamp(0, side - 1)
            row = (low + dy).long().clamp(0, side - 1)
            behind = (flat[row * side + column] - at[:, 2]) / soft + 1
            total += wx * wy * behind.clamp(0, 1)
    return total
