"""Point indices of MediaPipe's face mesh (Kartynnik et al. 2019). Left and right are the subject's."""

from __future__ import annotations

import torch
from torch import Tensor

N_POINTS = 468
N_IRIS_POINTS = 10  # the newer network appends these, five for each iris
FOREHEAD, CHIN = 10, 152
NOSE_TIP, SUBNASALE = 1, 2  # subnasale: the point under the nose
MOUTH_RIGHT, MOUTH_LEFT = 61, 291  # corners
EAR_RIGHT, EAR_LEFT = 234, 454  # outermost points; the mesh has no ears

EYE_RIGHT, EYE_LEFT = (33, 133, 159, 145), (263, 362, 386, 374)  # outer corner, inner corner, upper lid, lower lid
# the rim of the lids, in order around the eye
LIDS_RIGHT = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
LIDS_LEFT = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)

# both rims of the lips: the outer one, then the inner one
LIPS = (
    61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269, 270, 409, 78, 95, 88, 178, 87,
    14, 317, 402, 318, 324, 308, 191, 80, 81, 82, 13, 312, 311, 310, 415,
)  # fmt: skip
UPPER_LIP_INNER = (191, 80, 81, 82, 13, 312, 311, 310, 415)
LOWER_LIP_INNER = (95, 88, 178, 87, 14, 317, 402, 318, 324)

# in order around the face
OUTLINE = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150,
    136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip


def five_points(mesh: Tensor) -> Tensor:
    """Mesh `[..., 468, 2+]` -> `[..., 5, 2]`: eyes, nose tip, mouth corners; right ones first (image left)."""
    xy = mesh[..., :2]
    eyes = [xy[..., list(ids), :].mean(-2) for ids in (EYE_RIGHT, EYE_LEFT)]
    return torch.stack([*eyes, xy[..., NOSE_TIP, :], xy[..., MOUTH_RIGHT, :], xy[..., MOUTH_LEFT, :]], -2)
