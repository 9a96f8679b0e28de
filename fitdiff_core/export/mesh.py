"""The mesh of an avatar, split into skin, teeth and eyes, each with its own vertices, for all file formats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from ..head import HeadModel
from ..head.whole import WholeHead, whole_head
from ..render.normals import frames

if TYPE_CHECKING:
    from ..avatar import Avatar
    from ..scene import Scene

UNITS = {"metres": 1.0, "centimetres": 100.0}  # units per metre


@dataclass
class Part:
    """The part of the mesh that has one material. Arrays are float32 unless stated.

    name: of the material
    object: name of the mesh
    positions: `[N, 3]`, metres
    normals: `[N, 3]`, unit length
    tangents: `[N, 4]`, w is the bitangent's sign
    uv: `[N, 2]`, v from the bottom
    indices: `[T, 3]` int64, into this part's vertices
    roughness: perceptual, 0..1
    rows: `[N]` int64, indices of these vertices in the whole head
    pivot: `[3]`, centre of an eye's rotation, metres; None for the other parts
    weights: `[N, J]` of the joints of `head.joints`; None where `rows` are vertices of the head and move as they do
    """

    name: str
    object: str
    positions: np.ndarray
    normals: np.ndarray
    tangents: np.ndarray
    uv: np.ndarray
    indices: np.ndarray
    roughness: float
    rows: np.ndarray
    pivot: np.ndarray | None = None
    weights: np.ndarray | None = None


@torch.no_grad()
def split_parts(avatar: Avatar, scene: Scene | None = None) -> list[Part]:
    """The parts "Skin", "Teeth", "Mouth", "EyeWet", "Eye_L" (+x) and "Eye_R"; those without triangles are left out.

    avatar: batch 1
    scene: its expression and gaze pose the head; None: neutral
    Raises UserError for a batch of several heads, or for a shape that is not finite.
    """
    if avatar.shape.shape[0] != 1:
        raise UserError(f"A file holds one head, not {avatar.shape.shape[0]}; pick one of the batch.")
    head, whole = avatar.head, whole_of(avatar)
    vertices = _vertices(avatar, scene).double().cpu()
    if not torch.isfinite(vertices).all():
        raise UserError("The head's shape holds NaN or infinite values; sample it again.")
    rest = vertices[0] if scene is None else _vertices(avatar)[0].double().cpu()
    tri, uv = whole.triangles.cpu().long(), whole.uv.cpu().double()
    normals, tangents = frames(vertices, uv, tri)
    roughness = whole.roughness.cpu().float()
    parts = []
    for name, thing, faces in _faces(head, whole, tri):
        if len(faces) == 0:
            continue
        used, indices = torch.unique(faces, return_inverse=True)
        parts.append(
            Part(
                name,
                thing,
                _floats(vertices[0][used]),
                _floats(_replace_zero_normals(normals[0][used])),
                _floats(tangents[0][used]),
                _floats(uv[used]),
                indices.numpy(),
                round(float(roughness[used].mean()), 3),
                used.numpy(),
                _floats(_eye_centre(head, rest[used])) if name.startswith("Eye_") else None,
            )
        )
    return parts


def whole_of(avatar: Avatar) -> WholeHead | HeadModel:
    """The whole head of an avatar; a head that is no `HeadModel` has no further parts."""
    return whole_head(avatar.head) if isinstance(avatar.head, HeadModel) else avatar.head


def _vertices(avatar: Avatar, scene: Scene | None = None) -> Tensor:
    """Vertices `[B, V, 3]` of the whole head; None: neutral."""
    if scene is not None:
        return avatar.posed(scene)
    plain, whole = avatar.vertices(), whole_of(avatar)
    return whole.around(plain, avatar.shape) if isinstance(whole, WholeHead) else plain


def _faces(head: HeadModel, whole: WholeHead | HeadModel, tri: Tensor) -> list[tuple[str, str, Tensor]]:
    """(material, mesh, triangles `[T, 3]`) of each part."""
    own = (tri < len(head.uv)).all(1)
    first = head.n_skin + (len(head.uv) - head.n_skin) // 2  # first vertex of the right eye
    eye = own & (tri >= head.n_skin).all(1)
    right = eye & (tri >= first).all(1)
    tooth = (tri >= head.n_skin - head.n_teeth).all(1) & own & ~eye
    more = {name: (tri >= rows.start).all(1) & (tri < rows.stop).all(1) for name, rows in _parts(whole).items()}
    skin = own & ~eye & ~tooth | more.pop("Cut", torch.zeros_like(own))
    return [
        ("Skin", "Head", tri[skin]),
        ("Teeth", "Teeth", tri[tooth]),
        *((name, name, tri[faces]) for name, faces in more.items()),
        ("Eye_L", "Eye_L", tri[eye & ~right]),
        ("Eye_R", "Eye_R", tri[right]),
    ]


def _parts(whole: WholeHead | HeadModel) -> dict[str, slice]:
    return whole.parts if isinstance(whole, WholeHead) else {}


@dataclass
class MeshArrays:
    """B heads of one topology as glTF lays them out, on the CPU, float32.

    vertices, normals: `[B, V, 3]`; tangents: `[B, V, 4]`; uvs: `[B, V, 2]`, v from the TOP; faces: `[B, T, 3]` int64
    """

    vertices: Tensor
    normals: Tensor
    tangents: Tensor
    uvs: Tensor
    faces: Tensor


@torch.no_grad()
def whole_meshes(avatar: Avatar, scenes: list[Scene] | None = None) -> MeshArrays:
    """Every head of a batch as one mesh. scenes: one a head, to pose it; None leaves the heads neutral."""
    n = len(avatar)
    heads = [_vertices(avatar[i], None if scenes is None else scenes[i]) for i in range(n)]
    whole = whole_of(avatar)
    vertices, tri = torch.cat(heads).detach().float().cpu(), whole.triangles.cpu()
    uv = whole.uv.float().cpu()
    normals, tangents = frames(vertices, uv, tri)
    uvs = torch.stack([uv[:, 0], 1 - uv[:, 1]], -1)
    return MeshArrays(vertices, normals, tangents, uvs[None].repeat(n, 1, 1), tri[None].repeat(n, 1, 1))


def _eye_centre(head: HeadModel, points: Tensor) -> Tensor:
    """Centre `[3]` of an eyeball with vertices `[N, 3]`: the bulge of the cornea shifts their mean away from it."""
    if len(head.eyeball) != len(points):
        return (points.amin(0) + points.amax(0)) / 2
    return (points - head.eyeball.double().cpu()).mean(0)


def unit_scale(unit: str) -> float:
    """File units per metre. Raises UserError for a unit that is not in `UNITS`."""
    if unit not in UNITS:
        raise UserError(f"Unknown unit '{unit}'; choose one of {', '.join(UNITS)}.")
    return UNITS[unit]


def _replace_zero_normals(normals: Tensor) -> Tensor:
    """Normals `[N, 3]`, where those of vertices without triangle area (length 0) become +z."""
    lost = normals.norm(dim=-1, keepdim=True) < 0.5
    return torch.where(lost, normals.new_tensor([0.0, 0.0, 1.0]), normals)


def _floats(x: Tensor) -> np.ndarray:
    return np.ascontiguousarray(x.float().numpy())
