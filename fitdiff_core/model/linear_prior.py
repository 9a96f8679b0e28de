"""What a linear model knows of a person, in closed form: a Gaussian over texture latent and shape, given the features.

The texture latents of all people lie close to a few directions (tone, hair, beard: eight modes hold half the variance),
and a ridge regression on the recogniser's activations tells most of those, and the leading shape coefficients, from a
photo. A network takes hours to learn as much. So the denoiser starts from this prior: at every sigma its posterior mean
is exact (`Posterior.mean`), and the network learns what it leaves open, in units of its standard deviation.

Coordinates: coefficients of the texture modes and shape coefficients, all of unit variance over the training people;
what the modes leave of the texture is taken as independent elements. Without a photo all means are 0 and variances 1.
`train.prior` fits it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LIMIT = 3.0  # a real photo's features may lie outside the synthetic ones; no mean is further out, in deviations


@dataclass
class Belief:
    """Mean and variance `[B, P + K]` of texture coefficients and shape, given a photo (B = 1 or the batch's)."""

    mean: Tensor
    variance: Tensor


class Posterior(NamedTuple):
    """E[texture | x], E[shape | x] under the prior, and the standard deviations left: `[B, P]`, `[B, C, h, w]`,
    `[B, K]`."""

    texture: Tensor
    shape: Tensor
    modes_std: Tensor
    rest_std: Tensor
    shape_std: Tensor


def pooled(embedding: Tensor, activations: list[Tensor], cells: tuple[int, ...]) -> Tensor:
    """Normalised features -> `[B, F]`, what the regression reads: the embedding and each layer averaged to `cells`."""
    layers = [F.adaptive_avg_pool2d(a, n).flatten(1) for a, n in zip(activations, cells, strict=True)]
    return torch.cat([embedding, *layers], 1)


class LinearPrior(nn.Module):
    """p(texture, shape | features) = N(weight features + bias, variance). Until it is fitted it is N(0, I) whatever the
    photo, which makes the preconditioning EDM's own."""

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
        self.register_buffer("mirror", torch.eye(shape))  # coefficients times this: the head's mirror image

    @property
    def n_modes(self) -> int:
        return len(self.modes)

    def belief(self, features: Tensor) -> Belief:
        """features `[B, F]` (`pooled`)."""
        mean = (features @ self.weight.T + self.bias).clamp(-LIMIT, LIMIT)
        return Belief(mean, self.variance.expand_as(mean))

    def both_sides(self, photo: Belief, mirrored: Belief) -> Tensor:
        """The shape's mean `[B, K]` by a photo and by its mirror image: light and turn deceive the two in opposite ways."""
        p = self.n_modes
        return (photo.mean[:, p:] + mirrored.mean[:, p:] @ self.mirror) / 2

    def with_shape(self, belief: Belief, shape: Tensor) -> Belief:
        """With another mean of the shape, `[B, K]` or the same for all, `[1, K]`."""
        return Belief(
            torch.cat([belief.mean[:, : self.n_modes], shape.expand(len(belief.mean), -1)], 1), belief.variance
        )

    def nothing(self) -> Belief:
        """Without a photo, batch 1."""
        zero = torch.zeros_like(self.bias)[None]
        return Belief(zero, torch.ones_like(zero))

    def split(self, texture: Tensor) -> tuple[Tensor, Tensor]:
        """`[B, C, h, w]` -> coefficients `[B, P]` (not scaled) and what the modes leave, `[B, C, h, w]`."""
        a = texture.flatten(1) @ self.modes.T
        return a, texture - self.join(a)

    def join(self, coefficients: Tensor) -> Tensor:
        """`[B, P]` -> `[B, C, h, w]`"""
        return (coefficients @ self.modes).unflatten(1, self.texture_mean.shape)

    def posterior(self, texture: Tensor, shape: Tensor, sigma: Tensor, belief: Belief) -> Posterior:
        """Noisy texture `[B, C, h, w]` and shape `[B, K]`, sigma `[B]` -> what the prior makes of them."""
        with torch.autocast(texture.device.type, enabled=False):
            p = self.n_modes
            s2 = sigma.to(texture).square().view(-1, 1)
            scale = self.modes_std
            mean, variance = belief.mean.to(texture), belief.variance.to(texture)
            a, rest = self.split(texture - self.texture_mean)
            v_modes, v_rest, v_shape = variance[:, :p] * scale.square(), self.rest_variance, variance[:, p:]
            m_modes, m_shape = mean[:, :p] * scale, mean[:, p:]
            g_modes = v_modes / (v_modes + s2)
            g_shape = v_shape / (v_shape + s2)
            s2_map = s2[..., None, None]
            g_rest = v_rest / (v_rest + s2_map)
            estimate = self.texture_mean + self.join(m_modes + g_modes * (a - m_modes)) + g_rest * rest
            # std of what is left: prior and observation combined
            return Posterior(
                estimate,
                m_shape + g_shape * (shape - m_shape),
                (g_modes * s2).sqrt(),
                (g_rest * s2_map).sqrt(),
                (g_shape * s2).sqrt(),
            )

    def gradient(self, texture: Tensor, shape: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        """Gradients with respect to the denoised estimate, `[B, C, h, w]` and `[B, K]` -> with respect to the noisy
        latent, through the linear denoiser. Its Jacobian S / (S + sigma^2) is symmetric, and is the posterior covariance
        but for a factor: what the people of the prior have in common moves as one. S: of a person whose photo was seen.
        """
        p, s2 = self.n_modes, sigma * sigma
        a, rest = self.split(texture)
        v_modes, v_shape = self.variance[:p] * self.modes_std.square(), self.variance[p:]
        moved = self.join(a * (v_modes / (v_modes + s2))) + rest * (self.rest_variance / (self.rest_variance + s2))
        return moved, shape * (v_shape / (v_shape + s2))

    def calm(self, texture: Tensor, shape: Tensor, share: float) -> tuple[Tensor, Tensor]:
        """Noise `[B, C, h, w]` and `[B, K]` with `share` of what decides who it is: modes and shape. A linear denoiser turns
        it into the mean plus `share` of a deviation; what the modes leave, skin's fine detail, stays a full draw."""
        a, rest = self.split(texture)
        return rest + share * self.join(a), share * shape

    def correct(self, posterior: Posterior, f_texture: Tensor, f_shape: Tensor) -> tuple[Tensor, Tensor]:
        """The network's output, of about unit variance -> denoised texture and shape."""
        with torch.autocast(f_texture.device.type, enabled=False):
            a, rest = self.split(f_texture.to(posterior.texture))
            texture = posterior.texture + self.join(posterior.modes_std * a) + posterior.rest_std * rest
            return texture, posterior.shape + posterior.shape_std * f_shape.to(posterior.shape)
