"""The same triangle ids as `raster_torch`, by one serial loop that numba compiles: about three times faster on a CPU.

numba is optional. Without it, importing this module raises ImportError.
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from .raster_torch import DEPTH_STEPS, NO_HIT, window


# `columns` and `rows` hold pixel coordinates in the dtype of `points`, because numba would add integers in float64
def _fill(points, usable, tri, columns, rows, nearest):
    n_batch, height, width = nearest.shape
    for b in range(n_batch):
        for t in range(tri.shape[0]):
            i0, i1, i2 = tri[t, 0], tri[t, 1], tri[t, 2]
            if not (usable[b, i0] and usable[b, i1] and usable[b, i2]):
                continue
            ax, ay, az = points[b, i0, 0], points[b, i0, 1], points[b, i0, 2]
            bx, by, bz = points[b, i1, 0], points[b, i1, 1], points[b, i1, 2]
            cx, cy, cz = points[b, i2, 0], points[b, i2, 1], points[b, i2, 2]
            # compared as floats, because a far-off coordinate does not fit an integer
            left, right = max(np.ceil(min(ax, bx, cx)), 0.0), min(np.floor(max(ax, bx, cx)), width - 1.0)
            low, high = max(np.ceil(min(ay, by, cy)), 0.0), min(np.floor(max(ay, by, cy)), height - 1.0)
            if not (left <= right and low <= high):
                continue
            for py in range(int(low), int(high) + 1):
                fy = rows[py]
                y0, y1, y2 = ay - fy, by - fy, cy - fy
                for px in range(int(left), int(right) + 1):
                    fx = columns[px]
                    x0, x1, x2 = ax - fx, bx - fx, cx - fx
                    e0, e1, e2 = x1 * y2 - x2 * y1, x2 * y0 - x0 * y2, x0 * y1 - x1 * y0
                    if not ((e0 >= 0 and e1 >= 0 and e2 >= 0) or (e0 <= 0 and e1 <= 0 and e2 <= 0)):
                        continue
                    area = e0 + e1 + e2
                    if area == 0:
                        continue
                    depth = (e0 * az + e1 * bz + e2 * cz) / area
                    steps = np.int64(min(max(np.float64(depth) * 0.5 + 0.5, 0.0), 1.0) * DEPTH_STEPS)
                    key = (steps << 32) | t
                    if key < nearest[b, py, px]:
                        nearest[b, py, px] = key


# The cache on disk keeps the module's name. ComfyUI imports this file under another name, and a cache that was written
# under one name cannot be read under the other. So only the installed package keeps compiled code.
try:
    _fill = numba.njit(cache=__name__.startswith("fitdiff_core."))(_fill)
except RuntimeError:  # numba has no folder to keep compiled code in
    _fill = numba.njit(_fill)


@torch.no_grad()
def triangle_ids(pos: Tensor, tri: Tensor, height: int, width: int) -> Tensor:
    """See `raster_torch.triangle_ids`; CPU tensors only."""
    points, usable = window(pos, height, width)
    nearest = np.full((pos.shape[0], height, width), NO_HIT, np.int64)
    corners = points.contiguous().numpy()
    columns, rows = np.arange(width, dtype=corners.dtype), np.arange(height, dtype=corners.dtype)
    _fill(corners, usable.contiguous().numpy(), tri.contiguous().numpy(), columns, rows, nearest)
    ids = torch.from_numpy(nearest)
    return torch.where(ids == NO_HIT, -1, ids & 0xFFFFFFFF)
