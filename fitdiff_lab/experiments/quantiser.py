"""The map autoencoder with a discrete latent, to be compared with the shipped one: train.autoencoder --codebook N.

FitDiff's autoencoder is vector-quantised (van den Oord et al. 2017, arXiv 1711.00937; Esser et al. 2021, arXiv
2012.09841). Everything but the latent is the KL autoencoder's: same networks, first weights, batches and losses. One code
per 16 x 16 texels of nine channels says little, so a cell's channels may be cut into `groups`, each with a codebook of its
own (product codes of few dimensions; Yu et al. 2022, arXiv 2110.04627, look codes up in few dimensions too). Codebooks
follow the encoder by exponential averages (appendix A.1 of van den Oord); a code that nobody uses is moved to where the
encoder is (random restarts; Dhariwal et al. 2020, arXiv 2005.00341).

The comparison alone needs this file: the shipped model is continuous.
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
    """codes: in each codebook; groups: codebooks; commitment: weight of that loss; decay: of the averages, a step; dead:
    a code used less than this share of the mean is moved."""

    codes: int
    groups: int = 1
    commitment: float = 0.25
    decay: float = 0.99
    dead: float = 0.05


class Quantised(NamedTuple):
    """As `Reconstruction`, with the weighted commitment loss (a scalar) in place of the posterior."""

    full: Tensor
    half: Tensor
    commitment: Tensor


class Quantiser(nn.Module):
    """Nearest codes, with gradients passed straight through. Codes are averages of what the encoder gave, not trained."""

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
        """`[B, C, h, w]` -> rows `[G, B h w, C / G]` fp32 and the index of each one's nearest code `[G, B h w]`."""
        rows = rearrange(z.detach().float(), "b (g d) h w -> g (b h w) d", g=self.config.groups)
        if not self.counts.any():
            self._move(rows, torch.ones_like(self.counts, dtype=torch.bool))
        with torch.autocast("cpu", enabled=False):
            book = self.codebook
            return rows, (book.square().sum(-1)[:, None] - 2 * rows @ book.mT).argmin(-1)

    def forward(self, z: Tensor) -> Tensor:
        """`[B, C, h, w]` -> the nearest codes, same shape. In training mode the codes then learn from z."""
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
        """Put the codes `which` [G, K] on rows `[G, N, D]`, as if used like the mean. The rows are random crops': evenly
        spaced ones do."""
        n, k = rows.shape[1], which.shape[1]
        used = torch.full_like(self.counts, n / k)
        to = rows[:, torch.arange(k) * n // k]
        self.counts.copy_(torch.where(which, used, self.counts))
        self.sums.copy_(torch.where(which[..., None], to * used[..., None], self.sums))


class QuantisedAutoencoder(MapAutoencoder):
    """Half of the encoder's last layer, the KL autoencoder's variance, stays unused."""

    def __init__(self, config: AutoencoderConfig, quantiser: QuantiserConfig):
        super().__init__(config)
        self.quantiser = Quantiser(quantiser, config.latent)

    def forward(self, codes: Tensor, origin: Tensor | None = None, noise: Tensor | None = None) -> Quantised:
        """As `MapAutoencoder.forward`; noise is not looked at."""
        mean = self._posterior(codes, origin)[0].float()
        code = self.quantiser(mean)
        full, half = self._decode(mean + (code - mean).detach(), origin, detail=True)
        return Quantised(full, half, self.quantiser.config.commitment * (mean - code).square().mean())

    @torch.no_grad()
    def perplexity(self, atlases: Iterable[Tensor]) -> float:
        """How evenly the codes are used: exp of the entropy of their use over atlases `[B, 9, S, S]`, mean over the
        codebooks; at most `codes`."""
        index = torch.cat([self.quantiser.nearest(self.posterior_mean(codes))[1] for codes in atlases], 1)
        use = torch.stack([torch.bincount(i, minlength=self.quantiser.config.codes) for i in index]) / index.shape[1]
        return float(torch.special.entr(use).sum(1).exp().mean())
