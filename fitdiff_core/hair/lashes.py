"""Lashes: cards along the edges of the lids. They follow the lids, so a blink lowers them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from ..head.lids import Lids, lids_of, lower_at, on_line
from .groom import HairMesh, HairTexture, _bleed

if TYPE_CHECKING:
    from ..head import HeadModel

UPPER, LOWER = 46, 24  # cards of one eye
LENGTH = (0.0085, 0.0048)  # metres, upper and lower
WIDTH = (0.0021, 0.0017)  # of a card, metres
POINTS = 5  # along a card
SPAN = ((0.14, 0.985), (0.22, 0.94))  # of the lid's edge from the inner corner
# course in a frame of the lid: out from the eyeball, and up; linear and quadratic terms
COURSE = (((0.80, -0.05), (-0.16, 0.60)), ((0.62, -0.02), (-0.30, -0.18)))
DROOP, OPEN = 0.62, 0.008  # how much lower they look when the lids, OPEN metres apart at rest, are shut
COLOUR = (0.011, 0.008, 0.0065)  # linear
SIZE, COLUMNS = 256, 8  # of the texture; its upper half holds the cards
STRANDS = 4  # hairs of one card
HAIR = 0.000085  # metres, thickness of a hair at its root
_made = WeakTensorKeyDictionary()


@dataclass
class _Cards:
    """Cards of one lid. along: `[N]` place of each root on the edge; length, width, lean, curl: `[N]`; column: `[N]`

    lids, upper: whose edge it is. side: 0 for the left eye (+x)
    """

    lids: Lids
    upper: bool
    side: int
    along: Tensor
    length: Tensor
    lean: Tensor
    curl: Tensor
    column: Tensor

    @property
    def edge(self) -> Tensor:
        return self.lids.upper if self.upper else self.lids.lower


@torch.no_grad()
def grow_lashes(head: HeadModel, shape: Tensor, posed: Tensor) -> HairMesh:
    """The lashes of a posed head.

    shape: `[1, K]`. posed: `[V, 3]`, its vertices or more that follow them

    Deterministic and the same for everybody, apart from the form of the lids.
    """
    posed = posed.detach().float().cpu()
    cards = _cards(head)
    centres = head.eye_centres(shape.detach())[0].float().cpu()
    pieces = [_place(lot, posed, centres[lot.side]) for lot in cards]
    positions, normals, direction, across = (torch.cat([p[k] for p in pieces]) for k in range(4))
    n = len(positions) // (2 * POINTS)
    first = (torch.arange(n)[:, None] * POINTS + torch.arange(POINTS - 1)) * 2
    a, b, c, d = first, first + 1, first + 2, first + 3
    triangles = torch.stack([torch.stack([a, b, c], -1), torch.stack([b, d, c], -1)], 2).reshape(-1, 3)
    column = torch.cat([lot.column for lot in cards])
    u = (column[:, None, None] + torch.tensor([0.06, 0.94])) / COLUMNS
    v = 1 - 0.5 * torch.linspace(0.01, 0.99, POINTS)
    uv = torch.stack([u.expand(-1, POINTS, -1), v[None, :, None].expand(n, -1, 2)], -1).reshape(-1, 2)
    rows = torch.cat([_rows(lot) for lot in cards]).repeat_interleave(2 * POINTS, 0)
    weight = torch.tensor([1.0, 0.0, 0.0]).expand(len(rows), -1)
    root = torch.linspace(0.55, 1.0, POINTS)[None, :, None].expand(n, -1, 2).reshape(-1)
    return HairMesh(
        positions,
        normals,
        direction,
        torch.cat([across, -torch.ones(len(across), 1)], 1),
        uv,
        triangles,
        root,
        torch.full((len(positions),), 0.25),
        torch.ones(len(positions), 3),
        posed.new_ones(len(posed)),
        rows,
        weight,
        posed[rows[:, 0]],
        lash_texture(),
    )


def _cards(head: HeadModel) -> list[_Cards]:
    if head.triangles not in _made:
        rng, lots = np.random.default_rng(7), []
        for side, lids in enumerate(lids_of(head)):
            for upper, count in ((True, UPPER), (False, LOWER)):
                k = 0 if upper else 1
                low, high = SPAN[k]
                t = low + (high - low) * (np.arange(count) + 0.5 + rng.uniform(-0.35, 0.35, count)) / count
                # longest beyond the middle, short in the inner corner
                form = np.interp(t, [0, 0.2, 0.45, 0.75, 0.92, 1], [0.35, 0.55, 0.9, 1.0, 0.85, 0.6])
                length = LENGTH[k] * form * rng.uniform(0.82, 1.05, count)
                lean = (t - 0.42) * (1.05 if upper else 0.8) + rng.normal(0, 0.09, count)
                curl = rng.normal(1, 0.1, count)
                edge = lids.upper if upper else lids.lower
                lots.append(
                    _Cards(
                        lids,
                        upper,
                        side,
                        _float(t * (len(edge) - 1)),
                        _float(length),
                        _float(lean),
                        _float(curl),
                        torch.from_numpy(rng.integers(0, COLUMNS, count)),
                    )
                )
        _made[head.triangles] = lots
    return _made[head.triangles]


def _float(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values).float()


def _rows(lot: _Cards) -> Tensor:
    """Vertices `[N, 3]` of the lid's edge next to each root."""
    low = lot.along.long().clamp(0, len(lot.edge) - 2)
    return torch.stack([lot.edge[low], lot.edge[low + 1], lot.edge[low]], 1)


def _place(lot: _Cards, posed: Tensor, centre: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Positions, normals, directions and the axis across of the cards of one lid, `[N * POINTS * 2, 3]` each."""
    line = posed[lot.edge]
    root = on_line(line, _even(line, lot.along))
    smooth = F.normalize(line[-1] - line[0], dim=0)  # the edge's own direction is noisy in its corners
    out = F.normalize(root - centre, dim=1)
    across = F.normalize(smooth - (out @ smooth)[:, None] * out, dim=1)
    up = torch.linalg.cross(out, across)
    up = torch.where(up[:, 1:2] < 0, -up, up)
    t = torch.linspace(0, 1, POINTS)[None, :, None]
    (o1, o2), (u1, u2) = COURSE[0 if lot.upper else 1]
    droop = torch.zeros(1, 1, 1)
    if lot.upper:  # lids turn further than their edges move: lashes of shut eyes look down
        gap = (root - on_line(lower_at(posed[lot.lids.lower], line), _even(line, lot.along)))[:, 1]
        droop = DROOP * (1 - gap / OPEN).clamp(0, 1)[:, None, None]
    forward = (o1 * t + o2 * t**2) * out[:, None]
    rise = ((u1 - droop) * t + u2 * t**2 * lot.curl[:, None, None]) * up[:, None]
    fan = (lot.lean[:, None, None] * t) * across[:, None]
    points = root[:, None] + lot.length[:, None, None] * (forward + rise + fan) - 0.0002 * out[:, None]
    along = F.normalize(torch.gradient(points, dim=1)[0], dim=2)
    side = F.normalize(across[:, None] - (along * across[:, None]).sum(2, keepdim=True) * along, dim=2)
    half = WIDTH[0 if lot.upper else 1] / 2
    pair = torch.stack([points - half * side, points + half * side], 2)
    normal = F.normalize(torch.linalg.cross(side, along), dim=2)
    normal = torch.where((normal * out[:, None]).sum(2, keepdim=True) < 0, -normal, normal)
    wide = lambda x: x[:, :, None].expand(-1, -1, 2, -1).reshape(-1, 3)  # noqa: E731
    return pair.reshape(-1, 3), wide(normal), wide(along), wide(side)


def _even(line: Tensor, along: Tensor) -> Tensor:
    """Places on the line by its length, for places by number of vertex: roots at even distances."""
    length = F.pad((line[1:] - line[:-1]).norm(dim=1).cumsum(0), (1, 0))
    at = along / (len(line) - 1) * length[-1]
    after = torch.searchsorted(length, at.contiguous()).clamp(1, len(line) - 1)
    return after - 1 + (at - length[after - 1]) / (length[after] - length[after - 1]).clamp(min=1e-9)


@lru_cache(maxsize=1)
def lash_texture() -> HairTexture:
    """A few hairs in each column, from the root (top) to the tip; they draw together."""
    rng, rows = np.random.default_rng(11), SIZE // 2
    wide = SIZE // COLUMNS
    alpha = np.zeros((SIZE, SIZE))
    t = (np.arange(rows) + 0.5)[:, None] / rows
    x = (np.arange(wide) + 0.5)[None]
    texel = WIDTH[0] / wide
    for column in range(COLUMNS):
        card = np.zeros((rows, wide))
        meet = wide * rng.uniform(0.35, 0.65)
        for _ in range(STRANDS):
            start, end = wide * rng.uniform(0.14, 0.86), rng.uniform(0.72, 1.0)
            middle = start + (meet - start) * rng.uniform(0.3, 0.75) * t**1.4 + rng.normal(0, 0.8) * t**2
            half = HAIR / texel / 2 * np.clip(1.25 - 0.95 * t / end, 0.0, 1)
            cover = np.clip(half + 0.55 - np.abs(x - middle), 0, 1) * (t < end)
            card = np.maximum(card, cover)
        alpha[:rows, column * wide : (column + 1) * wide] = card
    alpha[:, ::wide] = alpha[:, wide - 1 :: wide] = 0
    color = torch.tensor(COLOUR)[:, None, None].expand(3, SIZE, SIZE)
    opaque = torch.from_numpy(alpha).float()
    normal = torch.tensor([0.0, 0.0, 1.0])[:, None, None].expand(3, SIZE, SIZE)
    return HairTexture(_bleed(color, torch.ones_like(opaque)), opaque[None], normal.contiguous())
