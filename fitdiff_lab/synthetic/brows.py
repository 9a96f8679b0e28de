"""Eyebrows, drawn hair by hair in millimetres on the skin above each eye."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .people import SkinAttributes
from .strokes import spline, strands
from .uv_canvas import UVCanvas, gaussian_blur

_POINTS = 12  # along one hair
_LENGTH = 7.5  # mm, a long brow hair
# Centre line of a brow: share of the way from the inner to the outer brow landmark, mm above the line between them.
_SPINE = ((0.02, 1.2), (0.13, 2.6), (0.32, 5.4), (0.52, 7.8), (0.69, 8.4), (0.84, 6.0), (0.97, 2.4), (1.06, 0.2))
_BEGIN, _END = -8.0, 62.0  # mm along the centre line, measured from `_HEAD`
_HEAD = 1.0  # mm from the first point of the centre line to the usual start of a brow
_BELOW, _ABOVE = -12.0, 16.0  # mm across
_SPAN = 48.5  # mm, a brow of length 1


class Brows:
    """Draws both brows.

    The landmarks give the place of a brow but not its curve. So the centre line is a fixed curve between them. A chart
    in millimetres (along the centre line, above it) maps to texels.
    """

    def __init__(self, canvas: UVCanvas):
        self.canvas = canvas
        self.charts = [self._chart(canvas.landmarks[[21, 17]]), self._chart(canvas.landmarks[[22, 26]])]
        reach = torch.cat([c.reshape(2, -1) for c in self.charts], 1)
        low, high = reach.amin(1).floor().long() - 6, reach.amax(1).ceil().long() + 7
        self.window = (
            slice(max(0, int(low[1])), min(canvas.size, int(high[1]))),
            slice(max(0, int(low[0])), min(canvas.size, int(high[0]))),
        )

    def _chart(self, ends: Tensor) -> Tensor:
        """Texels `[2, across, along]` of points every millimetre along and across one brow. ends: `[2, 3]` mm."""
        u, rise = torch.tensor(_SPINE).T
        points = ends[0] + (ends[1] - ends[0]) * u[:, None]
        points[:, 1] += rise
        points[:, 2] += 14 * (u * (1 - u)).clamp(min=0)  # the straight line lies below the skin
        line = self._on_skin(spline(points, 200))
        step = (line[1:] - line[:-1]).norm(dim=1)
        length = torch.cat([torch.zeros(1), step.cumsum(0)]).numpy() - _HEAD
        at = np.arange(_BEGIN, _END + 0.5)
        line = np.stack([np.interp(at, length, line[:, k].numpy()) for k in range(3)], 1)
        inward, outward = line[0] - line[-1], line[-1] - line[-8]
        for i, v in enumerate(at):  # beyond both ends, a straight line
            if v < length[0]:
                line[i] += inward / np.linalg.norm(inward) * (length[0] - v)
            elif v > length[-1]:
                line[i] += outward / max(np.linalg.norm(outward), 1e-6) * (v - length[-1])
        across = torch.arange(_BELOW, _ABOVE + 0.5)
        grid = torch.from_numpy(line).float()[None] + across[:, None, None] * torch.tensor([0.0, 1.0, 0.0])
        texels = self.canvas.to_texel(self._on_skin(grid.reshape(-1, 3)))
        chart = texels.T.reshape(2, len(across), len(at))
        return gaussian_blur(chart, 1.2)

    def _on_skin(self, points: Tensor) -> Tensor:
        """Move points `[N, 3]` along z onto the skin."""
        c = self.canvas
        for _ in range(3):
            i = c.to_texel(points).round().long().clamp(0, c.size - 1)
            points = torch.cat([points[:, :2], c.position[2, i[:, 1], i[:, 0]][:, None]], 1)
        return points

    def _texels(self, side: int, path: Tensor) -> Tensor:
        """Texels `[N, M, 2]` of points in mm (along, above) `[N, M, 2]`. side: 0 right brow, 1 left brow."""
        span = torch.tensor([_END - _BEGIN, _ABOVE - _BELOW])
        grid = (path - torch.tensor([_BEGIN, _BELOW])) / span * 2 - 1
        return F.grid_sample(self.charts[side][None], grid[None], padding_mode="border", align_corners=True)[0].permute(
            1, 2, 0
        )

    def draw(self, a: SkinAttributes, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Cover of the hairs `[S, S]`, and a blurred shade below them `[S, S]`."""
        wander = rng.normal(0, 0.35, 2)  # both brows of a face differ a little
        paths, opacity = [], []
        for side in (0, 1):
            path, amount = self._hairs(a, rng, float(wander[side]))
            paths.append(self._texels(side, path))
            opacity.append(amount)
            if a.brow_join > 0:
                path, amount = self._join(a, rng)
                paths.append(self._texels(side, path))
                opacity.append(amount)
        hair = strands(self.canvas, torch.cat(paths), torch.cat(opacity))
        under = torch.zeros_like(hair)
        under[self.window] = gaussian_blur(hair[self.window][None], 2.2 * self.canvas.size / 512)[0]
        return hair, under

    def _hairs(self, a: SkinAttributes, rng: np.random.Generator, wander: float) -> tuple[Tensor, Tensor]:
        """One brow: paths `[N, M, 2]` in mm on its chart, opacity `[N, M]`."""
        n = int(1000 * a.brow_density * (0.35 + 0.65 * a.brow_thickness / 8.0) * a.brow_length)
        # place on the brow: q from 0 (inner end) to 1 (outer end), t from -1 (lower edge) to 1 (upper edge)
        q = rng.beta(1.1, 1.4, n)
        t = np.clip(0.46 * rng.standard_normal(n), -1.15, 1.25) - 0.12
        stray = rng.random(n) < 0.05
        t = np.where(stray, t * 1.5, t)
        half = 0.5 * a.brow_thickness * np.interp(q, [0, 0.12, 0.4, 0.7, 1], [0.78, 0.98, 1.0, 0.72, 0.24])
        height = a.brow_height + a.brow_arch * np.exp(-(((q - 0.64) / 0.26) ** 2)) + a.brow_tilt * (q - 0.3) + wander
        along = _SPAN * a.brow_length * q - a.brow_inner + (3.0 - 2.2 * t) * (1 - q) ** 5 * rng.random(n)
        root = np.stack([along - a.brow_inner * 0.15, height + half * t - 0.3], 1)
        # hairs stand up at the inner end, lean along the middle, and point to the centre line at the outer end
        angle = np.interp(q, [0, 0.1, 0.25, 0.5, 0.75, 1], [78, 62, 42, 24, 6, -6])
        angle = angle - t * np.interp(q, [0, 0.25, 0.6, 1], [-6, 4, 22, 20])
        angle = angle + rng.standard_normal(n) * np.where(stray, 26, 9) + 3.5 * np.sin(37 * q + wander * 9)
        length = _LENGTH * rng.uniform(0.5, 1.1, n) * min(1.1, 0.45 + a.brow_thickness / 15)
        length = length * np.interp(q, [0, 0.2, 0.6, 1], [0.75, 1.0, 0.95, 0.62])
        fade = np.interp(q, [0, 0.12, 0.3, 0.7, 1], [0.5, 0.95, 1, 0.8, 0.42]) * rng.uniform(0.35, 1.25, n)
        return _bend(root, np.radians(angle), length), _taper(0.32 * fade * length / 5.0)

    def _join(self, a: SkinAttributes, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        n = int(60 * a.brow_join)
        root = np.stack([rng.uniform(_BEGIN, 4, n), rng.normal(-0.5, 2.2, n)], 1)
        return _bend(root, np.radians(rng.normal(80, 25, n)), rng.uniform(2.5, 5, n)), _taper(np.full(n, 0.16))


def _bend(root: np.ndarray, angle: np.ndarray, length: np.ndarray) -> Tensor:
    """Hairs that start at `angle` (radians) above the centre line and bend towards it: `[N, M, 2]` mm."""
    s = np.linspace(0, 1, _POINTS)[None]
    turn = angle[:, None] * (1 - 0.55 * s)
    step = length[:, None] / (_POINTS - 1)
    x = np.cumsum(np.cos(turn) * step, 1) - np.cos(turn[:, :1]) * step
    y = np.cumsum(np.sin(turn) * step, 1) - np.sin(turn[:, :1]) * step
    return torch.from_numpy(root[:, None] + np.stack([x, y], -1)).float()


def _taper(amount: np.ndarray) -> Tensor:
    s = torch.linspace(0, 1, _POINTS)
    return torch.from_numpy(amount).float()[:, None] * (1 - 0.85 * s * s) * (0.5 + s * 2).clamp(max=1)
