"""The photo's light, by linear least squares: radiance is linear in spherical harmonics once albedo and normals are known.

Ramamoorthi & Hanrahan 2001 (irradiance in 9 coefficients). Albedo and light share an ambiguity of level and tint; the
prior keeps the light near white, near unit level and smooth, so what is left over goes to the skin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..image import srgb_to_linear
from ..render import Light
from ..render.light import COSINE, Y00, sh_basis
from ..render.shading import WRAP

CLIPPED = 0.985  # sRGB
AMBIENT = 1 / Y00  # SH coefficient 0 of unit radiance from everywhere
MEAN_SKIN = (0.36, 0.21, 0.145)  # linear albedo between the palest and the darkest skin, for the time before maps exist


@dataclass(frozen=True)
class LightPrior:
    """Standard deviations of the SH light around white ambient light of `level`; all relative to that level."""

    level: float = 0.9
    level_std: float = 0.35
    band_std: tuple[float, float] = (0.45, 0.16)  # of bands 1 and 2
    tint_std: float = 0.07  # of each channel around the mean of the three
    noise: float = 0.2  # of a pixel, relative: albedo is never exactly known
    pixels: float = 40.0  # how many independent pixels a face counts as
    cauchy: float = 2.0  # outlier scale in units of the median residual,
    floor: float = 0.12  # which is taken to be at least this (relative): skin is never of one colour
    sun_std: float = 1.0  # of a directional light's irradiance / pi: there may be none
    sun_tint_std: float = 0.28  # of each of its channels around their mean; lamps are coloured


def irradiance_basis(normal: Tensor) -> Tensor:
    """Unit normals `[..., 3]` -> `[..., 9]`; `basis @ sh` is irradiance / pi, so `albedo * basis @ sh` is radiance."""
    return sh_basis(normal) * (normal.new_tensor(COSINE) / math.pi)


def sun_basis(normal: Tensor, direction: Tensor) -> Tensor:
    """Unit normals `[..., 3]`, one direction `[3]` -> `[..., 3]`: the share of a lamp's irradiance, of each channel, that
    skin turned that way takes up, as the renderer shades it."""
    wrap = normal.new_tensor(WRAP)
    return ((normal @ direction.to(normal))[..., None] + wrap).clamp(min=0) / (1 + wrap) ** 2


def _prior(prior: LightPrior, like: Tensor, sun: bool) -> tuple[Tensor, Tensor]:
    """Precision `[K, K]` and mean `[K]` of the coefficients, K = 27 and 3 more with a sun, coefficient-major, channel-minor."""
    std = torch.tensor((prior.level_std,) + (prior.band_std[0],) * 3 + (prior.band_std[1],) * 5).to(like)
    std = std * prior.level * AMBIENT
    tint = prior.tint_std * prior.level * AMBIENT
    mean_part = torch.full((3, 3), 1 / 9).to(like)  # (mean of channels)^2
    tint_part = torch.eye(3).to(like) - 1 / 3  # sum of squares around it
    blocks = [mean_part / s**2 + tint_part / tint**2 for s in std]
    if sun:
        blocks.append((mean_part / prior.sun_std**2 + tint_part / prior.sun_tint_std**2) / prior.level**2)
    mean = torch.zeros(len(blocks), 3).to(like)
    mean[0] = prior.level * AMBIENT
    return torch.block_diag(*blocks), mean.flatten()


@dataclass(frozen=True)
class Pixels:
    """The skin of one picture, on the CPU in float64 (not every device has that): used `[h, w]` bool; radiance, albedo,
    clipped (bool), normal `[P, 3]`; weight `[P]`; arrives `[P, 1]`: of a lamp, what is not in shadow."""

    used: Tensor
    radiance: Tensor
    albedo: Tensor
    normal: Tensor
    weight: Tensor
    clipped: Tensor
    arrives: Tensor


@dataclass(frozen=True)
class Solution:
    """sh `[9, 3]`; sun `[3]`: its irradiance / pi, None where none was asked for; trust `[P]` of the pixels, 0..1; energy: the
    robust mean of the squared relative errors that are left."""

    sh: Tensor
    sun: Tensor | None
    trust: Tensor
    energy: float


def solve_light(pixels: Pixels, prior: LightPrior, sun: Tensor | None = None) -> Solution:
    """The light of one picture. sun `[P, 3]`: the share of a directional light that a pixel gets (`sun_basis`, less where it
    is in shadow).

    Iteratively reweighted (Cauchy): hair, glasses and shadows end with little trust.
    """
    radiance, albedo, weight = pixels.radiance, pixels.albedo, pixels.weight
    basis = irradiance_basis(pixels.normal)
    columns = [basis if sun is None else torch.cat([basis, sun[:, c : c + 1]], 1) for c in range(3)]
    k = columns[0].shape[1]
    precision, mean = _prior(prior, basis, sun is not None)
    light = mean.reshape(k, 3)
    trust = torch.ones_like(weight)
    if weight.sum() <= 1e-6:
        return Solution(light[:9], None if sun is None else light[9], trust, 0.0)
    sure = weight > 0.5 * weight.max()
    # start from flat light of the median level: a fringe must not tilt the first solution its way
    predicted = albedo * (radiance / albedo.clamp(min=0.02))[sure].median()
    for _ in range(6):
        # relative errors count, relative to what the skin should show: dark hair gets no extra say
        row = 1 / (predicted.mean(1).clamp(min=0) + 0.08)
        # a clipped pixel only says "at least": where more is predicted, nothing is wrong
        target = torch.where(pixels.clipped, torch.maximum(predicted, radiance), radiance)
        error = (predicted - target).norm(dim=1) * row
        median = error[sure].median().clamp(min=prior.floor)
        trust = 1 / (1 + (error / (prior.cauchy * median)).square())
        w = weight * trust * row.square()
        scale = prior.pixels / (weight.sum() * prior.noise**2)
        normal_matrix, right = precision.clone().reshape(k, 3, k, 3), (precision @ mean).reshape(k, 3)
        for c in range(3):
            a = columns[c] * albedo[:, c : c + 1]
            normal_matrix[:, c, :, c] += scale * (a * w[:, None]).T @ a
            right[:, c] += scale * (a * w[:, None]).T @ target[:, c]
        light = torch.linalg.solve(normal_matrix.reshape(3 * k, 3 * k), right.flatten()).reshape(k, 3)
        predicted = albedo * torch.stack([columns[c] @ light[:, c] for c in range(3)], 1)
    least = (prior.cauchy * prior.floor) ** 2
    left = (least * torch.log1p(error.square() / least) * weight).sum() / weight.sum()
    return Solution(light[:9], None if sun is None else light[9].clamp(min=0), trust, float(left))


@torch.no_grad()
def fit_light(
    photo: Tensor,
    albedo: Tensor,
    normal: Tensor,
    weight: Tensor,
    specular: Tensor | None = None,
    prior: LightPrior | None = None,
    stride: int = 3,
    sun: Tensor | None = None,
    arrives: Tensor | None = None,
) -> tuple[Light, Tensor]:
    """Photo `[1 or B, 3, H, W]` sRGB, rendered albedo (linear) and world normal `[B, 3, H, W]`, weight `[B, 1, H, W]`.

    specular: radiance `[B, 3, H, W]` to take off first. stride: use every n-th pixel. sun: the direction `[3]` of a lamp that
    is to be fitted too, and arrives `[B, 1, H, W]` what of it is not in shadow.
    Returns the light, of batch B, and trust `[B, 1, h, w]` of the pixels used (nan where weight is 0).
    """
    prior = prior or LightPrior()
    lights, trusts = [], []
    for pixels in light_pixels(photo, albedo, normal, weight, specular, stride, arrives):
        share = None if sun is None else sun_basis(pixels.normal, sun.cpu()) * pixels.arrives
        found = solve_light(pixels, prior, share)
        lamp = found.sh.new_zeros(0, 3) if sun is None else sun.cpu().to(found.sh)[None]
        color = lamp if sun is None else math.pi * found.sun[None]
        trust = torch.full_like(weight[0, :, ::stride, ::stride], float("nan"))
        trust[0][pixels.used] = found.trust.to(trust)
        lights.append(Light(*(x[None].to(photo) for x in (found.sh, lamp, color)), shadows=sun is not None))
        trusts.append(trust)
    return Light.cat(lights), torch.stack(trusts)


def light_pixels(
    photo: Tensor,
    albedo: Tensor,
    normal: Tensor,
    weight: Tensor,
    specular: Tensor | None = None,
    stride: int = 3,
    arrives: Tensor | None = None,
) -> list[Pixels]:
    """What `solve_light` asks for, of each picture of a batch: see `fit_light`."""
    n = len(albedo)
    radiance = srgb_to_linear(photo).expand(n, -1, -1, -1)
    clipped = (photo > CLIPPED).expand(n, -1, -1, -1)
    if specular is not None:
        radiance = (radiance - specular).clamp(min=0)
    arrives = torch.ones_like(weight) if arrives is None else arrives
    small = [x[..., ::stride, ::stride] for x in (radiance, albedo, normal, weight, clipped, arrives)]
    found = []
    for i in range(n):
        used = small[3][i, 0] > 1e-3
        rows = [x[i][:, used].T.cpu() for x in small]
        radiance, albedo, normal, weight, clipped, arrives = (x if x.dtype == torch.bool else x.double() for x in rows)
        found.append(Pixels(used, radiance, albedo, F.normalize(normal, dim=1), weight[:, 0], clipped, arrives))
    return found
