"""Which parts of the head may explain which pixels of the photo, and which pixels something hides."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .light import MEAN_SKIN, fit_light

# how much each region counts in the photometric loss; what is not named does not (scalp: under hair; mouth: teeth)
PHOTOMETRIC = {"face": 1.0, "nose": 1.0, "lips": 1.0, "brows": 1.0, "eyelids": 1.0, "ears": 0.3, "neck": 0.2, "eyes": 0.5}
NOT_SKIN = ("lips", "brows", "eyelids", "mouth_interior", "eyes", "scalp")


@torch.no_grad()
def region_weights(head, size: int = 256) -> Tensor:
    """`[1, 2, size, size]` in UV image orientation: the photometric weight, and plain skin (for the light)."""
    names = set(head.region_names)
    region = {n: torch.as_tensor(head.region(n, size)).float() for n in {*PHOTOMETRIC, *NOT_SKIN} & names}
    like = next(iter(region.values()))
    photometric, hidden = torch.zeros_like(like), torch.zeros_like(like)
    for name, weight in PHOTOMETRIC.items():
        if name in region:
            photometric = torch.maximum(photometric, region[name] * weight)
    for name in NOT_SKIN:
        if name in region:
            hidden = torch.maximum(hidden, region[name])
    if "mouth_interior" in region:
        photometric = photometric * (1 - region["mouth_interior"])
    return torch.stack([photometric, region["face"] * (1 - hidden)])[None].to(head.uv.device)


@torch.no_grad()
def occlusion(photo: Tensor, skin: Tensor, normal: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Hair, hands and glasses over the skin, from one robust light fit with one skin colour.

    photo `[1, 3, S, S]` sRGB, skin and valid `[1, 1, S, S]`, normal `[1, 3, S, S]` -> light `[1, 9, 3]` for MEAN_SKIN,
    visible `[1, 1, S, S]` 0..1 (1 where nothing is known against it).
    """
    colour = torch.tensor(MEAN_SKIN).to(photo)[None, :, None, None]
    sh, trust = fit_light(photo, colour.expand_as(photo), normal, skin * valid, stride=2)
    known = torch.isfinite(trust).to(photo)
    doubt = torch.nan_to_num(1 - trust) * known
    # only areas count: spots, wrinkles and shadows of a few pixels are the skin's own
    area = F.avg_pool2d(doubt, 9, 1, 4) / F.avg_pool2d(known, 9, 1, 4).clamp(min=0.1)
    hidden = (area - 0.62).div(0.15).clamp(0, 1) * (F.avg_pool2d(known, 9, 1, 4) > 0.1)
    hidden = F.interpolate(F.max_pool2d(hidden, 3, 1, 1), photo.shape[-2:], mode="bilinear", align_corners=False)
    return sh, (1 - hidden) * valid
