"""The denoiser's network: a UNet on the texture latent and an MLP on the shape vector, with signals between the two.

- The recogniser's activation layers modulate the UNet through SPADE (Park et al. 2019, arXiv 1903.07291). They are also
  tokens of its attention layers, because photo and atlas are only roughly aligned.
- Embedding and noise level modulate it through adaptive group norm (Dhariwal & Nichol 2021, arXiv 2105.05233).
- Shape and texture branches exchange adaptive-norm signals. This measured best; the alternatives were tokens, a DiT
  and extra channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .linear_prior import Gaussian

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


@dataclass(frozen=True)
class DenoiserConfig:
    """Sizes of the denoiser. The field names are stored in the checkpoint's metadata and must not change.

    latent, size: texture latent is [latent, size, size]
    shape: K, number of shape coefficients
    embedding: dimension of the recogniser's embedding
    activations: channels of the recogniser's activation layers, fine to coarse
    widths: UNet features at size, size / 2, size / 4
    heads: attention heads at size / 2, size / 4
    cond: features of the spatial condition
    emb: width of the vector that modulates the blocks
    mlp: width of the shape branch
    modes: P, texture modes of the linear prior
    cells: the linear prior averages each activation layer to cells x cells
    reader: widths and number of features of the shape encoder
    """

    latent: int = 16
    size: int = 32
    shape: int = 120
    embedding: int = 128
    activations: tuple[int, int, int] = (32, 64, 128)
    widths: tuple[int, int, int] = (64, 160, 288)
    heads: tuple[int, int] = (5, 6)
    cond: int = 64
    emb: int = 256
    mlp: int = 256
    modes: int = 64
    cells: tuple[int, int, int] = (2, 3, 8)
    reader: tuple[int, int, int, int] = (48, 80, 128, 256)


@dataclass
class Prepared:
    """The part of the network's computation that depends on the condition alone. B is 1 or the batch size.

    emb: `[B, E]`, added to the embedding of the noise level
    spade: (scale, shift) of each UNet block
    tokens: (key, value) of each attention layer
    gaussian: the linear prior, conditional or unconditional
    """

    emb: Tensor
    spade: list[tuple[Tensor, Tensor]]
    tokens: list[tuple[Tensor, Tensor]]
    gaussian: Gaussian | None = None

    def cat(self, other: Prepared, batch: int) -> Prepared:
        """This one for the first `batch` entries of a batch, `other` for the next; both have batch 1 or `batch`."""

        def join(a: Tensor, b: Tensor) -> Tensor:
            return torch.cat([x.expand(batch, *x.shape[1:]).to(a) for x in (a, b)])

        def pairs(a: list[tuple[Tensor, Tensor]], b: list[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
            return [(join(p[0], q[0]), join(p[1], q[1])) for p, q in zip(a, b, strict=True)]

        gaussian = None
        if self.gaussian is not None and other.gaussian is not None:
            a, b = self.gaussian, other.gaussian
            gaussian = Gaussian(join(a.mean, b.mean), join(a.variance, b.variance))
        return Prepared(
            join(self.emb, other.emb), pairs(self.spade, other.spade), pairs(self.tokens, other.tokens), gaussian
        )


def zero_init(layer: Layer) -> Layer:
    """The layer with weight and bias set to zero, so that its branch contributes nothing at first."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def modulate(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """x (1 + scale) + shift."""
    return x * (1 + scale) + shift


class Block(nn.Module):
    """Residual block `[B, i, h, w]` -> `[B, o, h, w]`.

    Adaptive group norm (AdaGN) and SPADE modulate the first normalisation, AdaGN alone the second.
    """

    def __init__(self, i: int, o: int, c: DenoiserConfig):
        super().__init__()
        self.norm1, self.norm2 = (nn.GroupNorm(n // 16, n, affine=False) for n in (i, o))
        self.emb = zero_init(nn.Linear(c.emb, 2 * i + 2 * o))
        self.split = (i, i, o, o)
        self.spade = zero_init(nn.Conv2d(c.cond, 2 * i, 1))
        self.conv1 = nn.Conv2d(i, o, 3, padding=1)
        self.conv2 = zero_init(nn.Conv2d(o, o, 3, padding=1))
        self.skip = nn.Conv2d(i, o, 1) if i != o else nn.Identity()

    def modulation(self, cond: Tensor) -> tuple[Tensor, Tensor]:
        """Condition map `[B, cond, h, w]` -> (scale, shift) of SPADE, `[B, i, h, w]` each."""
        scale, shift = self.spade(cond).chunk(2, 1)
        return scale, shift

    def forward(self, x: Tensor, emb: Tensor, spade: tuple[Tensor, Tensor]) -> Tensor:
        scale1, shift1, scale2, shift2 = self.emb(emb)[:, :, None, None].split(self.split, 1)
        h = self.conv1(F.silu(modulate(self.norm1(x), scale1 + spade[0], shift1 + spade[1])))
        h = self.conv2(F.silu(modulate(self.norm2(h), scale2, shift2)))
        return self.skip(x) + h


class Attention(nn.Module):
    """Self-attention over the latent's cells; keys and values include the photo's tokens (the condition's cells)."""

    def __init__(self, width: int, heads: int, c: DenoiserConfig):
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(width // 16, width)
        self.qkv = nn.Conv2d(width, 3 * width, 1)
        self.photo = nn.Conv2d(c.cond, 2 * width, 1)
        self.out = zero_init(nn.Conv2d(width, width, 1))

    def tokens(self, x: Tensor) -> Tensor:
        """`[B, heads * d, h, w]` -> `[B, heads, h * w, d]`."""
        return rearrange(x, "b (heads d) h w -> b heads (h w) d", heads=self.heads)

    def photo_tokens(self, cond: Tensor) -> tuple[Tensor, Tensor]:
        """Condition map `[B, cond, h, w]` -> (key, value) of the photo, `[B, heads, h * w, d]` each."""
        key, value = self.photo(cond).chunk(2, 1)
        return self.tokens(key), self.tokens(value)

    def forward(self, x: Tensor, photo: tuple[Tensor, Tensor]) -> Tensor:
        q, k, v = (self.tokens(t) for t in self.qkv(self.norm(x)).chunk(3, 1))
        k, v = (torch.cat([a, b.to(a).expand(len(x), -1, -1, -1)], 2) for a, b in zip((k, v), photo, strict=True))
        y = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(rearrange(y, "b heads (h w) d -> b (heads d) h w", h=x.shape[2]))


class Exchange(nn.Module):
    """One residual block of the shape branch, with an exchange of signals.

    Averaged UNet features modulate the block. Except in the last block, its output is added to the UNet's embedding.
    """

    def __init__(self, width: int, c: DenoiserConfig, last: bool):
        super().__init__()
        self.norm = nn.LayerNorm(c.mlp, elementwise_affine=False)
        self.pool = nn.Linear(width, c.emb)
        self.emb = zero_init(nn.Linear(c.emb, 2 * c.mlp))
        self.a = nn.Linear(c.mlp, 2 * c.mlp)
        self.b = zero_init(nn.Linear(2 * c.mlp, c.mlp))
        self.signal = None if last else zero_init(nn.Linear(c.mlp, c.emb))

    def forward(self, s: Tensor, h: Tensor, emb: Tensor) -> tuple[Tensor, Tensor]:
        """s `[B, mlp]`, UNet features h `[B, width, h, w]`, emb `[B, E]` -> (s, emb for the UNet's next level)."""
        scale, shift = self.emb(F.silu(emb + self.pool(h.mean((2, 3))))).chunk(2, 1)
        s = s + self.b(F.silu(self.a(modulate(self.norm(s), scale, shift))))
        return s, emb if self.signal is None else emb + self.signal(self.norm(s))


class ConditionEncoder(nn.Module):
    """Activation layers, resized to the UNet's levels and fused coarse to fine; a learned null condition per level."""

    def __init__(self, c: DenoiserConfig):
        super().__init__()
        self.sizes = (c.size, c.size // 2, c.size // 4)
        self.reads = nn.ModuleList(nn.Conv2d(a, c.cond, 3, padding=1) for a in c.activations)
        self.embedding = nn.Linear(c.embedding, c.cond)
        self.mixes = nn.ModuleList(nn.Conv2d(c.cond, c.cond, 3, padding=1) for _ in c.activations)
        self.null = nn.ParameterList(torch.zeros(c.cond, s, s) for s in self.sizes)

    def forward(self, embedding: Tensor, activations: list[Tensor]) -> list[Tensor]:
        """Standardised features -> condition maps `[B, cond, s, s]`, one per level, fine to coarse."""
        coarse = self.embedding(embedding)[:, :, None, None]
        levels: list[Tensor] = []
        for read, mix, size, a in list(zip(self.reads, self.mixes, self.sizes, activations, strict=True))[::-1]:
            a = F.interpolate(a, (size, size), mode="bilinear", antialias=True)
            if levels:
                coarse = F.interpolate(coarse, (size, size), mode="bilinear")
            h = F.silu(read(a) + coarse)
            coarse = h + mix(h)
            levels.append(coarse)
        return levels[::-1]


class UNet(nn.Module):
    """F(texture, shape, c_noise, condition): three levels, one block per level on the way down and up.

    Attention follows the blocks of the coarsest level and, on the way up, of the middle level.
    """

    frequencies: Tensor

    def __init__(self, c: DenoiserConfig):
        super().__init__()
        w0, w1, w2 = c.widths
        self.emb = nn.Sequential(nn.Linear(c.emb, c.emb), nn.SiLU(), nn.Linear(c.emb, c.emb))
        self.embedding = nn.Linear(c.embedding, c.emb)
        self.null_embedding = nn.Parameter(torch.zeros(c.emb))
        self.condition = ConditionEncoder(c)
        self.stem = nn.Conv2d(2 * c.latent, w0, 3, padding=1)
        self.position = nn.Parameter(torch.zeros(w0, c.size, c.size))  # the atlas' layout is fixed
        plan = [(w0, w0, 0), (w1, w1, 1), (w2, w2, 2), (w2, w2, 2), (w2, w2, 2), (w1 + w1, w1, 1), (w0 + w0, w0, 0)]
        self.levels = [level for _, _, level in plan]
        self.blocks = nn.ModuleList(Block(i, o, c) for i, o, _ in plan)
        self.downs = nn.ModuleList([nn.Conv2d(w0, w1, 2, stride=2), nn.Conv2d(w1, w2, 2, stride=2)])
        self.ups = nn.ModuleList([nn.Conv2d(w2, w1, 1), nn.Conv2d(w1, w0, 1)])
        (h1, h2) = c.heads
        self.attentions = nn.ModuleList([Attention(w2, h2, c), Attention(w2, h2, c), Attention(w1, h1, c)])
        self.out = zero_init(nn.Conv2d(w0, c.latent, 3, padding=1))
        self.out_norm = nn.GroupNorm(w0 // 16, w0)
        self.shape_in = nn.Linear(c.shape, c.mlp)
        self.exchanges = nn.ModuleList(Exchange(w, c, i == 5) for i, w in enumerate((w0, w1, w2, w2, w1, w0)))
        self.shape_out = zero_init(nn.Linear(c.mlp, c.shape))
        # numpy instead of torch: see `autoencoder.init_normal_`. float16, because a checkpoint stores them so
        frequencies = np.geomspace(0.5, 60.0, c.emb // 2).astype(np.float16).tolist()
        self.register_buffer("frequencies", torch.tensor(frequencies))

    def prepare(self, embedding: Tensor, activations: list[Tensor], drop: Tensor | None = None) -> Prepared:
        """Standardised features -> Prepared without its Gaussian.

        embedding: `[B, D]`
        activations: `[B, C, h, w]` each, fine to coarse
        drop: `[B]` bool, entries that get the null condition; None drops none
        """
        maps = self.condition(embedding, activations)
        emb = self.embedding(embedding)
        if drop is not None:
            maps = [
                torch.where(drop[:, None, None, None], n.to(m), m)
                for n, m in zip(self.condition.null, maps, strict=True)
            ]
            emb = torch.where(drop[:, None], self.null_embedding.to(emb), emb)
        return self._modulations(emb, maps)

    def prepare_null(self) -> Prepared:
        """Prepared of the null condition, batch 1."""
        return self._modulations(self.null_embedding[None], [n[None] for n in self.condition.null])

    def _modulations(self, emb: Tensor, maps: list[Tensor]) -> Prepared:
        """Embedding `[B, E]` and condition maps of each level -> what blocks and attention layers use."""
        blocks = [cast(Block, block) for block in self.blocks]
        attentions = [cast(Attention, attention) for attention in self.attentions]
        spade = [block.modulation(maps[i]) for block, i in zip(blocks, self.levels, strict=True)]
        tokens = [attention.photo_tokens(maps[2]) for attention in attentions]
        return Prepared(emb, spade, tokens)

    def forward(self, x: Tensor, s: Tensor, c_noise: Tensor, cond: Prepared) -> tuple[Tensor, Tensor]:
        """Network output for texture `[B, C, h, w]` and shape `[B, K]`.

        x: `[B, 2 C, h, w]`, scaled noisy texture and the prior's posterior mean
        s: `[B, K]`, scaled noisy shape
        c_noise: `[B]`, ln(sigma) / 4 (EDM, table 1)
        cond: of `prepare` or `prepare_null`
        """
        phase = c_noise[:, None] * self.frequencies
        base = emb = F.silu(self.emb(torch.cat([phase.cos(), phase.sin()], 1)) + cond.emb)
        blocks = iter(zip(self.blocks, cond.spade, strict=True))
        attentions = iter(zip(self.attentions, cond.tokens, strict=True))
        exchanges = iter(self.exchanges)

        def block(h: Tensor, emb: Tensor, attend: bool) -> Tensor:
            layer, spade = next(blocks)
            h = layer(h, emb, spade)
            if attend:
                attention, tokens = next(attentions)
                h = attention(h, tokens)
            return h

        s = self.shape_in(s)
        h = self.stem(x)
        h = h + self.position.to(h)  # cast: under autocast the whole residual stream stays in bfloat16
        h0 = block(h, emb, False)
        s, emb = next(exchanges)(s, h0, base)
        h1 = block(self.downs[0](h0), emb, False)
        s, emb = next(exchanges)(s, h1, base)
        h2 = block(self.downs[1](h1), emb, False)
        s, emb = next(exchanges)(s, h2, base)
        h = block(h2, emb, True)
        h = block(h, emb, True)
        s, emb = next(exchanges)(s, h, base)
        h = F.interpolate(self.ups[0](h), scale_factor=2.0)
        h = block(torch.cat([h, h1], 1), emb, True)
        s, emb = next(exchanges)(s, h, base)
        h = F.interpolate(self.ups[1](h), scale_factor=2.0)
        h = block(torch.cat([h, h0], 1), emb, False)
        s, _ = next(exchanges)(s, h, base)
        return self.out(F.silu(self.out_norm(h))), self.shape_out(F.layer_norm(s, s.shape[1:]))
