"""What a photo's hair mask says at once: hairline, hem, and how much of forehead and ears hair covers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from .photo import SIDE

if TYPE_CHECKING:
    from .fit import Sketch

NAPE_BEHIND = 0.09  # metres from the head's centre back to the nape
HEM_WIDE = 7  # pixels of hair in a row, 2.6 cm
HIGHEST = -0.01  # metres; loose long hair is cut no higher, at the middle of the ear


def hairline(sketch: Sketch) -> float:
    """How far the hairline lies above the natural one, metres: where the mask on the head begins."""
    view = sketch.view
    here = view.valid & (view.edge > -0.03) & (view.ears < 0.3) & (view.metre[..., 1] > HIGHEST)
    if here.sum() < 60:
        return 0.0
    edge, mask = view.edge[here], sketch.seen.mask[here] > 0.5
    lines = torch.linspace(-0.008, 0.04, 17)
    agree = ((edge > lines[:, None]) == mask).float().mean(1)
    return float(lines[agree.argmax()])


def hem(sketch: Sketch) -> float:
    """Height of the lowest hair on the head, metres; below the picture's edge where hair reaches it."""
    view, mask = sketch.view, sketch.seen.mask > 0.5
    # a narrow strip along the neck is its shadow
    wide = mask.sum(1)
    rows = torch.nonzero(wide >= HEM_WIDE).flatten()
    low = view.metre[int(rows.max()), SIDE // 2, 1] if len(rows) else view.metre[..., 1][mask].min()
    edge = view.metre[..., 1][view.valid].min()
    cut_off = low - edge < 0.015 and len(rows) and int(wide[rows.max()]) >= HEM_WIDE * (2 if sketch.pitch > 0.15 else 1)
    # of a head that looks up, the nape is seen lower than it is
    up = max(sketch.pitch, 0.0)
    height = (float(low) + NAPE_BEHIND * math.sin(up)) / math.cos(up)
    return min(height - 0.06 if cut_off else height, HIGHEST)


def forehead(sketch: Sketch) -> float:
    """Share of the forehead's middle, 1 to 3 cm under the hairline, that hair covers."""
    view = sketch.view
    near = torch.from_numpy(np.abs(sketch.places[..., 0]) < 0.035)
    here = view.valid & near & (view.face > 0.5) & (view.edge > -0.034) & (view.edge < -0.008)
    return float((sketch.seen.mask[here] > 0.5).float().mean()) if here.sum() > 12 else 0.0


def ears(sketch: Sketch) -> float:
    """Share of the visible ears that hair covers."""
    here = sketch.view.valid & (sketch.view.ears > 0.5)
    return float((sketch.seen.mask[here] > 0.5).float().mean()) if here.sum() > 12 else 1.0
