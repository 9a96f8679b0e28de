"""The triangle that each pixel sees, in vectorised torch.

Most triangles are about one pixel large. So each triangle lists the pixels of its bounding box, all these pixels are
tested at once, and one `scatter_reduce` keeps the nearest hit of each pixel. `raster_numba` gives the same ids bit
for bit. Both follow these rules:

* In window coordinates pixel centres have whole numbers. Row 0 is the bottom row.
* An edge function is `ax*by - bx*ay` of coordinates relative to the pixel. Swapping the ends only changes its sign.
  So the two triangles of an edge agree about every pixel, and a closed mesh has no holes.
* A pixel on an edge belongs to both triangles. At equal depth the smaller id wins.
* A triangle with a vertex in front of the near plane or behind the camera is dropped, not clipped.
* There is no back-face culling. The nearest surface wins.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

NO_HIT = (1 << 63) - 1
DEPTH_STEPS = 2147483647.0  # 31 bits of depth above 32 bits of triangle id
CHUNK = 1 << 22  # number of pixel tests held in memory at a time
W_MIN = 1e-6


def window(pos: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Clip `[B, V, 4]` -> window `[B, V, 3]` (x, y in pixels with centres on whole numbers, z/w), `[B, V]` usable."""
    x, y, z, w = pos.unbind(-1)
    usable = (w > W_MIN) & (z >= -w)  # false for NaN as well
    inverse = 1 / torch.where(usable, w, 1.0)
    window = torch.stack(
        [(x * inverse * 0.5 + 0.5) * width - 0.5, (y * inverse * 0.5 + 0.5) * height - 0.5, z * inverse], -1
    )
    return window, usable & torch.isfinite(window).all(-1)


@torch.no_grad()
def triangle_ids(pos: Tensor, tri: Tensor, height: int, width: int) -> Tensor:
    """Clip positions `[B, V, 4]`, triangles `[T, 3]` -> ids `[B, H, W]` int64, -1 for none; row 0 at the bottom."""
    n_batch, n_tri = pos.shape[0], tri.shape[0]
    points, usable = window(pos, height, width)
    flat = tri.reshape(-1)
    corner = points.index_select(1, flat).view(n_batch * n_tri, 3, 3)
    whole = usable.index_select(1, flat).view(n_batch * n_tri, 3).all(1)
    x, y = corner[:, :, 0], corner[:, :, 1]
    left, right = x.amin(1).ceil().clamp(min=0), x.amax(1).floor().clamp(max=width - 1)
    low, high = y.amin(1).ceil().clamp(min=0), y.amax(1).floor().clamp(max=height - 1)
    keep = torch.nonzero(whole & (right >= left) & (high >= low)).squeeze(1)

    corner, left, right, low, high = (a.index_select(0, keep) for a in (corner, left, right, low, high))
    columns = (right - left + 1).long()
    tests = columns * (high - low + 1).long()
    batch = torch.div(keep, n_tri, rounding_mode="floor")
    boxes = _Boxes(corner, left.long(), low.long(), columns, tests, batch, keep - batch * n_tri)

    nearest = torch.full((n_batch * height * width,), NO_HIT, dtype=torch.int64, device=pos.device)
    for first, last in _chunks(tests):
        _scatter(nearest, boxes[first:last], height, width)
    return torch.where(nearest == NO_HIT, -1, nearest & 0xFFFFFFFF).view(n_batch, height, width)


@dataclass
class _Boxes:
    """Triangles in window space and the bounding boxes of their pixels.

    corner:     `[N, 3, 3]` x, y, z of the corners
    left, low:  `[N]` first column and first row of the box
    columns:    `[N]` width of the box, pixels
    tests:      `[N]` number of pixels in the box
    batch, ids: `[N]` batch entry and triangle id
    """

    corner: Tensor
    left: Tensor
    low: Tensor
    columns: Tensor
    tests: Tensor
    batch: Tensor
    ids: Tensor

    def __getitem__(self, part: slice) -> _Boxes:
        return _Boxes(*(getattr(self, f.name)[part] for f in fields(self)))


def _chunks(tests: Tensor) -> list[tuple[int, int]]:
    """Ranges of triangles whose pixel tests fit into CHUNK. A triangle with more tests has a range of its own."""
    if len(tests) == 0:
        return []
    total = torch.cumsum(tests, 0)
    if int(total[-1]) <= CHUNK:
        return [(0, len(tests))]
    group = torch.div(total - 1, CHUNK, rounding_mode="floor")
    _, sizes = torch.unique_consecutive(group, return_counts=True)
    ends = torch.cumsum(sizes, 0).tolist()
    return list(zip([0, *ends[:-1]], ends, strict=True))


def _scatter(nearest: Tensor, boxes: _Boxes, height: int, width: int) -> None:
    """Test every pixel of every box and keep the nearest hits in `nearest`, a key of depth and id for each pixel."""
    tests, device = boxes.tests, nearest.device
    owner = torch.repeat_interleave(torch.arange(len(tests), device=device), tests)
    rank = torch.arange(len(owner), device=device) - (torch.cumsum(tests, 0) - tests).index_select(0, owner)
    wide = boxes.columns.index_select(0, owner)
    row = torch.div(rank, wide, rounding_mode="floor")
    px = rank - row * wide + boxes.left.index_select(0, owner)
    py = row + boxes.low.index_select(0, owner)

    corner = boxes.corner.index_select(0, owner)
    fx, fy = px.to(corner.dtype), py.to(corner.dtype)
    x0, x1, x2 = (corner[:, k, 0] - fx for k in range(3))
    y0, y1, y2 = (corner[:, k, 1] - fy for k in range(3))
    e0, e1, e2 = x1 * y2 - x2 * y1, x2 * y0 - x0 * y2, x0 * y1 - x1 * y0
    area = e0 + e1 + e2
    inside = ((e0 >= 0) & (e1 >= 0) & (e2 >= 0)) | ((e0 <= 0) & (e1 <= 0) & (e2 <= 0))
    hit = torch.nonzero(inside & (area != 0)).squeeze(1)

    e0, e1, e2, area, z = (a.index_select(0, hit) for a in (e0, e1, e2, area, corner[:, :, 2]))
    owner, px, py = (a.index_select(0, hit) for a in (owner, px, py))
    depth = (e0 * z[:, 0] + e1 * z[:, 1] + e2 * z[:, 2]) / area
    steps = ((depth.double() * 0.5 + 0.5).clamp(0, 1) * DEPTH_STEPS).long()
    pixel = (boxes.batch.index_select(0, owner) * height + py) * width + px
    nearest.scatter_reduce_(0, pixel, (steps << 32) | boxes.ids.index_select(0, owner), "amin")
