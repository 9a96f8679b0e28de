"""The broad colour of the skin belongs to the identity's prior; guidance may not repaint it.

A photo tells the broad colour of the skin badly: exposure, white balance and light that the scene's model cannot
express look the same, and hats, glasses and fringes are painted into the skin. The mean of the identity's linear prior
tells it better (figures in docs/design.md). So the low band of the log albedo over the face is taken from there. What
lies above this band, features and detail, is the photo's. The reference is the prior's mean with what the delighting
network sees in the photo.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ..contrast import ContrastLimits
from ..delight.classes import SKIN
from ..delight.reading import PhotoReading
from ..errors import UserError
from ..filters import gaussian_blur
from ..maps import ALBEDO_EPSILON

COARSE = 64  # texels a side at which the low band is computed
BLOOD = (0.78, -0.59, -0.19)  # log albedo (RGB) that more blood changes, at equal lightness, unit length
MUCH_BLOOD = 0.3  # along BLOOD, from which the light is more likely the cause
SURELY_SKIN, LEAST_TEXELS = 0.6, 200  # least probability of a texel times the share seen, and least count of them
LEAST_WEIGHT = 0.02  # weight of "no difference", which decides far from plain skin


@dataclass(frozen=True)
class BroadColour:
    """How the broad colour is held.

    sigma: width of the Gaussian that separates the bands, as a share of the atlas' side, 0 turns it off
    residual: share, 0..1, of the delighting network's difference from the prior's mean that is added
    redness: share, 0..1, of the photo's redness that is the skin's and not the light's (`with_redness`)
    """

    sigma: float = 0.08
    residual: float = 1.0
    redness: float = 0.6

    def __post_init__(self) -> None:
        if not 0 <= self.sigma <= 0.5:
            raise UserError(f"The width of the broad colour must be from 0 to 0.5, not {self.sigma}.")
        if not 0 <= self.residual <= 1:
            raise UserError(f"The share of the residual must be from 0 to 1, not {self.residual}.")
        if not 0 <= self.redness <= 1:
            raise UserError(f"The share of the redness must be from 0 to 1, not {self.redness}.")


def with_residual(diffuse: Tensor, readings: Sequence[PhotoReading | None], share: float) -> Tensor:
    """The prior's mean albedo with what the delighting network sees in the photos.

    diffuse: linear `[B, 3, h, w]`; all B are one person's. readings: of the photos; each counts by its expected error
    """
    if share <= 0 or not any(readings):
        return diffuse
    found = [r.log_residual(diffuse[:1]) for r in readings if r is not None]
    weights = torch.stack([(-2 * error).exp() for _, error in found])
    residual = torch.stack([r for r, _ in found])
    mean = ((residual * weights).sum(0) / weights.sum(0)).to(diffuse)
    gain = F.interpolate(share * mean, diffuse.shape[-2:], mode="bilinear", align_corners=False).exp()
    return (diffuse * gain).clamp(0, 1)


def with_redness(diffuse: Tensor, readings: Sequence[PhotoReading | None], share: float) -> Tensor:
    """The albedo with as much blood in the skin as the first photo shows; arguments as of `with_residual`.

    The identity does not tell how red a skin is: the prior gives nearly everybody the same. Daylight, lamps and white
    balance vary from yellow to blue, as melanin does, which the identity tells. Blood also takes away green, and lights
    seldom do. So what the photo lacks in green against the albedo, over all seen skin, measures blood.
    """
    reading = readings[0] if readings else None
    if share <= 0 or reading is None:
        return diffuse
    photo = reading.unwrapped
    own = F.interpolate(diffuse[:1].float().cpu(), photo.colour.shape[-2:], mode="area")
    used = (reading.classes[:, SKIN] * photo.seen[:, 0])[0] > SURELY_SKIN
    if used.sum() < LEAST_TEXELS:
        return diffuse
    ratio = (photo.colour[0, :3, used].clamp(min=1e-3) / own[0, :, used].clamp(min=1e-3)).log()
    red, green, blue = ratio.median(1).values.tolist()
    blood = (red - 2 * green + blue) / (BLOOD[0] - 2 * BLOOD[1] + BLOOD[2])
    kept = share * blood / (1 + (blood / MUCH_BLOOD) ** 2)
    return (diffuse * (kept * diffuse.new_tensor(BLOOD)).exp()[:, None, None]).clamp(0, 1)


class LowBand:
    """The low band of the log albedo over the face, and what it should be.

    reference: `[B or 1, 3, COARSE, COARSE]`, low band of the reference
    tone: `[B or 1, 3, COARSE, COARSE]`, log of what the reference changes of the skin as a whole, beside the face
    """

    def __init__(
        self,
        regions: Tensor,
        diffuse: Tensor,
        sigma: float,
        limits: ContrastLimits | None = None,
        identity: Tensor | None = None,
        beside: Tensor | None = None,
    ):
        """regions: of `fitting.region_weights`, `[1, 4, h, w]` in UV. diffuse: linear albedo `[B, 3, h, w]` of the
        reference. sigma: of `BroadColour`. limits: at the maps' size; None for none. identity: the albedo without what
        the photo changes, None if it is the reference. beside: `[1, 1, h, w]`, skin whose tone changes as the face's"""
        small = F.interpolate(regions, (COARSE, COARSE), mode="area")
        self.sigma, self.skin = sigma * COARSE, small[:, 1:2]
        self.weight = gaussian_blur(self.skin, self.sigma) + LEAST_WEIGHT
        # face, nose, lips, brows and lids have the photometric weight 1, the eyes half of it, the ears less
        self.held = (2 * small[:, :1] - 1).clamp(0, 1)
        self.reference = self.of(diffuse)
        self.tone = torch.zeros_like(self.reference)
        if identity is not None and beside is not None:
            change = ((self.reference - self.of(identity)) * self.held).sum((2, 3), keepdim=True) / self.held.sum()
            self.tone = change * F.interpolate(beside, (COARSE, COARSE), mode="area")
        self.limited = None if limits is None else partial(limits.impose, around=limits.around(self.reference, diffuse))

    def of(self, diffuse: Tensor) -> Tensor:
        """Low band `[B, 3, COARSE, COARSE]` of a linear albedo `[B, 3, h, w]`, differentiable.

        A normalised convolution over plain skin: brows and lips get the value of the skin around them.
        """
        mean = F.interpolate(diffuse, (COARSE, COARSE), mode="area").clamp(min=0)
        shades = (mean + ALBEDO_EPSILON).log()
        return gaussian_blur(shades * self.skin, self.sigma) / self.weight

    def impose(self, stack: Tensor) -> Tensor:
        """Maps `[B, 9, h, w]` with the low band of the reference, and within the limits of contrast to it. The skin
        beside the face changes its tone as the face does. Backwards, no gradient reaches the low band."""
        gain = torch.lerp(self.tone, self.reference - self.of(stack[:, :3]), self.held).exp()
        gain = F.interpolate(gain, stack.shape[-2:], mode="bilinear", align_corners=False)
        diffuse = stack[:, :3] * gain
        if self.limited is not None:
            diffuse = self.limited(diffuse)
        return torch.cat([diffuse, stack[:, 3:]], 1)
