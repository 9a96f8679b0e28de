"""The denoiser D(x; sigma, condition): a UNet, preconditioned by a linear prior, conditioned on identity features.

- Preconditioning as in EDM (Karras et al. 2022, arXiv 2206.00364), kept apart from the network. The Gaussian of
  `linear_prior` takes the place of EDM's N(0, sigma_data^2).
- The network (`unet`) predicts only what the linear prior does not explain.
- What depends on the condition alone is computed once (`Denoiser.prepare`) and used in every step of a sampler.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..errors import UserError
from .linear_prior import Gaussian, LinearPrior, pooled_features
from .shape_encoder import ShapeEncoder
from .unet import DenoiserConfig, Prepared, UNet


@dataclass
class Condition:
    """Identity features of one person or of B.

    embedding: `[B, D]`
    activations: activation layers, `[B, C, h, w]` each, fine to coarse
    views: `identity.PhotoFeatures` of the single photos, which give the mean of the shape; empty: the activations
        give it
    prepared: cache of `Denoiser.prepare`, with the model's `embedding_mean` to tell whose it is
    with_null: cache of `prepared` and the null condition as one batch, with `prepared` and the number of entries
    """

    embedding: Tensor
    activations: tuple[Tensor, ...]
    views: tuple = ()
    prepared: tuple[Tensor, Prepared] | None = field(default=None, repr=False, compare=False)
    with_null: tuple[Prepared, int, Prepared] | None = field(default=None, repr=False, compare=False)


def pack_latent(texture: Tensor, shape: Tensor) -> Tensor:
    """texture `[B, C, h, w]`, shape `[B, K]` -> packed latent `[B, C + 1, h, w]`.

    The last plane holds the shape row by row, then zeros. Raises UserError for K > h w.
    """
    h, w = texture.shape[2:]
    if shape.shape[1] > h * w:
        raise UserError(f"A shape vector of {shape.shape[1]} does not fit a {h} x {w} plane.")
    plane = rearrange(F.pad(shape, (0, h * w - shape.shape[1])), "b (h w) -> b 1 h w", h=h)
    return torch.cat([texture, plane.to(texture)], 1)


def unpack_latent(x: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Packed latent `[B, C + 1, h, w]` -> texture `[B, C, h, w]`, shape `[B, n]`: the inverse of `pack_latent`."""
    return x[:, :-1], rearrange(x[:, -1], "b h w -> b (h w)")[:, :n]


def standardise(layer: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Activation layer `[B, C, h, w]` with each channel's mean `[C]` subtracted and divided by its std `[C]`."""
    return (layer.float() - mean[:, None, None]) / std[:, None, None]


class Denoiser(nn.Module):
    """D(x; sigma, condition) of packed latents (`pack_latent`): preconditioning by the linear prior around `UNet`.

    config: sizes; None for the defaults
    """

    embedding_mean: Tensor
    embedding_std: Tensor

    def __init__(self, config: DenoiserConfig | None = None):
        super().__init__()
        self.config = c = config or DenoiserConfig()
        self.net = UNet(c)
        # mean and standard deviation of the recogniser's features over the training set
        self.register_buffer("embedding_mean", torch.zeros(c.embedding))
        self.register_buffer("embedding_std", torch.ones(c.embedding))
        for i, n in enumerate(c.activations):
            self.register_buffer(f"activation_mean_{i}", torch.zeros(n))
            self.register_buffer(f"activation_std_{i}", torch.ones(n))
        pooled = c.embedding + sum(n * cells**2 for n, cells in zip(c.activations, c.cells, strict=True))
        self.prior = LinearPrior(c.latent, c.size, c.shape, c.modes, pooled + c.reader[-1])
        # the shape encoder; named `reader` because checkpoints hold its weights as `reader.*`
        self.reader = ShapeEncoder(c.activations, c.reader).requires_grad_(False)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Of one packed latent: (C + 1, h, w)."""
        return self.config.latent + 1, self.config.size, self.config.size

    def forward(
        self,
        x: Tensor,
        sigma: Tensor,
        cond: Condition | None = None,
        cfg_scale: float = 1.0,
        drop: Tensor | None = None,
    ) -> Tensor:
        """Denoised latent `[B, C + 1, h, w]`.

        x: `[B, C + 1, h, w]`, noisy latent
        sigma: `[B]`, noise level
        cond: batch 1 or B; None for unconditional
        cfg_scale: scale of classifier-free guidance (Ho & Salimans 2022, arXiv 2207.12598); 1 (default) is the
            conditional estimate, 0 the unconditional one
        drop: `[B]` bool, entries that are trained without condition; None drops none
        Raises UserError if the condition's shapes are not those of this model's recogniser.
        """
        if cond is None or cfg_scale == 0:
            return self._denoise(x, sigma, self.prepare_null())
        prepared = self._cached(cond, drop)
        if cfg_scale == 1:
            return self._denoise(x, sigma, prepared)
        # both estimates as one batch: a third faster than one after the other
        both = self._with_null(cond, prepared, len(x))
        denoised, null = self._denoise(x.repeat(2, 1, 1, 1), sigma.expand(len(x)).repeat(2), both).chunk(2)
        return null + cfg_scale * (denoised - null)

    def prepare(self, cond: Condition, drop: Tensor | None = None) -> Prepared:
        """What depends on the condition alone, for all steps of a sampler. Arguments and errors as `forward`."""
        c = self.config
        channels = tuple(a.shape[1] for a in cond.activations)
        if cond.embedding.shape[1] != c.embedding or channels != tuple(c.activations):
            raise UserError(
                f"This identity has an embedding of {cond.embedding.shape[1]} and activation layers of {channels} "
                f"channels; this checkpoint takes {c.embedding} and {tuple(c.activations)}. "
                "Encode the photo with the recogniser the checkpoint was trained with."
            )
        embedding, activations = self.normalise(cond)
        prepared = self.net.prepare(embedding, activations, drop)
        with torch.autocast(embedding.device.type, enabled=False):
            gaussian = self.prior.conditional(self.prior_features(embedding, activations))
            if cond.views:
                gaussian = self.prior.with_shape_mean(gaussian, self._shape_mean(cond.views))
        if drop is not None:
            null = self.prior.unconditional()
            gaussian = Gaussian(
                torch.where(drop[:, None], null.mean, gaussian.mean),
                torch.where(drop[:, None], null.variance, gaussian.variance),
            )
        prepared.gaussian = gaussian
        return prepared

    def _shape_mean(self, views: tuple) -> Tensor:
        """Mean of the shape `[B, K]`: weighted sum over single photos, each averaged with its mirror image."""
        total = self.prior.bias.new_zeros(())
        for view in views:
            photo, mirrored = (
                self.prior.conditional(self.prior_features(*self.normalise(f))) for f in (view.photo, view.mirrored)
            )
            total = total + view.weight[:, None] * self.prior.average_with_mirror(photo, mirrored)
        return total

    def normalise(self, cond: Condition) -> tuple[Tensor, list[Tensor]]:
        """Embedding `[B, D]` and activation layers with zero mean and unit variance over the training photos."""
        embedding = (cond.embedding.float() - self.embedding_mean) / self.embedding_std
        return embedding, [
            standardise(a, getattr(self, f"activation_mean_{i}"), getattr(self, f"activation_std_{i}"))
            for i, a in enumerate(cond.activations)
        ]

    def prior_features(self, embedding: Tensor, activations: list[Tensor]) -> Tensor:
        """Standardised features -> input `[B, F]` of the prior's regression; the shape encoder's features are last."""
        return torch.cat([pooled_features(embedding, activations, self.config.cells), self.reader(activations)], 1)

    def texture_mean(self, cond: Condition) -> Tensor:
        """The linear prior's most likely texture latent `[B, C, h, w]` of a condition, without the network's part."""
        gaussian = self._cached(cond, None).gaussian
        if gaussian is None:
            raise ValueError("the result of UNet.prepare has no Gaussian; use Denoiser.prepare")
        return self.prior.most_likely_texture(gaussian)

    def prepare_null(self) -> Prepared:
        """`prepare` without a condition, batch 1."""
        prepared = self.net.prepare_null()
        prepared.gaussian = self.prior.unconditional()
        return prepared

    def _cached(self, cond: Condition, drop: Tensor | None) -> Prepared:
        """`prepare`, cached in the condition except in training."""
        if self.training:
            return self.prepare(cond, drop)
        if cond.prepared is None or cond.prepared[0] is not self.embedding_mean:
            # no inference tensors, even under ComfyUI's inference mode: guidance may differentiate through them later
            with torch.inference_mode(False), torch.no_grad():
                cond.prepared = self.embedding_mean, self.prepare(cond)
        return cond.prepared[1]

    def _with_null(self, cond: Condition, prepared: Prepared, batch: int) -> Prepared:
        """`prepared` and the null condition for `batch` entries each, cached in the condition except in training."""
        if self.training:
            return prepared.cat(self.prepare_null(), batch)
        if cond.with_null is None or cond.with_null[0] is not prepared or cond.with_null[1] != batch:
            with torch.inference_mode(False), torch.no_grad():
                cond.with_null = prepared, batch, prepared.cat(self.prepare_null(), batch)
        return cond.with_null[2]

    def _denoise(self, x: Tensor, sigma: Tensor, prepared: Prepared) -> Tensor:
        """EDM's preconditioning (eq. 7): the posterior mean is the skip connection, its std the output scale."""
        texture, shape = unpack_latent(x, self.config.shape)
        s = sigma.to(x).view(-1, 1)
        c_in = (1 + s * s).rsqrt()
        gaussian = prepared.gaussian
        if gaussian is None:
            raise ValueError("the result of UNet.prepare has no Gaussian; use Denoiser.prepare")
        linear = self.prior.posterior(texture, shape, sigma, gaussian)
        # the network sees the shape relative to its prior: (s - m) / sqrt(v + sigma^2)
        mean, variance = (v.to(shape)[:, self.prior.n_modes :] for v in (gaussian.mean, gaussian.variance))
        seen = torch.cat([texture * c_in[..., None, None], linear.texture], 1)
        f_texture, f_shape = self.net(
            seen.contiguous(memory_format=torch.channels_last),  # bfloat16 convolutions are slow without
            (shape - mean) * (variance + s * s).rsqrt(),
            s[:, 0].log() / 4,
            prepared,
        )
        return pack_latent(*self.prior.correct(linear, f_texture, f_shape))
