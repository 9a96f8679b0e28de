"""The silhouette of a style, seen from the front: how far its hair reaches, and its opening for the face.

`HairStyle.outline` holds the log of a factor for OUTLINE directions round the head: hair that stands off the head is
moved away from the head's centre, or to it, by that of its direction. Roots stay where they are.
`HairStyle.opening` holds OPENING distances from the middle of the face: hair before the ears ends there.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .body import Body
from .growth import SKIN, TAPER, Strands, ramp, resample
from .style import FAR, OPENING, OUTLINE, HairStyle

CENTRE = np.array([0.0, 0.02])  # x, y in metres on the mean head
FACE = np.array([0.0, -0.01])  # about the bridge of the nose
LIMIT = 0.5  # largest absolute log factor; more makes wings
SHORT, SHORT_LIMIT = 0.02, 0.12  # metres of volume, and the limit of hair that stands off no more
LOW, HIGH = -0.04, 0.06  # metres; long hair hangs below the first, and is moved as short hair above the second
HANGING, HANGING_CURLS = (0.75, 1.35), (0.75, 1.5)  # factors to the side of hair that hangs
SMOOTH = (0.25, 0.5, 0.25)
FREE, ROOT = 0.012, 0.03  # metres off the head, and from the root, from which hair is moved by the whole factor
JUMP = 0.15  # metres between directions that are not interpolated: there hair ends
BEHIND = -0.03  # z in metres: hair behind it does not end at the opening
UNEVEN = 0.0035  # metres by which neighbouring strands end apart
NECK = 0.05  # metres to the side; hair behind the neck is not seen, so there is no limit
NARROW = 2  # directions to each side; in an opening, gaps that are not wider are closed
MOVED = 0.012  # metres by which the drawn hair moves an opening at most
LEAST = 0.004  # metres of a strand that the opening leaves; less is left out


def directions(xy: np.ndarray, count: int = OUTLINE, centre: np.ndarray = CENTRE) -> np.ndarray:
    """Direction of points `[..., 2]` about a centre, in steps of a whole turn's `count`: 0 is the subject's left."""
    d = xy - centre
    return np.arctan2(d[..., 1], d[..., 0]) / (2 * np.pi) * count % count


def between(values: np.ndarray, at: np.ndarray, jump: float = np.inf) -> np.ndarray:
    """Values `[N]` of N directions at `at` `[...]`, steps as `directions`: linear between them, but not over a jump."""
    low = np.floor(at).astype(int) % len(values)
    share = at - np.floor(at)
    a, b = values[low], values[(low + 1) % len(values)]
    share = np.where(np.abs(a - b) > jump, np.round(share), share)
    return a * (1 - share) + b * share


def factor(outline: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Factor at points `[..., 2]`."""
    return np.exp(between(outline, directions(xy)))


def reshape(strands: Strands, style: HairStyle, body: Body) -> Strands:
    """Strands that reach as far as the style's outline says, and end at its opening."""
    if style.outline:
        points, (distance, _) = strands.points.copy(), body(strands.points)
        arc = np.linalg.norm(np.diff(points, axis=1), axis=-1).cumsum(1)
        thick = max(FREE, 0.7 * style.volume * max(style.side_volume, 1)) if style.flow != "out" else FREE
        free = np.clip(distance[:, 1:] / thick, 0, 1) * np.clip(arc / ROOT, 0, 1)
        xy = points[:, 1:, :2]
        by, away = factor(np.asarray(style.outline), xy) ** free, xy - CENTRE
        # what hangs is moved to the side alone and by little, or the ends would stick out as wings
        limits = HANGING if style.strand == "straight" else HANGING_CURLS
        high = ramp(xy[..., 1], LOW, HIGH if style.long else CENTRE[1])
        points[:, 1:, 0] = CENTRE[0] + away[..., 0] * (high * by + (1 - high) * np.clip(by, *limits))
        points[:, 1:, 1] += away[..., 1] * (by - 1) * high
        points[:, 1:] = body.push_out(points[:, 1:], SKIN)
        strands = replace(strands, points=points, out=body(points)[1])
    strands = limited(strands, style) if style.limit else strands
    return opened(strands, style) if style.opening else strands


def limited(strands: Strands, style: HairStyle) -> Strands:
    """Strands that hang beside neck and shoulders, cut where they first pass the limit."""
    at = strands.points[..., :2]
    reach = between(np.asarray(style.limit), directions(at), JUMP)
    rng = np.random.default_rng(style.seed + 31)
    left = reach + TAPER - np.linalg.norm(at - CENTRE, axis=-1) + rng.normal(0, UNEVEN, (len(at), 1))
    return _cut(strands, np.where((at[..., 1] < LOW) & (np.abs(at[..., 0]) > NECK), left, 1.0))


def opened(strands: Strands, style: HairStyle) -> Strands:
    """Strands cut where they first enter the opening; those that lie in it are left out."""
    rng = np.random.default_rng(style.seed + 29)
    at = strands.points[..., :2]
    edge = between(np.asarray(style.opening), directions(at, OPENING, FACE), JUMP)
    inside = np.linalg.norm(at - FACE, axis=-1) - edge + TAPER + rng.normal(0, UNEVEN, (len(at), 1))
    inside = np.where(strands.points[..., 2] > BEHIND, inside, 1.0)
    return _cut(strands, inside)


def _cut(strands: Strands, left: np.ndarray) -> Strands:
    """Strands that end where `left` `[N, K]` first falls below 0; those of which little is left are left out."""
    n, k, _ = strands.points.shape
    cut = (left < 0).any(1)
    first = np.where(cut, (left < 0).argmax(1), k - 1)
    i = np.arange(n)
    before = (first - 1).clip(0)
    a, b = left[i, before], left[i, first]
    part = np.where(cut, np.clip(a / np.maximum(a - b, 1e-6), 0, 1), 1.0)
    share = np.where(first > 0, (before + part) / (k - 1), 0.0)
    length = np.concatenate([np.zeros((n, 1)), np.linalg.norm(np.diff(strands.points, axis=1), axis=-1).cumsum(1)], 1)
    rest = length[i, before] * (1 - part) + length[i, first] * part
    keep = ~cut | ((first > 0) & (rest > LEAST))
    points, out = (resample(x, share) for x in (strands.points, strands.out))
    return replace(strands, points=points, out=out).select(keep)


def corrected(style: HairStyle, wanted: np.ndarray, drawn: np.ndarray, inner: np.ndarray) -> HairStyle:
    """The style with an outline that reaches from `drawn` to `wanted`.

    All `[OUTLINE]` metres from the centre: how far the photo's hair reaches, the drawn hair, and the head; NaN where
    nothing is known: there the other side of the head is taken, or else the neighbours.
    """
    known = np.isfinite(wanted) & np.isfinite(drawn) & np.isfinite(inner)
    known[known] &= drawn[known] > inner[known] + 0.004
    before = np.asarray(style.outline or (0.0,) * OUTLINE)
    total = np.full(OUTLINE, np.nan)
    reach = np.maximum(wanted[known], inner[known] + 0.003)
    total[known] = before[known] + np.log(reach / drawn[known])
    mirror = total[(OUTLINE // 2 - np.arange(OUTLINE)) % OUTLINE]
    total = np.where(np.isfinite(total), total, mirror)
    here = np.isfinite(total)
    if not here.any():
        return style
    # between known directions; over a wide unknown arc nothing says that hair reaches less far
    wide = ~here & (np.roll(~here, 1) | np.roll(~here, -1))
    total = np.interp(np.arange(OUTLINE), np.flatnonzero(here), total[here], period=OUTLINE)
    total = np.where(wide, np.maximum(total, before), total)
    # a single direction that reaches farther is background that was taken for hair
    total = np.median([np.roll(total, k) for k in (-1, 0, 1)], axis=0)
    total = np.convolve(np.pad(total, 1, mode="wrap"), SMOOTH, mode="valid")
    low = (max(style.top, style.sides) if style.flow in ("out", "up") else style.volume) < SHORT
    limit = SHORT_LIMIT if low and not style.long else LIMIT
    return style.with_(outline=tuple(float(x) for x in np.clip(total, -limit, limit)))


def opening_of(mask: np.ndarray, valid: np.ndarray, places: np.ndarray) -> tuple[float, ...]:
    """The opening of the hair in a picture: OPENING distances in metres, FAR where no hair is met.

    mask: `[S, S]` bool; valid: `[S, S]` bool, where the picture shows something. places: `[S, S, 2]` metres on the
    head, seen from the front
    """
    far = np.linalg.norm(places - FACE, axis=-1)
    sector = np.round(directions(places, OPENING, FACE)).astype(int) % OPENING
    step = 0.004
    ring = np.minimum((far / step).astype(int), 127)
    index = (sector * 128 + ring).reshape(-1)
    count = lambda w: np.bincount(index, w.reshape(-1).astype(float), OPENING * 128).reshape(OPENING, 128)  # noqa: E731
    seen, hair = count(valid), count(mask & valid)
    # narrow sectors are empty near the middle: neighbours help
    seen, hair = (x + np.roll(x, 1, 0) + np.roll(x, -1, 0) for x in (seen, hair))
    share = hair / np.maximum(seen, 1e-6)
    begins = (share > 0.5) & (np.roll(share, -1, 1) > 0.5) & (np.arange(128) * step > 0.02)
    last = np.where(seen > 0, np.arange(128), 0).max(1)
    end = np.where(last < 60, (last + 1) * step, FAR)  # the picture ends
    found = np.where(begins.any(1), begins.argmax(1) * step, end)
    # a narrow gap between locks is no parting: strands of the other locks cross it
    turned = lambda x, best: best([np.roll(x, k) for k in range(-NARROW, NARROW + 1)], axis=0)  # noqa: E731
    return tuple(float(x) for x in np.clip(turned(turned(found, np.min), np.max), 0, FAR))


def moved_opening(opening: tuple[float, ...], wanted: tuple[float, ...], seen: tuple[float, ...]) -> tuple[float, ...]:
    """The opening of a style whose drawn hair leaves `seen` where the photo's leaves `wanted`, all `[OPENING]` metres.

    Hair stands off the face, so the eye sees it in front of other skin than that under it.
    """
    away = np.asarray(wanted) - np.asarray(seen)
    away = np.where((np.asarray(wanted) < FAR) & (np.asarray(seen) < FAR), away.clip(-MOVED, MOVED), 0.0)
    away = np.median([np.roll(away, k) for k in (-1, 0, 1)], axis=0)
    return tuple(float(x) for x in np.clip(np.asarray(opening) + away, 0, FAR))
