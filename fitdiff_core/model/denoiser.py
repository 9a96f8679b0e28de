"""The denoiser: a UNet on the texture latent, an MLP on the shape vector, both conditioned on a recogniser's features.

- Preconditioning in the sense of EDM (arXiv 2206.00364), apart from the network: with the Gaussian of `LinearPrior`
  in place of N(0, I).
- The recogniser's activation layers steer the UNet through SPADE (Park et al. 2019, arXiv 1903.07291), and as tokens of
  its attention layers, because the photo and the atlas are only roughly aligned.
- Embedding and sigma steer it through adaptive group norm (Dhariwal & Nichol 2021, arXiv 2105.05233).
- Shape and texture branches exchange adaptive-norm signals (measured against tokens, DiT and extra channels: best).
- What a linear model knows of texture and shape is not left to the network: see `prior`.
Everything that depends on the condition alone is computed once (`prepare`) and serves every step of a sampler.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..errors import UserError
from .linear_prior import Belief, LinearPrior, pooled
from .shape_encoder import ShapeReader


@dataclass(frozen=True)
class DenoiserConfig:
    """latent, size: texture latent [latent, size, size]; shape: K; embedding, activations: the recogniser's dimension
    and its layers' channels, fine to coarse; widths: UNet features at size, size/2, size/4; heads: of the attention at
    the two coarser levels; cond: features of the spatial condition; emb: width of the modulating vector; mlp: width of
    the shape branch; modes: of the texture in the linear prior; cells: a side that it reads of each activation layer;
    reader: widths and features of the `ShapeReader`, which it reads besides."""

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
class Condition:
    """What a recogniser saw: embedding `[B, D]` and activation layers, each `[B, C, h, w]`, fine to coarse; and the single
    photos (`identity.View`) that the shape is read in, where they are known."""

    embedding: Tensor
    activations: tuple[Tensor, ...]
    views: tuple = ()
    prepared: tuple[Tensor, Prepared] | None = field(default=None, repr=False, compare=False)


@dataclass
class Prepared:
    """A condition as the network uses it. emb `[B, E]`; spade: (scale, shift) for each UNet block; tokens: (key, value)
    of each attention layer; belief: what the linear prior expects. B is 1 or the batch's."""

    emb: Tensor
    spade: list[tuple[Tensor, Tensor]]
    tokens: list[tuple[Tensor, Tensor]]
    belief: Belief | None = None


def pack_latent(texture: Tensor, shape: Tensor) -> Tensor:
    """texture `[B, C, h, w]`, shape `[B, K]`, K <= h w -> `[B, C + 1, h, w]`; the last plane is the shape, row by row,
    then zeros."""
    h, w = texture.shape[2:]
    if shape.shape[1] > h * w:
        raise UserError(f"A shape vector of {shape.shape[1]} does not fit a {h} x {w} plane.")
    plane = rearrange(F.pad(shape, (0, h * w - shape.shape[1])), "b (h w) -> b 1 h w", h=h)
    return torch.cat([texture, plane.to(texture)], 1)


def unpack_latent(x: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """`[B, C + 1, h, w]` -> texture `[B, C, h, w]`, shape `[B, n]`: the inverse of `pack_latent`."""
    return x[:, :-1], rearrange(x[:, -1], "b h w -> b (h w)")[:, :n]


def normalised(layer: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """An activation layer `[B, C, h, w]`, by its channels' statistics `[C]`."""
    return (layer.float() - mean[:, None, None]) / std[:, None, None]


def zeroed(layer: nn.Module) -> nn.Module:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def modulate(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return x * (1 + scale) + shift


class Block(nn.Module):
    """Residual block: AdaGN and SPADE modulate the first normalisation, AdaGN the second."""

    def __init__(self, i: int, o: int, c: DenoiserConfig):
        super().__init__()
        self.norm1, self.norm2 = (nn.GroupNorm(n // 16, n, affine=False) for n in (i, o))
        self.emb = zeroed(nn.Linear(c.emb, 2 * i + 2 * o))
        self.split = (i, i, o, o)
        self.spade = zeroed(nn.Conv2d(c.cond, 2 * i, 1))
        self.conv1 = nn.Conv2d(i, o, 3, padding=1)
        self.conv2 = zeroed(nn.Conv2d(o, o, 3, padding=1))
        self.skip = nn.Conv2d(i, o, 1) if i != o else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor, spade: tuple[Tensor, Tensor]) -> Tensor:
        scale1, shift1, scale2, shift2 = self.emb(emb)[:, :, None, None].split(self.split, 1)
        h = self.conv1(F.silu(modulate(self.norm1(x), scale1 + spade[0], shift1 + spade[1])))
        h = self.conv2(F.silu(modulate(self.norm2(h), scale2, shift2)))
        return self.skip(x) + h


class Attention(nn.Module):
    """Self-attention over the atlas' cells, which also see the photo's tokens."""

    def __init__(self, width: int, heads: int, c: DenoiserConfig):
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(width // 16, width)
        self.qkv = nn.Conv2d(width, 3 * width, 1)
        self.photo = nn.Conv2d(c.cond, 2 * width, 1)
        self.out = zeroed(nn.Conv2d(width, width, 1))

    def tokens(self, x: Tensor) -> Tensor:
        return rearrange(x, "b (heads d) h w -> b heads (h w) d", heads=self.heads)

    def forward(self, x: Tensor, photo: tuple[Tensor, Tensor]) -> Tensor:
        q, k, v = (self.tokens(t) for t in self.qkv(self.norm(x)).chunk(3, 1))
        k, v = (torch.cat([a, b.to(a).expand(len(x), -1, -1, -1)], 2) for a, b in zip((k, v), photo, strict=True))
        y = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(rearrange(y, "b heads (h w) d -> b (heads d) h w", h=x.shape[2]))


class Exchange(nn.Module):
    """One residual block of the shape branch; it reads the UNet's pooled features and, but for the last, hands a signal
    back."""

    def __init__(self, width: int, c: DenoiserConfig, last: bool):
        super().__init__()
        self.norm = nn.LayerNorm(c.mlp, elementwise_affine=False)
        self.pool = nn.Linear(width, c.emb)
        self.emb = zeroed(nn.Linear(c.emb, 2 * c.mlp))
        self.a = nn.Linear(c.mlp, 2 * c.mlp)
        self.b = zeroed(nn.Linear(2 * c.mlp, c.mlp))
        self.signal = None if last else zeroed(nn.Linear(c.mlp, c.emb))

    def forward(self, s: Tensor, h: Tensor, emb: Tensor) -> tuple[Tensor, Tensor]:
        """s [B, mlp], UNet features h [B, width, ...], emb [B, E] -> (s, emb for the UNet's next level)"""
        scale, shift = self.emb(F.silu(emb + self.pool(h.mean((2, 3))))).chunk(2, 1)
        s = s + self.b(F.silu(self.a(modulate(self.norm(s), scale, shift))))
        return s, emb if self.signal is None else emb + self.signal(self.norm(s))


class ConditionEncoder(nn.Module):
    """Activation layers, resized to the UNet's levels and fused coarse to fine, one learned null condition a level."""

    def __init__(self, c: DenoiserConfig):
        super().__init__()
        self.sizes = (c.size, c.size // 2, c.size // 4)
        self.reads = nn.ModuleList(nn.Conv2d(a, c.cond, 3, padding=1) for a in c.activations)
        self.embedding = nn.Linear(c.embedding, c.cond)
        self.mixes = nn.ModuleList(nn.Conv2d(c.cond, c.cond, 3, padding=1) for _ in c.activations)
        self.null = nn.ParameterList(torch.zeros(c.cond, s, s) for s in self.sizes)

    def forward(self, embedding: Tensor, activations: list[Tensor]) -> list[Tensor]:
        """-> [B, cond, s, s] for each level, fine to coarse"""
        coarse = self.embedding(embedding)[:, :, None, None]
        levels = []
        for read, mix, size, a in list(zip(self.reads, self.mixes, self.sizes, activations, strict=True))[::-1]:
            a = F.interpolate(a, (size, size), mode="bilinear", antialias=True)
            if levels:
                coarse = F.interpolate(coarse, (size, size), mode="bilinear")
            h = F.silu(read(a) + coarse)
            coarse = h + mix(h)
            levels.append(coarse)
        return levels[::-1]


class UNet(nn.Module):
    """F(texture, shape, c_noise, condition): three levels, a block each way, attention at the two coarser ones."""

    def __init__(self, c: DenoiserConfig):
        super().__init__()
        w0, w1, w2 = c.widths
        self.emb = nn.Sequential(nn.Linear(c.emb, c.emb), nn.SiLU(), nn.Linear(c.emb, c.emb))
        self.embedding = nn.Linear(c.embedding, c.emb)
        self.null_embedding = nn.Parameter(torch.zeros(c.emb))
        self.condition = ConditionEncoder(c)
        self.stem = nn.Conv2d(2 * c.latent, w0, 3, padding=1)
        self.position = nn.Parameter(torch.zeros(w0, c.size, c.size))  # the atlas never moves
        plan = [(w0, w0, 0), (w1, w1, 1), (w2, w2, 2), (w2, w2, 2), (w2, w2, 2), (w1 + w1, w1, 1), (w0 + w0, w0, 0)]
        self.levels = [level for _, _, level in plan]
        self.blocks = nn.ModuleList(Block(i, o, c) for i, o, _ in plan)
        self.downs = nn.ModuleList([nn.Conv2d(w0, w1, 2, stride=2), nn.Conv2d(w1, w2, 2, stride=2)])
        self.ups = nn.ModuleList([nn.Conv2d(w2, w1, 1), nn.Conv2d(w1, w0, 1)])
        (h1, h2) = c.heads
        self.attentions = nn.ModuleList([Attention(w2, h2, c), Attention(w2, h2, c), Attention(w1, h1, c)])
        self.out = zeroed(nn.Conv2d(w0, c.latent, 3, padding=1))
        self.out_norm = nn.GroupNorm(w0 // 16, w0)
        self.shape_in = nn.Linear(c.shape, c.mlp)
        self.exchanges = nn.ModuleList(Exchange(w, c, i == 5) for i, w in enumerate((w0, w1, w2, w2, w1, w0)))
        self.shape_out = zeroed(nn.Linear(c.mlp, c.shape))
        # numpy's, not torch's: see `autoencoder.normal_`; halves, as a checkpoint stores them
        frequencies = np.geomspace(0.5, 60.0, c.emb // 2).astype(np.float16).tolist()
        self.register_buffer("frequencies", torch.tensor(frequencies))

    def prepare(self, embedding: Tensor, activations: list[Tensor], drop: Tensor | None = None) -> Prepared:
        """Normalised features -> Prepared. drop [B] bool: entries that see the null condition instead."""
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
        return self._modulations(self.null_embedding[None], [n[None] for n in self.condition.null])

    def _modulations(self, emb: Tensor, maps: list[Tensor]) -> Prepared:
        spade = [tuple(b.spade(maps[i]).chunk(2, 1)) for b, i in zip(self.blocks, self.levels, strict=True)]
        tokens = [tuple(a.tokens(t) for t in a.photo(maps[2]).chunk(2, 1)) for a in self.attentions]
        return Prepared(emb, spade, tokens)

    def forward(self, x: Tensor, s: Tensor, c_noise: Tensor, cond: Prepared) -> tuple[Tensor, Tensor]:
        """x [B, 2 latent, h, w] (noisy, and the linear estimate), s [B, K], c_noise [B] -> [B, latent, h, w], [B, K]"""
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
        h = h + self.position.to(h)  # not promoted: under autocast the whole residual stream stays in bfloat16
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


class Denoiser(nn.Module):
    """D(x; sigma, condition), EDM's preconditioning around `UNet`, for packed latents (`pack_latent`)."""

    def __init__(self, config: DenoiserConfig | None = None):
        super().__init__()
        self.config = c = config or DenoiserConfig()
        self.net = UNet(c)
        # the training set's statistics of the recogniser's features
        self.register_buffer("embedding_mean", torch.zeros(c.embedding))
        self.register_buffer("embedding_std", torch.ones(c.embedding))
        for i, n in enumerate(c.activations):
            self.register_buffer(f"activation_mean_{i}", torch.zeros(n))
            self.register_buffer(f"activation_std_{i}", torch.ones(n))
        read = c.embedding + sum(n * cells**2 for n, cells in zip(c.activations, c.cells, strict=True)) + c.reader[-1]
        self.prior = LinearPrior(c.latent, c.size, c.shape, c.modes, read)
        self.reader = ShapeReader(c.activations, c.reader).requires_grad_(False)

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
        """x `[B, C + 1, h, w]`, sigma `[B]` -> denoised, x's shape.

        cond: batch 1 or B; None = unconditional. cfg_scale: classifier-free guidance (Ho & Salimans 2022,
        arXiv 2207.12598), 1 = the condition alone, 0 = unconditional. drop `[B]`: entries trained without condition.
        Raises UserError where the condition is not of this model's recogniser, by its shapes.
        """
        if cond is None or cfg_scale == 0:
            return self._denoise(x, sigma, self.prepare_null())
        denoised = self._denoise(x, sigma, self._prepared(cond, drop))
        if cfg_scale == 1:
            return denoised
        null = self._denoise(x, sigma, self.prepare_null())
        return null + cfg_scale * (denoised - null)

    def prepare(self, cond: Condition, drop: Tensor | None = None) -> Prepared:
        """The part of the network that depends on the condition alone."""
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
            belief = self.prior.belief(self.read(embedding, activations))
            if cond.views:
                belief = self.prior.with_shape(belief, self._shape(cond.views))
        if drop is not None:
            null = self.prior.nothing()
            belief = Belief(
                torch.where(drop[:, None], null.mean, belief.mean),
                torch.where(drop[:, None], null.variance, belief.variance),
            )
        prepared.belief = belief
        return prepared

    def _shape(self, views: tuple) -> Tensor:
        """The mean of the shape `[B, K]` by single photos and their mirror images, each photo with its weight."""
        total = 0
        for view in views:
            photo, mirrored = (self.prior.belief(self.read(*self.normalise(f))) for f in (view.photo, view.mirrored))
            total = total + view.weight[:, None] * self.prior.both_sides(photo, mirrored)
        return total

    def normalise(self, cond: Condition) -> tuple[Tensor, list[Tensor]]:
        """Embedding `[B, D]` and activation layers of zero mean and unit variance over the training photos."""
        embedding = (cond.embedding.float() - self.embedding_mean) / self.embedding_std
        return embedding, [
            normalised(a, getattr(self, f"activation_mean_{i}"), getattr(self, f"activation_std_{i}"))
            for i, a in enumerate(cond.activations)
        ]

    def read(self, embedding: Tensor, activations: list[Tensor]) -> Tensor:
        """Normalised features -> `[B, F]`, what the linear prior is a regression on: pooled layers, the reader's features last."""
        return torch.cat([pooled(embedding, activations, self.config.cells), self.reader(activations)], 1)

    def prepare_null(self) -> Prepared:
        prepared = self.net.prepare_null()
        prepared.belief = self.prior.nothing()
        return prepared

    def _prepared(self, cond: Condition, drop: Tensor | None) -> Prepared:
        if self.training:
            return self.prepare(cond, drop)
        if cond.prepared is None or cond.prepared[0] is not self.embedding_mean:
            # normal tensors even under ComfyUI's inference mode: guidance may differentiate through them later
            with torch.inference_mode(False), torch.no_grad():
                cond.prepared = self.embedding_mean, self.prepare(cond)
        return cond.prepared[1]

    def _denoise(self, x: Tensor, sigma: Tensor, prepared: Prepared) -> Tensor:
        texture, shape = unpack_latent(x, self.config.shape)
        s = sigma.to(x).view(-1, 1)
        c_in = (1 + s * s).rsqrt()
        linear = self.prior.posterior(texture, shape, sigma, prepared.belief)
        # the shape is seen less what the photo already tells of it
        mean, variance = (
            v.to(shape)[:, self.prior.n_modes :] for v in (prepared.belief.mean, prepared.belief.variance)
        )
        seen = torch.cat([texture * c_in[..., None, None], linear.texture], 1)
        f_texture, f_shape = self.net(
            seen.contiguous(memory_format=torch.channels_last),  # bfloat16 convolutions crawl without
            (shape - mean) * (variance + s * s).rsqrt(),
            s[:, 0].log() / 4,
            prepared,
        )
        return pack_latent(*self.prior.correct(linear, f_texture, f_shape))
