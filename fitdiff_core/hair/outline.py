"""The outline of a style, seen from the front: how much farther or nearer than usual its strands reach.

`HairStyle.outline` holds the log of a factor for `ANGLES` directions round the head. A strand's distance from its root,
in the frontal plane, is scaled by the factor of the direction in which its point lies. Roots stay where they are.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .body import Body
from .growth import SKIN, Strands
from .style import OUTLINE, HairStyle

CENTRE = np.array([0.0, 0.02])  # x, y in metres on the mean head
LIMIT = 0.2  # largest absolute log factor; more makes wings
SMOOTH = (0.25, 0.5, 0.25)


def directions(xy: np.ndarray) -> np.ndarray:
    """Direction of points `[..., 2]` about the head's centre, in steps of the outline: 0 is the subject's left."""
    d = xy - CENTRE
    return np.arctan2(d[..., 1], d[..., 0]) / (2 * np.pi) * OUTLINE % OUTLINE


def factor(outline: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Factor at points `[..., 2]`."""
    at = directions(xy)
    low = np.floor(at).astype(int) % OUTLINE
    share = at - np.floor(at)
    return np.exp(outline[low] * (1 - share) + outline[(low + 1) % OUTLINE] * share)


def reshape(strands: Strands, style: HairStyle, body: Body) -> Strands:
    """Strands that reach as far as the style's outline says."""
    if not style.outline:
        return strands
    points = strands.points.copy()
    root = points[:, :1, :2]
    points[..., :2] = root + (points[..., :2] - root) * factor(np.asarray(style.outline), points[..., :2])[..., None]
    points[:, 1:] = body.push_out(points[:, 1:], SKIN)
    return replace(strands, points=points, out=body(points)[1])


def corrected(style: HairStyle, wanted: np.ndarray, drawn: np.ndarray, inner: np.ndarray) -> HairStyle:
    """The style with an outline that reaches from `drawn` to `wanted`.

    All `[OUTLINE]` metres from the centre: how far the photo's hair reaches, the drawn hair, and the head; NaN where
    nothing is known.
    """
    known = np.isfinite(wanted) & np.isfinite(drawn) & np.isfinite(inner) & (drawn > inner + 0.004)
    change = np.zeros(OUTLINE)
    thick = np.maximum(wanted - inner, 0.003)[known] / (drawn - inner)[known]
    change[known] = np.clip(np.log(thick), -LIMIT, LIMIT)
    before = np.asarray(style.outline or (0.0,) * OUTLINE)
    total = np.convolve(np.pad(before + change, 1, mode="wrap"), SMOOTH, mode="valid")
    return style.with_(outline=tuple(float(x) for x in np.clip(total, -LIMIT, LIMIT)))
