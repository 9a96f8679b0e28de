"""Linear Gaussian prior of texture latent and shape, given a photo's identity features, in closed form.

The texture latents of all people vary mostly along a few principal directions ("modes": tone, hair, beard; eight hold
half of the variance). A ridge regression on the recogniser's features predicts most of these coefficients, and the
leading shape coefficients, from a photo. A network needs hours of training to learn as much. So the denoiser uses
this Gaussian in its preconditioning: the posterior mean under the prior is exact at every noise level sigma
(`Posterior`), and the network predicts the residual in units of the posterior's standard deviation.

Coordinates: P texture mode coefficients and K shape coefficients, each of unit variance over the training people.
What the modes do not explain of the texture is modelled as independent elements. Without a photo (unconditional) all
means are 0 and all variances 1. `fitdiff_lab.train.linear_prior` fits the prior.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

MEAN_LIMIT = 3.0  # standard deviations; a mean is clamped, since a photo's features may lie outside the training range


@dataclass
class Gaussian:
    """Diagonal Gaussian over P texture mode coefficients and K shape coefficients.

    mean, variance: `[B, P + K]`; B is 1 or the batch size
    """

    mean: Tensor
    variance: Tensor


class Posterior(NamedTuple):
    """The prior's posterior given a noisy latent x.

    texture: `[B, C, h, w]`, E[texture | x]
    shape: `[B, K]`, E[shape | x]
    modes_std: `[B, P]`, posterior standard deviation of the mode coefficients
    rest_std: `[B, C, h, w]`, posterior standard deviation of the texture's elements outside the modes
    shape_std: `[B, K]`, posterior standard deviation of the shape
    """

    texture: Tensor
    shape: Tensor
    modes_std: Tensor
    rest_std: Tensor
    shape_std: Tensor


def pooled_features(embedding: Tensor, activations: list[Tensor], cells: tuple[int, ...]) -> Tensor:
    """Standardised features -> `[B, F]`: the embedding, then each activation layer averaged to cells x cells."""
    layers = [F.adaptive_avg_pool2d(a, n).flatten(1) for a, n in zip(activations, cells, strict=True)]
    return torch.cat([embedding, *layers], 1)


class LinearPrior(nn.Module):
    """p(texture, shape | features) = N(weight features + bias, variance).

    Before it is fitted it is N(0, I) for every photo. The preconditioning is then that of EDM with sigma_data = 1.

    latent, size: channels C and side h = w of the texture latent
    shape: K, number of shape coefficients
    modes: P, number of texture modes
    features: F, length of the regression's input
    """

    weight: Tensor
    bias: Tensor
    variance: Tensor
    texture_mean: Tensor
    modes: Tensor
    modes_std: Tensor
    rest_variance: Tensor
    mirror: Tensor

    def __init__(self, latent: int, size: int, shape: int, modes: int, features: int):
        super().__init__()
        n = latent * size * size
        self.register_buffer("weight", torch.zeros(modes + shape, features))
        self.register_buffer("bias", torch.zeros(modes + shape))
        self.register_buffer("variance", torch.ones(modes + shape))
        self.register_buffer("texture_mean", torch.zeros(latent, size, size))
        self.register_buffer("modes", torch.zeros(modes, n))  # orthonormal rows once fitted
        self.register_buffer("modes_std", torch.ones(modes))
        self.register_buffer("rest_variance", torch.ones(latent, size, size))
        # [K, K]; shape coefficients times this give the mirrored head. numpy: see `autoencoder.init_normal_`
        self.register_buffer("mirror", torch.tensor(np.eye(shape, dtype=np.float32)))

    @property
    def n_modes(self) -> int:
        return len(self.modes)

    def conditional(self, features: Tensor) -> Gaussian:
        """The Gaussian given a photo's features `[B, F]`."""
        mean = (features @ self.weight.T + self.bias).clamp(-MEAN_LIMIT, MEAN_LIMIT)
        return Gaussian(mean, self.variance.expand_as(mean))

    def unconditional(self) -> Gaussian:
        """The Gaussian without a photo: mean 0, variance 1, batch 1."""
        zero = torch.zeros_like(self.bias)[None]
        return Gaussian(zero, torch.ones_like(zero))

    def average_with_mirror(self, photo: Gaussian, mirrored: Gaussian) -> Tensor:
        """Mean of the shape `[B, K]`, averaged over a photo and its mirror image.

        Side light and a turned head cause opposite errors in the two, which cancel in part.
        """
        p = self.n_modes
        return (photo.mean[:, p:] + mirrored.mean[:, p:] @ self.mirror) / 2

    def with_shape_mean(self, gaussian: Gaussian, shape: Tensor) -> Gaussian:
        """`gaussian` with its mean of the shape replaced by `shape`, `[B, K]` or `[1, K]`."""
        mean = torch.cat([gaussian.mean[:, : self.n_modes], shape.expand(len(gaussian.mean), -1)], 1)
        return Gaussian(mean, gaussian.variance)

    def split(self, texture: Tensor) -> tuple[Tensor, Tensor]:
        """Texture `[B, C, h, w]` -> mode coefficients `[B, P]` (not standardised) and the remainder `[B, C, h, w]`."""
        a = texture.flatten(1) @ self.modes.T
        return a, texture - self.join(a)

    def join(self, coefficients: Tensor) -> Tensor:
        """Mode coefficients `[B, P]` -> texture `[B, C, h, w]`."""
        return (coefficients @ self.modes).unflatten(1, self.texture_mean.shape)

    def most_likely_texture(self, prior: Gaussian) -> Tensor:
        """Texture latent `[B, C, h, w]` at the mean of `prior`: the most likely one, without any sampled detail."""
        return self.texture_mean + self.join(prior.mean[:, : self.n_modes].to(self.modes) * self.modes_std)

    def posterior(self, texture: Tensor, shape: Tensor, sigma: Tensor, prior: Gaussian) -> Posterior:
        """Posterior given a noisy latent: mean m + S (S + sigma^2)^-1 (x - m), covariance sigma^2 S (S + sigma^2)^-1,
        for a prior N(m, S) and x = x0 + sigma * noise.

        texture: `[B, C, h, w]`, noisy
        shape: `[B, K]`, noisy
        sigma: `[B]`, noise level
        prior: of `conditional` or `unconditional`
        """
        with torch.autocast(texture.device.type, enabled=False):
            p = self.n_modes
            s2 = sigma.to(texture).square().view(-1, 1)
            scale = self.modes_std
            mean, variance = prior.mean.to(texture), prior.variance.to(texture)
            a, rest = self.split(texture - self.texture_mean)
            v_modes, v_rest, v_shape = variance[:, :p] * scale.square(), self.rest_variance, variance[:, p:]
            m_modes, m_shape = mean[:, :p] * scale, mean[:, p:]
            g_modes = v_modes / (v_modes + s2)
            g_shape = v_shape / (v_shape + s2)
            s2_map = s2[..., None, None]
            g_rest = v_rest / (v_rest + s2_map)
            estimate = self.texture_mean + self.join(m_modes + g_modes * (a - m_modes)) + g_rest * rest
            return Posterior(
                estimate,
                m_shape + g_shape * (shape - m_shape),
                (g_modes * s2).sqrt(),
                (g_rest * s2_map).sqrt(),
                (g_shape * s2).sqrt(),
            )

    def gradient(self, texture: Tensor, shape: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        """Gradient at the denoised estimate -> gradient at the noisy latent, through the linear denoiser (its VJP).

        The Jacobian S (S + sigma^2)^-1 is symmetric and proportional to the posterior covariance. S is the variance
        given a photo. Correlated elements (those of one mode) therefore move together.

        texture: `[B, C, h, w]`, gradient at the denoised texture
        shape: `[B, K]`, gradient at the denoised shape
        sigma: noise level
        """
        p, s2 = self.n_modes, sigma * sigma
        a, rest = self.split(texture)
        v_modes, v_shape = self.variance[:p] * self.modes_std.square(), self.variance[p:]
        moved = self.join(a * (v_modes / (v_modes + s2))) + rest * (self.rest_variance / (self.rest_variance + s2))
        return moved, shape * (v_shape / (v_shape + s2))

    def scale_noise(self, texture: Tensor, shape: Tensor, noise_scale: float) -> tuple[Tensor, Tensor]:
        """Initial noise with its component in the identity subspace (texture modes and shape) scaled.

        A linear denoiser turns the result into the conditional mean plus `noise_scale` times a random deviation. The
        texture outside the modes (fine detail of the skin) keeps its noise.

        texture: `[B, C, h, w]`, unit noise
        shape: `[B, K]`, unit noise
        noise_scale: factor, 0..1
        """
        a, rest = self.split(texture)
        return rest + noise_scale * self.join(a), noise_scale * shape

    def correct(self, posterior: Posterior, f_texture: Tensor, f_shape: Tensor) -> tuple[Tensor, Tensor]:
        """Denoised texture `[B, C, h, w]` and shape `[B, K]`: posterior mean + posterior std * network output.

        f_texture: `[B, C, h, w]`, network output of about unit variance
        f_shape: `[B, K]`, the same for the shape
        """
        with torch.autocast(f_texture.device.type, enabled=False):
            a, rest = self.split(f_texture.to(posterior.texture))
            texture = posterior.texture + self.join(posterior.modes_std * a) + posterior.rest_std * rest
            return texture, posterior.shape + posterior.shape_std * f_shape.to(posterior.shape)
