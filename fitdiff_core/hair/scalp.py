"""Where hair grows on any head: the hairline, and roots that follow identity and expression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from .style import HairStyle

if TYPE_CHECKING:
    from ..head import HeadModel

# The edge of the hair: degrees from straight ahead about the vertical axis, mm above the brows; round to the nape
HAIRLINE = np.array(
    [
        (0, 48), (14, 49), (27, 47), (36, 42), (44, 36), (50, 25), (55, 11), (60, -6), (65, -20), (69, -32), (73, -40),
        (96, -40), (106, -62), (120, -80), (140, -86), (180, -88),
    ],
    float,
)  # fmt: skip
EAR = (np.array([-33.0, -27.0]), np.array([21.0, 31.0]))  # centre (z, y) and radii of the bare skin round an ear, mm
BROW = 19  # of the 68 landmarks


@dataclass
class Roots:
    """N roots on a head.

    rows: `[N, 3]` vertices of the root's triangle; weight: `[N, 3]` barycentric
    mean: `[N, 3]` the root on the mean head, metres; edge: `[N]` metres inside the hairline
    """

    rows: np.ndarray
    weight: np.ndarray
    mean: np.ndarray
    edge: np.ndarray

    def on(self, vertices: np.ndarray) -> np.ndarray:
        """Positions `[N, 3]` on a head with vertices `[V, 3]`."""
        return np.einsum("nc,ncx->nx", self.weight, vertices[self.rows])

    def select(self, keep: np.ndarray | slice) -> Roots:
        return Roots(self.rows[keep], self.weight[keep], self.mean[keep], self.edge[keep])

    def with_(self, other: Roots) -> Roots:
        """These roots, then those of `other`."""
        return Roots(
            *(np.concatenate([getattr(self, k), getattr(other, k)]) for k in ("rows", "weight", "mean", "edge"))
        )


class Scalp:
    """The mean head, on which styles are measured. head: any `HeadModel` with the regions of the shipped one."""

    @torch.no_grad()
    def __init__(self, head: HeadModel):
        self.mean = head(head.mean.new_zeros(1, head.n_identity))[0].cpu().numpy().astype(float)
        self.triangles = head.triangles.cpu().numpy()
        region = {
            n: head.vertex_region(n).cpu().numpy() > 0.5
            for n in ("ears", "mouth_interior", "eyes")
            if n in head.region_names
        }
        self.ears = region.get("ears", np.zeros(len(self.mean), bool))
        inside = np.zeros(len(self.mean), bool)
        inside[head.n_skin - head.n_teeth :] = True
        for name in ("mouth_interior", "eyes"):
            inside |= region.get(name, inside)
        skin = self.triangles[~inside[self.triangles].any(1)]
        self.solid = skin
        self.solid_without_ears = skin[~self.ears[skin].any(1)]
        self.brow = 1000 * self.mean[int(head.landmark_ids[BROW]), 1]

    def edge(self, style: HairStyle, points: np.ndarray | None = None) -> np.ndarray:
        """Metres inside the hairline (outside negative) at points `[N, 3]` of the mean head; None: at its vertices."""
        x, y, z = (self.mean if points is None else points).T * 1000
        azimuth = np.degrees(np.arctan2(np.abs(x), z + 20))
        line, step = np.interp(azimuth, *HAIRLINE.T), 2
        slope = (np.interp(azimuth + step, *HAIRLINE.T) - np.interp(azimuth - step, *HAIRLINE.T)) / (2 * step)
        steep = np.sqrt(1 + (np.clip(slope, -1.5, 1.5) * 57.3 / 85) ** 2)
        face = 1 / (1 + np.exp((azimuth - 62) / 4))
        raised = 1000 * (style.hairline * face + style.recession * np.exp(-(((azimuth - 33) / 13) ** 2)))
        raised = raised + 26 * (1 - style.sideburns) * np.exp(-(((azimuth - 84) / 13) ** 2))
        inside = (y - self.brow - line - raised) / steep + _wobble(style.seed, azimuth * np.sign(x))
        centre, radii = EAR
        ear = (np.hypot((z - centre[0]) / radii[0], (y - centre[1]) / radii[1]) - 1) * 24
        inside = np.minimum(inside, np.where(np.abs(x) > 45, ear, 99))
        if style.crown > 0:
            inside = np.minimum(inside, _rim(style.crown, x, y, z))
        return inside / 1000

    def roots(self, style: HairStyle, count: int, rng: np.random.Generator, inner: float = 0.0) -> Roots:
        """About `count` roots, evenly spread, at least `inner` metres inside the hairline."""
        edge = self.edge(style)
        tri = self.solid_without_ears
        tri = tri[(edge[tri] > inner - 0.008).any(1)]
        corner = self.mean[tri]
        area = np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1)
        pick = rng.choice(len(tri), count * 10, p=area / area.sum())
        weight = rng.dirichlet((1, 1, 1), count * 10)
        mean = np.einsum("nc,ncx->nx", weight, corner[pick])
        at = self.edge(style, mean)
        keep = at > inner
        if style.crown > 0:  # thin along the bald part
            keep &= rng.random(len(at)) < np.clip(at / 0.02, 0.1, 1)
        pick, weight, mean, at = pick[keep], weight[keep], mean[keep], at[keep]
        if not len(mean):
            return Roots(tri[pick], weight, mean, at)
        # one root a cell of a grid keeps them apart
        cell = 0.8 * np.sqrt(area.sum() / 2 * keep.mean() / count)
        _, first = np.unique(np.floor(mean / cell).astype(int), axis=0, return_index=True)
        first = rng.permutation(first)[:count]
        return Roots(tri[pick[first]], weight[first], mean[first], at[first])


def _wobble(seed: int, azimuth: np.ndarray) -> np.ndarray:
    """Millimetres by which nobody's hairline is even, over azimuth in degrees, -180 to 180."""
    phase = np.random.default_rng(seed + 3).uniform(0, 6.28, 4)
    return sum(
        a * np.sin(azimuth / w + p) for a, w, p in zip((1.3, 0.9, 0.6, 0.4), (13, 6, 2.7, 1.3), phase, strict=True)
    )


def _rim(crown: float, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Millimetres inside the hair that male baldness leaves: at crown = 1 a rim from the temples round the back."""
    height = np.hypot(y - 15, 0) / np.sqrt(x**2 + (y - 15) ** 2 + (z + 25) ** 2) * np.sign(y - 15)
    polar = np.degrees(np.arccos(np.clip(height, -1, 1)))  # from the top
    azimuth = np.degrees(np.arctan2(np.abs(x), z + 20))
    bare = 18 + 50 * crown  # degrees from the top
    front = np.where(azimuth < 80, (80 - azimuth) * 0.4 * crown, 0)  # the front goes first
    return (polar - bare - front) * 1.5
