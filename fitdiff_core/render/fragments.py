"""Every pixel of every triangle of a mesh, not just the nearest: for cards of hair, which are drawn in layers.

All values lie in columns of their own: rows of nine numbers take ten times as long to look up.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..filters import dilate
from .raster_torch import window

CHUNK = 1 << 18  # pixels that are worked on at a time
BLOCK = 65  # pixels a side of the squares in which smaller triangles are compared with what hides them

Columns = tuple[Tensor, Tensor, Tensor]


@dataclass
class Fragments:
    """What cards leave in pixels: pixel `[N]` (row 0 at the bottom), depth `[N]` z/w, tri `[N]`, weight `[N, 3]`."""

    pixel: Tensor
    depth: Tensor
    tri: Tensor
    weight: Tensor

    def __getitem__(self, keep: Tensor) -> Fragments:
        return Fragments(self.pixel[keep], self.depth[keep], self.tri[keep], self.weight[keep])


def fragments(pos: Tensor, tri: Tensor, size: tuple[int, int], limit: Tensor) -> Fragments:
    """Every pixel of every triangle: pos `[V, 4]` clip space, those nearer than `limit` `[H, W]` (z/w).

    Cards are narrow and oblique, so each row of a triangle is filled from edge to edge; its bounding box would be five
    times as many pixels.
    """
    height, width = size
    points, usable = window(pos[None], height, width)
    corner = points[0][tri].permute(2, 1, 0).contiguous()
    x, y, z = (tuple(axis) for axis in corner)
    low, high = _least(y).ceil().clamp(min=0), _most(y).floor().clamp(max=height - 1)
    keep = torch.nonzero(usable[0][tri].all(1) & (high >= low) & _before(x, y, z, limit)).squeeze(1)
    owner, row = _ranges(keep, low[keep], high[keep])
    left, right = _span(x, y, owner, row)
    left, right = left.ceil().clamp(min=0), right.floor().clamp(max=width - 1)
    some = torch.nonzero(right >= left).squeeze(1)
    owner, row, left, right = (v.index_select(0, some) for v in (owner, row, left, right))
    # along a row u, v and depth are linear in x
    slopes, starts = [], []
    for plane in _planes(x, y, z):
        slope, along, start = (v.index_select(0, owner) for v in plane)
        slopes.append(slope)
        starts.append(along * row + start)
    depths, weights = pos[:, 3][tri].T.contiguous(), (slopes, starts)
    found = [
        _pixels(owner, row * width, left, right, weights, depths, limit.reshape(-1), part)
        for part in _chunks((right - left + 1).long())
    ]
    return Fragments(*(torch.cat(values) for values in zip(*found, strict=True)))


def _chunks(count: Tensor) -> list[slice]:
    """Runs of rows with at most CHUNK pixels in all; a single row may have more. count: `[N]` pixels of each."""
    total = torch.cumsum(count, 0)
    last = int(total[-1]) if len(total) else 0
    ends = torch.searchsorted(total, torch.arange(CHUNK, last + CHUNK, CHUNK), right=True).tolist()
    starts = [0, *ends[:-1]]
    return [slice(start, end) for start, end in zip(starts, ends, strict=True)] or [slice(0, 0)]


def _pixels(
    owner: Tensor,
    first: Tensor,
    left: Tensor,
    right: Tensor,
    lines: tuple[list[Tensor], list[Tensor]],
    distance: Tensor,
    limit: Tensor,
    part: slice,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pixel, depth, triangle and weight of the pixels of some rows that lie before the limit.

    owner: `[N]` triangle of each row. first: `[N]` its first pixel in the flattened picture. left, right: `[N]` first
    and last column. lines: slope and start of u, v and depth along each row. distance: `[3, T]` w of the corners.
    part: of the rows
    """
    (slope_u, slope_v, slope), (start_u, start_v, start) = ([x[part] for x in line] for line in lines)
    left = left[part]
    span, column = _ranges(torch.arange(len(left)), left, right[part])
    pixel = first[part].index_select(0, span).add_(column).long()
    depth = slope.index_select(0, span).mul_(column).add_(start.index_select(0, span))
    # many pixels lie behind the head
    front = torch.nonzero(depth < limit.index_select(0, pixel)).squeeze(1)
    pixel, depth, span, column = (x.index_select(0, front) for x in (pixel, depth, span, column))
    at = lambda x: x.index_select(0, span)  # noqa: E731
    u, v = (
        at(slope_u).mul_(column).add_(at(start_u)).clamp_(0, 1),
        at(slope_v).mul_(column).add_(at(start_v)).clamp_(0, 1),
    )
    triangle = owner[part].index_select(0, span)
    weight = [x / w.index_select(0, triangle) for x, w in zip((u, v, (1 - u - v).clamp_(min=0)), distance, strict=True)]
    total = weight[0] + weight[1] + weight[2]
    return pixel, depth, triangle, torch.stack([x.div_(total) for x in weight], 1)


def _least(x: Columns) -> Tensor:
    return torch.minimum(torch.minimum(x[0], x[1]), x[2])


def _most(x: Columns) -> Tensor:
    return torch.maximum(torch.maximum(x[0], x[1]), x[2])


def _before(x: Columns, y: Columns, z: Columns, limit: Tensor) -> Tensor:
    """Whether a triangle may have pixels before the limit `[H, W]`: `[T]` bool. x, y: pixels of the corners; z: depth.

    A small one has none where its nearest corner lies behind all that hides in the square round it.
    """
    height, width = limit.shape
    left, right, low, high = _least(x), _most(x), _least(y), _most(y)
    column, row = ((left + right) / 2).round(), ((low + high) / 2).round()
    small = torch.maximum(right - left, high - low) < BLOCK - 3
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    hides = dilate(limit, BLOCK).reshape(-1)
    farthest = hides.index_select(0, torch.where(small & inside, row * width + column, 0).long())
    return ~(small & inside & (_least(z) > farthest))


def _ranges(ids: Tensor, first: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
    """Each id once for every whole number from first to last, and these numbers (float)."""
    count = (last - first + 1).long()
    k = torch.repeat_interleave(torch.arange(len(ids)), count)
    begin = first - (torch.cumsum(count, 0) - count)
    return ids.index_select(0, k), begin.index_select(0, k).add_(torch.arange(len(k)))


def _span(x: Columns, y: Columns, owner: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
    """First and last x of the triangles owner `[N]` at height `row` `[N]`. x, y: pixels of the corners, `[T]` each."""
    left, right = torch.full_like(row, 1e9), torch.full_like(row, -1e9)
    for i, j in ((0, 1), (1, 2), (2, 0)):
        rise = torch.where(y[i] == y[j], 1.0, y[j] - y[i])
        edge = (x[i], y[i], x[j] - x[i], rise, torch.minimum(y[i], y[j]), torch.maximum(y[i], y[j]))
        start, low, run, rise, least, most = (v.index_select(0, owner) for v in edge)
        at = start + (row - low) / rise * run
        crossed = (least <= row) & (most >= row) & (least != most)
        left = torch.where(crossed, torch.minimum(left, at), left)
        right = torch.where(crossed, torch.maximum(right, at), right)
    return left, right


def _planes(x: Columns, y: Columns, z: Columns) -> tuple[Columns, Columns, Columns]:
    """(a, b, c) `[T]` each of u, v and depth as a x + b y + c on the screen. x, y: pixels of the corners; z: depth."""
    (ax, bx, cx), (ay, by, cy), (az, bz, cz) = x, y, z
    area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
    inverse = torch.where(area.abs() > 1e-12, 1 / area, torch.zeros_like(area))
    u = ((by - cy) * inverse, (cx - bx) * inverse, (bx * cy - cx * by) * inverse)
    v = ((cy - ay) * inverse, (ax - cx) * inverse, (cx * ay - ax * cy) * inverse)
    a, b, c = (p * (az - cz) + q * (bz - cz) for p, q in zip(u, v, strict=True))
    return u, v, (a, b, c + cz)
