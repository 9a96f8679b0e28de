"""The light of a photo by linear least squares: with known albedo and normals, radiance is linear in the light.

The light is 9 coefficients of spherical harmonics (Ramamoorthi & Hanrahan 2001), and optionally one directional light.
Albedo and light are ambiguous in level and tint. The prior holds the light near unit level, smooth, and near one tint:
that of the photo's white balance, which is measured on the skin. So lamps differ little in tint from each other.
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
LARGEST_TINT = 0.7  # of the white balance, log
FEWEST = 20  # pixels that tell a white balance
AMBIENT = 1 / Y00  # SH coefficient 0 of unit radiance from everywhere
MEAN_SKIN = (0.36, 0.21, 0.145)  # linear albedo between the palest and the darkest skin, for the time before maps exist


@dataclass(frozen=True)
class LightPrior:
    """Standard deviations of the light around white ambient light of `level`, all relative to that level."""

    level: float = 0.9
    level_std: float = 0.35
    band_std: tuple[float, float] = (0.45, 0.16)  # of bands 1 and 2
    tint_std: float = 0.07  # of each channel around the mean of the three
    noise: float = 0.2  # of a pixel, relative: the albedo is never known exactly
    pixels: float = 40.0  # number of independent pixels that a face counts as
    cauchy: float = 2.0  # outlier scale, in units of the median residual
    floor: float = 0.12  # least median residual (relative): skin is never of one colour
    key_std: float = 1.0  # of the directional light's irradiance / pi
    key_tint_std: float = 0.1  # of each of its channels around their mean
    balance: float = 1.0  # share of the tint of all lit skin that is the photo's white balance, and not the light's


def irradiance_basis(normal: Tensor) -> Tensor:
    """Unit normals `[..., 3]` -> `[..., 9]`; `basis @ sh` is irradiance / pi, so `albedo * basis @ sh` is radiance."""
    return sh_basis(normal) * (normal.new_tensor(COSINE) / math.pi)


def directional_basis(normal: Tensor, direction: Tensor) -> Tensor:
    """Irradiance of a directional light per channel, as the renderer shades skin (wrapped cosine), without shadows.

    normal: `[..., 3]` unit. direction: `[3]` unit, towards the light. Returns `[..., 3]`, 0..1.
    """
    wrap = normal.new_tensor(WRAP)
    return ((normal @ direction.to(normal))[..., None] + wrap).clamp(min=0) / (1 + wrap) ** 2


def _prior(prior: LightPrior, like: Tensor, key: bool) -> tuple[Tensor, Tensor]:
    """Precision `[K, K]` and mean `[K]` of the coefficients, coefficient-major, channel-minor; K = 27, or 30 with a
    key light."""
    std = torch.tensor((prior.level_std,) + (prior.band_std[0],) * 3 + (prior.band_std[1],) * 5).to(like)
    std = std * prior.level * AMBIENT
    tint = prior.tint_std * prior.level * AMBIENT
    mean_part = torch.full((3, 3), 1 / 9).to(like)  # (mean of channels)^2
    tint_part = torch.eye(3).to(like) - 1 / 3  # sum of squares around it
    blocks = [mean_part / s**2 + tint_part / tint**2 for s in std]
    if key:
        blocks.append((mean_part / prior.key_std**2 + tint_part / prior.key_tint_std**2) / prior.level**2)
    mean = torch.zeros(len(blocks), 3).to(like)
    mean[0] = prior.level * AMBIENT
    return torch.block_diag(*blocks), mean.flatten()


@dataclass(frozen=True)
class Pixels:
    """P skin pixels of one picture, on the CPU in float64 (not every device has float64).

    used: `[h, w]` bool, which pixels these are
    radiance, albedo: `[P, 3]` linear. normal: `[P, 3]` unit. weight: `[P]`
    clipped: `[P, 3]` bool, burnt-out channels. visibility: `[P, 1]` of the directional light, 0 in its shadow
    """

    used: Tensor
    radiance: Tensor
    albedo: Tensor
    normal: Tensor
    weight: Tensor
    clipped: Tensor
    visibility: Tensor


@dataclass(frozen=True)
class Solution:
    """sh: `[9, 3]`. key: `[3]` irradiance / pi of the directional light, None where none was fitted. trust: `[P]`
    weight of the pixels as inliers, 0..1. energy: robust mean of the squared relative residuals."""

    sh: Tensor
    key: Tensor | None
    trust: Tensor
    energy: float


def solve_light(pixels: Pixels, prior: LightPrior, key: Tensor | None = None) -> Solution:
    """The light of one picture, by iteratively reweighted least squares (Cauchy): hair, glasses and shadows become
    outliers.

    key: `[P, 3]` irradiance of a directional light at each pixel (`directional_basis` times visibility), None for none.
    """
    radiance, weight = pixels.radiance, pixels.weight
    balance = white_balance(pixels, prior.balance)
    albedo = pixels.albedo * balance
    basis = irradiance_basis(pixels.normal)
    columns = [basis if key is None else torch.cat([basis, key[:, c : c + 1]], 1) for c in range(3)]
    k = columns[0].shape[1]
    precision, mean = _prior(prior, basis, key is not None)
    light = mean.reshape(k, 3)
    trust = torch.ones_like(weight)
    if weight.sum() <= 1e-6:
        return Solution(light[:9], None if key is None else light[9], trust, 0.0)
    sure = weight > 0.5 * weight.max()
    # start from flat light of the median level, so that a fringe does not bias the first solution
    predicted = albedo * (radiance / albedo.clamp(min=0.02))[sure].median()
    for _ in range(6):
        # errors relative to the predicted radiance, so that dark hair has no extra weight
        row = 1 / (predicted.mean(1).clamp(min=0) + 0.08)
        # a clipped pixel is a lower bound: a larger prediction is no error
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
    light = light * balance
    return Solution(light[:9], None if key is None else light[9].clamp(min=0), trust, float(left))


def white_balance(pixels: Pixels, share: float) -> Tensor:
    """Tint `[3]`, of mean 1, by which the lit skin differs from its albedo; `share` of it, 0..1, in logarithms.

    Medians, so that hair, shadows and highlights do not count.
    """
    if share <= 0 or pixels.weight.sum() <= 1e-6:
        return pixels.albedo.new_ones(3)
    sure = (pixels.weight > 0.5 * pixels.weight.max()) & ~pixels.clipped.any(1) & (pixels.albedo.amin(1) > 0.005)
    if sure.sum() < FEWEST:
        return pixels.albedo.new_ones(3)
    ratio = (pixels.radiance[sure].clamp(min=1e-3) / pixels.albedo[sure]).log()
    tint = (ratio - ratio.mean(1, keepdim=True)).median(0).values
    gain = (share * tint).clamp(-LARGEST_TINT, LARGEST_TINT).exp()
    return gain / gain.mean()


@torch.no_grad()
def fit_light(
    photo: Tensor,
    albedo: Tensor,
    normal: Tensor,
    weight: Tensor,
    specular: Tensor | None = None,
    prior: LightPrior | None = None,
    stride: int = 3,
    key_direction: Tensor | None = None,
    key_visibility: Tensor | None = None,
) -> tuple[Light, Tensor]:
    """Fit the light of a photo to rendered albedo and normals.

    photo: `[1 or B, 3, H, W]` sRGB
    albedo: `[B, 3, H, W]` linear. normal: `[B, 3, H, W]` world. weight: `[B, 1, H, W]`
    specular: radiance `[B, 3, H, W]` to subtract first
    stride: use every n-th pixel
    key_direction: `[3]` of a directional light to fit as well. key_visibility: `[B, 1, H, W]` of it, 0 in its shadow

    Returns the light, of batch B, and the trust `[B, 1, h, w]` of the pixels used (nan where the weight is 0).
    """
    prior = prior or LightPrior()
    lights, trusts = [], []
    for pixels in light_pixels(photo, albedo, normal, weight, specular, stride, key_visibility):
        key = None if key_direction is None else key_direction.cpu()
        found = solve_light(
            pixels, prior, None if key is None else directional_basis(pixels.normal, key) * pixels.visibility
        )
        direction = found.sh.new_zeros(0, 3) if key is None else key.to(found.sh)[None]
        color = direction if found.key is None else math.pi * found.key[None]
        trust = torch.full_like(weight[0, :, ::stride, ::stride], float("nan"))
        trust[0][pixels.used] = found.trust.to(trust)
        sh, direction, color = (x[None].to(photo) for x in (found.sh, direction, color))
        lights.append(Light(sh, direction, color, shadows=key is not None))
        trusts.append(trust)
    return Light.cat(lights), torch.stack(trusts)


def light_pixels(
    photo: Tensor,
    albedo: Tensor,
    normal: Tensor,
    weight: Tensor,
    specular: Tensor | None = None,
    stride: int = 3,
    key_visibility: Tensor | None = None,
) -> list[Pixels]:
    """The pixels of each picture of a batch for `solve_light`; arguments as of `fit_light`."""
    n = len(albedo)
    radiance = srgb_to_linear(photo).expand(n, -1, -1, -1)
    clipped = (photo > CLIPPED).expand(n, -1, -1, -1)
    if specular is not None:
        radiance = (radiance - specular).clamp(min=0)
    visibility = torch.ones_like(weight) if key_visibility is None else key_visibility
    small = [x[..., ::stride, ::stride] for x in (radiance, albedo, normal, weight, clipped, visibility)]
    found = []
    for i in range(n):
        used = small[3][i, 0] > 1e-3
        rows = [x[i][:, used].T.cpu() for x in small]
        radiance, albedo, normal, weight, clipped, visibility = (
            x if x.dtype == torch.bool else x.double() for x in rows
        )
        unit = F.normalize(normal, dim=1)
        found.append(Pixels(used, radiance, albedo, unit, weight[:, 0], clipped, visibility))
    return found
