"""Cast shadows of directional lights by shadow maps. Not differentiable."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .light import Light
from .normals import vertex_normals
from .rasterizer import rasterize

_MAP = 192  # pixels: side of a shadow map
_TAPS = 12  # samples of the shadow map for each vertex
SOFT = 2  # pixels: radius of the penumbra
_OFFSET = 0.0025  # metres: vertices move along their normals, so that a surface does not shade itself


@torch.no_grad()
def directional_visibility(
    vertices: Tensor, normals: Tensor, triangles: Tensor, direction: Tensor, soft: int = 1
) -> Tensor:
    """Share of a directional light that reaches each vertex: `[V]`, 0..1.

    vertices, normals: `[1, V, 3]` metres, unit vectors
    triangles:         `[T, 3]`
    direction:         `[3]` towards the light
    soft:              radius of the penumbra in pixels of the shadow map (about 1.5 mm each)
    """
    z = F.normalize(direction, dim=0)
    x = torch.linalg.cross(
        torch.tensor([0.0, 1.0, 0.0]) if abs(float(z[1])) < 0.9 else torch.tensor([1.0, 0.0, 0.0]), z
    )
    x = F.normalize(x, dim=0)
    frame = torch.stack([x, torch.linalg.cross(z, x), -z])
    centre = vertices[0].mean(0)
    reach = float((vertices[0] - centre).norm(dim=1).max()) * 1.02

    def seen(points: Tensor) -> Tensor:
        return (points - centre) @ frame.T / reach

    clip = F.pad(seen(vertices[0]), (0, 1), value=1.0)[None]
    rast = rasterize(clip, triangles, (_MAP, _MAP))[0]
    depth = torch.where(rast[..., 3] > 0, rast[..., 2], 2.0)
    at = seen(vertices[0] + normals[0] * _OFFSET)
    turn = torch.arange(_TAPS)[:, None] * 2.399963  # the golden angle spreads taps evenly over a disk
    reach_px = (soft + 0.4) * ((torch.arange(_TAPS)[:, None] + 0.5) / _TAPS).sqrt()
    column, row = ((at[:, :2] + 1) / 2 * _MAP - 0.5).unbind(1)
    column = (column + reach_px * torch.cos(turn)).round().long().clamp(0, _MAP - 1)
    row = (row + reach_px * torch.sin(turn)).round().long().clamp(0, _MAP - 1)
    nearest = depth.flatten()[row * _MAP + column]
    return (at[:, 2] <= nearest + 0.002 / reach).float().mean(0)


def light_visibility(vertices: Tensor, triangles: Tensor, light: Light) -> Tensor:
    """Share of each directional light that reaches each vertex: `[B, V, L]`, 0..1. Computed on the CPU.

    vertices:  `[B, V, 3]` metres, posed
    triangles: `[T, 3]`
    light:     B or 1 illuminations
    """
    points, tri = vertices.detach().float().cpu(), triangles.cpu()
    normals = vertex_normals(points, tri)
    directions = light.direction.detach().float().cpu().expand(len(points), -1, -1)
    found = [
        torch.stack(
            [directional_visibility(points[i : i + 1], normals[i : i + 1], tri, d, SOFT) for d in directions[i]], 1
        )
        for i in range(len(points))
    ]
    return torch.stack(found).to(vertices)
