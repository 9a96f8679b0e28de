"""Skin reflectance: Lambert diffuse, GGX specular, both under the light of `Light`.

Choices of ours, not of the FitDiff paper: GGX rather than Blinn-Phong, wrapped diffuse light in place of subsurface
scattering, and a constant roughness where the head has none of its own.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .light import SH_BANDS, Light, sh_basis

F0_SCALE = 0.08  # a specular albedo of 0.5 is F0 = 4 %
ROUGHNESS = 0.45  # perceptual; skin lies at 0.35-0.55
WRAP = (0.16, 0.08, 0.06)  # how far directional light creeps past the terminator: red travels furthest in skin


def shade(
    diffuse: Tensor, specular: Tensor, normal: Tensor, view: Tensor, light: Light, roughness: float | Tensor = ROUGHNESS,
    wrap: tuple[float, float, float] = WRAP, occlusion: Tensor | None = None,
) -> Tensor:
    """Outgoing linear radiance `[B, N, 3]`.

    diffuse, specular: `[B, N, 3]` linear albedos (specular 0.5 = F0 4 %)
    normal, view:      `[B, N, 3]` unit; view points to the camera
    light:             B or 1 illuminations
    roughness:         perceptual (GGX alpha is its square), a number or `[B, N, 1]`
    occlusion:         `[B, N, 1]` share of the light that arrives, 0..1; gloss loses it twice, since mirror directions
                       out of a crevice meet its other wall
    """
    f0 = F0_SCALE * specular
    rough = torch.as_tensor(roughness, dtype=normal.dtype, device=normal.device).clamp(min=0.04)
    facing = (normal * view).sum(-1, keepdim=True)
    n_v = facing.clamp(min=1e-3)

    matte = light.irradiance(normal).clamp(min=0)
    gloss = environment_brdf(f0, n_v, rough) * _blurred(2 * facing * normal - view, light, rough).clamp(min=0)
    wrap = normal.new_tensor(wrap)
    for k in range(light.direction.shape[1]):  # one light at a time keeps the memory flat
        toward, color = light.direction[:, k : k + 1], light.color[:, k : k + 1]
        cosine = (normal * toward).sum(-1, keepdim=True)
        # (1 + w)^2 keeps the reflected energy (McAuley 2011)
        matte = matte + color * ((cosine + wrap).clamp(min=0) / ((1 + wrap) ** 2 * math.pi))
        n_l = cosine.clamp(min=0)
        gloss = gloss + color * (n_l * ggx(f0, normal, view, toward, n_l, n_v, rough))
    if occlusion is None:
        return diffuse * matte + gloss
    return occlusion * (diffuse * matte + occlusion * gloss)


def ggx(f0: Tensor, normal: Tensor, view: Tensor, toward: Tensor, n_l: Tensor, n_v: Tensor, rough: Tensor) -> Tensor:
    """Cook-Torrance BRDF with the GGX distribution (Walter et al. 2007), Schlick's Smith and Fresnel terms."""
    half = F.normalize(view + toward, dim=-1, eps=1e-8)
    n_h = (normal * half).sum(-1, keepdim=True).clamp(min=0)
    v_h = (view * half).sum(-1, keepdim=True).clamp(0, 1)
    alpha = rough * rough
    square = alpha * alpha
    distribution = square / (math.pi * (n_h * n_h * (square - 1) + 1) ** 2)
    k = alpha / 2
    visibility = 0.25 / ((n_l * (1 - k) + k) * (n_v * (1 - k) + k))
    fresnel = f0 + (grazing(f0) - f0) * (1 - v_h) ** 5
    return distribution * visibility * fresnel


def grazing(f0: Tensor) -> Tensor:
    """Reflectance at 90 degrees: 1 for anything real; below F0 = 2 % it fades, so that specular 0 means no gloss."""
    return (50 * f0).clamp(max=1)


def environment_brdf(f0: Tensor, n_v: Tensor, rough: Tensor) -> Tensor:
    """Share of a uniform environment that GGX reflects: the fit of Karis 2014 ("Physically based shading on mobile")."""
    a, b = 1 - rough, 0.0425 - 0.0275 * rough
    falloff = torch.minimum(a * a, torch.exp2(-9.28 * n_v)) * a + b
    return f0 * (1.04 - 0.572 * rough - 1.04 * falloff) + grazing(f0) * (1.04 * falloff - 0.04 + 0.022 * rough)


def _blurred(mirror: Tensor, light: Light, rough: Tensor) -> Tensor:
    """Environment radiance along the mirror direction, blurred by the lobe.

    A microfacet lobe of slope width m damps band l by exp(-l (l+1) m^2) (Ramamoorthi & Hanrahan 2001); m = alpha.
    """
    band = mirror.new_tensor(SH_BANDS)
    damping = torch.exp(-(band * (band + 1)) * rough**4)
    return (sh_basis(mirror) * damping) @ light.sh
