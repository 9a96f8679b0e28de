"""Strokes on the UV canvas: round spots, hair strands, and lines.

Each function draws all strokes of a sample at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .uv_canvas import UVCanvas


def scatter_on(canvas: UVCanvas, rng: np.random.Generator, weight: Tensor, count: int) -> Tensor:
    """`[count, 2]` random texels (x, y), int64. weight: `[S, S]` relative density per mm2 of skin."""
    area = canvas.scale[0] * canvas.scale[1] * canvas.skin
    cumulative = torch.cumsum((weight.clamp(min=0) * area).reshape(-1).double(), 0)
    if count <= 0 or float(cumulative[-1]) <= 0:
        return torch.zeros(0, 2, dtype=torch.long)
    u = torch.from_numpy(rng.random(count)) * cumulative[-1]
    i = torch.searchsorted(cumulative, u).clamp(max=canvas.size**2 - 1)
    return torch.stack([i % canvas.size, i // canvas.size], 1)


@dataclass(frozen=True)
class SpotStyle:
    """How spots of one kind look.

    radius: least and largest, mm.
    soft: mean width of the edge, as a share of the radius.
    skew: above 1, small spots are more common.
    faint: strength of the weakest spot, 0..1.
    """

    radius: tuple[float, float]
    soft: float
    skew: float = 2.0
    faint: float = 0.45


def spots(
    canvas: UVCanvas,
    rng: np.random.Generator,
    weight: Tensor,
    count: int,
    style: SpotStyle,
    ragged: Tensor | None = None,
) -> Tensor:
    """Round spots: `[S, S]` cover 0..1.

    Distance is measured in space, so spots are round on the cheek and on the ear.
    weight: `[S, S]` relative density per mm2 of skin.
    count: number of spots.
    ragged: `[S, S]` noise of unit deviation that makes the outlines uneven.
    """
    radius, soft, skew, faint = style.radius, style.soft, style.skew, style.faint
    centre = scatter_on(canvas, rng, weight, count)
    n = len(centre)
    out = torch.zeros(canvas.size**2)
    if n == 0:
        return out.view(canvas.size, canvas.size)
    r = torch.from_numpy(radius[0] + (radius[1] - radius[0]) * rng.random(n) ** skew).float()
    strength = torch.from_numpy(faint + (1 - faint) * rng.random(n) ** (1.0 if faint > 0.4 else 1.7)).float()
    edge = torch.from_numpy(soft * rng.uniform(0.6, 1.4, n)).float()[:, None]
    squash = torch.from_numpy(np.exp(0.14 * rng.standard_normal((3, n, 1)))).float()
    fine = float(canvas.scale[:, centre[:, 1], centre[:, 0]].quantile(0.1))
    reach = int(np.clip(np.ceil(float((r[:, None] * (1 + 2.2 * edge)).max()) / max(fine, 0.25)), 1, 16))
    xs, ys, index = _windows(canvas, centre, reach)
    p = canvas.position.reshape(3, -1)
    here = p[:, centre[:, 1] * canvas.size + centre[:, 0]][:, :, None]
    d = ((p[:, index.reshape(-1)].view(3, n, -1) - here) * squash).norm(dim=0) / r[:, None]
    if ragged is not None:
        d = d * (1 + 0.10 * ragged.reshape(-1)[index.reshape(-1)].view(n, -1))
    # the sigmoid reaches zero where the window ends, so that no spot has a rim
    value = ((torch.sigmoid((1 - d) / edge) - 0.1) / 0.9).clamp(min=0) * strength[:, None]
    out.scatter_reduce_(0, index.reshape(-1), value.reshape(-1), "amax")
    return out.view(canvas.size, canvas.size)


def _windows(canvas: UVCanvas, centre: Tensor, reach: int) -> tuple[Tensor, Tensor, Tensor]:
    """x, y and flat index of the texels within `reach` texels of each centre: `[N, M]` each."""
    offset = torch.arange(-reach, reach + 1)
    dy, dx = torch.meshgrid(offset, offset, indexing="ij")
    xs = (centre[:, :1] + dx.reshape(1, -1)).clamp(0, canvas.size - 1)
    ys = (centre[:, 1:] + dy.reshape(1, -1)).clamp(0, canvas.size - 1)
    return xs, ys, ys * canvas.size + xs


def strands(canvas: UVCanvas, path: Tensor, opacity: Tensor) -> Tensor:
    """Thin strokes: `[S, S]` cover 0..1.

    path: `[N, M, 2]` points of each strand, texels.
    opacity: `[N, M]` of each point, 0 to about 1.
    A hair is far thinner than a texel. So each point is shared bilinearly between four texels, and strands that overlap
    cover like independent layers: the result is that of averaging a finer drawing.
    """
    s = canvas.size
    xy = path.reshape(-1, 2).clamp(0, s - 1.001)
    weight = opacity.reshape(-1)
    base = xy.floor()
    f = xy - base
    i = (base[:, 1] * s + base[:, 0]).long()
    out = torch.zeros(s * s)
    for dy in (0, 1):
        wy = f[:, 1] if dy else 1 - f[:, 1]
        for dx in (0, 1):
            wx = f[:, 0] if dx else 1 - f[:, 0]
            out.index_add_(0, i + dy * s + dx, weight * wx * wy)
    return 1 - torch.exp(-out.view(s, s))


def lines(canvas: UVCanvas, path: Tensor, amount: Tensor, width: Tensor, reach_mm: float = 5.0) -> Tensor:
    """Soft grooves: `[S, S]`, at each texel the largest amount * profile of the points near it.

    path: `[N, 2]` dense points of all lines together, texels.
    amount: `[N]` depth of each point, 0..1.
    width: `[N]` mm, comparable to a Gaussian's deviation. The profile is a biweight that ends at 2.2 widths.
    reach_mm: largest half width that is drawn.
    """
    s = canvas.size
    out = torch.zeros(s * s)
    if len(path) == 0:
        return out.view(s, s)
    centre = path.round().long().clamp(0, s - 1)
    fine = float(canvas.scale[:, centre[:, 1], centre[:, 0]].quantile(0.1))
    reach = int(np.clip(np.ceil(min(reach_mm, 2.2 * float(width.max())) / max(fine, 0.3)), 1, 10))
    xs, ys, index = _windows(canvas, centre, reach)
    scale = canvas.scale[:, centre[:, 1], centre[:, 0]]
    d2 = ((xs - path[:, :1]) * scale[0][:, None]) ** 2 + ((ys - path[:, 1:]) * scale[1][:, None]) ** 2
    value = amount[:, None] * (1 - d2 / (2.2 * width[:, None]) ** 2).clamp(min=0) ** 2
    out.scatter_reduce_(0, index.reshape(-1), value.reshape(-1), "amax")
    return out.view(s, s)


def spline(points: Tensor, n: int) -> Tensor:
    """Open Catmull-Rom curve through control points `[..., K, D]`, n points from end to end: `[..., n, D]`."""
    k = points.shape[-2]
    t = torch.linspace(0, k - 1, n)
    i = t.floor().clamp(max=k - 2).long()
    f = (t - i)[:, None]

    def at(j: Tensor) -> Tensor:
        return points[..., j.clamp(0, k - 1), :]

    a, b, c, d = at(i - 1), at(i), at(i + 1), at(i + 2)
    return 0.5 * (2 * b + (c - a) * f + (2 * a - 5 * b + 4 * c - d) * f**2 + (3 * b - a - 3 * c + d) * f**3)


def over(base: Tensor, cover: Tensor, colour) -> Tensor:
    """Paint a colour (`[3]` or `[3, S, S]`) on `base` `[3, S, S]` with opacity `cover` `[S, S]`."""
    colour = torch.as_tensor(colour, dtype=base.dtype)
    colour = colour.view(3, 1, 1) if colour.ndim == 1 else colour
    return base + cover * (colour - base)
