"""Point indices of MediaPipe's face mesh (Kartynnik et al. 2019). Left and right are the subject's."""

from __future__ import annotations

import torch
from torch import Tensor

N_POINTS = 468
N_IRIS_POINTS = 10  # the newer network adds these at the end, five for each iris

EYE_RIGHT, EYE_LEFT = (33, 133, 159, 145), (263, 362, 386, 374)  # outer, inner corner, upper, lower lid
NOSE_TIP, MOUTH_RIGHT, MOUTH_LEFT = 1, 61, 291
EAR_RIGHT, EAR_LEFT = 234, 454  # the mesh's outermost points: it ends before the ears


def five_points(mesh: Tensor) -> Tensor:
    """Mesh `[..., 468, 2+]` -> `[..., 5, 2]`: eyes, nose tip, mouth corners; right ones first (image left)."""
    xy = mesh[..., :2]
    eyes = [xy[..., list(ids), :].mean(-2) for ids in (EYE_RIGHT, EYE_LEFT)]
    return torch.stack([*eyes, xy[..., NOSE_TIP, :], xy[..., MOUTH_RIGHT, :], xy[..., MOUTH_LEFT, :]], -2)
