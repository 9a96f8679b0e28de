"""Eyebrows, strand by strand along the brow landmarks."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .canvas import Canvas
from .marks import spline, strands
from .people import SkinAttributes

_POINTS = 12  # along one hair
_LENGTH = 7.0  # mm, a long brow hair


class Brows:
    """Draws both brows. The centre lines come from landmarks 17-26, in texels, inner end first."""

    def __init__(self, canvas: Canvas):
        self.canvas = canvas
        texel = canvas.to_texel(canvas.landmarks[17:27])
        self.sides = []
        for line in (texel[[4, 3, 2, 1, 0]], texel[[5, 6, 7, 8, 9]]):
            curve = spline(line, 65)
            along = torch.gradient(curve, dim=0)[0]
            along = along / along.norm(dim=1, keepdim=True)
            up = torch.stack([along[:, 1], -along[:, 0]], 1)
            up = up * torch.where(up[:, 1:] > 0, -1.0, 1.0)  # towards smaller rows
            i = curve.round().long()
            self.sides.append((curve, along, up, 1 / float(canvas.scale[:, i[:, 1], i[:, 0]].mean())))

    def draw(self, a: SkinAttributes, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """-> (hair cover `[S, S]`, soft shade beneath `[S, S]`)."""
        paths, opacity, soft_paths, soft_opacity = [], [], [], []
        for curve, along, up, per_mm in self.sides:
            n = int(1000 * a.brow_density * (a.brow_thickness / 8.0) * a.brow_length)
            # where on the brow: 0 inner end .. 1 tail; sparser towards both ends
            q = rng.beta(1.15, 1.3, max(n, 2))
            t = np.clip(rng.uniform(-0.85, 0.85, len(q)) + 0.18 * rng.standard_normal(len(q)), -1.2, 1.2)
            root, ahead, above = self._root(a, curve, along, up, per_mm, q, t)
            inner, tail = np.clip((0.35 - q) / 0.35, 0, 1), np.clip((q - 0.35) / 0.65, 0, 1)
            # hairs stand up at the inner end, lie along the brow further out, and close in on its spine
            rise = 0.10 + 0.95 * inner - 0.75 * t * tail + 0.16 * rng.standard_normal(len(q))
            length = (
                _LENGTH
                * per_mm
                * rng.uniform(0.55, 1.1, len(q))
                * (1 - 0.35 * tail)
                * min(1.0, 0.45 + a.brow_thickness / 14)
            )
            paths.append(_bend(root, ahead, above, rise, length))
            fade = np.interp(q, [0, 0.2, 0.9, 1], [0.25, 1, 1, 0.7]) * rng.uniform(0.5, 1.2, len(q))
            opacity.append(_taper(fade * 0.36))
            m = 260
            q, t = rng.beta(1.2, 1.2, m), rng.uniform(-0.8, 0.8, m)
            soft_paths.append(self._root(a, curve, along, up, per_mm, q, t)[0][:, None])
            soft_opacity.append(torch.full((m, 1), 3.5 * a.brow_thickness / 8.0))
        if a.brow_join > 0:
            paths.append(self._bridge(rng, int(140 * a.brow_join)))
            opacity.append(_taper(np.full(len(paths[-1]), 0.25)))
        hair = strands(self.canvas, torch.cat(paths), torch.cat(opacity))
        return hair, strands(self.canvas, torch.cat(soft_paths), torch.cat(soft_opacity) * 0.25)

    def _root(self, a: SkinAttributes, curve, along, up, per_mm: float, q, t) -> tuple[Tensor, Tensor, Tensor]:
        span = a.brow_length * q
        i = torch.from_numpy(np.clip(span, 0, 1) * 64).long().clamp(max=64)
        # beyond the curve's tail; shifted at the inner end, which is round, not cut off square
        shift = np.clip(span - 1, 0, None) * 46.0 + (4.0 * t * t * (1 - q) ** 4 - a.brow_inner) * (1 - q)
        past = torch.from_numpy(shift * per_mm).float()
        half = 0.5 * a.brow_thickness * np.interp(q, [0, 0.12, 0.45, 0.75, 1], [0.55, 0.9, 1.0, 0.74, 0.24])
        rise = a.brow_height + a.brow_arch * np.exp(-(((q - 0.66) / 0.24) ** 2)) + a.brow_tilt * (q - 0.3) + half * t
        root = curve[i] + along[i] * past[:, None] + up[i] * torch.from_numpy(rise * per_mm).float()[:, None]
        return root, along[i], up[i]

    def _bridge(self, rng: np.random.Generator, n: int) -> Tensor:
        (left, _, up_l, per_mm), (right, _, up_r, _) = self.sides
        s = torch.from_numpy(rng.random((n, 1))).float()
        root = left[:1] * (1 - s) + right[:1] * s + torch.from_numpy(rng.normal(-1, 2.5, (n, 2))).float() * per_mm
        up = (up_l[:1] + up_r[:1]) / 2
        return _bend(
            root, torch.tensor([[1.0, 0.0]]) * (s * 2 - 1), up.expand(n, 2), np.full(n, 0.8), np.full(n, 4.0 * per_mm)
        )


def _bend(root: Tensor, ahead: Tensor, above: Tensor, rise: np.ndarray, length: np.ndarray) -> Tensor:
    """Hairs that set off at slope `rise` and lie down along the brow: `[N, M, 2]`."""
    s = torch.linspace(0, 1, _POINTS)[None, :, None]
    r = torch.from_numpy(rise).float()[:, None, None]
    start = ahead[:, None] + above[:, None] * r
    start = start / start.norm(dim=2, keepdim=True)
    end = ahead[:, None] + above[:, None] * r * 0.25
    end = end / end.norm(dim=2, keepdim=True)
    return root[:, None] + torch.from_numpy(length).float()[:, None, None] * (
        start * (s - s * s / 2) + end * (s * s / 2)
    )


def _taper(amount: np.ndarray) -> Tensor:
    s = torch.linspace(0, 1, _POINTS)
    return torch.from_numpy(amount).float()[:, None] * (1 - 0.75 * s)
