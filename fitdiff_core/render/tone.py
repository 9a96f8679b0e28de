"""From linear radiance to a picture: a film curve, and an exposure that never leaves a face black."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import UserError
from ..image import LUMINANCE

TONES = ("film", "plain")
START = 0.6  # linear up to here, so that a well exposed face keeps its colours
PALE = 0.12  # how much light beyond white loses its colour
DARKEST, BRIGHTEST = 0.11, 0.36  # median radiance of a face that needs no other exposure
MOST = 2.5  # stops that `face_exposure` changes at most


def film(radiance: Tensor) -> Tensor:
    """Linear `[B, 3, H, W]` -> linear 0..1. Up to START nothing changes; then a shoulder rises towards white.

    The brightest channel is compressed as in Khronos' PBR Neutral, without its toe, and the others keep their ratio.
    """
    color = radiance.clamp(min=0)
    peak = color.amax(1, keepdim=True)
    room = 1 - START
    pressed = 1 - room * room / (peak + room - START).clamp(min=room)
    pale = 1 - 1 / (PALE * (peak - pressed).clamp(min=0) + 1)
    shoulder = torch.lerp(color * (pressed / peak.clamp(min=1e-6)), pressed.expand_as(color), pale)
    return torch.where(peak < START, color, shoulder)


def check_tone(tone: str) -> str:
    """The tone as it is. Raises UserError unless it is one of TONES."""
    if tone not in TONES:
        raise UserError(f"Unknown tone '{tone}'; choose one of {', '.join(TONES)}.")
    return tone


def face_exposure(radiance: Tensor, mask: Tensor) -> Tensor:
    """Factors `[B]` for radiance `[B, 3, H, W]` that bring the lit half of each face into a range that can be seen.

    mask: `[B, 1, H, W]` coverage of the face. A face whose upper quartile lies in DARKEST..BRIGHTEST
    keeps its exposure.
    """
    light = (radiance * radiance.new_tensor(LUMINANCE)[:, None, None]).sum(1)
    factors = []
    for one, seen in zip(light, mask[:, 0] > 0.5, strict=True):
        level = torch.quantile(one[seen][::7], 0.75).clamp(min=1e-6) if seen.any() else one.new_tensor(DARKEST)
        factors.append((level.clamp(DARKEST, BRIGHTEST) / level).clamp(2**-MOST, 2**MOST))
    return torch.stack(factors)
