"""Diffusion in sigma space (Karras et al. 2022, arXiv 2206.00364): x = x0 + sigma * noise, data of unit variance.

Samplers are plain functions of one signature, `f(model, x, sigmas, callback=None) -> x`:
    model(x [B, ...], sigma [B]) -> denoised [B, ...]       any wrapper of the network, guided or not
    x [B, ...]                                              noise of standard deviation sigmas[0]
    sigmas [n + 1]                                          decreasing, the last may be 0
    callback(i, n, x, denoised)                             after each model call; may raise to stop
They are deterministic, so a seed names a result.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import UserError

Model = Callable[[Tensor, Tensor], Tensor]
Callback = Callable[[int, int, Tensor, Tensor], None]

# The leading directions of the texture latents have a standard deviation of some 80, far above an element's 1: sampling
# must start where even they drown in the noise, or people come out more alike than they are.
SIGMA_MIN, SIGMA_MAX = 0.02, 400.0


def sigmas(
    steps: int, sigma_min: float = SIGMA_MIN, sigma_max: float = SIGMA_MAX, spacing: str = "logsnr", rho: float = 7.0
) -> Tensor:
    """Noise levels `[steps + 1]`, sigma_max first, then down to sigma_min, then 0.

    spacing: "logsnr": even in log sigma (DPM-Solver's); "karras": even in sigma^(1/rho) (EDM, eq. 5).
    """
    if steps < 1 or not 0 < sigma_min < sigma_max:
        raise UserError(f"Needs steps >= 1 and 0 < sigma_min < sigma_max, got {steps}, {sigma_min}, {sigma_max}.")
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    lo, hi = torch.tensor([sigma_min, sigma_max], dtype=torch.float64)
    if spacing == "logsnr":
        levels = (hi.log() + ramp * (lo.log() - hi.log())).exp()
    elif spacing == "karras":
        levels = (hi ** (1 / rho) + ramp * (lo ** (1 / rho) - hi ** (1 / rho))) ** rho
    else:
        raise UserError(f"Unknown sigma spacing '{spacing}'; choose logsnr or karras.")
    return torch.cat([levels, levels.new_zeros(1)]).float()


def ddim(model: Model, x: Tensor, sigmas: Tensor, callback: Callback | None = None) -> Tensor:
    """DDIM with eta = 0 (Song et al. 2020, arXiv 2010.02502, eq. 12); in sigma space it is Euler's method. Order 1."""
    n = len(sigmas) - 1
    for i in range(n):
        denoised = model(x, sigmas[i].expand(len(x)))
        if callback is not None:
            callback(i, n, x, denoised)
        x = denoised + sigmas[i + 1] / sigmas[i] * (x - denoised)
    return x


def dpmpp_2m(model: Model, x: Tensor, sigmas: Tensor, callback: Callback | None = None) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, Alg. 2, data prediction): multistep, order 2.

    The first step, and the one to sigma = 0 where the log-SNR step is infinite, are of order 1.
    """
    n = len(sigmas) - 1
    old, h_old = None, None
    for i in range(n):
        s, s_next = sigmas[i], sigmas[i + 1]
        denoised = model(x, s.expand(len(x)))
        if callback is not None:
            callback(i, n, x, denoised)
        h = s.log() - s_next.log()
        target = denoised
        if old is not None and s_next > 0:
            ratio = h / (2 * h_old)
            target = (1 + ratio) * denoised - ratio * old
        x = s_next / s * x - torch.expm1(-h) * target
        old, h_old = denoised, h
    return x


SAMPLERS: dict[str, Callable[..., Tensor]] = {"ddim": ddim, "dpmpp_2m": dpmpp_2m}


def lognormal_sigmas(n: int, mean: float, std: float, generator: torch.Generator | None = None) -> Tensor:
    """Training noise levels `[n]`, ln sigma ~ N(mean, std) (EDM, table 1)."""
    return (mean + std * torch.randn(n, generator=generator)).exp()


def uniform_logsnr_sigmas(
    n: int, sigma_min: float, sigma_max: float, generator: torch.Generator | None = None
) -> Tensor:
    """Training noise levels `[n]`, stratified over the batch and uniform in log sigma."""
    u = (torch.arange(n) + torch.rand(n, generator=generator)) / n
    lo, hi = torch.tensor([sigma_min, sigma_max]).log()
    return (lo + u * (hi - lo)).exp()


def edm_loss(model: Model, x0: Tensor, sigma: Tensor, noise: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    """Denoising loss per sample `[B]`, weighted by lambda(sigma) so that an untrained network starts near 1 at every
    noise level (EDM, table 1, sigma_data = 1).

    x0, noise `[B, ...]`; sigma `[B]`; weight: per element, broadcast to x0 (1 = a mean over the elements).
    """
    s = sigma.view(-1, *[1] * (x0.ndim - 1)).to(x0)
    error = (model(x0 + s * noise, sigma) - x0).square() * weight
    return error.flatten(1).mean(1) * (sigma.square() + 1) / sigma.square()
