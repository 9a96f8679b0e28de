"""Eyes: the island both eyeballs share, the lash line, and make-up around them."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from .canvas import Canvas
from .marks import over
from .people import SkinAttributes
from .regions import Regions

IRIS_ANGLE, PUPIL_ANGLE = 21.9, 7.5  # degrees from the eye's axis


class Eyes:
    """Paints the eye island by polar angle, and what the lids carry."""

    def __init__(self, canvas: Canvas, regions: Regions):
        self.canvas, self.regions = canvas, regions
        u0, v0, u1, v1 = (float(v) for v in canvas.head.eye_island)
        s = canvas.size
        t = (torch.arange(s) + 0.5) / s
        v, u = torch.meshgrid(1 - t, t, indexing="ij")
        x, y = (u - (u0 + u1) / 2) / ((u1 - u0) / 2), (v - (v0 + v1) / 2) / ((v1 - v0) / 2)
        inside = (x.abs() <= 1.02) & (y.abs() <= 1.02)
        rows, columns = torch.where(inside.any(1))[0], torch.where(inside.any(0))[0]
        self.window = (slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1))
        x, y = x[self.window], y[self.window]
        self.angle = (x * x + y * y).sqrt() * canvas.head.eye_angle
        self.turn = torch.atan2(y, x)
        near = (torch.minimum(regions["upper_lid_mm"], regions["lower_lid_mm"]) < 16) & canvas.skin
        rows, columns = torch.where(near.any(1))[0], torch.where(near.any(0))[0]
        self.around = (slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1))
        self._near = tuple(regions[n] for n in ("upper_lid_mm", "lower_lid_mm", "above_eye", "bridge"))
        self._side = x.abs() / (x * x + y * y).sqrt().clamp(min=1e-6)  # 1 towards the corners of the eye

    def ball(self, a: SkinAttributes, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """-> (albedo `[3, h, w]`, specular `[h, w]`) of the island's window."""
        angle, turn = self.angle, self.turn
        iris = torch.tensor(a.iris_colour).view(3, 1, 1)
        q = angle / IRIS_ANGLE
        fibre = sum(
            torch.cos(turn * k + rng.random() * 6.28 + 1.5 * torch.sin(3 * q + k)) / math.sqrt(k)
            for k in (7, 13, 23, 31, 47)
        )
        ring = torch.exp(-(((q - 0.5 - 0.05 * fibre) / 0.14) ** 2))
        warm = torch.tensor([1.25, 1.0, 0.7]).view(3, 1, 1)
        colour = iris * (1 + 0.5 * a.iris_pattern * fibre) * (1 + 0.6 * a.iris_pattern * ring * warm)
        colour = colour * (1 - 0.72 * torch.sigmoid((q - 0.9) / 0.035))  # limbal ring
        pupil = torch.sigmoid((PUPIL_ANGLE * a.pupil - angle) / 0.5)
        colour = colour.clamp(0.003, 0.6) * (1 - pupil) + 0.003
        far = ((angle - 26) / 40).clamp(0, 1)
        white = torch.tensor([0.37, 0.35, 0.33]) * torch.tensor(
            [1.0, 1 - 0.03 * a.sclera_yellow, 1 - 0.26 * a.sclera_yellow]
        )
        red = (0.10 + 0.55 * a.sclera_red) * far * (0.35 + 0.65 * self._side)
        sclera = white.view(3, 1, 1) * (1 - red * torch.tensor([0.06, 0.5, 0.46]).view(3, 1, 1)) * (1 - 0.30 * far)
        vessel = sum(
            (torch.sin(turn * k + rng.random() * 6 + 0.9 * torch.sin(angle * 0.17 * k / 5))).abs() ** 30
            for k in (5, 8, 11)
        )
        sclera = sclera * (
            1 - (vessel.clamp(0, 1) * far * (0.15 + 0.5 * a.sclera_red)) * torch.tensor([0.05, 0.4, 0.4]).view(3, 1, 1)
        )
        outside = torch.sigmoid((angle - IRIS_ANGLE) / 0.8)
        return colour * (1 - outside) + sclera * outside, torch.full_like(angle, 0.42)

    def lids(self, a: SkinAttributes, albedo: Tensor, cloud: Tensor) -> Tensor:
        """Eye shadow, liner and lashes on the skin of the lids; also the wet pink rim."""
        w = self.around
        albedo = albedo.clone()
        albedo[(slice(None), *w)] = self._lids(a, albedo[(slice(None), *w)], cloud[w], *(f[w] for f in self._near))
        return albedo

    def _lids(
        self,
        a: SkinAttributes,
        skin: Tensor,
        cloud: Tensor,
        upper: Tensor,
        lower: Tensor,
        above: Tensor,
        bridge: Tensor,
    ) -> Tensor:
        if a.eye_shadow > 0:
            area = (above * _fall(upper, 8.5) + 0.25 * (1 - above) * _fall(lower, 3.0)) * (1 - bridge).clamp(0, 1)
            skin = over(
                skin, (a.eye_shadow * area * (1 + 0.1 * cloud)).clamp(0, 0.9), torch.tensor(a.eye_shadow_colour)
            )
        rim = _fall(torch.minimum(upper, lower), 1.1)
        skin = skin * (1 - 0.30 * rim * torch.tensor([0.25, 0.75, 0.7]).view(3, 1, 1))
        # lashes cannot be modelled as hair in a texture: they show as a dark line, heavier above and outwards
        lash = above * _fall(upper, 1.0 + 0.9 * a.lashes) * (0.60 + 0.38 * a.lashes)
        lash = lash + (1 - above) * _fall(lower, 0.8) * 0.28 * a.lashes
        if a.eye_liner > 0:
            line = above * _fall(upper, 0.9 + 1.0 * a.eye_liner) + 0.5 * (1 - above) * _fall(lower, 0.9)
            lash = torch.maximum(lash, a.eye_liner * line)
        hair = 0.25 * torch.tensor(a.brow_colour) + 0.004
        hair = hair * (0.4 if max(a.eye_liner, a.lashes - 0.7) > 0.3 else 1.0)
        return over(skin, lash.clamp(0, 0.93), hair)


def _fall(distance: Tensor, width: float) -> Tensor:
    return torch.exp(-((distance / width) ** 2))

