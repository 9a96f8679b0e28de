"""Cast shadows and crevices, per vertex: what the differentiable renderer leaves out and photos never lack."""

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
    """`head` as `render` wants it, with an `occlusion` that stands for this light's shadows on vertices `[1, V, 3]`.

    Crevices are the head's own `light_at`; each directional light casts a shadow map besides.
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
