"""Cast shadows and crevices, per vertex: what the differentiable renderer leaves out and photos never lack."""

from __future__ import annotations

import math
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..render import rasterize, vertex_normals
from ..render.light import Light

_MAP = 192  # side of a shadow map, pixels
_TAPS = 12  # samples of the shadow map a vertex
_OFFSET = 0.0025  # metres along the normal, so that a surface does not shade itself
_LUMA = torch.tensor([0.2126, 0.7152, 0.0722])


def visibility(vertices: Tensor, normals: Tensor, triangles: Tensor, direction: Tensor, soft: int = 1) -> Tensor:
    """Share of a light from `direction` `[3]` that reaches each of vertices `[1, V, 3]`: `[V]` in 0..1.

    soft: radius of the penumbra in shadow-map pixels (about 1.5 mm each).
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


def cast_shadows(head, vertices: Tensor, light: Light, softness: int = 2) -> SimpleNamespace:
    """`head` as `render` wants it, with an `occlusion` that stands for this light's shadows on vertices `[1, V, 3]`.

    Crevices are the head's own `occlusion`; each directional light casts a shadow map besides.
    """
    normals = vertex_normals(vertices, head.triangles)
    around = (light.irradiance(normals)[0] @ _LUMA).clamp(min=1e-3)
    total, arriving = around, around * head.occlusion
    for direction, colour in zip(light.direction[0], light.color[0], strict=True):
        strength = (normals[0] @ direction).clamp(min=0) * float(colour @ _LUMA) / math.pi
        total = total + strength
        arriving = arriving + strength * visibility(vertices, normals, head.triangles, direction, softness)
    return SimpleNamespace(
        triangles=head.triangles, uv=head.uv, roughness=head.roughness, occlusion=arriving / total
    )
