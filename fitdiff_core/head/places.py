"""Places of a face, as weights of points: cheeks, chin, forehead, beard."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .model import LIPS

# of the 68 landmarks: tip of the nose, its wings, mouth corners, chin, inner brows, jaw below the ears
TIP, WINGS, CORNERS, CHIN, BROWS, JAW = 30, (31, 35), (48, 54), 8, (21, 22), (3, 13)
CHEEK_REACH, CHIN_REACH = 0.020, 0.014  # metres
FARTHEST = 0.05  # metres that the mouth's circle may lie behind its middle; flatter mouths count as this


@dataclass
class FacePlaces:
    """Weights `[N]` by place, 0..1, and the angle around the mouth.

    cheeks: beside the nose, where pores are large; chin; forehead: above the brows
    lower: below the nose, where beards grow
    around: `[N]` metres along the lips, from the middle
    """

    cheeks: Tensor
    chin: Tensor
    forehead: Tensor
    lower: Tensor
    around: Tensor

    @classmethod
    def of(cls, at: Tensor, landmarks: Tensor) -> FacePlaces:
        """at: points `[N, 3]`, landmarks: `[68, 3]`, both of the neutral head, metres."""
        p = landmarks

        def near(centre: Tensor, reach: float) -> Tensor:
            return torch.exp(-(at - centre).square().sum(1) / (2 * reach**2))

        sides = [p[TIP] * 0.15 + p[w] * 0.45 + p[j] * 0.4 for w, j in zip(WINGS, JAW, strict=True)]
        cheeks = torch.maximum(*(near(s, CHEEK_REACH) for s in sides))
        brow, nose = p[list(BROWS), 1].mean(), p[list(WINGS), 1].mean()
        rise = ((at[:, 1] - brow - 0.004) / 0.012).clamp(0, 1)
        forehead = rise * rise * (3 - 2 * rise)
        lower = ((nose + 0.002 - at[:, 1]) / 0.010).clamp(0, 1)
        return cls(cheeks, near(p[CHIN], CHIN_REACH), forehead, lower, _around_mouth(at, p))


def _around_mouth(at: Tensor, p: Tensor) -> Tensor:
    """Metres `[N]` along a circle, seen from above, through the corners and the middle of the mouth."""
    right, left = (p[i][[0, 2]] for i in CORNERS)
    middle = p[[LIPS[0][1], LIPS[1][1]]].mean(0)[[0, 2]]
    half, depth = (left - right).norm() / 2, (middle - (left + right) / 2).norm().clamp(min=1e-4)
    radius = ((half**2 + depth**2) / (2 * depth)).clamp(max=FARTHEST)
    centre = middle - F.normalize(middle - (left + right) / 2, dim=0, eps=1e-6) * radius
    x, z = (at[:, [0, 2]] - centre).unbind(1)
    return torch.atan2(x, z) * radius
