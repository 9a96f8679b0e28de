"""Which haircuts a photo allows: by how far hair stands off the scalp, how low it hangs, and the order of its strands.

A silhouette alone takes every full head of hair for an afro, and short coils for combed hair. So lengths and texture
are measured first, and only styles of that kind compete for the silhouette. The skin's tone plays no part.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..filters import erode, gaussian_blur
from ..image import srgb_to_linear

LONG_HEM, MEDIUM_HEM = -0.1, -0.045  # metres below the ear's middle: about the chin, and the ear lobe
LOW_HEM = -0.15  # of hair that is surely long
BIG, LOOSE = 0.04, 0.55  # metres off the sides, and order, of hair that may be loose curls
SLEEK = 0.6  # order from which hair may be drawn back
CROP = 0.014  # metres; hair that stands less off the scalp is cropped, combed flat, or tied
# order of the strands: below the first all coils, above the last sleek
COILS, CURLS, MIXED, COMBED = 0.42, 0.46, 0.5, 0.72
TIGHT = 0.36  # order of short hair below which it is coils and no curls
WAVE = 0.009  # metres, of long hair with the order COILS
CLEAR = 0.6  # certainty of a mask at the finer scale, well inside its edge
LEAST = 600  # pixels of the finer view; fewer tell nothing of the texture
BARE_EARS, BARE_FOREHEAD, TIES_HAIR = 0.3, 0.15, 0.45  # shares that hair covers, how feminine a face is
WINDOW = 5.0  # pixels of the finer view, 6 mm
PIXELS = 0.7  # of the finer view; blurred so much, an enlarged photo has no grid of squares

COILED_SHORT = ("short_afro",)
COILED_FULL = ("afro", "short_afro", "short_curls")
COILED_LONG = ("long_curly", "curly_bob", "afro")
CROPS = ("crew_cut", "french_crop")
SHORT = (*CROPS, "ivy_league", "side_part", "slicked_back", "messy", "quiff", "pixie", "thinning")
TIED = ("ponytail", "low_bun")
MEDIUM = ("bob", "bob_with_fringe", "shag", "pixie", "messy", "slicked_back", "low_bun", "lob")
LONG = ("long_straight", "long_wavy", "long_fringe", "lob", "bob", "long_back", "shag", "bob_with_fringe", "half_up")


class Cut(NamedTuple):
    """What a photo says of a haircut.

    top, side: metres that hair stands off the scalp, NaN where the photo doesn't tell
    hem: height of the lowest hair, metres over the ear's middle. ears: share of the visible ears that hair covers
    forehead: share of the forehead that hair covers
    order: 0..1 how far neighbouring strands run in one direction, NaN where too little is seen; see `strand_order`
    """

    top: float
    side: float
    hem: float
    ears: float
    order: float
    forehead: float = 0.0

    @property
    def coiled(self) -> bool:
        """Whether the strands have no direction. Cropped straight hair has little, coils have less."""
        return self.order < COILS or (self.order < CURLS and self.hem < LONG_HEM)

    @property
    def sleek(self) -> float:
        """0..1, how surely hair is combed flat."""
        return float(np.clip((self.order - SLEEK) / 0.15, 0, 1)) if self.order > 0 else 0.0

    @property
    def wave(self) -> float:
        """Amplitude of the waves of long hair, metres."""
        return WAVE * float(np.clip((COMBED - self.order) / (COMBED - CURLS), 0, 1)) if self.order > 0 else 0.0


def _coils(cut: Cut, names: tuple[str, ...]) -> tuple[str, ...]:
    """Of names, those that are coiled as tightly as the photo's hair."""
    return tuple(n for n in names if n != "short_curls" or cut.order > TIGHT)


def candidates(cut: Cut, feminine: float = 0.5) -> tuple[str, ...]:
    """Names of the presets that agree with a cut; their silhouettes decide between them. feminine: 0..1"""
    known = np.isfinite(cut.top)
    if cut.coiled and cut.ears < BARE_EARS and cut.hem > LOW_HEM:  # what is seen below is the nape
        return _coils(cut, COILED_FULL) if known and cut.top > 2 * CROP else COILED_SHORT
    if cut.hem <= LONG_HEM:
        loose = ("long_curly",) if cut.order < LOOSE and cut.side > BIG else ()
        return COILED_LONG if cut.coiled else (*LONG, *loose)
    if cut.hem <= MEDIUM_HEM:
        return ("curly_bob", *_coils(cut, COILED_FULL)) if cut.coiled else MEDIUM
    if cut.coiled:
        return _coils(cut, COILED_FULL) if known and cut.top > 2 * CROP else COILED_SHORT
    if not cut.order >= MIXED and not (known and cut.top > 1.5 * CROP):
        return CROPS
    # sleek hair that lies flat, off bare ears and a bare forehead, and whose ends are not seen
    flat = not known or cut.top < 1.5 * CROP
    bare = cut.ears < BARE_EARS and cut.forehead < BARE_FOREHEAD
    return TIED if flat and bare and cut.sleek > 0.4 and feminine > TIES_HAIR else SHORT


@torch.no_grad()
def strand_order(fine: Tensor | None, mask: Tensor) -> float:
    """Mean coherence 0..1 of the structure tensor (Bigun & Granlund 1987) in the hair, NaN where too little is seen.

    fine: `[3, F, F]` sRGB of the finer view (`View.fine`). mask: `[S, S]` 0..1 of the hair, where the photo is valid.
    Each pixel counts by its contrast, which is taken from the log of the brightness: dark hair counts as much.
    """
    if fine is None:
        return float("nan")
    sure = F.interpolate(mask[None, None], fine.shape[-2:], mode="bilinear")
    inside = erode(sure, 9)[0, 0] > CLEAR
    if int(inside.sum()) < LEAST:
        return float("nan")
    bright = (srgb_to_linear(gaussian_blur(fine[None], PIXELS)[0]).mean(0) + 0.005).log()
    gy, gx = torch.gradient(bright)
    tensor = torch.stack([gx * gx, gy * gy, gx * gy])[None] * inside
    xx, yy, xy = gaussian_blur(tensor, WINDOW)[0]
    apart, total = torch.hypot(xx - yy, 2 * xy)[inside], (xx + yy)[inside]
    return float(apart.sum() / total.sum().clamp(min=1e-9))
