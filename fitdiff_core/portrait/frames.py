"""Frames of directions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def light_frame(direction: Tensor) -> Tensor:
    """Rotation `[3, 3]` of world space to a frame whose z runs away from a light in `direction` `[3]`."""
    z = F.normalize(direction, dim=0)
    helper = z.new_tensor([0.0, 1.0, 0.0] if abs(float(z[1])) < 0.9 else [1.0, 0.0, 0.0])
    x = F.normalize(torch.linalg.cross(helper, z), dim=0)
    return torch.stack([x, torch.linalg.cross(z, x), -z])
