"""Roughness of the skin by region: an oily forehead, nose and chin, moist lips, broad gloss on cheeks and neck."""

from __future__ import annotations

import torch
from torch import Tensor

from .model import HeadModel
from .places import FacePlaces
from .whole import whole_head

SKIN = 0.49  # perceptual roughness where nothing else is said
# what each region changes it to, the later over the earlier
REGIONS = {"neck": 0.52, "scalp": 0.60, "ears": 0.49, "nose": 0.42, "eyelids": 0.45, "brows": 0.52, "lips": 0.35}
FOREHEAD, CHEEKS, CHIN = 0.46, 0.485, 0.46


@torch.no_grad()
def skin_roughness(head: HeadModel, shape: Tensor) -> Tensor:
    """Perceptual roughness `[V]` of the vertices of a head, 0..1. Eyes and teeth keep those of the head file.

    shape: `[1, K]` identity coefficients
    """
    rough = head.roughness.clone()
    neutral = head(shape[:1])
    n = head.n_skin - head.n_teeth
    places = FacePlaces.of(neutral[0, :n], head.landmarks(neutral)[0])
    value = torch.full_like(rough[:n], SKIN)
    for share, own in ((places.forehead, FOREHEAD), (places.cheeks, CHEEKS), (places.chin, CHIN)):
        value = torch.lerp(value, torch.full_like(value, own), share.to(value))
    for name, own in REGIONS.items():
        if name in head.region_names:
            share = head.vertex_region(name)[:n].to(value)
            value = torch.lerp(value, torch.full_like(value, own), share)
    if "mouth_interior" in head.region_names:
        value = torch.lerp(value, rough[:n], head.vertex_region("mouth_interior")[:n].to(value))
    return torch.cat([value, rough[n:]])


@torch.no_grad()
def whole_roughness(head: HeadModel, shape: Tensor) -> Tensor:
    """`skin_roughness` of the vertices of the whole head `[W]`, whose further parts keep their own."""
    whole = whole_head(head).roughness
    return torch.cat([skin_roughness(head, shape).to(whole), whole[head.n_vertices :]])
