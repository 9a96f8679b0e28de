"""Rasterization in two passes: first triangle ids without gradients, then differentiable barycentrics for these ids.

Output layout and barycentric convention are those of nvdiffrast (Laine et al. 2020, "Modular primitives for
high-performance differentiable rendering"). Visibility has no gradient here; `antialias` gives it one along
silhouettes.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from functools import cache
from threading import Thread

import torch
from torch import Tensor

from ..errors import UserError
from . import raster_torch

BACKENDS = ("auto", "torch", "numba", "nvdiffrast")
ENVIRONMENT = "FITDIFF_RASTERIZER"

IdPass = Callable[[Tensor, Tensor, int, int], Tensor]


def rasterize(pos: Tensor, tri: Tensor, size: tuple[int, int], backend: str = "auto") -> Tensor:
    """Triangles in clip space -> `[B, H, W, 4]` = (u, v, z/w, triangle id + 1), 0 where nothing is seen.

    pos:     `[B, V, 4]` clip positions
    tri:     `[T, 3]` vertex ids
    size:    (H, W) pixels
    backend: "auto": environment variable FITDIFF_RASTERIZER, else numba on the CPU if it is installed, else torch;
             "torch"; "numba" (CPU only); "nvdiffrast" (CUDA only; where it cannot run, a warning and "auto")

    Row 0 is the BOTTOM row. Barycentrics are perspective-correct: attribute = u*a0 + v*a1 + (1-u-v)*a2. Gradients
    flow from u and v to `pos`, not from z/w or the id. Triangles that reach in front of the near plane are dropped.
    There is no back-face culling. Raises UserError for an unknown or missing backend, ValueError for wrong shapes.
    """
    height, width = size
    if pos.ndim != 3 or pos.shape[-1] != 4 or tri.ndim != 2 or tri.shape[-1] != 3:
        raise ValueError(f"rasterize needs pos [B,V,4] and tri [T,3], got {tuple(pos.shape)} and {tuple(tri.shape)}")
    tri = tri.long()
    if tri.shape[0] == 0 or pos.shape[0] == 0:
        return pos.new_zeros(pos.shape[0], height, width, 4)
    # Some devices, such as MPS, lack float64 or 64-bit atomics: their ids are computed on the CPU
    where = pos.device if pos.device.type in ("cpu", "cuda") else torch.device("cpu")
    ids = _id_pass(backend, where.type)(pos.detach().to(where), tri.to(where), height, width).to(pos.device)
    return _barycentrics(pos, tri, ids)


def warm_up() -> None:
    """Load the rasterizer of `rasterize` on the CPU in a thread of its own, while the caller loads other things.

    numba needs half a second of a core before its first triangle.
    """
    corner = torch.tensor([[[0.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 0.0, 1.0]]])
    Thread(target=rasterize, args=(corner, torch.arange(3)[None], (2, 2))).start()


def _barycentrics(pos: Tensor, tri: Tensor, ids: Tensor) -> Tensor:
    """Perspective-correct barycentrics by homogeneous edge functions (Olano & Greer 1997), without division by w."""
    n_batch, height, width = ids.shape
    pixel = torch.nonzero(ids.reshape(-1) >= 0).squeeze(1)
    seen = ids.reshape(-1).index_select(0, pixel)
    batch = torch.div(pixel, height * width, rounding_mode="floor")
    within = pixel - batch * (height * width)
    row = torch.div(within, width, rounding_mode="floor")
    sx = ((within - row * width).to(pos.dtype) + 0.5) * (2 / width) - 1
    sy = (row.to(pos.dtype) + 0.5) * (2 / height) - 1

    vertex = tri.index_select(0, seen) + (batch * pos.shape[1])[:, None]
    corner = pos.reshape(-1, 4).index_select(0, vertex.reshape(-1)).view(-1, 3, 4)
    w = corner[..., 3]
    x0, x1, x2 = (corner[..., 0] - sx[:, None] * w).unbind(1)
    y0, y1, y2 = (corner[..., 1] - sy[:, None] * w).unbind(1)
    e0, e1, e2 = x1 * y2 - x2 * y1, x2 * y0 - x0 * y2, x0 * y1 - x1 * y0
    area = e0 + e1 + e2
    tiny = torch.finfo(pos.dtype).tiny
    area = torch.where(area.abs() > tiny, area, tiny)
    # by rounding, a pixel centre on an edge may lie slightly outside
    u, v = (e0 / area).clamp(0, 1), (e1 / area).clamp(0, 1)
    with torch.no_grad():
        weight = torch.stack([u, v, 1 - u - v], -1)
        depth = (weight * corner[..., 2]).sum(-1) / (weight * w).sum(-1)
    values = torch.stack([u, v, depth, (seen + 1).to(pos.dtype)], -1)
    return pos.new_zeros(n_batch * height * width, 4).index_copy(0, pixel, values).view(n_batch, height, width, 4)


def _id_pass(backend: str, device: str) -> IdPass:
    if backend == "auto":
        backend = os.environ.get(ENVIRONMENT) or "auto"
    if backend not in BACKENDS:
        raise UserError(f"Unknown rasterizer {backend!r}; choose one of {', '.join(BACKENDS)}.")
    if backend == "nvdiffrast":
        found = _nvdiffrast() if device == "cuda" else None
        if found is not None:
            return found
        reason = "it runs on CUDA only" if device != "cuda" else "it is not installed"
        _warn_once(f"nvdiffrast cannot be used ({reason}); rendering with the built-in rasterizer instead.")
        backend = "auto"
    if backend == "numba":
        if device != "cpu":
            raise UserError("The numba rasterizer runs on the CPU only; choose 'torch' or 'auto'.")
        compiled = _numba()
        if compiled is None:
            raise UserError("The numba rasterizer needs numba: `pip install numba`, or choose 'torch'.")
        return compiled
    if backend == "auto" and device == "cpu" and (compiled := _numba()):
        return compiled
    return raster_torch.triangle_ids


@cache
def _warn_once(message: str) -> None:
    warnings.warn(message, stacklevel=4)


@cache
def _numba() -> IdPass | None:
    try:
        from .raster_numba import triangle_ids
    except ImportError:
        return None
    return triangle_ids


@cache
def _nvdiffrast() -> IdPass | None:
    """Triangle ids of nvdiffrast, where it is installed. It has a research licence and is never shipped."""
    try:
        import nvdiffrast.torch as dr
    except ImportError:
        return None
    contexts: dict[torch.device, object] = {}

    @torch.no_grad()
    def triangle_ids(pos: Tensor, tri: Tensor, height: int, width: int) -> Tensor:
        if height % 8 or width % 8:  # the CUDA kernels of nvdiffrast work on 8x8 tiles
            return raster_torch.triangle_ids(pos, tri, height, width)
        context = contexts.setdefault(pos.device, None) or dr.RasterizeCudaContext(device=pos.device)
        contexts[pos.device] = context
        rast, _ = dr.rasterize(
            context, pos.float().contiguous(), tri.int().contiguous(), resolution=[height, width], grad_db=False
        )
        return rast[..., 3].long() - 1

    return triangle_ids
