"""The texture of the teeth: a fixed patch in the lower right corner of the UV atlas.

No network predicts it, because teeth of people differ less than a photo shows. The upper teeth lie in the upper half of
the patch, with their biting edges down.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

# u0, v0, u1, v1, v from the bottom; at least 5 texels of 512 away from the skin
PATCH = (218 / 256, 2 / 256, 254 / 256, 36 / 256)
EDGE, ROOT = (0.74, 0.64, 0.54), (0.64, 0.51, 0.40)  # linear diffuse albedo at the biting edge and at the gum
SPECULAR = 0.65  # F0 of enamel is 5.2 %


def patch_mask(size: int, device: torch.device | str = "cpu") -> Tensor:
    """The patch as a mask `[size, size]` bool, image orientation."""
    t = (torch.arange(size, device=device) + 0.5) / size
    u0, v0, u1, v1 = PATCH
    return (((1 - t) > v0) & ((1 - t) < v1))[:, None] & ((t > u0) & (t < u1))


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # the cached tensors must be usable in a backward pass
def _painted(size: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The nine map channels of the patch by row, `[9, size, 1]`, and its mask `[size, size]`."""
    v = 1 - (torch.arange(size) + 0.5) / size
    middle, half = (PATCH[1] + PATCH[3]) / 2, (PATCH[3] - PATCH[1]) / 2
    root = ((v - middle).abs() / half).clamp(0, 1)
    diffuse = torch.lerp(torch.tensor(EDGE)[:, None], torch.tensor(ROOT)[:, None], root)
    flat = torch.tensor([SPECULAR] * 3 + [0.0, 0.0, 1.0])[:, None].expand(-1, size)
    return torch.cat([diffuse, flat])[..., None].to(device, dtype), patch_mask(size, device)


def paint(maps: Tensor) -> Tensor:
    """Maps `[B, 9, S, S]` (linear) with the teeth in their patch. Differentiable everywhere else."""
    teeth, patch = _painted(maps.shape[-1], maps.device, maps.dtype)
    return torch.where(patch, teeth, maps)
