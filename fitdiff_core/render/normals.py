"""Vertex normals and tangent frames of a mesh with one uv a vertex."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def _corners(vertices: Tensor, tri: Tensor) -> tuple[Tensor, Tensor]:
    """Corner positions `[B, T, 3, 3]` and their rows `[B*T*3]` in the flattened vertices."""
    n_batch, n_vertex, _ = vertices.shape
    offset = torch.arange(n_batch, device=tri.device)[:, None] * n_vertex
    index = (tri.reshape(1, -1).long() + offset).reshape(-1)
    return vertices.reshape(-1, 3).index_select(0, index).view(n_batch, -1, 3, 3), index


def _gather_to_vertices(values: Tensor, index: Tensor, vertices: Tensor) -> Tensor:
    """Sum a face value `[B, T, 3]` over the faces of each vertex -> `[B, V, 3]`."""
    spread = values[:, :, None].expand(-1, -1, 3, -1).reshape(-1, 3)
    # rows of a 2-D tensor: index_add along any other axis is several times slower on a CPU
    return torch.zeros_like(vertices).view(-1, 3).index_add(0, index, spread).view_as(vertices)


def vertex_normals(vertices: Tensor, tri: Tensor) -> Tensor:
    """Area-weighted unit normals: vertices `[B, V, 3]`, triangles `[T, 3]` (outside counter-clockwise) -> `[B, V, 3]`."""
    corner, index = _corners(vertices, tri)
    edge1, edge2 = corner[:, :, 1] - corner[:, :, 0], corner[:, :, 2] - corner[:, :, 0]
    # metres squared of a millimetre triangle are small: normalise with an epsilon far below them
    return F.normalize(_gather_to_vertices(torch.linalg.cross(edge1, edge2), index, vertices), dim=-1, eps=1e-20)


def tangents(vertices: Tensor, uv: Tensor, tri: Tensor, normals: Tensor | None = None) -> Tensor:
    """Tangent frames: vertices `[B, V, 3]`, uv `[V, 2]` (v from the bottom), triangles `[T, 3]` -> `[B, V, 4]`.

    xyz is the unit direction of growing u, perpendicular to the normal; w is the handedness, so that
    `w * cross(normal, xyz)` points along growing v, which is "up" in the texture image: normal maps are +Y up.
    As in MikkTSpace (Mikkelsen 2008) without its vertex splitting, except that faces weigh by their uv area instead of
    their corner angle, which keeps the sum linear in the positions; the exported TANGENT is the one rendered here.
    """
    if normals is None:
        normals = vertex_normals(vertices, tri)
    corner, index = _corners(vertices, tri)
    d1, d2 = uv[tri[:, 1]] - uv[tri[:, 0]], uv[tri[:, 2]] - uv[tri[:, 0]]
    twice_area = d1[:, 0] * d2[:, 1] - d1[:, 1] * d2[:, 0]
    # dp/du times |uv area|; scaled to unit mean so that sums stay far from underflow
    weight = torch.stack([d2[:, 1], -d1[:, 1]], -1) * twice_area.sign()[:, None]
    weight = weight / weight.abs().mean().clamp(min=1e-20)
    along_u = (corner[:, :, 1] - corner[:, :, 0]) * weight[:, 0:1] + (corner[:, :, 2] - corner[:, :, 0]) * weight[:, 1:2]
    total = _gather_to_vertices(along_u, index, vertices)

    flat = total - normals * (total * normals).sum(-1, keepdim=True)
    lost = (flat.detach() ** 2).sum(-1, keepdim=True) < 1e-20  # no uv here: any direction in the plane will do
    spare = torch.eye(3, dtype=normals.dtype, device=normals.device)[normals.detach().abs().argmin(-1)]
    spare = torch.linalg.cross(normals, spare)
    xyz = F.normalize(torch.where(lost, spare, flat), dim=-1, eps=1e-20)

    facing = uv.new_zeros(uv.shape[0]).index_add(0, tri.reshape(-1).long(), twice_area.repeat_interleave(3))
    hand = torch.where(facing < 0, -1.0, 1.0).to(vertices.dtype)[None, :, None].expand(vertices.shape[0], -1, 1)
    return torch.cat([xyz, hand], -1)
