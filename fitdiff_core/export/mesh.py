"""What every mesh format needs of an avatar: its skin and its eyes, each with its own vertices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from ..render.normals import frames
from ..render.shading import ROUGHNESS

if TYPE_CHECKING:
    from ..avatar import Avatar

EYE_ROUGHNESS = 0.12  # a wet cornea, where the head has no roughness of its own


@dataclass
class Part:
    """One material's share of the mesh; numpy float32, `indices` refer to this part's own vertices.

    positions, normals `[N, 3]`; tangents `[N, 4]`; uv `[N, 2]` with v from the BOTTOM; indices `[T, 3]` int64;
    roughness perceptual.
    """

    name: str
    positions: np.ndarray
    normals: np.ndarray
    tangents: np.ndarray
    uv: np.ndarray
    indices: np.ndarray
    roughness: float


@torch.no_grad()
def split(avatar: Avatar) -> list[Part]:
    """The neutral mesh of a batch-1 avatar as parts "Skin" and "Eyes" (a part without triangles is left out).

    Raises UserError for a batch of several heads or a shape that is not finite.
    """
    if avatar.shape.shape[0] != 1:
        raise UserError(f"A file holds one head, not {avatar.shape.shape[0]}; pick one of the batch.")
    head = avatar.head
    vertices = avatar.vertices().double().cpu()
    if not torch.isfinite(vertices).all():
        raise UserError("The head's shape holds NaN or infinite values; sample it again.")
    tri, uv = head.triangles.cpu().long(), head.uv.cpu().double()
    normals, tangents = frames(vertices, uv, tri)
    eye = (tri >= head.n_skin).all(1)
    own = getattr(head, "roughness", None)
    parts = []
    for name, faces, usual in (("Skin", tri[~eye], ROUGHNESS), ("Eyes", tri[eye], EYE_ROUGHNESS)):
        if len(faces) == 0:
            continue
        used, indices = torch.unique(faces, return_inverse=True)
        rough = usual if own is None else float(own.cpu().float()[used].mean())
        parts.append(
            Part(name, _floats(vertices[0][used]), _floats(_sound(normals[0][used])), _floats(tangents[0][used]),
                 _floats(uv[used]), indices.numpy(), round(rough, 3))
        )
    return parts


def _sound(normals: Tensor) -> Tensor:
    """A vertex whose triangles have no area still needs a unit normal."""
    lost = normals.norm(dim=-1, keepdim=True) < 0.5
    return torch.where(lost, normals.new_tensor([0.0, 0.0, 1.0]), normals)


def _floats(x: Tensor) -> np.ndarray:
    return np.ascontiguousarray(x.float().numpy())
