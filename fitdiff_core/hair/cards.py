"""Strands become ribbons ("cards") or tubes, with uv in the strand atlas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .atlas import COLUMNS, column_uv, tube_uv
from .growth import Strands, unit
from .scalp import Roots
from .style import HairStyle

SIDES = 5  # of a tube
LOCKS, WITHIN, ALONG = 0.25, 0.05, 0.08  # log brightness by which locks, their cards, and parts of a card differ
UNLIKE = {"coily": 0.2, "curly": 0.6}  # of these differences: coils are one mass
BAND = 0.05  # metres of a card from bright to bright
GLOSS = {"straight": 1.0, "curly": 0.6, "coily": 0.15, "loc": 0.25, "braid": 0.5, "bundle": 0.8}


@dataclass
class Ribbons:
    """Part of a hair mesh.

    positions, normals, direction: `[V, 3]`; direction runs along the strand from the root
    tangents: `[V, 4]`, where u grows, and the bitangent's sign
    uv: `[V, 2]` v from the bottom; triangles: `[T, 3]`
    light: `[V]` 0..1, share of ambient light; gloss: `[V]` strength of highlights
    tone: `[V]` about 1, factor of the texture's colour: locks differ
    rows, weight: `[V, 3]`, root triangle and barycentric of each vertex
    """

    positions: np.ndarray
    normals: np.ndarray
    direction: np.ndarray
    tangents: np.ndarray
    uv: np.ndarray
    triangles: np.ndarray
    light: np.ndarray
    gloss: np.ndarray
    tone: np.ndarray
    rows: np.ndarray
    weight: np.ndarray

    @classmethod
    def cat(cls, parts: list[Ribbons]) -> Ribbons:
        starts = np.cumsum([0] + [len(p.positions) for p in parts])
        columns = {
            name: np.concatenate([getattr(p, name) for p in parts])
            for name in cls.__dataclass_fields__
            if name != "triangles"
        }
        return cls(triangles=np.concatenate([p.triangles + s for p, s in zip(parts, starts, strict=False)]), **columns)


def ribbons(
    strands: Strands, style: HairStyle, width: np.ndarray, light: np.ndarray, rng: np.random.Generator
) -> Ribbons:
    """One card a strand. width: `[N]` metres; light: `[N, K]` share of ambient light along it."""
    points, (n, k, _) = strands.points, strands.points.shape
    along = unit(np.gradient(points, axis=1))
    across = unit(np.cross(along, strands.out))
    up = np.cross(across, along)
    tilt = rng.normal(0, {"coily": 1.1, "curly": 0.6}.get(style.strand, 0.28), (n, 1, 1))
    across, up = across * np.cos(tilt) + up * np.sin(tilt), up * np.cos(tilt) - across * np.sin(tilt)
    t = np.linspace(0, 1, k)
    profile = np.interp(t, [0, 0.2, 0.7, 1], [0.6, 1.0, 1.0, 0.6])
    half = (width[:, None] * profile)[..., None] * across / 2
    loose = style.strand in ("coily", "curly")  # cards at all angles are shaded as one mass
    facing = unit((0.1 if loose else 0.55) * np.abs(np.cos(tilt)) * up + 0.75 * strands.out)
    side = np.array([-1.0, 1.0])[:, None]
    normals = unit(facing[:, :, None] + 0.5 * side * across[:, :, None])
    thin = strands.roots.edge < 0.006
    column = np.where(strands.layer > 0.8, rng.integers(4, COLUMNS, n), rng.integers(0, 5, n))
    if style.strand == "coily":
        column = rng.integers(3, COLUMNS, (n,))
    column = np.where(thin, rng.integers(5, COLUMNS, n), column)
    u, v = column_uv(column, width, t, rng)
    flip = np.sign(u[:, 1] - u[:, 0])[:, None, None, None]
    tangents = np.concatenate(
        [np.broadcast_to(flip * across[:, :, None], (n, k, 2, 3)), np.broadcast_to(-flip, (n, k, 2, 1))], -1
    )
    return Ribbons(
        (points[:, :, None] + side * half[:, :, None]).reshape(-1, 3),
        normals.reshape(-1, 3),
        np.repeat(along, 2, 1).reshape(-1, 3),
        tangents.reshape(-1, 4),
        np.stack([np.broadcast_to(u[:, None], (n, k, 2)), np.broadcast_to(v[None, :, None], (n, k, 2))], -1).reshape(
            -1, 2
        ),
        _strip(n, k, 2),
        np.repeat(light, 2, 1).reshape(-1),
        np.full(2 * n * k, GLOSS[style.strand]),
        np.repeat(_tone(strands, style, rng), 2, 1).reshape(-1),
        *_roots(strands.roots, 2 * k),
    )


def _tone(strands: Strands, style: HairStyle, rng: np.random.Generator) -> np.ndarray:
    """`[N, K]` about 1: locks differ in brightness, cards of a lock less, and each a little along its length."""
    n, k, _ = strands.points.shape
    arc = np.linalg.norm(np.diff(strands.points, axis=1, prepend=strands.points[:, :1]), axis=-1).cumsum(1)
    of = lambda x: x[strands.lock % n][:, None]  # noqa: E731
    wave = np.sin(2 * np.pi * (arc / BAND + of(rng.random(n))) + rng.normal(0, 0.5, (n, 1)))
    away = LOCKS * of(rng.normal(0, 1, n)) + WITHIN * rng.normal(0, 1, (n, 1)) + ALONG * wave
    return np.exp(style.streaks * UNLIKE.get(style.strand, 1.0) * away.clip(-0.6, 0.45))


def tubes(strands: Strands, kind: str, radius: np.ndarray, light: np.ndarray, rng: np.random.Generator) -> Ribbons:
    """One tube a strand, for locs and braids. kind: "loc" or "braid"; radius: `[N, K]` metres."""
    points, (n, k, _) = strands.points, strands.points.shape
    along = unit(np.gradient(points, axis=1))
    across = unit(np.cross(along, strands.out + 1e-6))
    up = np.cross(across, along)
    m = SIDES + 1  # the first and the last column of vertices lie on each other: the seam of uv
    angle = np.linspace(0, 2 * np.pi, m)[None, None, :, None]
    ring = np.cos(angle) * across[:, :, None] + np.sin(angle) * up[:, :, None]
    round_ = -np.sin(angle) * across[:, :, None] + np.cos(angle) * up[:, :, None]
    positions = points[:, :, None] + radius[..., None, None] * ring
    arc = np.concatenate([np.zeros((n, 1)), np.linalg.norm(np.diff(points, axis=1), axis=-1).cumsum(1)], 1)
    uv = tube_uv(kind, np.linspace(0, 1, m), arc / (radius.max() * 2), rng)
    sign = np.full((n, k, m, 1), -1.0)
    return Ribbons(
        positions.reshape(-1, 3),
        np.broadcast_to(ring, positions.shape).reshape(-1, 3).copy(),
        np.repeat(along, m, 1).reshape(-1, 3),
        np.concatenate([np.broadcast_to(round_, positions.shape), sign], -1).reshape(-1, 4),
        uv.reshape(-1, 2),
        _strip(n, k, m),
        (light[..., None] * (0.75 + 0.25 * (ring * strands.out[:, :, None]).sum(-1))).reshape(-1),
        np.full(n * k * m, GLOSS[kind]),
        np.ones(n * k * m),
        *_roots(strands.roots, k * m),
    )


def _strip(n: int, k: int, m: int) -> np.ndarray:
    """Triangles of n grids of k x m vertices; the first two corners of each lie along the strand."""
    first = (np.arange(n)[:, None, None] * k + np.arange(k - 1)[None, :, None]) * m + np.arange(m - 1)[None, None]
    a, b, c, d = first, first + 1, first + m, first + m + 1
    return np.stack([np.stack([a, c, b], -1), np.stack([d, b, c], -1)], 3).reshape(-1, 3)


def _roots(roots: Roots, times: int) -> tuple[np.ndarray, np.ndarray]:
    return np.repeat(roots.rows, times, 0), np.repeat(roots.weight, times, 0)
