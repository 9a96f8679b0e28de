"""Noise in space: value noise, and cell noise (Worley 1996, "A cellular texture basis function").

It is evaluated at 3D points, so a texture made of it has no seams and no stretch. Random bits of a lattice cell come
from tabulation hashing (Zobrist 1970): one table for each axis, combined by xor. All functions are deterministic, and
the same on every device but for the last bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

PERIOD = 1024  # cells of a table; the noise repeats after that many cells
BITS, MASK = 10, 1023  # random bits of each coordinate of a cell's point
CHUNK = 1 << 15  # points computed at a time, so that they stay in the processor's cache
SEARCH = 3  # cells searched along each axis


class Lattice(NamedTuple):
    """Random bits of the cells of a lattice.

    tables: `[3, PERIOD]` int32, 30 random bits
    turn: `[3, 3]`, rotation of the points: without it, ridges would run along the axes of the head
    """

    tables: Tensor
    turn: Tensor

    @classmethod
    def of(cls, seed: int, layer: int, device: torch.device | str = "cpu") -> Lattice:
        """seed: of the whole texture. layer: number of the noise in it; each has its own cells."""
        generator = torch.Generator().manual_seed((seed * 1000003 + layer) % (1 << 63))
        tables = torch.randint(0, 1 << (3 * BITS), (3, PERIOD), generator=generator, dtype=torch.int32)
        turn = torch.linalg.qr(torch.randn(3, 3, generator=generator))[0]
        return cls(tables.to(device), turn.to(device))

    def cells(self, points: Tensor, size: float, centred: bool) -> tuple[Tensor, Tensor]:
        """Points `[N, 3]` -> their cell `[3, N]` int64 and their position in it `[3, N]`.

        centred: position -0.5 to 0.5 from the nearest corner of the lattice, else 0 to 1.
        """
        x = (points @ self.turn.T / size).T.contiguous()
        base = x.round() if centred else x.floor()
        return base.long(), x - base

    def rows(self, cell: Tensor, offsets: range) -> list[list[Tensor]]:
        """Random bits `[N]` of each axis and each offset of the cell along it."""
        return [[self.tables[a].index_select(0, (cell[a] + o) & MASK) for o in offsets] for a in range(3)]


def in_chunks(function: Callable[[Tensor], Tensor], points: Tensor) -> Tensor:
    """function: points `[n, 3]` -> `[n, ...]`, applied to points `[N, 3]` in chunks."""
    return torch.cat([function(part) for part in points.split(CHUNK)]) if len(points) else function(points)


def sine_warp(points: Tensor, size: float, lattice: Lattice) -> Tensor:
    """A smooth vector field `[N, 3]`, -1..1, with waves of about `size`, at points `[N, 3]`: bends straight borders."""
    waves = torch.cat([lattice.turn, 1.62 * lattice.turn.flip(0)]) * (2 * math.pi / size)  # no common period
    phase = lattice.tables[:, :2].flatten().to(points.dtype) * (2 * math.pi / (1 << (3 * BITS)))
    swing = torch.sin(points @ waves.T + phase)
    return 0.6 * swing[:, :3] + 0.4 * swing[:, 3:]


def value_noise(points: Tensor, size: float, lattice: Lattice) -> Tensor:
    """Value noise `[N]`, -1..1, at points `[N, 3]`; size: of a cell, in the unit of the points.

    Its standard deviation is about 0.3.
    """

    def part(p: Tensor) -> Tensor:
        cell, at = lattice.cells(p, size, False)
        fade = at * at * at * (at * (at * 6 - 15) + 10)  # quintic: second derivatives are continuous
        a, b, c = lattice.rows(cell, range(2))
        planes = []
        for i in range(2):
            lines = []
            for j in range(2):
                near, far = (((a[i] ^ b[j] ^ c[k]) & MASK).to(p.dtype) for k in range(2))
                lines.append(torch.lerp(near, far, fade[2]))
            planes.append(torch.lerp(lines[0], lines[1], fade[1]))
        return torch.lerp(planes[0], planes[1], fade[0]) * (2 / MASK) - 1

    return in_chunks(part, points)


def _squared(bits: Tensor, at: list[Tensor]) -> Tensor:
    """Squared distance `[N]` to the random point of a cell. at: position relative to the cell, `[N]` for each axis."""
    total = None
    for axis, x in enumerate(at):
        coordinate = ((bits >> (BITS * axis)) & MASK).to(x.dtype)
        step = torch.sub(x, coordinate, alpha=1 / PERIOD)
        total = step * step if total is None else torch.addcmul(total, step, step)
    return total  # type: ignore[return-value]


def cell_borders(points: Tensor, size: float, lattice: Lattice) -> Tensor:
    """F2 - F1 `[N]` in cells at points `[N, 3]`: 0 on the borders of the cells around random points.

    F1 and F2 are the distances to the nearest and to the second nearest point. 27 cells are searched. size: of a cell.
    """

    def part(p: Tensor) -> Tensor:
        cell, at = lattice.cells(p, size, False)
        a, b, c = lattice.rows(cell, range(-1, SEARCH - 1))
        first, second = torch.full_like(at[0], 9.0), torch.full_like(at[0], 9.0)
        for i in range(SEARCH):
            x = at[0] - (i - 1)
            for j in range(SEARCH):
                y, ab = at[1] - (j - 1), a[i] ^ b[j]
                for k in range(SEARCH):
                    d = _squared(ab ^ c[k], [x, y, at[2] - (k - 1)])
                    second = torch.minimum(second, torch.maximum(first, d))
                    first = torch.minimum(first, d)
        return second.sqrt() - first.sqrt()

    return in_chunks(part, points)


def pits(points: Tensor, size: float, radius: Tensor, lattice: Lattice) -> Tensor:
    """Round pits about random points, one a cell: `[N]`, 0 outside, 1 at the middle of the deepest.

    points: `[N, 3]`. size: of a cell. radius: `[N]` in cells, at most 0.5, so that 8 cells are enough
    A surface cuts the balls at any height, so the pits on it differ in size and depth. Each ball has a depth of its
    own too, 0.4 to 1. Where pits overlap, the deeper counts.
    """

    def part(values: Tensor) -> Tensor:
        p, inverse = values[:, :3], values[:, 3].square().reciprocal()
        cell, at = lattice.cells(p, size, True)
        a, b, c = lattice.rows(cell, range(-1, 1))
        found = torch.zeros_like(inverse)
        for i in range(2):
            x = at[0] - (i - 1)
            for j in range(2):
                y, ab = at[1] - (j - 1), a[i] ^ b[j]
                for k in range(2):
                    bits = ab ^ c[k]
                    ball = torch.sub(1.0, _squared(bits, [x, y, at[2] - (k - 1)]) * inverse).clamp_(min=0)
                    depth = (bits & 63).to(p.dtype) * (0.6 / 63) + 0.4
                    found = torch.maximum(found, ball * ball * depth)
        return found

    return in_chunks(part, torch.cat([points, radius[:, None]], 1))
