"""The map autoencoder with a discrete latent, for comparison with the shipped one: train.autoencoder --codebook N.

FitDiff's autoencoder is vector-quantised (van den Oord et al. 2017, arXiv 1711.00937; Esser et al. 2021, arXiv
2012.09841). All but the latent is that of the KL autoencoder: networks, first weights, batches and losses. One code for
16 x 16 texels of nine channels holds little, so the channels of a cell can be split into `groups`, each with a codebook
of its own (product codes of few dimensions; Yu et al. 2022, arXiv 2110.04627, also look codes up in few dimensions).
The codebooks follow the encoder by exponential averages (van den Oord, appendix A.1). A code that is not used is moved
to an output of the encoder (random restarts; Dhariwal et al. 2020, arXiv 2005.00341).

Only the comparison needs this file; the shipped model is continuous.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn

from fitdiff_core.errors import UserError
from fitdiff_core.model.autoencoder import AutoencoderConfig, MapAutoencoder


@dataclass(frozen=True)
class QuantiserConfig:
    """codes: in each codebook.
    groups: codebooks.
    commitment: weight of the commitment loss.
    decay: of the averages, a step.
    dead: codes that are used less than this share of the mean are moved.
    """

    codes: int
    groups: int = 1
    commitment: float = 0.25
    decay: float = 0.99
    dead: float = 0.05


class Quantised(NamedTuple):
    """Like `Reconstruction`, with the weighted commitment loss (scalar) in place of the posterior."""

    full: Tensor
    half: Tensor
    commitment: Tensor


class Quantiser(nn.Module):
    """Replaces vectors by their nearest codes.

    The codes are averages of the encoder's outputs, not trained parameters.
    """

    def __init__(self, c: QuantiserConfig, channels: int):
        super().__init__()
        if c.codes < 2 or c.groups < 1 or channels % c.groups:
            raise UserError(
                f"A codebook has at least 2 codes, and the groups divide the latent's {channels} channels; "
                f"not {c.codes} codes in {c.groups} groups."
            )
        self.config = c
        self.register_buffer("sums", torch.zeros(c.groups, c.codes, channels // c.groups))
        self.register_buffer("counts", torch.zeros(c.groups, c.codes))

    @property
    def codebook(self) -> Tensor:
        """`[G, K, C / G]`"""
        return self.sums / self.counts.clamp(min=1e-6)[..., None]

    def nearest(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Rows `[G, B h w, C / G]` fp32 of z `[B, C, h, w]`, and the index `[G, B h w]` of the nearest code of each."""
        rows = rearrange(z.detach().float(), "b (g d) h w -> g (b h w) d", g=self.config.groups)
        if not self.counts.any():
            self._move(rows, torch.ones_like(self.counts, dtype=torch.bool))
        with torch.autocast("cpu", enabled=False):
            book = self.codebook
            return rows, (book.square().sum(-1)[:, None] - 2 * rows @ book.mT).argmin(-1)

    def forward(self, z: Tensor) -> Tensor:
        """The nearest codes of z `[B, C, h, w]`, same shape. In training mode the codes are then updated."""
        rows, index = self.nearest(z)
        found = torch.gather(self.codebook, 1, index[..., None].expand_as(rows))
        if self.training:
            self._learn(rows, index)
        return rearrange(found, "g (b h w) d -> b (g d) h w", b=len(z), h=z.shape[2])

    def _learn(self, rows: Tensor, index: Tensor) -> None:
        c = self.config
        counts, sums = torch.zeros_like(self.counts), torch.zeros_like(self.sums)
        counts.scatter_add_(1, index, torch.ones_like(index, dtype=counts.dtype))
        sums.scatter_add_(1, index[..., None].expand_as(rows), rows)
        self.counts.lerp_(counts, 1 - c.decay)
        self.sums.lerp_(sums, 1 - c.decay)
        self._move(rows, self.counts < c.dead * self.counts.mean(1, keepdim=True))

    def _move(self, rows: Tensor, which: Tensor) -> None:
        """Move the codes `which` `[G, K]` bool to evenly spaced rows `[G, N, D]`, with the mean use.

        The rows come from random crops, so evenly spaced ones are random enough.
        """
        n, k = rows.shape[1], which.shape[1]
        used = torch.full_like(self.counts, n / k)
        to = rows[:, torch.arange(k) * n // k]
        self.counts.copy_(torch.where(which, used, self.counts))
        self.sums.copy_(torch.where(which[..., None], to * used[..., None], self.sums))


class QuantisedAutoencoder(MapAutoencoder):
    """Half of the encoder's last layer (the variance of the KL autoencoder) is not used."""

    def __init__(self, config: AutoencoderConfig, quantiser: QuantiserConfig):
        super().__init__(config)
        self.quantiser = Quantiser(quantiser, config.latent)

    def forward(self, codes: Tensor, origin: Tensor | None = None, noise: Tensor | None = None) -> Quantised:
        """Like `MapAutoencoder.forward`; noise is ignored."""
        mean = self._posterior(codes, origin)[0].float()
        code = self.quantiser(mean)
        full, half = self._decode(mean + (code - mean).detach(), origin, detail=True)
        return Quantised(full, half, self.quantiser.config.commitment * (mean - code).square().mean())

    @torch.no_grad()
    def perplexity(self, atlases: Iterable[Tensor]) -> float:
        """Perplexity of the codes' use over atlases `[B, 9, S, S]`, mean over the codebooks; at most `codes`.

        It is exp of the entropy: large where all codes are used equally.
        """
        index = torch.cat([self.quantiser.nearest(self.posterior_mean(codes))[1] for codes in atlases], 1)
        use = torch.stack([torch.bincount(i, minlength=self.quantiser.config.codes) for i in index]) / index.shape[1]
        return float(torch.special.entr(use).sum(1).exp().mean())
