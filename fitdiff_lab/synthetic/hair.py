"""Scalp hair and beards, painted on the skin. The texture has the hair; the mesh has none."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .people import SkinAttributes
from .regions import Regions
from .strokes import over, scatter_on, strands
from .uv_canvas import UVCanvas

_TILE = (64, 1024)  # rows along a strand, columns across
_RADIUS = 88.0  # mm, of the scalp
_WHORL = math.radians(24)  # angle of the whorl behind the top of the head
# The hairline: (degrees from the front about the vertical axis, mm above the brows).
_HAIRLINE = (
    (0, 48), (14, 49), (27, 47), (36, 42), (44, 36), (50, 25), (55, 11), (60, -6), (65, -20), (69, -32), (73, -44),
    (120, -44),
)  # fmt: skip
_POINTS = 7  # along one drawn hair


class Hair:
    """Scalp hair and beard. Strands run away from the whorl, so a noise tile in (angle, distance) gives all strands."""

    def __init__(self, canvas: UVCanvas, regions: Regions):
        self.canvas, self.regions = canvas, regions
        x, y, z = canvas.position
        brow = float(canvas.landmarks[19, 1])
        self._y, self._x, self._z = y - brow, x, z
        v = torch.stack([x, y - 15, z + 25])
        v = v / v.norm(dim=0)
        pole = torch.tensor([0.0, math.cos(_WHORL), -math.sin(_WHORL)])
        front = torch.tensor([0.0, math.sin(_WHORL), math.cos(_WHORL)])
        cosine = torch.einsum("k,khw->hw", pole, v)
        self._polar = torch.acos(cosine.clamp(-1, 1))
        sine = torch.sin(self._polar).clamp(min=1e-3)
        turn = torch.atan2(x / 85.0, torch.einsum("k,khw->hw", front, v))
        self._across, self._down = turn * 85.0 / 300.0, self._polar / 2.1 - 1
        away = (v * cosine - pole.view(3, 1, 1)) / sine
        self._away = _along_skin(canvas, away)
        # fade strands at the whorl, where they are too dense, and where texels are long (nape, neck) and would show
        # streaks
        tall = (canvas.step_x[1] ** 2 + canvas.step_y[1] ** 2).sqrt()
        low = torch.sigmoid((y - float(canvas.landmarks[33, 1])) / 6)
        self._clear = (sine / 0.3).clamp(max=1) * torch.maximum(low, (2.0 / tall.clamp(min=1e-3)).clamp(max=1) ** 2)
        degrees, height = torch.tensor(_HAIRLINE, dtype=torch.float32).T.contiguous()
        azimuth = torch.rad2deg(torch.atan2(x.abs(), z + 20))
        line, slope = _polyline(azimuth, degrees, height)
        steep = (1 + (slope * 57.3 / 85.0) ** 2).sqrt()
        self._front, self._steep = (self._y - line) / steep, steep
        self._sideburn = ((azimuth - 60) / 6).clamp(0, 1) * torch.sigmoid((95 - azimuth) / 3)
        self._side = (azimuth - 74) * 1.5  # mm behind the temple
        # beards reach back to the ear, where they meet the sideburns
        back = torch.sigmoid((z - float(canvas.landmarks[0, 2]) + 14) / 4)
        lips = torch.sigmoid((-regions["lips_mm"] - 0.5) / 0.8)
        self._beard_area = back * lips * (1 - regions["ear"]).clamp(0, 1)
        nape = regions["behind_mm"].clamp(max=40)
        self._behind = torch.minimum(nape, self._y + brow - float(canvas.landmarks[33, 1]) + 22)
        self._blur = _texel_change(torch.maximum(self._front, self._behind).clamp(-14, 14))

    def _strands(self, rng: np.random.Generator, wave: Tensor) -> Tensor:
        """Noise `[2, S, S]` of single hairs and of locks, about unit deviation."""
        tile = torch.from_numpy(rng.standard_normal((2, *_TILE), dtype=np.float32))
        tile[1] = F.avg_pool2d(tile[1:2], (3, 9), 1, (1, 4))[0] * 4.0
        swirl = 0.10 * torch.exp(-((self._polar / 0.5) ** 2))  # hairs run from the whorl on a spiral
        grid = torch.stack([self._across + swirl + 0.006 * wave, self._down], -1)
        noise = F.grid_sample(tile[None], grid[None], padding_mode="reflection", align_corners=False)[0]
        return noise * self._clear

    def _outline(self, a: SkinAttributes, rng: np.random.Generator, wave: Tensor) -> Tensor:
        """Signed distance in mm `[S, S]` from the edge of the hair, positive inside."""
        r = self.regions
        fringe = r["fringe"]
        cut, side = rng.random(), 1.0 if rng.random() < 0.5 else -1.0
        if cut < 0.3:  # swept to one side
            fringe = fringe * (0.72 + 0.36 * side * (self._x / 50).clamp(-1, 1))
        elif cut < 0.55:  # parted in the middle like a curtain
            fringe = fringe * (0.25 + 0.75 * (self._x.abs() / 42).clamp(max=1) ** 1.5)
        short = float(rng.uniform(4, 22)) + 6 * a.feminine  # mm by which the sideburn is shorter
        short = short * (0.3 if a.jaw_beard > 0.2 else 1.0)
        front = torch.minimum(self._front, (self._y + 44 - short) + 60 * (1 - self._sideburn))
        lift = a.hairline + float(rng.normal(0, 3)) * (self._x / 40).clamp(-1, 1) ** 2
        front = front - (lift + a.recede * r["recede"]) / self._steep.clamp(max=2) + 38.0 * a.fringe * fringe
        return torch.maximum(front + 1.6 * wave, self._behind + 1.2 * wave)

    def cover(self, a: SkinAttributes, rng: np.random.Generator, wave: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Cover of the scalp hair `[S, S]`, factor on its colour `[S, S]`, and strand noise `[2, S, S]`."""
        s = self._strands(rng, wave)
        field = self._outline(a, rng, wave)
        if _fell_out(a):
            top = (self._polar - 1.22) * _RADIUS
            round_off = 14 * torch.exp(-(((self._side - top) / 24) ** 2))
            field = torch.minimum(field, torch.minimum(self._side, top) - round_off + 4 * wave)
        cropped = a.hair in ("shaved", "bald") and not _fell_out(a)
        loose = 0.8 if cropped else 2.6 + 3.0 * a.fringe
        edge = field - (1.5 if cropped else 3.0) + loose * s[0] + (0.35 * loose) * s[1]
        soft = {"shaved": 5.0, "bald": 5.0, "short": 3.2}.get(a.hair, 2.4)
        soft = (soft * soft + (0.9 * self._blur) ** 2).sqrt()
        ear = 1 - self.regions["ear"]
        cover = torch.sigmoid(edge / soft) * ear
        if not cropped:
            cover = 1 - (1 - cover) * (1 - self._fine_hairs(a, rng, field) * ear)
        if a.thinning > 0:
            bare = a.thinning * self.regions["crown"] * torch.sigmoid((self.regions["behind_mm"] + 25) / -12)
            cover = cover * (1 - (bare * (1.1 + 0.35 * s[0])).clamp(0, 1))
        if a.hair in ("short", "medium", "long") and a.fringe == 0 and rng.random() < 0.4:
            cover = cover * (1 - 0.5 * self._parting(rng, wave))
        return cover, self._shade(a, rng, s, wave, field), s

    def _fine_hairs(self, a: SkinAttributes, rng: np.random.Generator, field: Tensor) -> Tensor:
        """Cover of single hairs along the edge, fewer farther out, so that the hair does not end in a sharp line."""
        edge = torch.exp(-(((field + 2.0) / 4.5) ** 2)) * (self._y > -50) * self._clear
        root = scatter_on(self.canvas, rng, edge, 2000)
        n = len(root)
        if n == 0:
            return torch.zeros_like(field)
        step = self._away[:, root[:, 1], root[:, 0]].T[:, None]
        lean = torch.from_numpy(rng.normal(0, 0.35, (n, 1, 1))).float() * step.flip(-1) * torch.tensor([1.0, -1.0])
        length = torch.from_numpy(rng.uniform(4, 12, (n, 1, 1))).float()
        t = torch.linspace(-0.5, 0.5, _POINTS)[None, :, None]
        path = root[:, None] + length * (t * step + t * t * lean)
        amount = torch.from_numpy(rng.uniform(0.15, 0.6, (n, 1))).float()
        return strands(self.canvas, path, amount * (0.75 - t[..., 0]))

    def _parting(self, rng: np.random.Generator, wave: Tensor) -> Tensor:
        at = float(rng.uniform(14, 32)) * (1 if rng.random() < 0.5 else -1)
        path = torch.exp(-(((self._x - at - 1.2 * wave) / 0.9) ** 2))
        return path * torch.sigmoid((self._z + 25) / 8) * torch.sigmoid((self._y - 30) / 4)

    def _shade(self, a: SkinAttributes, rng: np.random.Generator, s: Tensor, wave: Tensor, field: Tensor) -> Tensor:
        """Brightness of the hair relative to its mean: strands, locks, roots, tips, sheen, shade at the nape."""
        log = 0.24 * s[0] + 0.20 * s[1] + 0.07 * wave
        if a.hair in ("medium", "long", "short"):
            grown = {"short": 0.5}.get(a.hair, 1.0)
            band = torch.exp(-(((self._polar - 0.82 - 0.05 * s[1]) / 0.17) ** 2))
            log = log + grown * float(rng.uniform(0.05, 0.3)) * band * (0.7 + 0.5 * s[0])
            log = log + grown * float(rng.uniform(-0.05, 0.35)) * (self._polar / 1.6 - 0.5).clamp(-0.5, 0.6)
        # the beard uses this factor too, so only the part behind the ears gets darker
        nape = torch.sigmoid((-55 - self._y) / 12) * torch.sigmoid((-10 - self._z) / 5)
        thin = torch.exp(-((field / 5).clamp(min=0)))  # the skin is visible through fine hair at the edge
        return torch.exp(log - 0.45 * nape + 0.12 * thin * torch.sigmoid((self._y + 40) / 8))

    def paint_scalp(
        self, a: SkinAttributes, albedo: Tensor, cover: Tensor, shade: Tensor, grain: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Albedo `[3, S, S]` with scalp hair, and the opacity of the hair `[S, S]`."""
        dots = torch.sigmoid((grain - 0.25) / 0.35)
        if a.hair == "bald" and not _fell_out(a):
            opacity = cover * (0.03 + 0.12 * dots)
        elif a.hair == "shaved":
            opacity = cover * (0.30 + 0.42 * dots)
        else:
            opacity = cover * {"bald": 0.80, "short": 0.92}.get(a.hair, 0.975)
        opacity = opacity.clamp(0, 1)
        colour = torch.tensor(a.hair_colour).view(3, 1, 1) * shade
        return over(albedo, opacity, colour), opacity

    def beard(
        self, a: SkinAttributes, rng: np.random.Generator, strand: Tensor, cloud: Tensor, grain: Tensor
    ) -> tuple[Tensor, Tensor] | None:
        """Shadow of the stubble `[S, S]` and cover of the beard's hairs `[S, S]`; None without a beard."""
        if max(a.stubble, a.moustache, a.chin_beard, a.jaw_beard) < 0.02:
            return None
        r = self.regions
        area = self._beard_area * torch.sigmoid((r["beard_mm"] - float(rng.normal(4, 4)) + 4.0 * cloud) / 4.5)
        chin_y = float(self.canvas.landmarks[8, 1] - self.canvas.landmarks[19, 1])
        neck_line = chin_y - float(rng.uniform(2, 18))  # natural or shaved below the jaw
        area = area * torch.sigmoid((self._y - neck_line + 3 * cloud) / float(rng.uniform(2.5, 6)))
        patchy = (1 + 0.25 * cloud).clamp(0, 1.6)
        mouth = torch.maximum(r["moustache"], r["chin_beard"])
        base = area * (0.38 + 0.62 * mouth) * patchy * (1 - 0.5 * r["neck"] * float(rng.random()))
        # stubble is dots: the end of each hair, with the shadow of its root around it
        dots = torch.sigmoid((grain - 0.55) / 0.28)
        shadow = (a.stubble * base * (0.62 + 0.85 * dots)).clamp(0, 1)
        lip, chin = r["moustache"], r["chin_beard"] * (1 - 0.8 * r["soul_patch_gap"] * float(rng.random()))
        rest = (1 - mouth.clamp(0, 1)).clamp(min=0)
        length = (
            a.moustache * _steep(lip) * self._beard_area
            + a.chin_beard * _steep(chin) * self._beard_area
            + a.jaw_beard * rest * area
        )
        edge = (length * 3).clamp(max=1)  # where the beard is thin, single hairs are visible
        vary = (1 + (0.62 - 0.32 * edge) * strand[0] + 0.25 * strand[1] + 0.25 * (1 - edge) * grain).clamp(0.05, 3)
        dense = (length * patchy).clamp(0, 1.3) * 2.2 * vary
        stipple = dots * (a.stubble * base).clamp(0, 1) * 0.45
        return shadow, 1 - torch.exp(-dense) * (1 - stipple)

    def paint_beard(self, a: SkinAttributes, albedo: Tensor, shadow: Tensor, cover: Tensor, shade: Tensor) -> Tensor:
        """Albedo `[3, S, S]` with the beard. shadow, cover: of `beard`. shade: factor on the colour of the hairs."""
        colour = torch.tensor(a.beard_colour)
        # hair below the skin makes it darker and bluer, less so for dark skin and fair hair
        fair = float(colour.mean() / 0.2)
        under = albedo * torch.tensor([0.52, 0.57, 0.63]).view(3, 1, 1)
        albedo = over(albedo, (shadow * 0.62 * max(0.15, 1 - fair)).clamp(0, 0.8), under)
        even = shade ** (1 - 0.6 * min(1.0, fair / 1.6))  # less shade for fair hair, which would look outlined
        return over(albedo, cover.clamp(0, 0.93), colour.view(3, 1, 1) * even)


def _fell_out(a: SkinAttributes) -> bool:
    """Whether a bald person has hair at the sides; otherwise the whole head is shaved."""
    return a.hair == "bald" and a.recede > 13


def _along_skin(canvas: UVCanvas, direction: Tensor) -> Tensor:
    """Directions on the skin, texels per mm `[2, S, S]` (x, y), that are nearest to unit directions `[3, S, S]`."""
    p, q = canvas.step_x, canvas.step_y
    pp, qq, pq = (p * p).sum(0), (q * q).sum(0), (p * q).sum(0)
    dp, dq = (p * direction).sum(0), (q * direction).sum(0)
    det = (pp * qq - pq * pq).clamp(min=1e-4)
    return torch.stack([(qq * dp - pq * dq) / det, (pp * dq - pq * dp) / det]).clamp(-3, 3)


def _texel_change(field: Tensor) -> Tensor:
    """Length of a field's gradient `[S, S]`, per texel."""
    d = F.pad(field[None, None], (1, 1, 1, 1), mode="replicate")[0, 0]
    return (((d[1:-1, 2:] - d[1:-1, :-2]) / 2) ** 2 + ((d[2:, 1:-1] - d[:-2, 1:-1]) / 2) ** 2).sqrt()


def _polyline(at: Tensor, xs: Tensor, ys: Tensor) -> tuple[Tensor, Tensor]:
    """Value and slope at `at` of the smoothed line through (xs, ys); constant beyond its ends."""
    fine = torch.linspace(float(xs[0]), float(xs[-1]), 480)
    i = torch.searchsorted(xs, fine).clamp(1, len(xs) - 1)
    y = ys[i - 1] + (fine - xs[i - 1]) / (xs[i] - xs[i - 1]) * (ys[i] - ys[i - 1])
    y = F.avg_pool1d(F.pad(y[None, None], (12, 12), mode="replicate"), 25, 1)[0, 0]
    step = float(fine[1] - fine[0])
    slope = F.pad((y[2:] - y[:-2]) / (2 * step), (1, 1))
    j = ((at - float(xs[0])) / step).round().long().clamp(0, len(fine) - 1)
    return y[j], slope[j]


def _steep(x: Tensor) -> Tensor:
    """Make the soft edge of a Gaussian steeper, like the edge of a trimmed beard."""
    t = ((x - 0.16) / 0.58).clamp(0, 1)
    return t * t * (3 - 2 * t)
