"""A small UNet that says what the unwrapped photo shows: albedo, light, and what is not this person's skin.

It starts from the albedo that the identity's prior expects. It answers how the log albedo differs from it, how sure it
is, what the log shading is, and the class of each texel. Albedo and shading have `COARSE` texels a side, because only
their broad bands are wanted. The classes have `SIZE`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..small_unet import blocks_down, blocks_up, down_and_up
from .classes import CLASSES
from .unwrapping import SIZE, UVPhoto

COARSE = 64
LEAST_ALBEDO, LEAST_COLOUR = 4e-3, 3e-3  # linear, before logarithms
SURE = 0.25  # share of a texel that must be seen
INPUTS = 34


@dataclass(frozen=True)
class DelighterConfig:
    """widths: features at 64, 32, 16 and 8 texels a side."""

    widths: tuple[int, ...] = (32, 56, 88, 120)


@dataclass(frozen=True)
class Delighted:
    """The network's answer about B photos.

    residual: `[B, 3, 64, 64]`, log albedo less that of the prior
    shading: `[B, 3, 64, 64]`, log of photo / albedo
    error, prior_error: `[B, 1, 64, 64]`, log of the expected error of the log albedo: with the residual, and without it
    classes: `[B, 8, 128, 128]`, logits of `CLASSES`
    """

    residual: Tensor
    shading: Tensor
    error: Tensor
    prior_error: Tensor
    classes: Tensor


def log_albedo(albedo: Tensor) -> Tensor:
    """Logarithm of a linear albedo."""
    return albedo.clamp(min=LEAST_ALBEDO).log()


def coarse_photo(photo: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Linear colour `[B, 3, 128, 128]`, share seen -> log colour `[B, 3, 64, 64]`, 0 where unseen, and share seen."""
    share = F.avg_pool2d(seen, SIZE // COARSE)
    share = share * (share > SURE)
    mean = F.avg_pool2d(photo * seen, SIZE // COARSE) / share.clamp(min=SURE)
    return mean.clamp(min=LEAST_COLOUR).log() * (share > 0), share


class Delighter(nn.Module):
    """The UNet (Ronneberger et al. 2015) on the atlas.

    mean: buffer `[3, 64, 64]`, mean log albedo of the training people
    """

    mean: Tensor
    place: Tensor

    def __init__(self, config: DelighterConfig | None = None):
        super().__init__()
        self.config = config or DelighterConfig()
        w = self.config.widths
        self.register_buffer("mean", torch.full((3, COARSE, COARSE), -1.5))
        self.stem = nn.Conv2d(INPUTS, w[0], 3, padding=1)
        self.down = blocks_down(w)
        self.whole = nn.Linear(w[-1], w[-1])  # the tone of the whole face, to every place
        self.up = blocks_up(w)
        self.out = nn.Conv2d(w[0], 3 + 3 + 2, 3, padding=1)
        self.label = nn.Conv2d(w[0] + 16, 4 * len(CLASSES), 3, padding=1)
        with torch.no_grad():  # begins with the prior's albedo
            self.out.weight.mul_(0.1)
            self.out.bias.copy_(torch.tensor([0.0] * 6 + [-2.2] * 2))  # type: ignore[union-attr]
        t = (torch.arange(COARSE) + 0.5) / (COARSE / 2) - 1
        self.register_buffer("place", torch.stack(torch.meshgrid(t, t, indexing="ij"))[None], persistent=False)

    def describe(self) -> dict:
        """The architecture, for metadata."""
        return asdict(self.config)

    def inputs(self, colour: Tensor, seen: Tensor, facing: Tensor, normal: Tensor, prior: Tensor) -> Tensor:
        """Input planes `[B, INPUTS, 64, 64]`; arguments as `forward`."""
        log, share = coarse_photo(colour, seen)
        on = (share > 0).to(log)
        total = share.sum((2, 3), keepdim=True).clamp(min=1)

        def mean(x: Tensor) -> Tensor:
            return (x * share).sum((2, 3), keepdim=True) / total

        tint = mean(log)
        level = tint.mean(1, keepdim=True)
        ratio = (log - prior) * on
        ratio = (ratio - mean(ratio).mean(1, keepdim=True)) * on
        fine = (colour.clamp(min=LEAST_COLOUR).log() - level) * (seen > SURE)
        whole = torch.cat([level, tint[:, ::2] - level, mean(prior - self.mean)], 1).expand(-1, -1, COARSE, COARSE)
        planes = [
            F.pixel_unshuffle(torch.cat([fine, seen], 1), SIZE // COARSE),
            ratio,
            prior - self.mean,
            F.avg_pool2d(facing, SIZE // COARSE),
            normal,
            self.place.to(log).expand(len(log), -1, -1, -1),
            whole,
        ]
        return torch.cat(planes, 1)

    def forward(self, colour: Tensor, seen: Tensor, facing: Tensor, normal: Tensor, prior: Tensor) -> Delighted:
        """Delight B unwrapped photos.

        colour: `[B, 3, 128, 128]` linear. seen, facing: `[B, 1, 128, 128]`. normal: `[B, 3, 64, 64]` (see `UVPhoto`)
        prior: `[B, 3, 64, 64]`, log albedo of the prior's mean
        """
        planes = self.inputs(colour, seen, facing, normal, prior)
        x = down_and_up(
            self.stem(planes), self.down, self.up, lambda x: x + self.whole(x.mean((2, 3)))[:, :, None, None]
        )
        y = self.out(x).float()
        classes = F.pixel_shuffle(self.label(torch.cat([x, planes[:, :16].to(x)], 1)).float(), SIZE // COARSE)
        return Delighted(y[:, :3], y[:, 3:6], y[:, 6:7].clamp(-5, 1), y[:, 7:].clamp(-5, 1), classes)

    @torch.no_grad()
    def delight(self, photo: UVPhoto, prior: Tensor | None = None) -> Delighted:
        """The answer about one unwrapped photo.

        prior: linear albedo `[1, 3, h, w]` of the prior's mean; None for a person of whom nothing is known
        """
        if prior is None:
            coarse = self.mean[None]
        else:
            coarse = log_albedo(F.interpolate(prior.clamp(0, 1), (COARSE, COARSE), mode="area"))
        normal = F.avg_pool2d(photo.normal, SIZE // COARSE)
        return self(photo.colour[:, :3], photo.seen, photo.facing, normal, coarse)
