"""Soft shadows of lamps that have a size: from the head, and from hair whose cards let light through."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ..filters import dilate, erode
from ..render.fragments import fragments
from ..render.hair import card_alpha
from ..render.rasterizer import rasterize
from .frames import light_frame

if TYPE_CHECKING:
    from ..hair.groom import HairMesh

HALF_ANGLE = math.radians(4.5)  # of a lamp, as a softbox at some distance
MAP, HAIR_MAP = 640, 320  # pixels of the depth map of the head, and of the hair
WIDEST = 0.006  # metres: largest radius of a penumbra
BIAS = 0.0006  # metres of depth
LIFT = 0.0009  # metres along the normal
SEARCH, TAPS, HAIR_TAPS = 10, 16, 10  # lookups of a point
CARD = 0.8  # opacity of a strand's texel to a lamp
BEFORE = 0.0012  # metres that hair lies before what it shades


@dataclass
class LampMap:
    """What a lamp sees. frame: `[3, 3]`; centre: `[3]`; reach: metres from the centre to the border of the maps

    depth: `[S, S]` metres of the head along the lamp's way; nearest, farthest: the same over a penumbra's width
    hair_depth, hair_light: `[H, H]` where the first hair is, and the share of light that all of it lets through; None
    """

    frame: Tensor
    centre: Tensor
    reach: float
    depth: Tensor
    nearest: Tensor
    farthest: Tensor
    hair_depth: Tensor | None = None
    hair_light: Tensor | None = None

    @classmethod
    def draw(
        cls,
        direction: Tensor,
        points: Tensor,
        triangles: Tensor,
        hair: HairMesh | None = None,
        positions: Tensor | None = None,
    ) -> LampMap:
        """direction: `[3]` to the lamp. points `[V, 3]`, triangles `[T, 3]`: of the head; positions: of the hair."""
        frame = light_frame(direction)
        centre = (points.amin(0) + points.amax(0)) / 2
        reach = float((points - centre).norm(dim=1).max()) * 1.02
        if positions is not None:
            reach = max(reach, float((positions - centre).norm(dim=1).max()) * 1.02)
        flat = F.pad((points - centre) @ frame.T / reach, (0, 1), value=1.0)
        rast = rasterize(flat[None], triangles, (MAP, MAP))[0]
        depth = torch.where(rast[..., 3] > 0, rast[..., 2] * reach, 9.0)
        wide = math.ceil(WIDEST / (2 * reach / MAP))
        nearest, farthest = erode(depth, 2 * wide + 1), dilate(depth, 2 * wide + 1)
        found = cls(frame, centre, reach, depth, nearest, farthest)
        if hair is not None and positions is not None:
            found.hair_depth, found.hair_light = _hair_maps(hair, (positions - centre) @ frame.T / reach, reach)
        return found

    def visibility(self, points: Tensor, normals: Tensor) -> Tensor:
        """Share `[N]` of the lamp that reaches points `[N, 3]` with unit normals `[N, 3]`, 0..1."""
        at = (points + normals * LIFT - self.centre) @ self.frame.T
        texel = 2 * self.reach / MAP
        x, y = (at[:, :2] / texel + MAP / 2 - 0.5).unbind(1)
        index = _index(x, y, MAP)
        z = at[:, 2] - BIAS
        seen = torch.where(z <= self.nearest.flatten()[index], 1.0, 0.0)
        edge = torch.nonzero((seen < 0.5) & (z < self.farthest.flatten()[index])).squeeze(1)
        seen[edge] = self._penumbra(x[edge], y[edge], z[edge], texel)
        if self.hair_light is None:
            return seen
        return seen * self._through_hair(at)

    def _penumbra(self, x: Tensor, y: Tensor, z: Tensor, texel: float) -> Tensor:
        """Percentage-closer soft shadows (Fernando 2005): the farther what hides the lamp, the wider the edge."""
        depth = self.depth.flatten()
        blocked, count = torch.zeros_like(x), torch.zeros_like(x)
        for dx, dy in _disk(SEARCH, WIDEST / texel):
            near = depth[_index(x + dx, y + dy, MAP)]
            hides = (near < z).to(x)
            blocked += hides * near
            count += hides
        away = z - blocked / count.clamp(min=1)
        width = (away * math.tan(HALF_ANGLE)).clamp(1.6 * texel, WIDEST) / texel
        seen = torch.zeros_like(x)
        for dx, dy in _disk(TAPS, 1.0):
            behind = (depth[_index(x + dx * width, y + dy * width, MAP)] - z) / (0.5 * BIAS) + 1
            seen += behind.clamp(0, 1)
        return torch.where(count > 0, seen / TAPS, 1.0)

    def _through_hair(self, at: Tensor) -> Tensor:
        assert self.hair_depth is not None and self.hair_light is not None
        texel = 2 * self.reach / HAIR_MAP
        x, y = (at[:, :2] / texel + HAIR_MAP / 2 - 0.5).unbind(1)
        depth, through = self.hair_depth.flatten(), self.hair_light.flatten()
        some = dilate((self.hair_light < 0.999).to(at), 11).flatten() > 0
        rows = torch.nonzero(some[_index(x, y, HAIR_MAP)]).squeeze(1)
        x, y, z = x[rows], y[rows], at[rows, 2] - BEFORE
        first = depth[_index(x, y, HAIR_MAP)]
        away = torch.where(first < z, z - first, z.new_tensor(0.012))
        width = (away * math.tan(HALF_ANGLE)).clamp(2.0 * texel, WIDEST) / texel
        light = torch.zeros_like(x)
        for dx, dy in _disk(HAIR_TAPS, 1.0):
            index = _index(x + dx * width, y + dy * width, HAIR_MAP)
            before = ((z - depth[index]) / 0.001).clamp(0, 1)
            light += 1 - before * (1 - through[index])
        out = at.new_ones(len(at))
        out[rows] = light / HAIR_TAPS
        return out


def _hair_maps(hair: HairMesh, flat: Tensor, reach: float) -> tuple[Tensor, Tensor]:
    """Depth in metres of the first hair, and the share of light through all of it, `[H, H]` each, row 0 at the low."""
    size = (HAIR_MAP, HAIR_MAP)
    none = torch.full(size, 9.0)
    found = fragments(F.pad(flat, (0, 1), value=1.0), hair.triangles, size, none)
    alpha = card_alpha(hair, found, 2 * reach / HAIR_MAP)
    solid = alpha > 0.25
    depth = none.flatten().scatter_reduce(0, found.pixel[solid], found.depth[solid] * reach, "amin")
    through = torch.zeros(HAIR_MAP * HAIR_MAP).index_add_(0, found.pixel, (1 - CARD * alpha).clamp(min=0.02).log())
    return depth.view(size), through.exp().view(size)


def _index(x: Tensor, y: Tensor, side: int) -> Tensor:
    return y.round().long().clamp(0, side - 1) * side + x.round().long().clamp(0, side - 1)


def _disk(n: int, radius: float) -> list[tuple[float, float]]:
    """n points spread evenly over a disk."""
    found = []
    for k in range(n):
        r, turn = radius * math.sqrt((k + 0.5) / n), 2.399963 * k
        found.append((r * math.cos(turn), r * math.sin(turn)))
    return found


def soft_cosine(cosine: Tensor) -> Tensor:
    """Mean of the clamped cosine over a lamp's disk, by the cosine to its middle."""
    s = math.sin(HALF_ANGLE)
    return torch.where(cosine > s, cosine, (cosine + s).clamp(min=0).square() / (4 * s))
