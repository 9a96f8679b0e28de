"""How much of the environment each vertex of a posed head sees, from depth maps of many directions."""

from __future__ import annotations

import math
from collections import deque
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
NONE = slice(0, 0)  # no vertices
KEPT = 2  # poses whose visibility is kept: pictures of a turntable share it


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


def see_sky(
    points: Tensor, normals: Tensor, triangles: Tensor, light: Light, albedo: Tensor, eyes: slice = NONE
) -> Sky:
    """The sky over a posed head.

    points, normals: `[V, 3]` metres, unit vectors; triangles: `[T, 3]`
    light: batch 1; albedo: `[3]` mean linear albedo of the skin, which lights hollows; eyes: rows of both eyeballs
    """
    seen = visibility(points, normals, triangles, eyes)
    way = directions(points)
    cosine = (normals @ way.T).clamp(min=0)
    weight = cosine / cosine.sum(1, keepdim=True).clamp(min=1e-6)
    radiance = (sh_basis(way) @ light.sh[0]).clamp(min=0) + 1e-4
    open_ = (weight * seen).sum(1, keepdim=True)
    share = (weight * seen) @ radiance / (weight @ radiance)
    # light that skin sends to skin, for a hollow that is lit evenly (Jimenez et al. 2016)
    return Sky(share / (1 - albedo * (1 - share)), open_)


def visibility(points: Tensor, normals: Tensor, triangles: Tensor, eyes: slice = NONE) -> Tensor:
    """Share `[V, K]` of each of `directions` that reaches each vertex, 0..1; 0 for those behind the surface.

    The last poses are kept. Eyeballs that turn hide the same, so another gaze takes the depth maps of the same face.
    """
    points = points.detach()
    for pose in list(_poses):
        if pose.points.device == points.device and pose.points.shape == points.shape:
            moved = (pose.points != points).any(1)
            if not moved.any():
                return pose.seen
            if not moved[: eyes.start].any() and not moved[eyes.stop :].any():
                return pose.look_up(points, normals, torch.nonzero(moved)[:, 0])
    pose = _Pose(points.clone(), _depth_maps(points, triangles), points.new_zeros(len(points), DIRECTIONS))
    pose.seen = pose.look_up(points, normals, torch.arange(len(points), device=points.device))
    _poses.append(pose)
    return pose.seen


@dataclass
class _Pose:
    """points: `[V, 3]`; depth: `[K, SIDE, SIDE]` of each direction, -1..1; seen: `[V, K]` of `visibility`."""

    points: Tensor
    depth: Tensor
    seen: Tensor

    def look_up(self, points: Tensor, normals: Tensor, rows: Tensor) -> Tensor:
        """`seen` with the rows `[N]` of points `[V, 3]` looked up in the maps."""
        way, (centre, reach) = directions(points), _frame(self.points)
        seen, lifted = self.seen.clone(), points + normals * LIFT
        seen[rows] = 0
        for k, facing in enumerate((normals[rows] @ way.T > 0).unbind(1)):
            found = rows[facing]
            at = (lifted[found] - centre) @ (light_frame(way[k]) / reach).T
            seen[found, k] = _soft_test(self.depth[k], at, SOFT / reach)
        return seen


_poses: deque[_Pose] = deque(maxlen=KEPT)


def _frame(points: Tensor) -> tuple[Tensor, float]:
    """Centre `[3]` of the depth maps, and metres from there to their border."""
    centre = (points.amin(0) + points.amax(0)) / 2
    return centre, float((points - centre).norm(dim=1).max()) * 1.02


def _depth_maps(points: Tensor, triangles: Tensor) -> Tensor:
    """Depth `[K, SIDE, SIDE]` of the head in each of `directions`, -1..1; 2 where nothing is."""
    centre, reach = _frame(points)
    frames, maps = torch.stack([light_frame(d) for d in directions(points)]), []  # [K, 3, 3]
    for turn in (frames / reach).split(TOGETHER):
        flat = torch.einsum("kij,vj->kvi", turn, points - centre)
        depth = rasterize(F.pad(flat, (0, 1), value=1.0), triangles, (SIDE, SIDE))
        maps.append(torch.where(depth[..., 3] > 0, depth[..., 2], 2.0))
    return torch.cat(maps)


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
