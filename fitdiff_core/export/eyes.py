"""The look of eyes in a GLB: a clear coat over an iris that lies deeper than the cornea."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from ..maps import TextureMaps
from ..vectors import unit

if TYPE_CHECKING:
    from ..head import HeadModel

IRIS, PUPIL = 21.5, 7.5  # degrees from the axis of the eye
DISH = 0.75  # slope of the iris at its rim against the cornea over it: what bulges out looks hollow
SOFT = 2.5  # degrees over which the slope ends at the rim
BASE_ROUGHNESS, COAT_ROUGHNESS = 0.4, 0.03
CLEARCOAT = {"clearcoatFactor": 1, "clearcoatRoughnessFactor": COAT_ROUGHNESS}


@torch.no_grad()
def hollow_iris(maps: TextureMaps, head: HeadModel) -> TextureMaps:
    """Maps whose normals make the iris a dish. The clear coat keeps the cornea's own normals.

    A head without an island for the eyes keeps its maps.
    """
    if getattr(head, "eye_island", None) is None:
        return maps
    u0, v0, u1, v1 = head.eye_island
    height, width = maps.normal.shape[-2:]
    u = (torch.arange(width) + 0.5) / width - (u0 + u1) / 2
    v = 1 - (torch.arange(height) + 0.5) / height - (v0 + v1) / 2
    v, u = torch.meshgrid(v, u, indexing="ij")
    distance = torch.stack([u, v]).norm(dim=0)
    angle = distance / ((u1 - u0) / 2) * head.eye_angle
    slope = DISH * (angle / IRIS).clamp(max=1) * ((IRIS - angle) / SOFT).clamp(0, 1)
    slope = slope * ((angle - PUPIL + 2) / 2).clamp(0, 1)
    away = torch.stack([u, v]) / distance.clamp(min=1e-9)
    tilt = torch.cat([-slope * away, torch.zeros(1, height, width)]).to(maps.normal)
    return replace(maps, normal=unit(maps.normal + tilt))
