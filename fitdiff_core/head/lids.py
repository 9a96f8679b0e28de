"""The edges of the eyelids: rows of vertices along the upper and the lower lid, and how the lid's skin follows them."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

if TYPE_CHECKING:
    from .model import HeadModel

# of the 68 landmarks: from the inner corner over the upper lid to the outer corner, and the same below; left eye first
UPPER, LOWER = ((42, 43, 44, 45), (39, 38, 37, 36)), ((42, 47, 46, 45), (39, 40, 41, 36))
AROUND = 0.035  # metres about an eye in which its lids lie
LID = 0.012  # metres from the edge over which the lid's skin follows it
_lids = WeakTensorKeyDictionary()


@dataclass
class Following:
    """How the skin of one lid follows its edge.

    rows: `[K]` vertices; weight: `[K]` how much, 0..1; along: `[K]` where on the edge, as `nearest_on` gives it
    away: `[K]` metres from the edge, of the mean head
    """

    rows: Tensor
    weight: Tensor
    along: Tensor
    away: Tensor

    def offsets(self, pull: Tensor) -> Tensor:
        """Offsets `[K, 3]` of the rows for those of the edge `[N, 3]`."""
        return on_line(pull, self.along) * self.weight[:, None]


@dataclass
class Lids:
    """Lids of one eye of a head model.

    upper, lower: `[N]`, `[M]` vertices of the edges from the inner corner to the outer
    of_upper: the skin of the upper lid
    """

    upper: Tensor
    lower: Tensor
    of_upper: Following


def lids_of(head: HeadModel) -> tuple[Lids, Lids]:
    """The lids of the left (+x) and the right eye. Found once for a head model."""
    if head.triangles not in _lids:
        _lids[head.triangles] = tuple(_find(head, side) for side in (0, 1))
    return _lids[head.triangles]


@torch.no_grad()
def _find(head: HeadModel, side: int) -> Lids:
    neutral = head(torch.zeros(1, head.n_identity, device=head.uv.device))[0].cpu().double()
    skin = neutral[: head.teeth_rows.start]
    marks = head.landmark_ids.cpu()
    upper, lower = (_path(head, skin, marks[list(ids[side])].tolist()) for ids in (UPPER, LOWER))
    lower = _forward(skin, lower)
    middle = skin[upper].mean(0)
    rows = torch.nonzero((skin - middle).norm(dim=1) < AROUND)[:, 0]
    above, below = nearest_on(skin[rows], skin[upper]), nearest_on(skin[rows], skin[lower])
    return Lids(upper, lower, _following(rows, upper, above, below[0]))


def _following(rows: Tensor, edge: Tensor, nearest: tuple[Tensor, Tensor], other: Tensor) -> Following:
    """nearest: of `nearest_on` to the edge. other: distance from the other lid's edge."""
    away, along = nearest
    fall = (1 - away / LID).clamp(min=0)
    weight = fall**2 * (3 - 2 * fall) * (0.5 + (other - away) / 0.003).clamp(0, 1)
    weight[torch.isin(rows, edge)] = 1.0
    kept = weight > 1e-3
    return Following(rows[kept], weight[kept], along[kept], away[kept])


def _path(head: HeadModel, points: Tensor, stops: list[int]) -> Tensor:
    """The shortest way over edges of the skin through vertices `stops` (Dijkstra): vertex ids."""
    tri = head.triangles.cpu()
    near = (points - points[stops].mean(0)).norm(dim=1) < AROUND
    tri = tri[(tri < len(points)).all(1)]
    tri = tri[near[tri].all(1)]
    # both directions of each edge, by the vertex it leaves
    a, b = torch.cat([tri[:, [i, k]] for i, k in ((0, 1), (1, 2), (2, 0), (1, 0), (2, 1), (0, 2))]).unbind(1)
    key = torch.unique(a * len(points) + b)
    a, b = torch.div(key, len(points), rounding_mode="floor"), key % len(points)
    first = torch.searchsorted(a, torch.arange(len(points) + 1)).tolist()
    neighbour, length = b.tolist(), (points[a] - points[b]).norm(dim=1).tolist()
    way = [stops[0]]
    for start, end in zip(stops[:-1], stops[1:], strict=True):
        best, before, queue = {start: 0.0}, {}, [(0.0, start)]
        while queue:
            so_far, here = heapq.heappop(queue)
            if here == end:
                break
            for i in range(first[here], first[here + 1]):
                there, far = neighbour[i], so_far + length[i]
                if far < best.get(there, 9.0):
                    best[there], before[there] = far, here
                    heapq.heappush(queue, (far, there))
        back = [end]
        while back[-1] != start:
            back.append(before[back[-1]])
        way += back[::-1][1:]
    return torch.tensor(way)


def _forward(points: Tensor, way: Tensor) -> Tensor:
    """A way without the vertices where it turns back, seen along the line through its ends."""
    at = points[way]
    s = (at - at[0]) @ torch.nn.functional.normalize(at[-1] - at[0], dim=0)
    ahead = (s >= s.cummax(0).values) & (s < s[-1])
    ahead[0] = ahead[-1] = True
    return way[ahead]


def nearest_on(points: Tensor, line: Tensor) -> tuple[Tensor, Tensor]:
    """Distance `[N]` of points `[N, 3]` from a polyline `[M, 3]`, and where: segment number plus share of it."""
    start, step = line[:-1], line[1:] - line[:-1]
    t = ((points[:, None] - start) * step).sum(2) / step.square().sum(1).clamp(min=1e-12)
    t = t.clamp(0, 1)
    distance = (points[:, None] - start - t[..., None] * step).norm(dim=2)
    least, segment = distance.min(1)
    return least, segment + t[torch.arange(len(points)), segment]


def on_line(line: Tensor, along: Tensor) -> Tensor:
    """Points `[K, C]` of a polyline `[M, C]` at `along` `[K]`, as `nearest_on` gives it."""
    low = along.long().clamp(0, len(line) - 2)
    t = (along - low)[:, None].to(line)
    return line[low] * (1 - t) + line[low + 1] * t


def lower_at(lower: Tensor, upper: Tensor) -> Tensor:
    """The point of the lower edge `[M, 3]` below each point of the upper edge `[N, 3]`: `[N, 3]`.

    Below means at the same place between the corners, measured along the line through them.
    """
    axis = torch.nn.functional.normalize(lower[-1] - lower[0], dim=0)
    s_low = ((lower - lower[0]) @ axis).cummax(0).values + 1e-9 * torch.arange(len(lower)).to(lower)
    s_up = ((upper - lower[0]) @ axis).clamp(min=float(s_low[0]), max=float(s_low[-1]))
    after = torch.searchsorted(s_low.contiguous(), s_up.contiguous()).clamp(1, len(lower) - 1)
    t = ((s_up - s_low[after - 1]) / (s_low[after] - s_low[after - 1]))[:, None]
    return lower[after - 1] * (1 - t) + lower[after] * t


def lid_gap(vertices: Tensor, lids: Lids) -> Tensor:
    """How far the lids are apart at each vertex of the upper edge between the corners, which both lids share.

    Metres `[N - 2]`, negative where the upper lid covers the lower.
    """
    upper, lower = vertices[lids.upper], vertices[lids.lower]
    return (upper - lower_at(lower, upper))[1:-1, 1]
