"""Hair on the scalp and beards, as colour on the skin: who has hair shows it in the texture, not in the mesh."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .canvas import Canvas
from .marks import over
from .people import SkinAttributes
from .regions import Regions

_TILE = (64, 1024)  # rows along a strand, columns across


class Hair:
    """Scalp hair and beard. Strands run down from the crown, so one tile of noise in (arc, height) draws them all."""

    def __init__(self, canvas: Canvas, regions: Regions):
        self.canvas, self.regions = canvas, regions
        x, y, z = canvas.position
        arc = torch.atan2(x, z + 20) * 85.0
        self._across, self._down = arc / 300.0, (y - y.mean()) / 170.0

    def _strands(self, rng: np.random.Generator, wave: Tensor) -> Tensor:
        """`[2, S, S]`: single hairs and locks, about unit deviation."""
        tile = torch.from_numpy(rng.standard_normal((2, *_TILE), dtype=np.float32))
        tile[1] = F.avg_pool2d(tile[1:2], (3, 9), 1, (1, 4))[0] * 4.0
        grid = torch.stack([self._across + 0.006 * wave, self._down], -1)
        return F.grid_sample(tile[None], grid[None], padding_mode="reflection", align_corners=False)[0]

    def cover(self, a: SkinAttributes, rng: np.random.Generator, wave: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """-> (scalp cover `[S, S]`, colour factor `[S, S]`, strand noise `[2, S, S]`)."""
        r = self.regions
        s = self._strands(rng, wave)
        ragged = (1.2 + 3.5 * a.fringe) * s[0] + 1.5 * wave + 2.5 * a.fringe * s[1]
        front = r["hairline_mm"] - a.hairline - a.recede * r["recede"] + 38.0 * a.fringe * r["fringe"] + ragged
        field = torch.maximum(front, r["behind_mm"] + 0.5 * ragged)
        soft = {"shaved": 4.0, "short": 2.6}.get(a.hair, 2.0)
        cover = torch.sigmoid(field / soft) * (1 - r["ear"])
        if a.thinning > 0:
            bare = a.thinning * r["crown"] * torch.sigmoid((r["behind_mm"] + 25) / -12)
            cover = cover * (1 - (bare * (1.1 + 0.35 * s[0])).clamp(0, 1))
        shade = torch.exp(0.26 * s[0] + 0.22 * s[1])
        return cover, shade, s

    def paint_scalp(
        self, a: SkinAttributes, albedo: Tensor, cover: Tensor, shade: Tensor, grain: Tensor
    ) -> tuple[Tensor, Tensor]:
        """-> (albedo `[3, S, S]`, opacity of the hair `[S, S]`)."""
        if a.hair == "bald":
            opacity = 0.10 * cover
        elif a.hair == "shaved":
            opacity = cover * (0.50 + 0.07 * grain)
        else:
            opacity = cover * (0.93 if a.hair == "short" else 0.985)
        opacity = opacity.clamp(0, 1)
        colour = torch.tensor(a.hair_colour).view(3, 1, 1) * shade
        return over(albedo, opacity, colour), opacity

    def beard(
        self, a: SkinAttributes, rng: np.random.Generator, strand: Tensor, cloud: Tensor, grain: Tensor
    ) -> tuple[Tensor, Tensor] | None:
        """-> (shadow of stubble `[S, S]`, cover of hairs `[S, S]`), or None for a bare chin."""
        if max(a.stubble, a.moustache, a.chin_beard, a.jaw_beard) < 0.02:
            return None
        r = self.regions
        area = r["beard_area"] * torch.sigmoid((r["beard_mm"] - float(rng.normal(3, 4)) + 3.0 * cloud) / 3.0)
        patchy = (1 + 0.22 * cloud).clamp(0, 1.6)
        base = (
            area
            * (0.30 + 0.7 * torch.maximum(r["moustache"], r["chin_beard"]))
            * patchy
            * (1 - 0.5 * r["neck"] * float(rng.random()))
        )
        shadow = (a.stubble * base).clamp(0, 1)
        lip, chin = r["moustache"], r["chin_beard"] * (1 - 0.8 * r["soul_patch_gap"] * float(rng.random()))
        rest = (1 - torch.maximum(r["moustache"], r["chin_beard"]).clamp(0, 1)).clamp(min=0)
        length = (
            a.moustache * _steep(lip) * r["beard_area"]
            + a.chin_beard * _steep(chin) * r["beard_area"]
            + a.jaw_beard * rest * area
        )
        dense = (length * patchy).clamp(0, 1.3) * 2.4 * (1 + 0.38 * strand[0] + 0.25 * strand[1]).clamp(0.15, 3)
        dots = ((grain - 1.15 + 0.6 * a.stubble) * 1.4).clamp(0, 1) * shadow
        return shadow, 1 - torch.exp(-dense) * (1 - 0.75 * dots)

    def paint_beard(self, a: SkinAttributes, albedo: Tensor, shadow: Tensor, cover: Tensor, shade: Tensor) -> Tensor:
        colour = torch.tensor(a.beard_colour)
        # hair below the skin: darker and bluer skin, less so where the skin is dark already or the hair is fair
        fair = float(colour.mean() / 0.2)
        under = albedo * torch.tensor([0.52, 0.58, 0.66]).view(3, 1, 1)
        albedo = over(albedo, shadow * 0.62 * max(0.15, 1 - fair), under)
        return over(albedo, cover.clamp(0, 0.96), colour.view(3, 1, 1) * shade)


def _steep(x: Tensor) -> Tensor:
    """Harden a Gaussian's edge into the edge of a groomed area."""
    t = ((x - 0.22) / 0.46).clamp(0, 1)
    return t * t * (3 - 2 * t)
