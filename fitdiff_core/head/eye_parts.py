"""Wet line and caruncle: what joins the eyeball to the lids, made from the posed head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .inner_mouth import WET, patch_uv
from .lids import Lids, lids_of

if TYPE_CHECKING:
    from .model import HeadModel

RISE = 0.0004  # metres that the wet line climbs on the eyeball from the lid's edge
OVER = 0.00012  # metres that it lies over the eyeball
INTO = 0.55  # share of the way from the lid's edge to the eyeball at which it begins
LIGHT = (0.1, 0.8)  # of the upper line, which lies in the lid's shadow, and of the lower one
RINGS, SECTORS = 6, 12  # of the caruncle
SIZE = (0.0021, 0.0017, 0.0016)  # its half axes, metres
INSIDE = 6  # vertices of the lid's edge from the corner to where the caruncle ends


@dataclass
class EyeParts:
    """Topology of both eyes' parts. triangles: `[T, 3]`; uv: `[N, 2]`; lids: of the left and the right eye."""

    triangles: Tensor
    uv: Tensor
    lids: tuple[Lids, Lids]

    def vertices(self, posed: Tensor, centres: Tensor, radius: float) -> Tensor:
        """`[N, 3]` on a posed head `[V, 3]` with eyeballs of `radius` at `centres` `[2, 3]`."""
        points = []
        for lids, centre in zip(self.lids, centres, strict=True):
            points += [
                _line(posed[lids.upper], centre, radius, -RISE),
                _line(posed[lids.lower], centre, radius, RISE),
                _caruncle(posed, lids, centre, radius),
            ]
        return torch.cat(points)


def eye_parts(head: HeadModel) -> EyeParts:
    """The parts of a head model."""
    both, triangles, kinds, start = lids_of(head), [], [], 0
    for side, lids in enumerate(both):
        for row, light in ((lids.upper, LIGHT[0]), (lids.lower, LIGHT[1])):
            n = len(row)
            k = torch.arange(n - 1)
            strip = torch.cat([torch.stack([k, k + 1, k + n], 1), torch.stack([k + 1, k + n + 1, k + n], 1)])
            # seen from the front; the edges run from the inner corner to the outer, so the eyes mirror each other
            turned = (row is lids.upper) != (side == 1)
            triangles.append((strip.flip(1) if turned else strip) + start)
            kinds += [light] * n + [light * 0.7] * n
            start += 2 * n
        ball = _sphere().flip(1) if side else _sphere()
        triangles.append(ball + start)
        count = RINGS * SECTORS + 2
        kinds += [0.7] * count
        start += count
    uv = torch.from_numpy(patch_uv(np.full(len(kinds), WET), np.array(kinds)))
    return EyeParts(torch.cat(triangles), uv, both)


def _line(edge: Tensor, centre: Tensor, radius: float, rise: float) -> Tensor:
    """The wet line along one lid's edge `[N, 3]`: `[2 N, 3]`."""
    up = torch.tensor([0.0, 1.0, 0.0]).to(edge) * rise
    ball = centre + F.normalize(edge - centre + up, dim=1) * (radius + OVER)
    foot = centre + F.normalize(edge - centre, dim=1) * (radius + OVER)
    begin = edge + INTO * (foot - edge)
    return torch.cat([begin, ball])


def _caruncle(posed: Tensor, lids: Lids, centre: Tensor, radius: float) -> Tensor:
    """An ellipsoid in the inner corner, flattened where the lids shut over it."""
    corner = posed[lids.upper[0]]
    above, below = posed[lids.upper[INSIDE]], posed[lids.lower[2]]
    inner = (above + below) / 2
    along = F.normalize(inner - corner, dim=0)
    up = above - below
    open_ = up.norm()
    up = F.normalize(up - (up @ along) * along, dim=0, eps=1e-9)
    out = torch.linalg.cross(along, up)
    away = F.normalize(corner - centre, dim=0)
    out = out if out @ away > 0 else -out
    middle = corner + 0.0019 * along - 0.0012 * out
    axes = torch.stack([SIZE[0] * along, up * torch.minimum(open_ * 0.42, open_.new_tensor(SIZE[1])), SIZE[2] * out])
    theta = torch.linspace(0, torch.pi, RINGS + 2, dtype=posed.dtype)[1:-1]
    phi = torch.arange(SECTORS, dtype=posed.dtype) * (2 * torch.pi / SECTORS)
    ring = torch.stack(
        [
            theta.sin()[:, None] * phi.cos(),
            theta.sin()[:, None] * phi.sin(),
            theta.cos()[:, None].expand(-1, SECTORS),
        ],
        -1,
    ).reshape(-1, 3)
    poles = torch.tensor([[0.0, 0, 1], [0, 0, -1]]).to(ring)
    return middle + torch.cat([ring, poles]) @ axes


def _sphere() -> Tensor:
    """Triangles of the caruncle: rings from the pole at the front, then both poles."""
    first = torch.arange(RINGS - 1)[:, None] * SECTORS
    k = torch.arange(SECTORS)
    after = (k + 1) % SECTORS
    a, b, c, d = first + k, first + after, first + SECTORS + k, first + SECTORS + after
    sides = torch.cat([torch.stack(x, -1).reshape(-1, 3) for x in ((a, c, d), (a, d, b))])
    last, top = (RINGS - 1) * SECTORS, RINGS * SECTORS
    front = torch.stack([torch.full_like(k, top), k, after], 1)
    back = torch.stack([torch.full_like(k, top + 1), last + after, last + k], 1)
    return torch.cat([front, sides, back])
