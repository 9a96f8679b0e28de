"""The teeth's patch of the atlas, in its lower right corner. No network paints it: teeth differ less than a photo can
tell, and what a smile shows of them is held in the shape. The upper row lies in the patch's upper half, its edges
downwards."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

PATCH = (
    218 / 256,
    2 / 256,
    254 / 256,
    36 / 256,
)  # u0, v0, u1, v1, v from the bottom; clear of the skin by 5 texels of 512
EDGE, ROOT = (0.74, 0.64, 0.54), (0.64, 0.51, 0.40)  # linear diffuse albedo where teeth bite and at the gum
SPECULAR = 0.65  # enamel's F0 is 5.2 %


def patch_mask(size: int, device: torch.device | str = "cpu") -> Tensor:
    """`[size, size]` bool, image orientation."""
    t = (torch.arange(size, device=device) + 0.5) / size
    u0, v0, u1, v1 = PATCH
    return (((1 - t) > v0) & ((1 - t) < v1))[:, None] & ((t > u0) & (t < u1))


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # ComfyUI's nodes run in that mode, whose tensors no later gradient could pass
def _painted(size: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """What lies in the patch, `[9, S, 1]`, and the patch itself."""
    v = 1 - (torch.arange(size) + 0.5) / size
    middle, half = (PATCH[1] + PATCH[3]) / 2, (PATCH[3] - PATCH[1]) / 2
    root = ((v - middle).abs() / half).clamp(0, 1)
    diffuse = torch.lerp(torch.tensor(EDGE)[:, None], torch.tensor(ROOT)[:, None], root)
    flat = torch.tensor([SPECULAR] * 3 + [0.0, 0.0, 1.0])[:, None].expand(-1, size)
    return torch.cat([diffuse, flat])[..., None].to(device, dtype), patch_mask(size, device)


def paint(maps: Tensor) -> Tensor:
    """Linear maps `[B, 9, S, S]` with the teeth in their patch; the gradient of everything else passes."""
    teeth, patch = _painted(maps.shape[-1], maps.device, maps.dtype)
    return torch.where(patch, teeth, maps)
