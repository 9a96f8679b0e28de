"""Branched KL autoencoder of the nine map channels: one shared trunk, three decoder heads.

FitDiff (arXiv 2312.04465) has the branched autoencoder; the KL-regularised latent is that of LDM (arXiv 2112.10752).
Maps of 512 x 512 texels become a latent of 16 x 32 x 32. All maps share one atlas. What is equal in all heads
(position of the lips, structure of the iris) therefore need not be in the latent: the mean map and a learned position
code are added. The convolutions have no normalisation layers (as in EDSR, arXiv 1707.02921). On a CPU those take as
long as the convolutions.

The decoder first produces a 256 x 256 image, which is enough for guidance. The 512 x 512 image adds detail whose mean
over each 2 x 2 block is zero. Area downsampling of the large image thus gives exactly the small one (in code values).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, cast, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UserError
from ..head.teeth import paint, patch_mask
from ..maps import TextureMaps

CHANNELS = 9  # diffuse 3, specular 3, normal 3
MAPS = ("diffuse", "specular", "normal")
FACTOR = 16  # downsampling factor: atlas texels per latent cell
SPIKE, SPIKE_THRESHOLD = 4, 0.08  # texels of the tested block; difference of a normal from its surroundings


@dataclass(frozen=True)
class AutoencoderConfig:
    """Sizes of the autoencoder. The field names are stored in the checkpoint's metadata and must not change.

    size: S, side of the maps in texels
    latent: C, channels of the latent
    widths: features at 1/4, 1/8 and 1/16 of `size`
    blocks: decoder residual blocks at 1/16, 1/8 and 1/4 of `size`
    head, detail: features of each decoder head at 1/4 and 1/2 of `size`
    grain: planes of fixed noise that the decoder gets as input
    """

    size: int = 512
    latent: int = 16
    widths: tuple[int, int, int] = (64, 128, 256)
    blocks: tuple[int, int, int] = (2, 1, 1)
    head: int = 32
    detail: int = 16
    grain: int = 2


class Reconstruction(NamedTuple):
    """Decoded codes and the latent's posterior.

    full: `[B, 9, H, W]`
    half: `[B, 9, H/2, W/2]`
    mean, log_variance: `[B, C, H/16, W/16]`, of the posterior
    """

    full: Tensor
    half: Tensor
    mean: Tensor
    log_variance: Tensor


def to_codes(maps: Tensor) -> Tensor:
    """Linear maps `[B, 9, H, W]` -> codes, -1..1: the square root of albedo (near to lightness), normals unchanged."""
    return torch.cat([maps[:, :6].clamp(min=0).sqrt() * 2 - 1, maps[:, 6:]], 1)


def from_codes(codes: Tensor) -> Tensor:
    """Inverse of `to_codes`; differentiable, albedo never negative."""
    return torch.cat([((codes[:, :6] + 1) / 2).clamp(min=0).square(), codes[:, 6:]], 1)


@torch.no_grad()
def init_normal_(x: Tensor, std: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
    """`x.normal_` in place, skipped on the meta device: there torch imports its compiler first, which takes seconds."""
    return x if x.is_meta else x.normal_(std=std, generator=generator)


def conv(i: int, o: int, kernel: int = 3, gain: float = 1.0) -> nn.Conv2d:
    """Convolution of equal output size; weights N(0, gain^2 / fan-in), bias 0."""
    layer = nn.Conv2d(i, o, kernel, padding=kernel // 2)
    init_normal_(layer.weight, gain * (i * kernel * kernel) ** -0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class ResBlock(nn.Module):
    """x + conv(silu(conv(silu(x)))). It begins near the identity, so that it trains without normalisation."""

    def __init__(self, width: int):
        super().__init__()
        self.a = conv(width, width, gain=1.6)
        self.b = conv(width, width, gain=0.2)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.b(F.silu(self.a(F.silu(x))))


class Down(nn.Sequential):
    """`[B, i, h, w]` -> `[B, o, h/2, w/2]`."""

    def __init__(self, i: int, o: int):
        super().__init__(nn.PixelUnshuffle(2), conv(4 * i, o, 1))


class Up(nn.Sequential):
    """`[B, i, h, w]` -> `[B, o, 2h, 2w]`."""

    def __init__(self, i: int, o: int):
        super().__init__(conv(i, 4 * o, 1), nn.PixelShuffle(2))


class Encoder(nn.Module):
    """Standardised codes `[B, 9, H, W]` -> the posterior's mean and log variance `[B, C, H/16, W/16]`."""

    def __init__(self, c: AutoencoderConfig):
        super().__init__()
        w = c.widths
        self.stem = nn.Sequential(nn.PixelUnshuffle(4), conv(CHANNELS * 16, w[0], 1))
        self.trunk = nn.Sequential(ResBlock(w[0]), Down(w[0], w[1]), ResBlock(w[1]), Down(w[1], w[2]))
        self.position = nn.Parameter(torch.zeros(w[2], c.size // FACTOR, c.size // FACTOR))
        self.tail = nn.Sequential(ResBlock(w[2]), nn.SiLU(), conv(w[2], 2 * c.latent, 1))

    def forward(self, x: Tensor, origin: Tensor | None) -> tuple[Tensor, Tensor]:
        h = self.trunk(self.stem(x))
        h = self.tail(h + crop_field(self.position, origin, h.shape[-2:]))
        mean, log_variance = h.chunk(2, 1)
        return mean, log_variance.clamp(-20, 4)


class MapHead(nn.Module):
    """Decoder branch of one map: trunk features `[B, W, h, w]` -> coarse `[B, 3, 2h, 2w]` and fine `[B, 3, 4h, 4w]`."""

    def __init__(self, c: AutoencoderConfig):
        super().__init__()
        self.features = conv(c.widths[0], c.head)
        self.coarse = nn.Sequential(nn.SiLU(), conv(c.head, 12, gain=0.3), nn.PixelShuffle(2))
        self.up = nn.Sequential(nn.SiLU(), Up(c.head, c.detail))
        self.grain = conv(c.grain, c.detail, 1, gain=0.1)
        self.fine = nn.Sequential(conv(c.detail, c.detail), nn.SiLU(), conv(c.detail, 12, gain=0.1), nn.PixelShuffle(2))


class Decoder(nn.Module):
    """A shared trunk up to 1/4 of the maps' size, then one `MapHead` per map."""

    grain_quarter: Tensor
    grain_half: Tensor

    def __init__(self, c: AutoencoderConfig):
        super().__init__()
        w, n = c.widths, c.blocks
        self.stem = conv(c.latent, w[2])
        self.position = nn.Parameter(torch.zeros(w[2], c.size // FACTOR, c.size // FACTOR))
        self.trunk = nn.Sequential(
            *(ResBlock(w[2]) for _ in range(n[0])),
            Up(w[2], w[1]),
            *(ResBlock(w[1]) for _ in range(n[1])),
            Up(w[1], w[0]),
        )
        self.grain = conv(c.grain, w[0], 1, gain=0.1)
        self.tail = nn.Sequential(*(ResBlock(w[0]) for _ in range(n[2])), nn.SiLU())
        self.heads = nn.ModuleDict({name: MapHead(c) for name in MAPS})
        generator = torch.Generator().manual_seed(0)
        for name, scale in (("quarter", 4), ("half", 2)):
            field = torch.empty(c.grain, c.size // scale, c.size // scale)
            self.register_buffer(f"grain_{name}", init_normal_(field, generator=generator))

    def forward(self, z: Tensor, origin: Tensor | None, detail: bool) -> tuple[Tensor, Tensor | None]:
        """Latent `[B, C, h, w]` -> half `[B, 9, 8h, 8w]` and detail `[B, 9, 16h, 16w]` (None unless `detail`).

        Both are residuals to the mean map, in units of `MapAutoencoder.map_std`. origin: as in `crop_field`.
        """
        h = self.stem(z)
        h = self.trunk(h + crop_field(self.position, origin, h.shape[-2:]))
        h = self.tail(h + self.grain(crop_field(self.grain_quarter, origin, h.shape[-2:], 4)))
        heads = [cast(MapHead, head) for head in self.heads.values()]
        features = [head.features(h) for head in heads]
        half = torch.cat([head.coarse(f) for head, f in zip(heads, features, strict=True)], 1)
        if not detail:
            return half, None
        fine = []
        noise = crop_field(self.grain_half, origin, half.shape[-2:], 8)
        for head, f in zip(heads, features, strict=True):
            fine.append(head.fine(F.silu(head.up(f) + head.grain(noise))))
        return half, torch.cat(fine, 1)


def crop_field(field: Tensor, origin: Tensor | None, shape: torch.Size, cell: int = 1) -> Tensor:
    """Crops `[B, C, h, w]` of an atlas-wide field, or the whole field `[1, C, S, S]`.

    field: `[C, S, S]`
    origin: `[B, 2]`, (row, column) of each crop in latent cells; None for the whole atlas
    shape: (h, w) of the crop in the field's pixels
    cell: field pixels per latent cell
    Raises ValueError if origin is None and the field has another shape.
    """
    h, w = shape
    if origin is None:
        if field.shape[-2:] != (h, w):
            raise ValueError(f"a whole atlas here is {tuple(field.shape[-2:])}, not {(h, w)}; give the crop's origin")
        return field[None]
    return torch.stack([field[:, y * cell : y * cell + h, x * cell : x * cell + w] for y, x in origin.tolist()])


def remove_spikes(maps: Tensor) -> Tensor:
    """Maps `[B, 9, S, S]` without spikes in the normals.

    On smooth skin the decoder's pixel shuffles cause spikes, 2 texels wide, at the middle of some latent cells' edges.
    Each such block is compared with the median of its surroundings and replaced by it if they differ by more than
    `SPIKE_THRESHOLD`.
    """
    size, inside, around = maps.shape[-1], slice(SPIKE, 2 * SPIKE), torch.ones(3 * SPIKE, 3 * SPIKE, dtype=torch.bool)
    around[inside, inside] = False
    out = maps.clone()
    edge = torch.arange(0, size + 1, FACTOR)
    near = torch.arange(3 * SPIKE) - 3 * SPIKE // 2
    for across, along in ((edge, edge[:-1] + FACTOR // 2), (edge[:-1] + FACTOR // 2, edge)):
        rows, columns = ((x[:, None] + near).clamp(0, size - 1).to(maps.device) for x in (across, along))
        patches = maps[:, 6:8, rows[:, None, :, None], columns[None, :, None, :]]  # [B, 2, I, J, 3 SPIKE, 3 SPIKE]
        usual = patches[..., around.to(maps.device)].median(-1).values[..., None, None]
        centre = patches[..., inside, inside]
        stands_out = (centre - usual).square().sum(1, keepdim=True) > SPIKE_THRESHOLD**2
        at = rows[:, None, inside, None], columns[None, :, None, inside]
        out[(slice(None), slice(6, 8), *at)] = torch.where(stands_out, usual, centre)
    return out


class MapAutoencoder(nn.Module):
    """Maps <-> latents of unit variance; see the module's docstring. `fitdiff_lab.train.autoencoder` trains it.

    config: sizes; None for the defaults
    """

    map_mean: Tensor
    map_std: Tensor
    half_mean: Tensor | None
    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: AutoencoderConfig | None = None):
        super().__init__()
        self.config = c = config or AutoencoderConfig()
        self.encoder = Encoder(c)
        self.decoder = Decoder(c)
        # set from the data before training
        self.register_buffer("map_mean", torch.zeros(CHANNELS, c.size, c.size))
        self.register_buffer("map_std", torch.ones(CHANNELS))
        self.register_buffer("half_mean", None, persistent=False)
        # set from the encoded data after training
        self.register_buffer("latent_mean", torch.zeros(c.latent))
        self.register_buffer("latent_std", torch.ones(c.latent))

    @property
    def latent_size(self) -> int:
        """Side of the whole atlas' latent in cells: S / 16."""
        return self.config.size // FACTOR

    def encode(self, maps: Tensor) -> Tensor:
        """Linear maps `[B, 9, S, S]` (`TextureMaps.stack`) -> latent `[B, C, S/16, S/16]`, unit variance per channel.

        Raises UserError for maps of another size.
        """
        s = self.config.size
        if maps.shape[1:] != (CHANNELS, s, s):
            raise UserError(
                f"The autoencoder takes maps of 9 x {s} x {s}, not {tuple(maps.shape[1:])}; resize them first."
            )
        return self.normalise(self.posterior_mean(to_codes(maps)))

    def posterior_mean(self, codes: Tensor) -> Tensor:
        """Codes `[B, 9, S, S]` -> the posterior's mean `[B, C, S/16, S/16]`, not standardised. Teeth are left out."""
        return self._posterior(torch.where(patch_mask(codes.shape[-1], codes.device), self.map_mean, codes), None)[0]

    def normalise(self, mean: Tensor) -> Tensor:
        """Posterior mean -> latent of unit variance per channel, both `[B, C, h, w]`."""
        return (mean - self.latent_mean[:, None, None]) / self.latent_std[:, None, None]

    def decode(self, latent: Tensor, size: int | None = None) -> Tensor:
        """Linear maps `[B, 9, size, size]` of a latent `[B, C, S/16, S/16]`. Differentiable.

        size: S (default) or S/2, which is several times cheaper and serves guidance
        Albedo is at least 0 and may slightly exceed 1; normals are not normalised (`TextureMaps.from_stack` corrects
        both). The teeth are the same in all heads. Raises UserError for another latent or size.
        """
        s, n = self.config.size, self.latent_size
        size = size or s
        if latent.shape[1:] != (self.config.latent, n, n):
            raise UserError(
                f"The latent is {tuple(latent.shape[1:])}, this model's is {(self.config.latent, n, n)}; "
                "it was made by another model."
            )
        if size not in (s, s // 2):
            raise UserError(f"The autoencoder decodes to {s} or {s // 2} texels a side, not {size}.")
        z = latent * self.latent_std[:, None, None] + self.latent_mean[:, None, None]
        full, half = self._decode(z, None, detail=size == s)
        return paint(from_codes(half if full is None else full))

    def maps(self, latent: Tensor) -> TextureMaps:
        """Latent `[B, C, S/16, S/16]` -> final maps: unit normals, no spikes. No gradient."""
        # one latent at a time, to limit memory
        with torch.no_grad():
            return TextureMaps.from_stack(torch.cat([remove_spikes(self.decode(z[None])) for z in latent]))

    def forward(
        self, codes: Tensor, origin: Tensor | None = None, noise: Tensor | None = None, keep: Tensor | None = None
    ) -> Reconstruction:
        """Encode and decode codes, for training.

        codes: `[B, 9, H, W]`, the whole atlas or crops of it; sides are multiples of 16
        origin: `[B, 2]`, (row, column) of each crop in latent cells; None for the whole atlas
        noise: `[B, C, H/16, W/16]`, unit noise of the posterior sample; None decodes the posterior's mean
        keep: `[B]`, 0..1, factor on the latent's difference from the mean latent before decoding; None leaves it
        """
        mean, log_variance = self._posterior(codes, origin)
        z = mean if noise is None else mean + (0.5 * log_variance).exp() * noise
        if keep is not None:
            z = torch.lerp(self.latent_mean[:, None, None].to(z), z, keep.view(-1, 1, 1, 1).to(z))
        full, half = self._decode(z, origin, detail=True)
        return Reconstruction(full, half, mean, log_variance)

    def _posterior(self, codes: Tensor, origin: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean and log variance `[B, C, H/16, W/16]` of codes `[B, 9, H, W]`."""
        centred = codes - crop_field(self.map_mean, origin, codes.shape[-2:], FACTOR)
        return self.encoder(centred.div_(self.map_std[:, None, None]), origin)

    @overload
    def _decode(self, z: Tensor, origin: Tensor | None, detail: Literal[True]) -> tuple[Tensor, Tensor]: ...

    @overload
    def _decode(self, z: Tensor, origin: Tensor | None, detail: bool) -> tuple[Tensor | None, Tensor]: ...

    def _decode(self, z: Tensor, origin: Tensor | None, detail: bool) -> tuple[Tensor | None, Tensor]:
        """Codes at full (None unless `detail`) and half size of a latent that is not standardised."""
        scale = self.map_std[:, None, None]
        half, fine = self.decoder(z, origin, detail)
        half = half.float() * scale
        if fine is None and origin is None and not self.training:
            return None, half + self._half_mean()
        shape = (2 * half.shape[-2], 2 * half.shape[-1])
        mean = crop_field(self.map_mean, origin, torch.Size(shape), FACTOR)
        full = None
        if fine is not None:
            up = F.interpolate(half, scale_factor=2, mode="bilinear", align_corners=False)
            full = up + fine.float() * scale
            full = full + F.interpolate(half - F.avg_pool2d(full, 2), scale_factor=2, mode="nearest") + mean
        return full, half + F.avg_pool2d(mean, 2)

    def _half_mean(self) -> Tensor:
        """The mean map at half the size, `[1, 9, S/2, S/2]`, kept for the many decodings of a guided run."""
        if self.half_mean is None:
            self.half_mean = F.avg_pool2d(self.map_mean[None], 2)
        return self.half_mean
