"""Samplers and training loss of diffusion in sigma space: x = x0 + sigma * noise (EDM, Karras et al. 2022,
arXiv 2206.00364), with data of unit variance.

Samplers are plain functions of one signature, `f(model, x, sigmas, callback=None) -> x`:
    model(x, sigma) -> denoised   x, denoised `[B, ...]`, sigma `[B]`; the denoiser, or a wrapper that adds guidance
    x: `[B, ...]`                 noise of standard deviation sigmas[0]
    sigmas: `[n + 1]`             decreasing noise levels; the last may be 0
    callback(i, n, x, denoised)   called after model call i of n; an exception ends the sampling
They draw no random numbers, so the initial noise determines the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import UserError

Model = Callable[[Tensor, Tensor], Tensor]
Callback = Callable[[int, int, Tensor, Tensor], None]

# The leading modes of the texture latents have a standard deviation of about 80; a single element has 1. Sampling must
# start at a sigma far above that, or the sampled people vary less than real ones.
SIGMA_MIN, SIGMA_MAX = 0.02, 400.0
# Between these levels a photo changes the head: above, the noise hides what it shows; below, nothing is left to change.
GUIDED = (5.0, 0.03)
SPACINGS = ("logsnr", "karras", "guided")


def sigmas(
    steps: int, sigma_min: float = SIGMA_MIN, sigma_max: float = SIGMA_MAX, spacing: str = "logsnr", rho: float = 7.0
) -> Tensor:
    """Noise levels `[steps + 1]`: from sigma_max down to sigma_min, then 0.

    steps: number of sampling steps, at least 1
    sigma_min, sigma_max: lowest and highest noise level
    spacing: "logsnr" (default), even in log sigma (DPM-Solver); "karras", even in sigma^(1/rho) (EDM, eq. 5); "guided",
        for guidance by a photo: four steps in five are between the levels of `GUIDED`, where the photo acts, and the
        first and the last levels are as in the others
    rho: exponent of "karras"
    Raises UserError for values out of range.
    """
    if steps < 1 or not 0 < sigma_min < sigma_max:
        raise UserError(f"Needs steps >= 1 and 0 < sigma_min < sigma_max, got {steps}, {sigma_min}, {sigma_max}.")
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    lo, hi = torch.tensor([sigma_min, sigma_max], dtype=torch.float64)
    if spacing == "logsnr":
        levels = (hi.log() + ramp * (lo.log() - hi.log())).exp()
    elif spacing == "karras":
        levels = (hi ** (1 / rho) + ramp * (lo ** (1 / rho) - hi ** (1 / rho))) ** rho
    elif spacing == "guided":
        before = max(1, round(0.15 * steps))
        count = max(steps - before - 1, 0)
        middles = (torch.arange(count, dtype=torch.float64) + 0.5) / max(count, 1)
        inside = (math.log(GUIDED[0]) + middles * math.log(GUIDED[1] / GUIDED[0])).exp()
        above = torch.linspace(math.log(sigma_max), math.log(1.3 * GUIDED[0]), before).double().exp()
        levels = torch.cat([above, inside, lo[None]]) if steps > 1 else hi[None]
    else:
        raise UserError(f"Unknown sigma spacing '{spacing}'; choose one of {', '.join(SPACINGS)}.")
    return torch.cat([levels, levels.new_zeros(1)]).float()


def ddim(model: Model, x: Tensor, sigmas: Tensor, callback: Callback | None = None) -> Tensor:
    """DDIM with eta = 0 (Song et al. 2020, arXiv 2010.02502, eq. 12), order 1: Euler's method in sigma space."""
    n = len(sigmas) - 1
    for i in range(n):
        denoised = model(x, sigmas[i].expand(len(x)))
        if callback is not None:
            callback(i, n, x, denoised)
        x = denoised + sigmas[i + 1] / sigmas[i] * (x - denoised)
    return x


def dpmpp_2m(model: Model, x: Tensor, sigmas: Tensor, callback: Callback | None = None) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, Alg. 2): data prediction, multistep, order 2.

    Two steps are of order 1: the first, and the one to sigma = 0, where the step in log SNR is infinite.
    """
    n = len(sigmas) - 1
    last: tuple[Tensor, Tensor] | None = None  # denoised and h of the last step
    for i in range(n):
        s, s_next = sigmas[i], sigmas[i + 1]
        denoised = model(x, s.expand(len(x)))
        if callback is not None:
            callback(i, n, x, denoised)
        h = s.log() - s_next.log()
        target = denoised
        if last is not None and s_next > 0:
            old, h_old = last
            ratio = h / (2 * h_old)
            target = (1 + ratio) * denoised - ratio * old
        x = s_next / s * x - torch.expm1(-h) * target
        last = denoised, h
    return x


SAMPLERS: dict[str, Callable[..., Tensor]] = {"ddim": ddim, "dpmpp_2m": dpmpp_2m}


def lognormal_sigmas(n: int, mean: float, std: float, generator: torch.Generator | None = None) -> Tensor:
    """Noise levels `[n]` for training: ln sigma ~ N(mean, std^2) (EDM, table 1)."""
    return (mean + std * torch.randn(n, generator=generator)).exp()


def uniform_logsnr_sigmas(
    n: int, sigma_min: float, sigma_max: float, generator: torch.Generator | None = None
) -> Tensor:
    """Noise levels `[n]` for training: uniform in log sigma, stratified over the batch."""
    u = (torch.arange(n) + torch.rand(n, generator=generator)) / n
    lo, hi = torch.tensor([sigma_min, sigma_max]).log()
    return (lo + u * (hi - lo)).exp()


def edm_loss(model: Model, x0: Tensor, sigma: Tensor, noise: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    """Denoising loss per sample `[B]`, weighted by lambda(sigma) (EDM, table 1, sigma_data = 1).

    With this weight the loss of an untrained network is near 1 at every noise level.
    x0: `[B, ...]`, clean data
    sigma: `[B]`, noise level
    noise: `[B, ...]`, unit noise
    weight: of each element, broadcast to x0; default 1
    """
    s = sigma.view(-1, *[1] * (x0.ndim - 1)).to(x0)
    error = (model(x0 + s * noise, sigma) - x0).square() * weight
    return error.flatten(1).mean(1) * (sigma.square() + 1) / sigma.square()
