"""Strands: the centre lines of cards, grown step by step over the head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .body import Body
from .scalp import Roots
from .style import HairStyle

X, Y, Z = np.eye(3)
WHORL = np.array([0.006, 0.105, -0.055])  # short hair runs away from it
SUBSTEPS = 2  # of growth in one segment of a card
SKIN = 0.0012  # metres that hair stays off the skin
TAPER = 0.008  # metres: cards end in thin strands, which show less than their length
SHELL = 0.024  # metres, greatest thickness of the layer of strands
BOB = -0.12  # height of a hem; hair that is cut higher turns in at its ends
OVER = 0.003  # metres that a strand may rise above its layer
NAPE = -0.065  # height of the cut behind, where it is higher at the ears
PARTING = 0.007  # metres, greatest depth of the valley along the parting
SWEPT = (-0.055, 0.0)  # metres to the side, from where a swept fringe begins to run across to where it all does
FLAT = 0.018  # metres of volume up to which hair is flat beside a parting
KNOT = {
    "ponytail": (0.0, 0.035, -0.128),
    "high_ponytail": (0.0, 0.098, -0.095),
    "bun": (0.0, 0.03, -0.125),
    "top_knot": (0.0, 0.118, -0.05),
    "braid": (0.0, -0.02, -0.118),
    "pigtails": (0.085, 0.02, -0.07),
    "half_up": (0.0, 0.065, -0.122),
}


@dataclass
class Strands:
    """N strands of K points.

    points: `[N, K, 3]` metres. out: `[N, K, 3]` unit, away from what they lie on
    roots: where they stand. layer: `[N]` 0 next to the skin to 1 outermost. lock: `[N]` int, strands of a lock share it
    """

    points: np.ndarray
    out: np.ndarray
    roots: Roots
    layer: np.ndarray
    lock: np.ndarray

    def __len__(self) -> int:
        return len(self.points)

    @property
    def length(self) -> np.ndarray:
        return np.linalg.norm(np.diff(self.points, axis=1), axis=-1).sum(1)

    def select(self, keep: np.ndarray) -> Strands:
        return Strands(self.points[keep], self.out[keep], self.roots.select(keep), self.layer[keep], self.lock[keep])


def unit(v: np.ndarray) -> np.ndarray:
    return v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-9)


def ramp(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 at low, 1 at high, smooth; low may be the larger."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def lengths(style: HairStyle, roots: Roots, rng: np.random.Generator) -> np.ndarray:
    """Length `[N]` of each strand, metres."""
    x, y, z = roots.mean.T
    wobble = rng.normal(0, 0.003, len(x))
    top, back = ramp(y + wobble, 0.035, 0.075), ramp(-z, 0.02, 0.07)
    length = top * style.top + (1 - top) * (back * style.back + (1 - back) * style.sides)
    if style.fade:
        down = ramp(y, 0.07, -0.03)
        length = length * (1 - style.fade * down) * np.clip(roots.edge / 0.02, 0.3, 1) ** style.fade
    if style.fringe:
        share = fringe_share(style, roots.mean)
        curve = 1 + 0.18 * np.abs(x) / 0.05
        length = length * (1 - share) + share * style.fringe * curve
    # hair at the hairline is shorter, that of a short cut tapers down the neck
    nape = ramp(y, 0.0, -0.04) * (style.back < 0.08)
    edge = np.clip(0.55 - 0.25 * nape + roots.edge / (0.03 + 0.02 * nape), 0, 1)
    spread = rng.uniform(0.84, 1.06, len(x)) if style.hem <= -1 else rng.uniform(0.95, 1.02, len(x))
    return np.maximum(length * edge * spread, 0.0025)


def hem_at(style: HairStyle, z: np.ndarray) -> np.ndarray:
    """Height `[N]` of the cut of loose hair with roots at z `[N]`: a high hem falls to the nape behind the ears."""
    return style.hem + ramp(-z, 0.03, 0.08) * np.minimum(NAPE - style.hem, 0)


def fringe_share(style: HairStyle, mean: np.ndarray) -> np.ndarray:
    """`[N]` 0..1: which roots grow the fringe. A swept fringe comes from the side that it is swept from."""
    x, y, z = mean.T
    x = x + 0.022 * style.fringe_sweep
    return ramp(z - 0.25 * np.abs(x), 0.004, 0.02) * ramp(np.abs(x), 0.058, 0.046) * ramp(y, 0.05, 0.06)


def flow(style: HairStyle, p: np.ndarray, mean: np.ndarray, side: np.ndarray) -> np.ndarray:
    """Direction `[N, 3]` that hair is combed to at p, not yet tangent to the head. side: +1 or -1 of the parting."""
    away = unit((p - WHORL) * np.array([1.0, 1.0, 1.0]))
    if style.flow == "part":
        behind = ramp(mean[:, 2], style.part_end + 0.012, style.part_end - 0.03)[:, None]
        parted = side * X + style.sweep * Z - 0.35 * Y
        if not style.long:  # short sides are combed back and down
            low = ramp(mean[:, 1], 0.06, 0.025)[:, None]
            parted = parted * (1 - low) + low * (-0.45 * Z - 0.9 * Y)
        d = parted * (1 - behind) + (unit(p - np.array([style.part * 0.6, 0.1, -0.045])) - 0.45 * Y) * behind
    elif style.flow == "back":
        low = ramp(mean[:, 1], 0.05, 0.015)[:, None]
        d = -Z - 0.1 * Y + 0.25 * np.clip(p[:, :1] / 0.05, -1, 1) * X
        d = d * (1 - low) + low * (-0.35 * Z - 1.0 * Y)
        turned = ramp(p[:, 2], -0.03, -0.1)[:, None]  # behind the head it falls
        d = d * (1 - turned) + turned * (-1.0 * Y - 0.2 * Z)
    elif style.flow == "up":
        high = ramp(mean[:, 1], 0.055, 0.085)[:, None]
        d = high * (style.sweep * Z - 0.4 * p[:, :1] / 0.06 * X) + (1 - high) * (away - 0.7 * Y - 0.3 * Z)
    elif style.flow == "out":
        d = away
    else:
        d = away - 0.25 * Y + style.sweep * 0.3 * X
    if style.fringe:
        share = fringe_share(style, mean)[:, None]
        # at the side that it is swept from it falls straight, or the forehead would be bare there
        swept = style.fringe_sweep * ramp(p[:, :1] * np.sign(style.fringe_sweep), *SWEPT)
        d = d * (1 - share) + share * (Z - 0.5 * Y + swept * X + 0.2 * p[:, :1] / 0.05 * X)
    return d


def grow(
    style: HairStyle, roots: Roots, root_points: np.ndarray, body: Body, rng: np.random.Generator, segments: int
) -> Strands:
    """Strands of `segments` segments from `root_points` `[N, 3]` of a head with `body`."""
    n, steps = len(root_points), segments * SUBSTEPS
    p, mean = root_points.copy(), roots.mean
    length, layer = lengths(style, roots, rng), rng.random(n) ** 0.8
    if style.hem > -1:
        hem = hem_at(style, mean[:, 2])
        reach = np.maximum(p[:, 1] - hem, 0.03) * 1.08 + 0.09 * ramp(mean[:, 1], 0.02, 0.1)
        length = np.minimum(length, reach + 1.2 * style.volume * max(style.side_volume, 1))
    crossing = 0.0008 + 0.35 * max(style.volume - 0.025, 0)  # high hair hides its parting
    side = np.where(mean[:, :1] + rng.normal(0, crossing, (n, 1)) >= style.part, 1.0, -1.0)
    height = _height(style, roots, layer)
    slope = np.clip(1.3 + 30 * (height - 0.03), 1.3, 1.9)  # high hair rises slowly, or it stands in loops
    # segments are short where long hair bends over the head
    along = np.linspace(0, 1, steps + 1) ** (1.5 if length.max() > 0.15 else 1.1)
    step = np.diff(along)[None] * length[:, None]
    lean = rng.normal(0, 1, (n, 3)) * style.frizz
    _, out = body(p)
    inner = np.clip(roots.edge / 0.014, 0.12, 1)[:, None]
    d = _tangent(flow(style, p, mean, side), out)
    rise = style.lift * (0.35 + 0.65 * inner)
    d = unit(d * (1 - 0.7 * rise) + out * rise * (1.0 if style.flow in ("out", "up") else 0.8) + 0.1 * lean)
    tips, low = _tips(style, mean), (0.02 if style.hem < BOB else -0.06)
    path, arc = [p.copy()], np.zeros(n)
    before = (rng.random(n) < style.front)[:, None]
    for k in range(steps):
        ds = step[:, k : k + 1]
        distance, out = body(p)
        want = _want(style, p, mean, side, out, distance, lean, before)
        turn = 1 - np.exp(-ds / (0.02 if style.flow in ("out", "up") else 0.012))
        d = unit(d + turn * (want - d))
        q = p + d * ds
        arc = arc + ds[:, 0]
        floor = height * (1 - np.exp(-arc / (0.01 + slope * height))) + SKIN
        floor = floor * (1 - tips * ramp(arc / length, 0.35, 1.0))
        distance, out = body(q)
        q = q + np.maximum(floor - distance, 0)[:, None] * out * 0.7
        if style.flow not in ("out", "up"):  # what rises above its layer comes down, unless it hangs free
            near = (distance < 0.06) & (q[:, 1] > low)
            down = 0.25 * np.clip(distance - floor, 0, 0.01) + 0.6 * np.clip(distance - 1.1 * floor - OVER, 0, 0.02)
            q = q - (down * near)[:, None] * out
        move = unit(q - p)
        d, p = unit(0.5 * move + 0.5 * d), p + move * ds
        path.append(p.copy())
    points = np.stack(path, 1)
    if style.hem > -1:
        points = _cut(points, hem - TAPER + rng.normal(0, 0.003, n) + 0.01 * (layer - 0.6))
    points = _smooth(_smooth(points, 4)[:, ::SUBSTEPS], 1)
    points[:, 1:] = body.push_out(points[:, 1:], SKIN)
    lock = np.arange(n)
    return Strands(points, body(points)[1], roots, layer, lock)


def _tangent(d: np.ndarray, out: np.ndarray) -> np.ndarray:
    return unit(d - (d * out).sum(-1, keepdims=True) * out)


def _height(style: HairStyle, roots: Roots, layer: np.ndarray) -> np.ndarray:
    """Height `[N]` over the scalp at which each strand lies, metres."""
    high = ramp(roots.mean[:, 1], 0.04, 0.075)
    edge = np.clip(0.15 + roots.edge / 0.022, 0, 1)
    if style.flow == "part":  # flat at the parting
        along = ramp(roots.mean[:, 2], style.part_end - 0.02, style.part_end + 0.01)
        near = 1 - np.clip(0.25 + np.abs(roots.mean[:, 0] - style.part) / 0.02, 0, 1)
        edge = np.minimum(edge, 1 - along * near * min(PARTING / max(style.volume, 1e-6), 1))
        # next to the parting and the whorl nothing covers a strand that stands: it would show as a loop
        crown = np.linalg.norm(roots.mean - [0.6 * style.part, 0.1, -0.045], axis=1)
        apart = np.minimum(np.where(along > 0.5, np.abs(roots.mean[:, 0] - style.part), 1.0), 0.6 * crown)
        flat = 0.55 * min(FLAT / max(style.volume, FLAT), 1)
        edge = edge * (1 - flat * ramp(apart, 0.02, 0.004))
    high = style.volume * (high + (1 - high) * style.side_volume)
    # hair that stands far off is hollow: its strands share the outer centimetres
    return np.maximum(high - np.minimum(SHELL, 0.85 * high) * (1 - layer), 0) * edge


def _tips(style: HairStyle, mean: np.ndarray) -> np.ndarray:
    """Share `[N]` of its height that a strand loses to its tip: fringes lie on the forehead, bobs turn in."""
    share = np.full(len(mean), 0.45 if BOB < style.hem else 0.0)
    return np.maximum(share, 0.85 * fringe_share(style, mean)) if style.fringe else share


def _want(style, p, mean, side, out, distance, lean, before) -> np.ndarray:
    """Direction `[N, 3]` in which the hair wants to go on."""
    combed = _tangent(flow(style, p, mean, side), out)
    if style.flow in ("out", "up"):
        high = ramp(mean[:, 1], 0.055, 0.085)[:, None] if style.flow == "up" else 1.0
        stand = unit(out + 0.35 * combed + 0.25 * lean - style.gravity * Y)
        return unit(stand * high + (1 - high) * (combed + 0.2 * lean))
    low = ramp(p[:, 1], 0.06, 0.0)[:, None] if style.long else ramp(distance, 0.004, 0.03)[:, None] * style.gravity
    if style.long:  # hair keeps off the face, by way of the temple
        fringe = fringe_share(style, mean)[:, None] * (style.fringe > 0)
        half = style.curtain + 0.004 * lean[:, :1]
        face = ramp(half - np.abs(p[:, :1]), -0.008, 0.008) * ramp(p[:, 2:3], 0.0, 0.03) * (1 - fringe)
        combed = unit(combed + face * (2.2 * side * X - 0.8 * Z))
        low = low * (1 - face)
        # over the shoulder: some falls in front of it, the rest behind
        near = ramp(p[:, 1], -0.09, -0.15)[:, None]
        sent = np.where(before & (p[:, 2:3] > -0.06), 1.1 * Z, -1.0 * Z)
        fall = unit(-Y + near * sent * ramp(distance, 0.05, 0.01)[:, None])
    else:
        fall = -Y
    return unit(combed * (1 - 0.92 * low) + (0.35 + low) * style.gravity * fall + 0.12 * lean)


def _smooth(points: np.ndarray, times: int) -> np.ndarray:
    for _ in range(times):
        points = points.copy()
        points[:, 1:-1] = 0.5 * points[:, 1:-1] + 0.25 * (points[:, :-2] + points[:, 2:])
    return points


def _cut(points: np.ndarray, hem: np.ndarray) -> np.ndarray:
    """Strands `[N, K, 3]` shortened where they first fall below hem `[N]`."""
    n, k, _ = points.shape
    below = points[..., 1] < hem[:, None]
    first = np.where(below.any(1), below.argmax(1), k - 1).clip(1)
    i = np.arange(n)
    y0, y1 = points[i, first - 1, 1], points[i, first, 1]
    part = np.where(below.any(1), (y0 - hem) / np.maximum(y0 - y1, 1e-6), 1.0).clip(0, 1)
    return resample(points, (first - 1 + part) / (k - 1))


def resample(points: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The first `share` `[N]` (0..1 of the points) of strands `[N, K, 3]`, with as many points."""
    n, k, _ = points.shape
    at = np.linspace(0, 1, k)[None] * share[:, None] * (k - 1)
    low = np.floor(at).astype(int).clip(0, k - 2)
    a, i = (at - low)[..., None], np.arange(n)[:, None]
    return points[i, low] * (1 - a) + points[i, low + 1] * a
