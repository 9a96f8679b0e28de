"""Cast shadows and ambient occlusion at vertices. Photos have them; the differentiable renderer has not."""

from __future__ import annotations

import math
from types import SimpleNamespace

import torch
from torch import Tensor

from fitdiff_core.image import LUMINANCE
from fitdiff_core.render import vertex_normals
from fitdiff_core.render.light import Light
from fitdiff_core.render.shadow import directional_visibility

_LUMA = torch.tensor(LUMINANCE)


def cast_shadows(head, vertices: Tensor, light: Light, softness: int = 2) -> SimpleNamespace:
    """The head for `render`, with an occlusion that has the shadows of this light.

    vertices: `[1, V, 3]`. softness: of the shadow maps.
    Ambient occlusion is the head's own (`light_at`). Each directional light casts a shadow map.
    """
    normals = vertex_normals(vertices, head.triangles)
    around = (light.irradiance(normals)[0] @ _LUMA).clamp(min=1e-3)
    total, arriving = around, around * head.light_at(vertices)[0]
    for direction, colour in zip(light.direction[0], light.color[0], strict=True):
        strength = (normals[0] @ direction).clamp(min=0) * float(colour @ _LUMA) / math.pi
        total = total + strength
        arriving = arriving + strength * directional_visibility(vertices, normals, head.triangles, direction, softness)
    occlusion = arriving / total
    return SimpleNamespace(
        triangles=head.triangles,
        uv=head.uv,
        roughness=head.roughness,
        occlusion=occlusion,
        light_at=lambda vertices: occlusion.to(vertices).expand(len(vertices), -1),
    )
