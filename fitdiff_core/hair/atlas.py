"""The texture of hair: strands of cards, ropes of locs and braids, and the cap on the scalp, in one atlas.

The upper half holds COLUMNS cards side by side, roots at the top: dense ones first, wisps last. The lower half holds
the cap (left) and a rope that repeats along v (right).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F

SIZE = 1024
COLUMNS = 8
COLUMN, ROWS = SIZE // COLUMNS, SIZE // 2
CAP = (0.0, 0.0, 0.5, 0.5)  # u0, v0, u1, v1
ROPE = (0.52, 0.0, 0.98, 0.5)
WIDEST = 0.012  # metres of card that show a whole column
TINT = (0.9, 1.12, 0.98, 1.2, 0.84, 1.06, 1.25, 0.95)  # of each column: neighbouring cards differ
# strands in each column: straight ones are fine, those of coils show as coils only where one sees between them
COUNT = {False: (120, 120, 108, 96, 64, 52, 26, 18), True: (64, 64, 58, 52, 36, 30, 15, 10)}
ROPE_TURNS = 8  # periods of the rope's pattern in its height


@dataclass
class Grain:
    """Greyscale planes `[SIZE, SIZE]` before they are coloured.

    shade: brightness, about 1. alpha: coverage. strand: 0..1, random, the same along a strand. bend: normal x, -1..1
    """

    shade: np.ndarray
    alpha: np.ndarray
    strand: np.ndarray
    bend: np.ndarray


def column_uv(
    column: np.ndarray, width: np.ndarray, t: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(u of the two edges `[N, 2]`, v `[K]`): a narrow card shows a part of its column."""
    share = np.clip(width / WIDEST, 0.25, 1) * 0.94
    at = 0.03 + rng.random(len(column)) * (0.94 - share)
    u = (column[:, None] + np.stack([at, at + share], 1)) / COLUMNS
    u = np.where(rng.random((len(u), 1)) < 0.5, u, u[:, ::-1])
    return u, 1 - 0.5 * (0.006 + 0.985 * t)


def tube_uv(kind: str, round_: np.ndarray, along: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`[N, K, M, 2]` for tubes: round_ `[M]` 0..1, along `[N, K]` in diameters."""
    if kind == "bundle":  # strands along the tube: two dense columns, mirrored
        u = (0.1 + 0.8 * np.abs(2 * round_ - 1)) / COLUMNS
        v = 1 - 0.5 * (0.05 + 0.6 * along / np.maximum(along[:, -1:], 1e-6))
        shape = (*along.shape, len(u))
        return np.stack([np.broadcast_to(u, shape), np.broadcast_to(v[..., None], shape)], -1)
    u0, v0, u1, v1 = ROPE
    period = (v1 - v0) / ROPE_TURNS
    n, k = along.shape
    # the pattern repeats within the rope's height: a tube starts anywhere and is squeezed to fit
    reach = np.minimum(along[:, -1:] * 0.8, ROPE_TURNS - 1.0)
    v = v1 - period * (0.3 + 0.5 * rng.random((n, 1)) + along / np.maximum(along[:, -1:], 1e-6) * reach)
    u = u0 + (u1 - u0) * round_
    return np.stack([np.broadcast_to(u, (n, k, len(u))), np.broadcast_to(v[..., None], (n, k, len(u)))], -1)


@lru_cache(maxsize=4)
def strand_grain(strand: str) -> Grain:
    """The upper half and the rope, for one of `STRANDS`. Painted once."""
    rng = np.random.default_rng({"straight": 5, "curly": 6, "coily": 7, "loc": 8, "braid": 9}[strand])
    planes = [np.zeros((SIZE, SIZE), np.float32) for _ in range(4)]
    for plane, painted in zip(planes, _cards(strand, rng), strict=True):
        plane[:ROWS] = painted
    x0, x1 = round(ROPE[0] * SIZE), round(ROPE[2] * SIZE)
    for plane, painted in zip(planes, _rope(strand, x1 - x0, rng), strict=True):
        plane[ROWS:, x0:x1] = painted
    return Grain(*planes)


def _cards(strand: str, rng: np.random.Generator) -> list[np.ndarray]:
    """shade, alpha, strand and bend `[ROWS, SIZE]`, painted at twice the width."""
    width = 2 * COLUMN
    points = {"coily": 1400, "curly": 700}.get(strand, ROWS)
    found = []
    for c, count in enumerate(COUNT[strand in ("curly", "coily")]):
        x, y, half = _curves(strand, c, count, points, rng)
        painted = _draw(x * width, y * ROWS, half * width, (ROWS, width), strand == "coily", rng)
        found.append([painted[0] * TINT[c], *painted[1:]])
    planes = [np.concatenate([f[i] for f in found], 1) for i in range(4)]
    shade, alpha, ident, bend = planes
    pair = lambda p: (p * alpha).reshape(ROWS, SIZE, 2).sum(2) / np.maximum(alpha.reshape(ROWS, SIZE, 2).sum(2), 1e-6)  # noqa: E731
    return [pair(shade), alpha.reshape(ROWS, SIZE, 2).mean(2), pair(ident), pair(bend)]


def _curves(strand: str, column: int, count: int, points: int, rng: np.random.Generator):
    """Centre lines x, y `[count, points]` in 0..1 of the column, and half widths."""
    t = np.linspace(0, 1, points)[None]
    u = lambda low, high: rng.uniform(low, high, (count, 1))  # noqa: E731
    wisp = column >= 6
    start, focus = u(0.07, 0.93), np.clip(0.5 + 0.22 * rng.normal(0, 1, (1, 1)) + u(-0.18, 0.18), 0.15, 0.85)
    gathered = u(0.05, 0.4) if not wisp else u(0.0, 0.3)
    x = start + gathered * (focus - start) * t**1.6
    y = t * u(0.8 if column < 4 else 0.66, 1.0) if not wisp else t * u(0.4, 1.0)
    begin = u(0, 0.06)
    y = begin + (1 - begin) * y
    swing = np.minimum(t * 5, 1) * np.sin(2 * np.pi * u(0.5, 1.8) * t + u(0, 6.28)) * u(0.004, 0.02)
    half = (u(0.008, 0.02) if strand in ("curly", "coily") else u(0.005, 0.012)) * (0.75 if wisp else 1)
    if strand == "curly":
        common = 2 * np.pi * (3.2 * t + rng.random())
        swing = np.minimum(t * 6, 1) * (
            u(0.05, 0.13) * np.sin(common + u(-0.7, 0.7)) + 0.02 * np.sin(2.3 * common + u(0, 6))
        )
        x = 0.5 + (x - 0.5) * 0.75
    elif strand == "coily":
        turn = 2 * np.pi * u(9, 16) * t + u(0, 6.28)
        size = u(0.03, 0.075)
        swing, y = size * np.cos(turn), 0.02 + y * 0.95 + 0.012 * np.sin(turn)
        x, half = 0.5 + (x - 0.5) * 0.86, half * 0.75
    half = half * np.clip((1.02 - t) / 0.35, 0.12, 1) * np.ones_like(x)
    return np.clip(x + swing, 0.02, 0.98), y, half


def _draw(x, y, half, size, discs: bool, rng: np.random.Generator) -> list[np.ndarray]:
    """Paint curves `[M, P]` (pixels) on top of each other: shade, alpha, strand and bend `[H, W]`."""
    m, p = x.shape
    height, width = size
    depth, ident = rng.random((m, 1)), rng.random((m, 1))
    tint = np.exp(rng.normal(0, 0.28, (m, 1)))
    best = np.full(height * width, -1, np.int64)
    reach = int(np.ceil(half.max())) + 1
    layers = []
    for dy in (-1, 0, 1) if discs else (0,):
        for dx in range(-reach, reach + 1):
            column, row = np.floor(x).astype(int) + dx, np.floor(y).astype(int) + dy
            off = (column + 0.5 - x) / np.maximum(half, 0.6)
            ok = (np.abs(off) < 1) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
            strand, _ = np.nonzero(ok)
            off, at = off[ok], (row * width + column)[ok]
            z = depth[strand, 0] - 0.15 * np.abs(off)
            layers.append((at, z, strand, off))
    at, z, strand, off = (np.concatenate(column) for column in zip(*layers, strict=True))
    key = ((z * 0.5 + 0.25) * (1 << 30)).astype(np.int64) << 32 | np.arange(len(z))
    np.maximum.at(best, at, key)
    seen = best >= 0
    top = best[seen] & 0xFFFFFFFF
    planes = [np.zeros(height * width) for _ in range(4)]
    s = strand[top]
    planes[0][seen] = tint[s, 0] * (0.5 + 0.6 * depth[s, 0]) * (1 - 0.35 * off[top] ** 2)
    planes[1][seen] = 1.0
    planes[2][seen] = ident[s, 0]
    planes[3][seen] = off[top] * 0.7
    return [plane.reshape(size) for plane in planes]


def _rope(strand: str, width: int, rng: np.random.Generator) -> list[np.ndarray]:
    """shade, alpha, strand and bend `[ROWS, width]` of a rope: three plaited strands or a matted loc."""
    u = (np.arange(width) + 0.5)[None] / width
    v = (np.arange(ROWS) + 0.5)[:, None] / ROWS * ROPE_TURNS
    noise = rng.normal(0, 1, (ROWS, width))
    if strand == "loc":
        fuzz = _blur(noise, 2, 9) * 1.2
        rings = np.sin(2 * np.pi * (v * 1.3 + 0.35 * np.sin(2 * np.pi * u + 1.7 * v)))
        shade = 0.85 + 0.12 * rings + 0.22 * fuzz
        bend = 0.3 * fuzz
    else:
        # a plait shows V-shaped bulges, on both sides of the tube; strands run along them
        fold = np.abs((2 * u) % 1 - 0.5) * 2
        phase = (v * 1.0 + 0.55 * fold) % 1
        bulge = np.sin(np.pi * phase)
        fine = _along(noise, u, v, fold)
        shade = 0.3 + 0.75 * bulge**0.6 + 0.16 * fine
        bend = np.cos(np.pi * phase) * 0.5
    ident = (rng.random((1, width)) + 0 * v) % 1
    return [np.clip(shade, 0.1, 1.6), np.ones_like(shade), ident, np.clip(bend, -0.8, 0.8)]


def _along(noise: np.ndarray, u: np.ndarray, v: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Streaks across the V of a plait."""
    wave = np.sin(2 * np.pi * (v * 7 - fold * 4.5) + 2 * np.sin(5 * v)) + 0.7 * np.sin(2 * np.pi * (v * 12 - fold * 7))
    return 0.6 * wave + 0.3 * _blur(noise, 1, 2)


def _blur(x: np.ndarray, across: int, along: int) -> np.ndarray:
    """Box blur of noise, scaled back to about unit deviation."""
    kernel = (2 * along + 1, 2 * across + 1)
    y = F.avg_pool2d(torch.from_numpy(x)[None, None], kernel, 1, (along, across))[0, 0].numpy()
    return y / max(y.std(), 1e-6)
