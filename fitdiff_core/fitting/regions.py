"""Which regions of the head explain which pixels of the photo."""

from __future__ import annotations

import torch
from torch import Tensor

from ..head import HeadModel

# weight of each region in the photometric loss; others have none (scalp: hair, neck: collars)
PHOTOMETRIC = {"face": 1.0, "nose": 1.0, "lips": 1.0, "brows": 1.0, "eyelids": 1.0, "ears": 0.3, "eyes": 0.5}
FEATURES = ("lips", "brows", "eyelids", "mouth_interior", "eyes")
NOT_SKIN = (*FEATURES, "scalp")
COVERED, NOT_COVERED = ("face", "nose", "brows"), ("eyes", "eyelids", "lips", "mouth_interior")


@torch.no_grad()
def region_weights(head: HeadModel, size: int = 256) -> Tensor:
    """Weights in UV, `[1, 4, size, size]`, image orientation. The four planes are:

    0: photometric weight
    1: plain skin, from which the light is fitted
    2: features (brows, eyes, lips), which are dark or of another colour without being hidden
    3: inside of the mouth. The photo is shown there instead of the render: the teeth are the same for everybody, so
       nothing can be learned from them.
    """
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
    features = torch.stack([v for n, v in region.items() if n in FEATURES] or [torch.zeros_like(like)]).amax(0)
    mouth = region.get("mouth_interior", torch.zeros_like(like))
    return torch.stack([photometric * (1 - mouth), region["face"] * (1 - hidden), features, mouth])[None].to(
        head.uv.device
    )


@torch.no_grad()
def hair_regions(head: HeadModel, size: int = 256) -> Tensor:
    """Scalp, and the part of the face that hair may cover, in UV, `[1, 2, size, size]`, image orientation.

    Brows are included. Eyes and mouth are not: they are dark themselves.
    """
    scalp = regions(head, ("scalp",), size)
    return torch.cat([scalp, regions(head, COVERED, size) * (1 - regions(head, NOT_COVERED, size)) * (1 - scalp)], 1)


def regions(head: HeadModel, names: tuple[str, ...], size: int) -> Tensor:
    """Union of the named regions in UV, `[1, 1, size, size]`; regions that the head does not have are left out."""
    known = [n for n in names if n in head.region_names]
    found = [torch.as_tensor(head.region(n, size)).float() for n in known]
    return (torch.stack(found).amax(0) if found else torch.zeros(size, size))[None, None]


@torch.no_grad()
def lip_area(head: HeadModel, size: int) -> Tensor:
    """Lips without the inside of the mouth, `[1, 1, size, size]`."""
    return regions(head, ("lips",), size) * (1 - regions(head, ("mouth_interior",), size))
