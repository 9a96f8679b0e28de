"""Wrinkles of age and expression, as grooves along curves that are placed by the landmarks."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .people import SkinAttributes
from .strokes import lines, spline
from .uv_canvas import UVCanvas

_CONTROL, _DENSE = 5, 72


class Wrinkles:
    """Draws all wrinkles of a face at once. Control points are in millimetres in head space."""

    def __init__(self, canvas: UVCanvas):
        self.canvas = canvas
        self.p = canvas.landmarks.numpy()

    def draw(self, a: SkinAttributes, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Depths 0..1 of folds and of fine lines, `[S, S]` each."""
        folds: list[tuple[np.ndarray, float, float]] = []
        fine: list[tuple[np.ndarray, float, float]] = []
        level = a.wrinkles**1.2
        self._forehead(folds, rng, level)
        self._eyes(fine, folds, rng, level)
        self._mouth(fine, folds, rng, level, a.age)
        return self._render(folds, rng, 0.9), self._render(fine, rng, 0.5)

    def _render(self, items, rng: np.random.Generator, wobble: float) -> Tensor:
        size = self.canvas.size
        items = [i for i in items if i[1] > 0.02]
        if not items:
            return torch.zeros(size, size)
        points = np.stack([i[0] for i in items]) + wobble * rng.standard_normal((len(items), _CONTROL, 3)) * [1, 1, 0]
        texel = self.canvas.to_texel(torch.from_numpy(points.reshape(-1, 3)).float()).view(len(items), _CONTROL, 2)
        path = spline(texel, _DENSE)
        taper = torch.sin(torch.linspace(0.06, np.pi - 0.06, _DENSE)) ** 1.3  # lines get weaker at both ends
        broken = torch.from_numpy(rng.uniform(0.55, 1.0, (len(items), 6))).float()
        broken = torch.nn.functional.interpolate(broken[:, None], _DENSE, mode="linear", align_corners=True)[:, 0]
        amount = torch.tensor([i[1] for i in items])[:, None] * taper * broken
        width = torch.tensor([i[2] for i in items])[:, None] * (0.75 + 0.45 * broken)
        return lines(self.canvas, path.reshape(-1, 2), amount.reshape(-1), width.reshape(-1))

    def _forehead(self, folds, rng: np.random.Generator, level: float) -> None:
        p = self.p
        base, depth = p[19:25, 1].max(), p[27, 2]
        xs = np.linspace(-40, 40, _CONTROL)
        bow = rng.normal(2, 3)
        habit = rng.uniform(0.3, 1.2)
        for k in range(rng.integers(3, 7)):
            y = base + 11 + 8.0 * k + rng.normal(0, 1.5) + bow * np.cos(xs / 26) + rng.normal(0, 0.8, _CONTROL)
            z = depth + 6 - (xs / 40) ** 2 * 22 - 0.15 * (y - base)
            half = rng.uniform(0.5, 1.05)
            folds.append(
                (
                    np.stack([xs * half + rng.normal(0, 6), y, z], 1),
                    level * habit * rng.uniform(0.3, 1.0),
                    rng.uniform(0.9, 1.5),
                )
            )
        frown = rng.uniform(0.2, 1.1)
        for side in (-1, 1):
            x, y = side * (6 + rng.normal(0, 1.5)), p[21, 1] + 2
            t = np.linspace(-9, 9, _CONTROL)
            folds.append(
                (
                    np.stack([x + side * 1.2 * np.cos(t / 6), y + t, np.full(_CONTROL, p[27, 2] + 3)], 1),
                    level * frown * rng.uniform(0.4, 1),
                    1.3,
                )
            )

    def _eyes(self, fine, folds, rng: np.random.Generator, level: float) -> None:
        p = self.p
        habit = rng.uniform(0.4, 1.2)
        t = np.linspace(0, 1, _CONTROL)[:, None]
        for corner, side in ((36, -1), (45, 1)):
            for angle in (34, 14, -6, -26, -42):
                th = np.radians(angle + rng.normal(0, 6))
                way = np.array([side * np.cos(th), np.sin(th), -0.75 * np.cos(th)])
                start = p[corner] + way * 6
                fine.append(
                    (
                        start + way * t * rng.uniform(9, 20) + [0, 1, 0] * t * (1 - t) * rng.normal(0, 5),
                        level * habit * rng.uniform(0.35, 0.9),
                        0.75,
                    )
                )
        for ids, side in (((39, 40, 41, 36), -1), ((42, 47, 46, 45), 1)):
            for k, drop in enumerate((5.0, 8.5, 13.0)):
                c = p[list(ids)] - [0, 1, 0] * np.array([drop * 0.75, drop, drop, drop * 0.7])[:, None]
                c = np.concatenate([c, c[-1:] + [side * 4, -1, -4]])
                fine.append((c + [0, 0, 3], (0.12 + level) * rng.uniform(0.2, 0.65), 0.7 + 0.25 * k))
            inner, outer = p[ids[0]], p[ids[3]]
            way = (inner * 0.75 + outer * 0.25) - [0, 9, -2] - inner  # tear trough
            folds.append((inner + [0, -4, 3] + way * t * 1.9, (0.10 + 0.5 * level) * rng.uniform(0.2, 0.9), 2.0))

    def _mouth(self, fine, folds, rng: np.random.Generator, level: float, age: float) -> None:
        p = self.p
        habit = rng.uniform(0.4, 1.1)
        for wing, corner, side in ((31, 48, -1), (35, 54, 1)):
            start, end = p[wing] + [side * 5, 5, -2], p[corner] + [side * 10, -3, -3]
            mid = start * 0.5 + end * 0.5 + [side * 4, 1, 2]
            path = spline(torch.from_numpy(np.stack([start, mid, end])).float(), _CONTROL).numpy()
            folds.append((path, (0.16 + 0.85 * level) * habit, 2.0))
            t = np.linspace(0, 1, _CONTROL)[:, None]
            folds.append(
                (p[corner] + [side * 3.5, -4, -1] + t * [side * 3, -17, -2], level * habit * rng.uniform(0.2, 0.8), 1.5)
            )
        if age > 48:
            for _ in range(10):
                s = rng.random() * 4
                top = p[49 + int(s)] * (1 - s % 1) + p[50 + int(s)] * (s % 1)
                t = np.linspace(0, 1, _CONTROL)[:, None]
                fine.append(
                    (
                        top + [0, 1, 0] + t * [rng.normal(0, 1), rng.uniform(4, 9), -0.5],
                        0.6 * level * rng.random(),
                        0.7,
                    )
                )
