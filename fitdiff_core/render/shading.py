"""Skin reflectance under a `Light`: Lambert diffuse and GGX specular.

It differs from the FitDiff paper in two points: GGX in place of Blinn-Phong, and wrapped diffuse light in place of
subsurface scattering.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .light import SH_BANDS, Light, sh_basis

F0_SCALE = 0.08  # a specular albedo of 0.5 is F0 = 4 %
ROUGHNESS = 0.45  # perceptual; skin lies at 0.35-0.55
# how far directional light reaches past the terminator, RGB, as a cosine; red light travels furthest in skin
WRAP = (0.16, 0.08, 0.06)


def shade(
    diffuse: Tensor,
    specular: Tensor,
    normal: Tensor,
    view: Tensor,
    light: Light,
    roughness: float | Tensor = ROUGHNESS,
    wrap: tuple[float, float, float] = WRAP,
    occlusion: Tensor | None = None,
    visibility: Tensor | None = None,
) -> Tensor:
    """Outgoing linear radiance `[B, N, 3]`.

    diffuse, specular: `[B, N, 3]` linear albedos (specular 0.5 = F0 4 %)
    normal, view:      `[B, N, 3]` unit vectors; view points to the camera
    light:             B or 1 illuminations
    roughness:         perceptual, 0..1 (GGX alpha is its square), a number or `[B, N, 1]`
    wrap:              RGB, see WRAP
    occlusion:         `[B, N, 1]` share of the light that arrives, 0..1; None is 1. Specular light is multiplied by
                       it twice, because the mirror directions out of a crevice meet its other wall
    visibility:        `[B, N, L]` share of each directional light that is not in shadow, 0..1; None is 1
    """
    f0 = F0_SCALE * specular
    rough = torch.as_tensor(roughness, dtype=normal.dtype, device=normal.device).clamp(min=0.04)
    normal = facing_viewer(normal, view)
    n_v = (normal * view).sum(-1, keepdim=True).clamp(1e-3, 1)

    matte = light.irradiance(normal).clamp(min=0)
    gloss = environment_brdf(f0, n_v, rough) * sh_blurred(lobe_direction(normal, view, n_v, rough), light, rough)
    reach = normal.new_tensor(wrap)
    for k in range(light.direction.shape[1]):  # one light at a time keeps the memory flat
        toward, color = light.direction[:, k : k + 1], light.color[:, k : k + 1]
        if visibility is not None:
            color = color * visibility[..., k : k + 1]
        cosine = (normal * toward).sum(-1, keepdim=True)
        # (1 + w)^2 keeps the reflected energy (McAuley 2011)
        matte = matte + color * ((cosine + reach).clamp(min=0) / ((1 + reach) ** 2 * math.pi))
        n_l = cosine.clamp(min=0)
        gloss = gloss + color * (n_l * ggx(f0, normal, view, toward, n_l, n_v, rough))
    if occlusion is None:
        return diffuse * matte + gloss
    return occlusion * (diffuse * matte + occlusion * gloss)


def ggx(f0: Tensor, normal: Tensor, view: Tensor, toward: Tensor, n_l: Tensor, n_v: Tensor, rough: Tensor) -> Tensor:
    """Cook-Torrance BRDF: GGX distribution (Walter et al. 2007), Smith masking and Fresnel term by Schlick.

    f0, normal, view, toward: `[B, N, 3]`, the last two unit vectors to the camera and to the light; n_l, n_v, rough:
    `[B, N, 1]` cosines of both to the normal, and perceptual roughness.
    """
    half = F.normalize(view + toward, dim=-1, eps=1e-8)
    n_h = (normal * half).sum(-1, keepdim=True).clamp(min=0)
    v_h = (view * half).sum(-1, keepdim=True).clamp(0, 1)
    alpha = rough * rough
    square = alpha * alpha
    distribution = square / (math.pi * (n_h * n_h * (square - 1) + 1) ** 2)
    k = alpha / 2
    masking = 0.25 / ((n_l * (1 - k) + k) * (n_v * (1 - k) + k))
    fresnel = f0 + (grazing(f0, rough) - f0) * (1 - v_h) ** 5
    return distribution * masking * fresnel


def facing_viewer(normal: Tensor, view: Tensor) -> Tensor:
    """Turn normals that face away from the viewer back to the horizon.

    A visible surface faces the viewer, but normal maps and interpolation can turn its normal away.
    """
    away = (normal * view).sum(-1, keepdim=True).clamp(max=0)
    return F.normalize(normal - away * view, dim=-1, eps=1e-8)


def rough_f90(rough: float | Tensor) -> float | Tensor:
    """Reflectance at 90 degrees (F90): `(1 - roughness)^2`, 1 for a mirror, less where pores shadow each other.

    Our choice; Lagarde 2011 uses `1 - roughness`. With F90 = 1, light from behind draws a pale line along the jaw. A
    GLB stores the value as `specularFactor` of `KHR_materials_specular`, so exported heads look the same.
    """
    return (1 - rough) ** 2


def grazing(f0: Tensor, rough: Tensor) -> Tensor:
    """F90: `rough_f90`, never below F0. Below F0 = 2 % it fades to 0, so that specular 0 gives no specular light."""
    return torch.maximum(f0, (50 * f0).clamp(max=1) * rough_f90(rough))


def environment_brdf(f0: Tensor, n_v: Tensor, rough: Tensor) -> Tensor:
    """Share of a uniform environment that GGX reflects.

    The term of F0 is the fit of Karis 2014 ("Physically based shading on mobile"). His term of F90 is up to twice the
    integral at view angles of 70 to 85 degrees. Ours is fitted to the integral for roughness 0.1 to 1.
    """
    a, b = 1 - rough, 0.0425 - 0.0275 * rough
    falloff = torch.minimum(a * a, torch.exp2(-9.28 * n_v)) * a + b
    rim = torch.exp(-4 * rough) * (1 - n_v) ** (3 + 2 * a**8)
    return f0 * (1.04 - 0.572 * rough - 1.04 * falloff) + grazing(f0, rough) * rim


def lobe_direction(normal: Tensor, view: Tensor, n_v: Tensor, rough: Tensor) -> Tensor:
    """Unit mean direction of the light that GGX reflects to `view`.

    At grazing angles the horizon cuts the lobe, and its mean rises above the mirror direction (Lagarde & de Rousiers
    2014, 4.9.3). The rise is fitted to the integral. So a silhouette reflects what lies beside the head, not behind
    it.
    """
    rise = 0.65 * rough * (1 - n_v) ** 4
    return F.normalize((2 * n_v + rise) * normal - view, dim=-1)


def sh_blurred(mirror: Tensor, light: Light, rough: Tensor) -> Tensor:
    """Environment radiance along the mirror direction, blurred by the GGX lobe.

    A microfacet lobe of slope width m damps band l by exp(-l (l+1) m^2) (Ramamoorthi & Hanrahan 2001). Here m is alpha.
    """
    band = mirror.new_tensor(SH_BANDS)
    damping = torch.exp(-(band * (band + 1)) * rough**4)
    return ((sh_basis(mirror) * damping) @ light.sh).clamp(min=0)
