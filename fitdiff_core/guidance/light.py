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
from ..render.light import COSINE, Y00, sh_basis

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


def irradiance_basis(normal: Tensor) -> Tensor:
    """Unit normals `[..., 3]` -> `[..., 9]`; `basis @ sh` is irradiance / pi, so `albedo * basis @ sh` is radiance."""
    return sh_basis(normal) * (normal.new_tensor(COSINE) / math.pi)


def _prior(prior: LightPrior, like: Tensor) -> tuple[Tensor, Tensor]:
    """Precision `[27, 27]` and mean `[27]` of the coefficients, ordered coefficient-major, channel-minor."""
    std = torch.tensor((prior.level_std,) + (prior.band_std[0],) * 3 + (prior.band_std[1],) * 5).to(like)
    std = std * prior.level * AMBIENT
    tint = prior.tint_std * prior.level * AMBIENT
    mean_part = torch.full((3, 3), 1 / 9).to(like)  # (mean of channels)^2
    tint_part = torch.eye(3).to(like) - 1 / 3  # sum of squares around it
    blocks = [mean_part / s**2 + tint_part / tint**2 for s in std]
    mean = torch.zeros(9, 3).to(like)
    mean[0] = prior.level * AMBIENT
    return torch.block_diag(*blocks), mean.reshape(27)


def solve_light(
    radiance: Tensor, albedo: Tensor, normal: Tensor, weight: Tensor, clipped: Tensor, prior: LightPrior
) -> tuple[Tensor, Tensor]:
    """Pixels of one picture: radiance, albedo, clipped (bool) `[P, 3]`, normal `[P, 3]`, weight `[P]` -> sh `[9, 3]`,
    trust `[P]`.

    Iteratively reweighted (Cauchy): hair, glasses and shadows end with little trust, 0..1.
    """
    basis = irradiance_basis(normal)
    precision, mean = _prior(prior, basis)
    sh = mean.reshape(9, 3)
    trust = torch.ones_like(weight)
    if weight.sum() <= 1e-6:
        return sh, trust
    sure = weight > 0.5 * weight.max()
    # start from flat light of the median level: a fringe must not tilt the first solution its way
    predicted = albedo * (radiance / albedo.clamp(min=0.02))[sure].median()
    for _ in range(6):
        # relative errors count, relative to what the skin should show: dark hair gets no extra say
        row = 1 / (predicted.mean(1).clamp(min=0) + 0.08)
        # a clipped pixel only says "at least": where more is predicted, nothing is wrong
        target = torch.where(clipped, torch.maximum(predicted, radiance), radiance)
        error = (predicted - target).norm(dim=1) * row
        median = error[sure].median().clamp(min=prior.floor)
        trust = 1 / (1 + (error / (prior.cauchy * median)).square())
        w = weight * trust * row.square()
        scale = prior.pixels / (weight.sum() * prior.noise**2)
        normal_matrix, right = precision.clone().reshape(9, 3, 9, 3), (precision @ mean).reshape(9, 3)
        for c in range(3):
            a = basis * albedo[:, c : c + 1]
            normal_matrix[:, c, :, c] += scale * (a * w[:, None]).T @ a
            right[:, c] += scale * (a * w[:, None]).T @ target[:, c]
        sh = torch.linalg.solve(normal_matrix.reshape(27, 27), right.reshape(27)).reshape(9, 3)
        predicted = albedo * (basis @ sh)
    return sh, trust


@torch.no_grad()
def fit_light(
    photo: Tensor, albedo: Tensor, normal: Tensor, weight: Tensor, specular: Tensor | None = None,
    prior: LightPrior | None = None, stride: int = 3,
) -> tuple[Tensor, Tensor]:
    """Photo `[1 or B, 3, H, W]` sRGB, rendered albedo (linear) and world normal `[B, 3, H, W]`, weight `[B, 1, H, W]`.

    specular: radiance `[B, 3, H, W]` to take off first. stride: use every n-th pixel.
    Returns sh `[B, 9, 3]` and trust `[B, 1, h, w]` of the pixels used (nan where weight is 0).
    """
    prior = prior or LightPrior()
    n = len(albedo)
    radiance = srgb_to_linear(photo).expand(n, -1, -1, -1)
    clipped = (photo > CLIPPED).expand(n, -1, -1, -1)
    if specular is not None:
        radiance = (radiance - specular).clamp(min=0)
    radiance, albedo, normal, weight, clipped = (
        x[..., ::stride, ::stride] for x in (radiance, albedo, normal, weight, clipped)
    )
    lights, trusts = [], []
    for i in range(n):
        used = weight[i, 0] > 1e-3
        rows = [x[i][:, used].T.cpu().double() for x in (radiance, albedo, normal)]  # not every device has float64
        rows[2] = F.normalize(rows[2], dim=1)
        sh, t = solve_light(*rows, weight[i, 0][used].cpu().double(), clipped[i][:, used].T.cpu(), prior)
        trust = torch.full_like(weight[i], float("nan"))
        trust[0][used] = t.to(trust)
        lights.append(sh.to(photo))
        trusts.append(trust)
    return torch.stack(lights), torch.stack(trusts)
