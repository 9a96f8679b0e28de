"""The losses of the map autoencoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fitdiff_core.model.autoencoder import Reconstruction

from ..experiments.quantiser import Quantised


@dataclass(frozen=True)
class LossWeights:
    """Weights of the losses.

    half: of the half-size output. gradient, grain (local energy), kl: of these terms.
    shrunk: share of the samples whose latent is moved towards the mean latent, with a target moved towards the mean
        map. While people are sampled, the decoder sees such latents: the denoiser's estimates at high noise. Without
        this training it decodes them to a pattern that repeats in each cell.
    maps: of diffuse albedo, specular albedo and normals.
    """

    half: float = 0.5
    gradient: float = 0.5
    grain: float = 0.3
    kl: float = 2e-4
    shrunk: float = 0.3
    maps: tuple[float, float, float] = (1.0, 0.6, 0.6)


def texel_weights(head) -> Tensor:
    """`[1, 512, 512]` weight of each texel in the losses, mean 1: high on the face, eyes, lips, brows and lids."""

    def region(name: str) -> Tensor:
        return head.region(name, 512) if name in head.region_names else torch.zeros(512, 512)

    w = 0.25 + 0.25 * region("skin") + 1.0 * region("face") + 1.0 * region("eyes")
    w = w + 0.8 * torch.stack([region("lips"), region("brows"), region("eyelids")]).amax(0)
    return (w / w.mean())[None]


def local_energy(x: Tensor, cell: int = 8) -> Tensor:
    """Root mean square `[B, 3 C, h, w]` of the Haar detail bands of `[B, C, H, W]` in cells of 2 * `cell` texels."""
    a, b, c, d = x[..., ::2, ::2], x[..., ::2, 1::2], x[..., 1::2, ::2], x[..., 1::2, 1::2]
    bands = torch.cat([a + b - c - d, a - b + c - d, a - b - c + d], 1) / 2
    return (F.avg_pool2d(bands.square(), cell) + 1e-4).sqrt()


def losses(
    r: Reconstruction | Quantised, codes: Tensor, std: Tensor, texel: Tensor, weights: LossWeights
) -> dict[str, Tensor]:
    """All loss terms, with their sum "loss" first.

    r: output of the autoencoder.
    codes: `[B, 9, H, W]` target.
    std: `[9]` the unit of each channel.
    texel: `[B or 1, 1, H, W]` weight of each texel.
    weights: of the terms.
    """
    unit = torch.tensor(weights.maps, device=codes.device).repeat_interleave(3)[:, None, None] / std[:, None, None]
    target_half = F.avg_pool2d(codes, 2)
    error, error_half = (r.full - codes) * unit, (r.half - target_half) * unit
    texel_half = F.avg_pool2d(texel, 2)
    gradient = (error.diff(dim=-1).abs() * texel[..., 1:]).mean() + (
        error.diff(dim=-2).abs() * texel[..., 1:, :]
    ).mean()
    grain = 0.0
    for out, target, w in ((r.full, codes, texel), (r.half, target_half, texel_half)):
        energy = (local_energy(out * unit) - local_energy(target * unit)).abs()
        grain = grain + (energy * F.avg_pool2d(w, 16)).mean()
    terms = {
        "l1": (error.abs() * texel).mean(),
        "half": weights.half * (error_half.abs() * texel_half).mean(),
        "gradient": weights.gradient * gradient,
        "grain": weights.grain * grain,
    }
    if isinstance(r, Quantised):
        terms["commitment"] = r.commitment
    else:
        mean, log_variance = r.mean.float(), r.log_variance.float()
        terms["kl"] = weights.kl * 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
    return {"loss": sum(terms.values()), **terms}
