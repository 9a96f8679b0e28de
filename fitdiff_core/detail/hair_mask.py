"""Hair over the skin, found in an albedo map by its darkness and colour, and its removal."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..filters import COARSE, dilate, erode, gaussian_blur, normalized_convolution, reconstruct
from ..maps import ALBEDO_EPSILON, TextureMaps
from ..vectors import length

DARK, TINT, RAMP = 0.75, 0.4, 0.25  # thresholds of the log ratio to the median skin, and the width of their ramps
CLOSE = 0.03  # half of the widest gap in hair that is closed, of the UV side
AREA = 0.01  # least width of hair, of the UV side; smaller things are spots and wrinkles


@torch.no_grad()
def find_hair(albedo: Tensor, skin: Tensor, weight: Tensor, upper: Tensor, scalp: Tensor, face: Tensor) -> Tensor:
    """Hair over the face in an albedo map, `[1, 1, S, S]` 0..1.

    albedo: `[1, 3, S, S]` linear. All others `[1, 1, S, S]`:
    skin: plain skin. weight: where the albedo is known
    upper: where darkness counts; below the nose it may be a beard
    scalp: where hair starts. face: where hair may lie
    """
    known = skin * weight
    sure = known[0, 0] > 0.6
    if sure.sum() < 64:
        return torch.zeros_like(known)
    colour = (normalized_convolution(albedo, known, AREA / 2 * albedo.shape[-1]) + ALBEDO_EPSILON).log()
    light = colour.mean(1, keepdim=True)
    tint = colour - light
    # hair covers less than half of the face, so skin is brighter than the median
    middle = light[0, 0][sure].median()
    inner = sure & (light[0, 0] > middle)
    usual = torch.stack([tint[0, c][inner].median() for c in range(3)])[None, :, None, None]
    dark = ((middle - light - DARK) / RAMP).clamp(0, 1) * upper
    off = ((length(tint - usual) - TINT) / RAMP).clamp(0, 1)
    found = torch.maximum(dark, off) * known
    sigma = AREA * albedo.shape[-1]
    area = normalized_convolution(found, known, sigma) * (gaussian_blur(known, sigma) > 0.05)
    wide = grown_from(scalp, ((area - 0.3) / 0.1).clamp(0, 1))
    reach = round(2 * sigma)  # hair ends in single strands and a shadow
    wide = closed(dilate(wide, 2 * reach + 1), round(CLOSE * albedo.shape[-1]))
    return gaussian_blur(wide, sigma / 2) * face


def grown_from(seed: Tensor, mask: Tensor) -> Tensor:
    """The parts of mask that are connected to seed, `[1, 1, S, S]` 0..1: dark eye sockets and folds are not."""
    small = F.interpolate(mask, (COARSE, COARSE), mode="area")
    seed = dilate(F.interpolate(seed, small.shape[-2:], mode="area"), 7)
    reached = reconstruct(seed, torch.maximum(small, seed))
    return mask * F.interpolate(reached, mask.shape[-2:], mode="bilinear", align_corners=False)


def closed(mask: Tensor, radius: int) -> Tensor:
    """Morphological closing: gaps up to twice the radius (a brow in a fringe) are filled."""
    side = 8 * max(1, radius // 4) + 1
    return torch.maximum(mask, erode(dilate(mask, side), side))


@torch.no_grad()
def remove_hair(maps: TextureMaps, hair: Tensor, skin: Tensor, symmetric: Tensor) -> TextureMaps:
    """Replace hair `[1, 1, S, S]` in the maps by a first guess of the skin, from which the diffusion model continues.

    The guess is the other side of the face where that shows skin and is mirrored (`symmetric`), elsewhere the tone of
    the surroundings. skin: the region that counts as skin.
    """
    clean = skin * (hair < 0.02)
    tone = (maps.diffuse * clean).sum((2, 3), keepdim=True) / clean.sum().clamp(min=1)
    for share in (
        0.2,
        0.1,
        0.05,
    ):  # from the tone of the whole face to that of the surroundings, as far as they are known
        sigma = share * hair.shape[-1]
        sure = normalized_convolution(clean, torch.ones_like(clean), sigma)
        tone = torch.lerp(
            tone.expand_as(maps.diffuse), normalized_convolution(maps.diffuse, clean, sigma), (sure / 0.2).clamp(0, 1)
        )
    other = gaussian_blur((gaussian_blur(clean.flip(3), 4.0) > 0.85) * symmetric, 3.0)
    # the other side may differ in light or redness: it gives its detail, this side its tone
    there = (maps.diffuse.flip(3) / tone.flip(3).clamp(min=ALBEDO_EPSILON)).clamp(0.2, 1.3) * tone
    guess = torch.lerp(tone, there, other)
    return replace(maps, diffuse=torch.lerp(maps.diffuse, guess, hair).clamp(0, 1))
