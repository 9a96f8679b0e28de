"""Vertex normals and tangent frames of a mesh with one uv for each vertex."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from ..vectors import unit

_layouts = WeakTensorKeyDictionary()


def vertex_normals(vertices: Tensor, tri: Tensor) -> Tensor:
    """Area-weighted unit normals of vertices `[B, V, 3]`; triangles `[T, 3]` counter-clockwise from outside."""
    return unit(_sums(vertices, tri.long(), None)).mT


def tangents(vertices: Tensor, uv: Tensor, tri: Tensor) -> Tensor:
    """The tangent frames of `frames` alone, `[B, V, 4]`."""
    return frames(vertices, uv, tri)[1]


def frames(vertices: Tensor, uv: Tensor, tri: Tensor) -> tuple[Tensor, Tensor]:
    """Unit normals `[B, V, 3]` and tangents `[B, V, 4]` of a mesh.

    vertices: `[B, V, 3]`
    uv:       `[V, 2]`, v from the bottom
    tri:      `[T, 3]`, counter-clockwise from outside

    The xyz of a tangent is the unit direction of growing u, perpendicular to the normal. Its w is the handedness:
    `w * cross(normal, xyz)` points along growing v, which is "up" in the texture image, so normal maps are +Y up.
    As in MikkTSpace (Mikkelsen 2008), but vertices are not split, and faces are weighted by their uv area instead of
    their corner angle. This keeps the sum linear in the positions. Exported files hold the same tangents as TANGENT.
    """
    tri = tri.long()
    weight, hand = _layout(uv, tri)
    sums = _sums(vertices, tri, weight.to(vertices.dtype))
    normal, along_u = unit(sums[:, :3]), sums[:, 3:]

    flat = along_u - normal * (along_u * normal).sum(1, keepdim=True)
    lost = (flat.detach() ** 2).sum(1, keepdim=True) < 1e-20  # no uv area here: any direction in the plane is valid
    xyz = unit(torch.where(lost, torch.linalg.cross(normal, _least_axis(normal.detach()), dim=1), flat))

    hand = hand.to(vertices.dtype)[None, None].expand(vertices.shape[0], 1, -1)
    return normal.mT, torch.cat([xyz, hand], 1).mT


@torch.inference_mode(False)
@torch.no_grad()
def _layout(uv: Tensor, tri: Tensor) -> tuple[Tensor, Tensor]:
    """What tangents need of the atlas, kept as long as the tensor `uv`: weights `[2, T]` of two edges of each face, and
    handedness `[V]`, -1 or 1."""
    kept = _layouts.get(uv)
    if kept is None or kept[0] is not tri:
        d1, d2 = uv[tri[:, 1]] - uv[tri[:, 0]], uv[tri[:, 2]] - uv[tri[:, 0]]
        twice_area = d1[:, 0] * d2[:, 1] - d1[:, 1] * d2[:, 0]
        # dp/du = (edge1 * dv2 - edge2 * dv1) / twice_area; times |twice_area|, scaled so that sums stay far from
        # underflow
        weight = torch.stack([d2[:, 1], -d1[:, 1]]) * twice_area.sign()
        weight = weight / weight.abs().mean().clamp(min=1e-20)
        facing = uv.new_zeros(uv.shape[0]).index_add(0, tri.reshape(-1), twice_area.repeat_interleave(3))
        kept = _layouts[uv] = tri, weight, torch.where(facing < 0, -1.0, 1.0)
    return kept[1], kept[2]


def _least_axis(normal: Tensor) -> Tensor:
    """Unit vectors `[B, 3, V]` along the axis that is farthest from each normal."""
    a, b, c = normal.abs().unbind(1)
    first = (a <= b) & (a <= c)
    second = ~first & (b <= c)
    return torch.stack([first, second, ~(first | second)], 1).to(normal)


def perturb_normal(normal: Tensor, tangent: Tensor, texel: Tensor) -> Tensor:
    """Bend interpolated normals by a normal map, as MikkTSpace does: the frame is not made orthonormal again.

    normal `[..., 3]`, tangent `[..., 4]` (see `frames`), texel `[..., 3]` in tangent space -> unit `[..., 3]`.
    """
    direction = tangent[..., :3]
    bitangent = torch.linalg.cross(normal, direction) * tangent[..., 3:].detach().sign()
    bent = direction * texel[..., 0:1] + bitangent * texel[..., 1:2] + normal * texel[..., 2:3]
    return F.normalize(bent, dim=-1, eps=1e-8)


def _sums(vertices: Tensor, tri: Tensor, weight: Tensor | None) -> Tensor:
    """Sums over the faces of each vertex, `[B, 3 or 6, V]`: face normals times twice the area, and weighted face edges.

    weight: `[2, T]` of the two edges; None leaves the edges out.

    The components come before the vertices, and each corner is gathered and added separately: on a CPU this takes half
    the time.
    """
    n_batch, n_vertex, _ = vertices.shape
    rows = vertices.mT.reshape(n_batch * 3, n_vertex)
    column = torch.stack(tri.unbind(1))  # a copy: triangles loaded under inference mode cannot be saved for backward
    corner = [rows.index_select(1, index).view(n_batch, 3, -1) for index in column]
    edge1, edge2 = corner[1] - corner[0], corner[2] - corner[0]
    (x1, y1, z1), (x2, y2, z2) = edge1.unbind(1), edge2.unbind(1)
    parts = [torch.stack([y1 * z2 - z1 * y2, z1 * x2 - x1 * z2, x1 * y2 - y1 * x2], 1)]
    if weight is not None:
        parts.append(edge1 * weight[0] + edge2 * weight[1])
    values = torch.cat(parts, 1)
    channels = values.shape[1]
    values = values.reshape(n_batch * channels, -1)
    total = rows.new_zeros(n_batch * channels, n_vertex)
    for index in column:
        total = total.index_add(1, index, values)
    return total.view(n_batch, channels, n_vertex)
