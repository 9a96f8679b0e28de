"""Tied hair: strands drawn to a knot, and what hangs or is wound from it."""

from __future__ import annotations

import numpy as np

from .body import CENTRE, Body
from .growth import KNOT, SKIN, Strands, ramp, unit
from .scalp import Roots
from .style import HairStyle


def knots(style: HairStyle, body: Body) -> np.ndarray:
    """Knots `[1 or 2, 3]` of a style on a head, metres; a pair stands for pigtails, left (+x) first."""
    at = np.array([KNOT[style.tie]])
    if style.tie == "pigtails":
        at = np.concatenate([at, at * [-1, 1, 1]])
    for _ in range(6):
        distance, out = body(at)
        at = at + (0.012 - distance)[:, None] * out
    return at


def drawn(
    style: HairStyle, roots: Roots, p: np.ndarray, body: Body, rng: np.random.Generator, segments: int
) -> Strands:
    """Strands that run over the head from roots p `[N, 3]` to their knot."""
    at, n = knots(style, body), len(p)
    goal = at[0 if len(at) == 1 else 1 - (roots.mean[:, 0] >= style.part * 0.3).astype(int)] + np.zeros_like(p)
    goal = goal + rng.normal(0, 0.0035, (n, 3))
    a, b = unit(p - CENTRE), unit(goal - CENTRE)
    angle = np.arccos(np.clip((a * b).sum(1, keepdims=True), -1, 1))[:, None]
    t = np.linspace(0, 1, segments + 1)[None, :, None]
    sine = np.maximum(np.sin(angle), 1e-3)
    q = (np.sin((1 - t) * angle) * a[:, None] + np.sin(t * angle) * b[:, None]) / sine
    far, near = np.linalg.norm(goal - CENTRE, axis=1), np.linalg.norm(p - CENTRE, axis=1)
    points = CENTRE + unit(q) * (near[:, None, None] * (1 - t) + far[:, None, None] * t)
    layer = rng.random(n)
    high = (
        style.volume
        * (0.25 + 0.75 * layer)[:, None]
        * np.minimum(t[..., 0] * 3, 1)
        * (0.35 + 0.65 * np.sin(np.pi * t[..., 0]))
    )
    high = high * np.clip(0.4 + roots.edge / 0.03, 0, 1)[:, None]
    end = ramp(t[..., 0], 0.8, 1.0)
    for _ in range(4):
        distance, out = body(points)
        lift = (SKIN + high - distance) * (1 - end)
        points[:, 1:] += (lift[..., None] * out)[:, 1:]
    points = np.concatenate([points[:, :-1], goal[:, None]], 1)
    loose = style.frizz * 0.004 * rng.normal(0, 1, (n, 1, 3)) * np.sin(np.pi * t)
    points = points + loose
    points[:, 1:] = body.push_out(points[:, 1:], SKIN)
    return Strands(points, body(points)[1], roots, layer, np.arange(n))


def tail(style: HairStyle, at: np.ndarray, anchor: Roots, body: Body, rng, count: int, segments: int) -> Strands:
    """Loose hair that hangs from a knot `[3]`. anchor: a root, with which it moves."""
    length = np.clip(style.back, 0.08, 0.6)
    t = np.linspace(0, 1, segments + 1)
    _, out = body(at[None])
    up = {"high_ponytail": 0.6, "half_up": 0.1}.get(style.tie, 0.25)
    start = unit(out[0] + [0, up, 0])
    path, d = [at], start
    for k in range(segments):
        step = length / segments
        pull = 1 - np.exp(-step / (0.045 if style.tie == "high_ponytail" else 0.028))
        d = unit(d + pull * (np.array([0, -1.0, 0]) - d))
        path.append(body.push_out((path[-1] + d * step)[None], 0.012 + 0.01 * (k > 2))[0])
    middle = np.array(path)
    turn, rad = rng.uniform(0, 6.28, (count, 1)), np.sqrt(rng.random((count, 1)))
    along = unit(np.gradient(middle, axis=0))
    across = unit(np.cross(along, [0.0, 0.0, 1.0]) + 1e-6)
    other = np.cross(across, along)
    thick = style.density**0.5 * 0.019
    wide = np.interp(t, [0, 0.06, 0.3, 0.75, 1], [0.45, 0.6, 1.0, 0.95, 0.35]) * thick
    off = (rad * wide)[..., None] * (np.cos(turn)[..., None] * across * 1.2 + np.sin(turn)[..., None] * other)
    share = rng.uniform(0.72, 1.0, count)
    points = middle[None] + off
    at_ = np.linspace(0, 1, segments + 1)[None] * share[:, None] * segments
    low = np.floor(at_).astype(int).clip(0, segments - 1)
    a, i = (at_ - low)[..., None], np.arange(count)[:, None]
    points = points[i, low] * (1 - a) + points[i, low + 1] * a
    normal = unit(off + 0.15 * out[0])
    return Strands(points, normal, _anchored(anchor, count), rad[:, 0] ** 2, np.arange(count))


def wound(style: HairStyle, at: np.ndarray, anchor: Roots, body: Body, rng, count: int, segments: int) -> Strands:
    """A bun: strands wound round the knot `[3]`."""
    _, out = body(at[None])
    axis = unit(out[0] + np.array([0, 0.25, 0]) * (style.tie == "bun"))
    size = 0.03 * style.density**0.33 * (0.8 + np.clip(style.back, 0.1, 0.5))
    one = unit(np.cross(axis, [0.3, 1.0, 0.1]))
    two = np.cross(axis, one)
    t = np.linspace(0, 1, segments + 1)[None]
    layer = rng.random((count, 1))
    turn = rng.uniform(0, 6.28, (count, 1)) + t * rng.uniform(1.6, 3.4, (count, 1))
    high = np.clip(rng.uniform(-0.9, 0.9, (count, 1)) + t * rng.normal(0.25, 0.25, (count, 1)), -0.97, 0.97)
    ring = np.sqrt(1 - high**2)
    radial = np.cos(turn)[..., None] * one + np.sin(turn)[..., None] * two
    normal = ring[..., None] * radial + high[..., None] * axis
    radius = size * (0.82 + 0.2 * layer + 0.05 * np.sin(3 * turn + 9 * layer))
    points = (
        at
        + axis * size * 0.55
        + radius[..., None] * normal * np.array([1.0, 1.0, 1.0])
        - 0.25 * (high * size)[..., None] * axis
    )
    return Strands(points, unit(normal), _anchored(anchor, count), layer[:, 0], np.arange(count))


def twist(
    style: HairStyle, at: np.ndarray, anchor: Roots, body: Body, segments: int = 56
) -> tuple[Strands, np.ndarray]:
    """The rope of a bun, wound round the knot `[3]` from the outside in, and its radius `[1, K]`."""
    _, out = body(at[None])
    axis = unit(out[0] + np.array([0, 0.2, 0]) * (style.tie == "bun"))
    one = unit(np.cross(axis, [0.2, 1.0, 0.1]))
    two = np.cross(axis, one)
    size = style.density**0.33 * (0.75 + np.clip(style.back, 0.1, 0.5))
    t = np.linspace(0, 1, segments + 1)[:, None]
    turn = 2 * np.pi * 2.6 * t
    radius = size * np.interp(t, [0, 0.45, 0.8, 1], [0.021, 0.017, 0.008, 0.0])
    rise = size * np.interp(t, [0, 0.45, 1], [0.004, 0.012, 0.025])
    points = at + rise * axis + radius * (np.cos(turn) * one + np.sin(turn) * two)
    thick = size * np.interp(t[:, 0], [0, 0.1, 0.6, 1], [0.009, 0.0115, 0.011, 0.008])
    normal = unit(np.cos(turn) * one + np.sin(turn) * two + axis * 0.6)
    return Strands(points[None], normal[None], _anchored(anchor, 1), np.ones(1), np.arange(1)), thick[None]


def plait(style: HairStyle, at: np.ndarray, anchor: Roots, body: Body, segments: int = 44) -> Strands:
    """Three strands plaited from the knot `[3]` down the back."""
    length = np.clip(style.back, 0.1, 0.5)
    path, d = [at], np.array([0, -0.6, -0.8])
    for _ in range(segments):
        d = unit(0.88 * d + 0.12 * np.array([0, -1.0, 0]))
        path.append(body.push_out((path[-1] + d * length / segments)[None], 0.017)[0])
    middle = np.array(path)
    along = unit(np.gradient(middle, axis=0))
    across = unit(np.cross(along, [0.0, 0.0, 1.0]))
    out = unit(np.cross(across, along))
    out = out * np.sign((out * -np.array([0, 0, 1.0])).sum(1, keepdims=True))
    t = np.linspace(0, 1, segments + 1)
    thin = np.interp(t, [0, 0.1, 0.7, 1], [0.75, 1, 0.85, 0.35])[:, None]
    turn = 2 * np.pi * (length / 0.052 * t[:, None] + np.arange(3)[None] / 3)
    points = middle[:, None] + 0.0105 * thin[:, None] * (
        np.sin(turn)[..., None] * across[:, None] + 0.5 * np.sin(2 * turn)[..., None] * out[:, None]
    )
    points = points.transpose(1, 0, 2)
    return Strands(points, np.broadcast_to(out, points.shape).copy(), _anchored(anchor, 3), np.ones(3), np.arange(3))


def _anchored(anchor: Roots, count: int) -> Roots:
    rep = lambda x: np.repeat(x[:1], count, 0)  # noqa: E731
    return Roots(rep(anchor.rows), rep(anchor.weight), rep(anchor.mean), np.full(count, 0.05))
