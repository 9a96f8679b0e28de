"""Find what hides the skin in a photo (hair, hands, glasses), by its colour and by what networks see.

Each pixel is compared with skin of one colour under one smooth light that is fitted to the photo. A pixel that is much
darker or of a very different colour is hidden. A pixel that differs less is hidden if it is connected to hair
(hysteresis, Canny 1986) and if the region has a sharp edge; the colour of a second lamp has none. The hair segmenter
and the delighting network confirm this, and find what has the colour of skin. Single strands: `strands.py`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..delight.reading import PhotoReading
from ..face.mesh_points import CHIN, FOREHEAD, NOSE_TIP, SUBNASALE
from ..filters import dilate, gaussian_blur, normalized_convolution, reconstruct
from ..head import HeadModel
from ..image import srgb_to_linear
from ..render import Light
from ..vectors import length
from .gbuffer import GBuffer
from .regions import hair_regions
from .sh_light import MEAN_SKIN, LightPrior, fit_light, irradiance_basis
from .strands import strands

MIDDLE = 0.1  # radius around the tip of the nose that counts as the middle of the face, of the crop's side
# Thresholds of the log ratio to lit skin. Strong: a third as bright (darkness), or of another colour (tint).
STRONG_DARK, STRONG_TINT = 1.1, 0.75
# Weak: both somewhat darker and slightly tinted, or tinted. Where a beard may be, only the last.
WEAK_DARK, WEAK_DARK_TINT, WEAK_TINT, BEARD_TINT = 0.6, 0.12, 0.35, 0.55
SURE, SURE_MOUTH = 0.55, 0.75  # probability of the network above which something hides the skin; at the mouth
WEAK, REACH = 0.25, 25  # ... of what is connected to such, and side of the square round it
HAIRY = 0.4  # probability of a beard from which its colour does not count
UNLIKELY = 0.06  # probability of hair or another thing below which its colour alone says nothing
TIPS, TIP_DARK = 0.12, 0.3  # probability of the tips of hair, and log step to the skin near them
AROUND = 0.06  # width of the Gaussian over the skin near a tip, of the crop's side
MARGIN = 9  # side of the square by which what is found grows: edges are soft, and the fit is not exact
SHARP = 0.3  # least step of the log ratio across the edge of hair


@torch.no_grad()
def visible_skin(
    photo: Tensor,
    valid: Tensor,
    mesh: Tensor,
    gbuffer: GBuffer,
    head: HeadModel,
    regions: Tensor,
    reading: PhotoReading | None = None,
    hair: Tensor | None = None,
) -> tuple[Light, Tensor]:
    """Light and visible skin of a photo to which the head is fitted already.

    photo: `[1, 3, S, S]` sRGB crop. valid: `[1, 1, S, S]`, 0 where the photo ends
    mesh: `[1, 468, 2]` px. gbuffer: of the fitted head, at the crop's size. regions: of `region_weights`
    reading: what a network says of it
    hair: `[1, 1, S, S]`, probability of hair by the segmenter

    Returns the light for skin of the colour MEAN_SKIN, and `[1, 1, S, S]`, 1 where the skin is visible or nothing is
    known.
    """
    _, skin, features, mouth = (gbuffer.sample(regions) * gbuffer.facing).split(1, 1)
    scalp, face = (gbuffer.sample(hair_regions(head).to(photo)) * gbuffer.mask).split(1, 1)
    light, ratio = skin_ratio(photo, skin * valid, gbuffer.normal)
    upper = above_nose(mesh, photo.shape[-1])
    none = torch.zeros_like(valid)
    things, beard = (none, none) if reading is None else gbuffer_reading(gbuffer, reading, photo)
    shaven = (beard < HAIRY).to(photo)
    hidden = strongly_different(ratio, skin * valid, features, upper) * shaven
    found = connected_hair(ratio, face * valid, scalp * valid, features, upper, hidden) * shaven
    if reading is not None and hair is not None:
        # a shadow has the colour of hair too: a network must see something
        found = found * dilate(((hair > UNLIKELY) | (things > UNLIKELY) | (hidden > 0.5)).to(photo), 9)
    hidden = torch.maximum(torch.maximum(hidden, found), certain(things, near(features), near(mouth)))
    lines = none
    if hair is not None:
        hair = rooted(hair, ((scalp > 0.3) | (dilate(gbuffer.mask, 13) < 0.5)).to(photo))
        hidden = torch.maximum(hidden, hair_on_face(hair, ratio, features) * (face > 0.05))
        lines = strands(photo, hair, dilate((features > 0.1).to(photo), 9), beard) * (face > 0.05)
    # single strands and the frames of glasses cut nothing off
    hidden = torch.maximum(hidden, enclosed(hidden, face * valid, mesh) * upper)
    return light, (1 - torch.maximum(hidden, lines)) * valid


def gbuffer_reading(gbuffer: GBuffer, reading: PhotoReading, like: Tensor) -> tuple[Tensor, Tensor]:
    """Probability of a thing before the face, and of a beard, in the pixels, `[1, 1, S, S]` each."""
    planes = torch.cat([reading.hidden, reading.beard], 1).to(like)
    things, beard = (gbuffer.sample(planes) * gbuffer.mask).split(1, 1)
    return things, beard


def rooted(hair: Tensor, source: Tensor) -> Tensor:
    """Probability of hair `[1, 1, S, S]`, where it hangs together with its source: what else is in the face is a brow.

    source: `[1, 1, S, S]` 0 or 1, the scalp, and all that is well off the head
    """
    sure = (hair > 0.5).to(hair)
    found = reconstruct(sure * source, sure)
    return hair * reconstruct(found, torch.maximum(found, (hair > TIPS) * dilate(found, REACH)))


def hair_on_face(hair: Tensor, ratio: Tensor, features: Tensor) -> Tensor:
    """Hair of the segmenter, with the darker tips at its edge, `[1, 1, S, S]` 0 or 1.

    hair: `[1, 1, S, S]`, of `rooted`. ratio: of `skin_ratio`
    features: brows, eyes and lips, which are no tips
    """
    dark, tint = darkness_and_tint(ratio)
    local = normalized_convolution(dark, (hair < TIPS).to(ratio), AROUND * ratio.shape[-1])
    tips = (hair > TIPS) & ((dark - local > TIP_DARK) | (tint > WEAK_TINT)) & (features < 0.1)
    sure = (hair > 0.5).to(ratio)
    found = reconstruct(sure, torch.maximum(sure, tips.to(ratio)))
    return with_margin(found, (features > 0.1).to(ratio))


def certain(probability: Tensor, features: Tensor, mouth: Tensor) -> Tensor:
    """Pixels that a thing surely hides, with likely ones that are connected to them (hysteresis) and a margin.

    probability: `[1, 1, S, S]`. features, mouth: `[1, 1, S, S]`, brows, eyes and lips, where only sure
        pixels count, and the mouth with its teeth, where these must be still surer
    """
    sure = (probability > torch.where(mouth > 0.5, SURE_MOUTH, SURE)).to(probability)
    likely = (probability > WEAK) * (1 - features) * dilate(sure, REACH)
    return with_margin(reconstruct(sure, torch.maximum(sure, likely)), features)


def with_margin(mask: Tensor, features: Tensor) -> Tensor:
    """Dilated by MARGIN, but not over brows, eyes and lips."""
    return torch.maximum(mask, dilate(mask, MARGIN) * (1 - features))


def skin_ratio(photo: Tensor, skin: Tensor, normal: Tensor) -> tuple[Light, Tensor]:
    """Robust light for skin of the colour MEAN_SKIN, and the log ratio of the photo to that lit skin `[1, 3, S, S]`."""
    colour = torch.tensor(MEAN_SKIN).to(photo)[None, :, None, None]
    # the colour of skin is unknown here, so the light keeps near white: what has another tint may be hair or a hat
    light, _ = fit_light(photo, colour.expand_as(photo), normal, skin, prior=LightPrior(balance=0), stride=2)
    expected = colour * (irradiance_basis(normal.permute(0, 2, 3, 1)) @ light.sh[:, None]).permute(0, 3, 1, 2)
    return light, ((srgb_to_linear(photo) + 0.02) / (expected.clamp(min=0) + 0.02)).log()


def darkness_and_tint(ratio: Tensor) -> tuple[Tensor, Tensor]:
    """Darkness (negative mean of the channels' log ratios) and tint (distance from that mean), `[1, 1, S, S]` each."""
    level = ratio.mean(1, keepdim=True)
    return -level, length(ratio - level)


def strongly_different(ratio: Tensor, skin: Tensor, features: Tensor, upper: Tensor) -> Tensor:
    """Plain skin that something much darker or of another colour covers, `[1, 1, S, S]` 0..1."""
    dark, tint = darkness_and_tint(ratio)
    # darkness counts above the nose only (a fringe, a frame): below it may be a beard, which belongs to the face
    found = torch.maximum((dark - STRONG_DARK).div(0.3).clamp(0, 1) * upper, (tint - STRONG_TINT).div(0.3).clamp(0, 1))
    known = (skin > 0.05).to(ratio)
    # only areas count: spots and wrinkles of a few pixels belong to the skin
    area = (area_mean(found, known, 9) - 0.4).div(0.3).clamp(0, 1) * (F.avg_pool2d(known, 9, 1, 4) > 0.25)
    return dilate(area, 5) * (1 - near(features))


def connected_hair(
    ratio: Tensor, face: Tensor, scalp: Tensor, features: Tensor, upper: Tensor, hidden: Tensor
) -> Tensor:
    """Hair over the face, `[1, 1, S, S]` 0 or 1: weakly different pixels that are connected to the scalp or to
    `hidden`.

    face, scalp: `[1, 1, S, S]`, where hair may cover (brows included) and where it grows. hidden: `strongly_different`.
    """
    dark, tint = darkness_and_tint(ratio)
    weak = torch.minimum((dark - WEAK_DARK).div(0.2), (tint - WEAK_DARK_TINT).div(0.1))
    weak = torch.maximum(weak, (tint - WEAK_TINT).div(0.15)).clamp(0, 1) * upper
    weak = torch.maximum(weak, (tint - BEARD_TINT).div(0.15).clamp(0, 1))
    covered, known = (face > 0.05).to(ratio), (face + scalp > 0.05).to(ratio)
    hair = (known * (area_mean(weak, known, 5) > 0.5)).to(ratio)
    seed = ((scalp > 0.3) | (hidden > 0.5)).to(ratio)
    sure = ((dark * upper > STRONG_DARK) | (tint > STRONG_TINT)).to(ratio)
    hair = reconstruct(seed * hair, hair)
    for _ in range(4):  # a region that is dropped may have connected others to the scalp
        kept = torch.maximum(sure, (edge_step(ratio, hair * covered, covered * (1 - near(features))) > SHARP).to(ratio))
        rest = reconstruct(seed * hair * kept, hair * kept)
        if torch.equal(rest, hair):
            break
        hair = rest
    return dilate(hair, 9) * covered  # hair ends in single strands and a shadow


def enclosed(hidden: Tensor, face: Tensor, mesh: Tensor) -> Tensor:
    """Parts of the face that hair separates from its middle, `[1, 1, S, S]` 0 or 1. They count as hidden too."""
    size = face.shape[-1]
    covered = (face > 0.05).to(face)
    seen = covered * (hidden < 0.5)
    t = torch.arange(size, device=face.device) + 0.5
    near_nose = (t[:, None] - mesh[0, NOSE_TIP, 1]).hypot(t[None] - mesh[0, NOSE_TIP, 0]) < MIDDLE * size
    if not (seen * near_nose).any():
        return torch.zeros_like(face)
    return covered - reconstruct(seen * near_nose, seen) - covered * (hidden >= 0.5)


def edge_step(ratio: Tensor, inside: Tensor, known: Tensor) -> Tensor:
    """Step of `ratio [1, 3, S, S]` across the nearest edge between inside `[1, 1, S, S]` and the rest of known.

    Returns `[1, 1, S, S]`, 0 where no edge is near.
    """
    one, other = inside * known, (1 - inside) * known
    step = length(area_mean(ratio, one, 7) - area_mean(ratio, other, 7))
    edge = ((F.avg_pool2d(one, 7, 1, 3) > 0.25) & (F.avg_pool2d(other, 7, 1, 3) > 0.25)).to(ratio)
    size = ratio.shape[-1]
    # near edges decide; the middle of wide hair asks farther ones
    both = torch.cat([edge * step, edge], 1)
    total, weight = (gaussian_blur(both, size / 32) + 0.05 * gaussian_blur(both, size / 11)).split(1, 1)
    return total / (weight + 1e-5)


def area_mean(x: Tensor, known: Tensor, side: int) -> Tensor:
    """Mean of x `[1, C, S, S]` over known `[1, 1, S, S]` in a square of `side` px; smaller where little is known."""
    share = F.avg_pool2d(known, side, 1, side // 2)
    return F.avg_pool2d(x * known, side, 1, side // 2) / share.clamp(min=0.1)


def near(features: Tensor) -> Tensor:
    """Brows, eyes and lips, dilated by the error of the fit."""
    return dilate((features > 0.1).to(features), 17)


def above_nose(mesh: Tensor, size: int) -> Tensor:
    """`[1, 1, size, size]`: 1 above the base of the nose, along the face's own axis, fading to 0 below."""
    up = F.normalize(mesh[0, FOREHEAD] - mesh[0, CHIN], dim=0)
    t = torch.arange(size, device=mesh.device) + 0.5
    y, x = torch.meshgrid(t, t, indexing="ij")
    height = (torch.stack([x, y], -1).to(mesh) - mesh[0, SUBNASALE]) @ up
    return (height / (0.03 * size)).clamp(0, 1)[None, None]
