"""Eyes: the atlas island that both eyeballs share, lashes, and make-up of the lids."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from .people import SkinAttributes
from .regions import Regions
from .strokes import over, spline, strands
from .uv_canvas import UVCanvas

IRIS_ANGLE, PUPIL_ANGLE = 21.9, 7.5  # degrees from the eye's axis


class Eyes:
    """Paints the eye island by polar angle, and the lids."""

    def __init__(self, canvas: UVCanvas, regions: Regions):
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
        self._side = x.abs() / (x * x + y * y).sqrt().clamp(min=1e-6)  # 1 towards the corners of the eye
        upper, lower = self._lid_distances()
        near = (torch.minimum(upper, lower) < 16) & canvas.skin
        rows, columns = torch.where(near.any(1))[0], torch.where(near.any(0))[0]
        self.around = (slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1))
        x = canvas.position[0].abs()
        inner, outer = (float(canvas.landmarks[k, 0].abs().mean()) for k in ([39, 42], [36, 45]))
        fields = {"upper": upper, "lower": lower, "above": regions["above_eye"], "bridge": regions["bridge"]}
        fields["outward"] = ((x - inner) / (outer - inner)).clamp(-0.3, 1.3)  # 0 inner corner .. 1 outer corner
        fields["duct"] = canvas.bumps(
            canvas.landmarks[42] + torch.tensor([1.0, 0.3, 1.0]), [2.4, 1.9, 4.0]
        ) * torch.sigmoid((inner + 4 - x) / 0.7)
        self._near = tuple(f[self.around] for f in fields.values())
        self._lash_roots = [self._roots(upper, True), self._roots(lower, False)]

    def _lid_distances(self) -> tuple[Tensor, Tensor]:
        """Distance in mm `[S, S]` to the front edges of the upper and of the lower lids, where lashes grow."""
        c, p = self.canvas, self.canvas.landmarks
        position = c.position.permute(1, 2, 0)[c.skin]
        halves: dict[bool, list[Tensor]] = {True: [], False: []}
        for corners in ((39, 36), (42, 45)):
            inner, outer = p[corners[0]], p[corners[1]]
            ring = p[36:42] if corners[0] == 39 else p[42:48]
            for above in (True, False):
                between = [*ring[1:3], *ring[4:6]]
                between = [q for q in between if (q[1] > ring[:, 1].mean()) == above]
                guide = torch.stack([inner, *sorted(between, key=lambda q: abs(float(q[0]))), outer])
                halves[above].append(_lid_edge(position, spline(guide, 22), above))
        return tuple(torch.minimum(*(c.distance_to(line) for line in halves[above])) for above in (True, False))

    def ball(self, a: SkinAttributes, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Albedo `[3, h, w]` and specular albedo `[h, w]` of the island's window."""
        angle, turn = self.angle, self.turn
        iris = torch.tensor(a.iris_colour).view(3, 1, 1)
        q = angle / IRIS_ANGLE

        def radial(turns: tuple[int, ...], bend: float) -> Tensor:
            """Rays of about unit deviation: waves around the axis that bend a little from pupil to rim."""
            waves = [torch.cos(turn * k + rng.random() * 6.28 + bend * torch.sin(3 * q + k)) for k in turns]
            return sum(waves) * math.sqrt(2 / len(turns))

        coarse, fibre = radial((5, 9, 14), 1.2), radial((29, 37, 43, 53, 61), 1.6)
        inner = 0.44 + 0.05 * coarse  # the collarette, a wavy ring between two textures
        ring = torch.exp(-(((q - inner) / 0.10) ** 2))
        warm = torch.tensor([1.35, 1.0, 0.62]).view(3, 1, 1)
        around_pupil = torch.sigmoid((inner + 0.04 - q) / 0.05) * (0.25 + 0.75 * a.iris_pattern)
        rays = 1 + (0.10 + 0.16 * a.iris_pattern) * fibre * (0.6 + 0.4 * q) + 0.09 * coarse
        colour = iris * rays.clamp(min=0.3) * (1 + 0.28 * ring) * (1 + 0.45 * around_pupil * (warm - 0.55))
        colour = colour * (1 + 0.35 * torch.exp(-(((q - 0.70) / 0.16) ** 2)))  # a brighter ring half way to the rim
        colour = colour * (1 - 0.66 * torch.sigmoid((q - 0.90 + 0.012 * fibre) / 0.045))  # limbal ring
        pupil = torch.sigmoid((PUPIL_ANGLE * (0.35 + 0.65 * a.pupil) + 0.15 * coarse - angle) / 0.55)
        colour = colour.clamp(0.003, 0.6) * (1 - pupil) + 0.003
        # shade of the lids; both eyes in all directions use one island, so it depends on the angle from the axis only
        far = ((angle - 24) / 34).clamp(0, 1)
        white = torch.tensor([0.47, 0.445, 0.42]) * torch.tensor(
            [1.0, 1 - 0.04 * a.sclera_yellow, 1 - 0.28 * a.sclera_yellow]
        )
        red = (0.12 + 0.55 * a.sclera_red) * far * (0.35 + 0.65 * self._side)
        sclera = white.view(3, 1, 1) * (1 - red * torch.tensor([0.06, 0.5, 0.46]).view(3, 1, 1))
        sclera = sclera * (1 - 0.62 * far**0.8 * torch.tensor([0.92, 1.0, 1.0]).view(3, 1, 1))
        vessel = sum(
            (torch.sin(turn * k / 2 + rng.random() * 6 + 0.9 * torch.sin(angle * 0.17 * k / 5 + turn))).abs() ** 40
            * torch.sigmoid(4 * torch.sin(turn * 3 + k + angle * 0.1))
            for k in (10, 17, 26, 34)
        )
        thread = vessel.clamp(0, 1) * far.sqrt() * (angle > 27) * (0.14 + 0.5 * a.sclera_red)
        sclera = sclera * (1 - thread * torch.tensor([0.08, 0.42, 0.40]).view(3, 1, 1))
        outside = torch.sigmoid((angle - IRIS_ANGLE) / 1.1)
        return colour * (1 - outside) + sclera * outside, torch.full_like(angle, 0.42)

    def _roots(self, distance: Tensor, above: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Roots of lashes on the edge of a lid.

        Returns texels `[N, 2]`; the steps in texels for a millimetre outward and a millimetre up (or down) `[N, 2, 2]`;
        and the place from the inner corner (0) to the outer corner (1) `[N]`.
        """
        c = self.canvas
        side = (self.regions["above_eye"] > 0.5) if above else (self.regions["above_eye"] <= 0.5)
        y, x = torch.where((distance < 1.0 * max(1.0, 512 / c.size / 1.5)) & side & c.skin)
        steps = torch.stack([c.step_x[:, y, x], c.step_y[:, y, x]], 2).permute(1, 0, 2)  # [N, 3, 2] mm per texel
        inverse = torch.linalg.pinv(steps, rtol=1e-3)
        wanted = torch.zeros(len(x), 3, 2)
        wanted[:, 0, 0] = c.position[0, y, x].sign()
        wanted[:, 1, 1] = 1.0 if above else -1.0
        reach = (inverse @ wanted).clamp(-4, 4)
        inner, outer = (float(c.landmarks[k, 0].abs().mean()) for k in ([39, 42], [36, 45]))
        return torch.stack([x, y], 1), reach, (c.position[0, y, x].abs() - inner) / (outer - inner)

    def _lashes(self, a: SkinAttributes, rng: np.random.Generator, above: bool) -> Tensor:
        """Cover `[S, S]` of lashes: short strokes from the lid's edge that spread to the sides and get thinner."""
        roots, reach, outward = self._lash_roots[0 if above else 1]
        n = int((240 if above else 110) * (0.5 + a.lashes))
        pick = torch.from_numpy(rng.integers(0, len(roots), n))
        length = (1.5 + 1.9 * a.lashes) * (1 if above else 0.5) * torch.from_numpy(rng.uniform(0.6, 1.1, n)).float()
        o = outward[pick].clamp(0, 1)
        length = length * (0.55 + 0.6 * o)
        side = -0.25 + 1.15 * o + 0.15 * torch.from_numpy(rng.standard_normal(n)).float()
        t = torch.linspace(0, 1, 7)[None, :, None]
        sideways, away = reach[pick, :, 0][:, None], reach[pick, :, 1][:, None]
        jitter = torch.from_numpy(rng.uniform(-0.5, 0.5, (n, 1, 2))).float()
        bow = side[:, None, None] * (0.5 + 0.5 * t)
        path = roots[pick][:, None] + jitter + length[:, None, None] * t * (away * 0.9 + sideways * bow)
        amount = (0.60 if above else 0.30) * (0.45 + 0.55 * o) * (0.55 + 0.45 * a.lashes)
        return strands(self.canvas, path, amount[:, None] * (1 - t[..., 0]) ** 0.8)

    def lids(self, a: SkinAttributes, albedo: Tensor, cloud: Tensor) -> Tensor:
        """Albedo `[3, S, S]` with eye shadow, liner, lashes, the pink rim of the lids and the tear duct."""
        w = self.around
        # the seed of the lashes comes from the noise
        rng = np.random.default_rng(int(1e6 * abs(float(cloud[w][0, 0]))))
        lashes = [self._lashes(a, rng, above)[w] for above in (True, False)]
        albedo = albedo.clone()
        albedo[(slice(None), *w)] = self._lids(a, albedo[(slice(None), *w)], cloud[w], lashes)
        return albedo

    def _lids(self, a: SkinAttributes, skin: Tensor, cloud: Tensor, lashes: list[Tensor]) -> Tensor:
        upper, lower, above, bridge, outward, duct = self._near
        below = 1 - above
        if a.eye_shadow > 0:
            area = (above * _fall(upper, 8.5) + 0.25 * below * _fall(lower, 3.0)) * (1 - bridge).clamp(0, 1)
            skin = over(
                skin, (a.eye_shadow * area * (1 + 0.1 * cloud)).clamp(0, 0.9), torch.tensor(a.eye_shadow_colour)
            )
        edge = torch.minimum(upper, lower)
        # the rim of the lower lid and the tear duct are mucous membrane: pink, less so on dark skin
        level = skin.mean(0, keepdim=True).clamp(0.03, 0.5)
        pink = level.sqrt() * torch.tensor([0.74, 0.40, 0.37]).view(3, 1, 1)
        skin = over(skin, (0.55 * _fall(edge, 0.9) * (0.3 + 0.7 * below)).clamp(0, 1), pink)
        skin = over(skin, 0.75 * duct.clamp(0, 1), pink * torch.tensor([1.0, 0.86, 0.86]).view(3, 1, 1))
        # contact shadow of the eyeball; the light there is warm
        shade = 0.40 * above * _fall(upper, 2.4) + 0.16 * below * _fall(lower, 1.6)
        skin = skin * (1 - shade * torch.tensor([0.75, 1.0, 1.0]).view(3, 1, 1))
        # from a distance the lashes form a line, which is stronger above and to the outside
        grow = (0.35 + 0.65 * (outward / 0.6).clamp(0, 1)) * (1 - 0.5 * duct)
        line = above * _fall(upper, 1.0 + 0.4 * a.lashes + 0.5 * outward.clamp(0, 1)) * (0.80 + 0.18 * a.lashes)
        line = grow * (line + below * _fall(lower, 0.9) * (0.14 + 0.26 * a.lashes))
        if a.eye_liner > 0:
            drawn = above * _fall(upper, 0.9 + 1.0 * a.eye_liner) + 0.5 * below * _fall(lower, 0.9)
            line = torch.maximum(line, a.eye_liner * drawn)
        hair = 0.25 * torch.tensor(a.brow_colour) + 0.004
        hair = hair * (0.4 if max(a.eye_liner, a.lashes - 0.7) > 0.3 else 1.0)
        cover = 1 - (1 - line.clamp(0, 0.93)) * (1 - lashes[0]) * (1 - lashes[1])
        return over(skin, cover.clamp(0, 0.95), hair)


def _fall(distance: Tensor, width: float | Tensor) -> Tensor:
    return torch.exp(-((distance / width) ** 2))


def _lid_edge(position: Tensor, guide: Tensor, above: bool) -> Tensor:
    """Move each point of `guide` `[N, 3]` (inner to outer corner, mm) to the front edge of the lid.

    The landmarks lie a little inside. Seen from the front, the edge is the part of the lid that reaches farthest into
    the eye's opening; of its flat rim the foremost point is taken.
    """
    out = []
    for q in guide:
        d = position - q
        near = position[(d[:, 0].abs() < 0.8) & (d[:, 1].abs() < 3.5) & (d[:, 2] > -1.0) & (d[:, 2] < 5.0)]
        if len(near) == 0:
            out.append(q)
            continue
        reach = near[:, 1] if above else -near[:, 1]
        rim = near[reach < reach.min() + 0.5]
        out.append(rim[rim[:, 2].argmax()])
    line = torch.stack(out)
    padded = torch.cat([line[:1], line, line[-1:]])
    return (padded[:-2] + 2 * line + padded[2:]) / 4
