"""Eyes in pictures: an iris that lies behind a clear cornea, seen by refraction, under a wet coat."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..head import HeadModel

IRIS = 21.5  # degrees from the eye's axis
RATIO = 1 / 1.376  # refractive indices of air and cornea
DISH = 0.5  # slope of the iris at its rim: it is hollow
BEHIND = 0.0006  # metres that the iris lies behind the plane of its rim's circle
RIM = (0.80, 1.02)  # of the iris' radius: where the dark limbus begins and where the white begins
LIMBUS = 0.45  # share of light that the limbus takes
FIBRES, FIBRE = 46, 0.30  # radial fibres of the iris, and how much lighter or darker each is
COAT_F0 = 0.028  # of tears on the cornea


@dataclass
class Eyeballs:
    """The eyeballs of one posed head. rotation: `[2, 3, 3]` from an eye's own frame (its axis is +z) to the world

    local: `[V, 3]` of each vertex of the whole head in its eye's frame, metres; 0 for what is no eye
    side: `[V]` 0 for the left eye, 1 for the right one; axes: `[2]` signs of u and v along x and y
    """

    rotation: Tensor
    local: Tensor
    side: Tensor
    axes: Tensor
    radius: float
    island: tuple[float, ...]
    angle: float

    @classmethod
    def of(cls, head: HeadModel, points: Tensor) -> Eyeballs | None:
        """points: `[V, 3]` posed vertices of the whole head; None for a head without an island for the eyes."""
        ball = head.eyeball.to(points)
        if not len(ball) or not getattr(head, "eye_island", None):
            return None
        m, n = len(ball), head.n_skin
        local, side = torch.zeros_like(points), torch.zeros(len(points), device=points.device)
        turns, middle = [], ball.mean(0)
        for k in range(2):
            rows = slice(n + k * m, n + (k + 1) * m)
            own = points[rows]
            u, _, vt = torch.linalg.svd((ball - middle).T @ (own - own.mean(0)))
            flip = torch.eye(3).to(points)
            flip[2, 2] = torch.sign(torch.det(u @ vt))
            turns.append((u @ flip @ vt).T)
            local[rows], side[rows] = ball, float(k)
        centre = head.uv.new_tensor([(head.eye_island[0] + head.eye_island[2]) / 2] * 2)
        centre[1] = (head.eye_island[1] + head.eye_island[3]) / 2
        axes = ((head.uv[n : n + m] - centre).to(ball) * ball[:, :2]).sum(0).sign()
        radius = float(ball.norm(dim=1).min())
        return cls(torch.stack(turns), local, side, axes, radius, tuple(head.eye_island), head.eye_angle)

    def refract(self, local: Tensor, side: Tensor, normal: Tensor, view: Tensor, uv: Tensor) -> IrisHit:
        """What is seen of the iris through the cornea.

        local: `[N, 3]` points in the eyes' frames; side `[N]`; normal, view: `[N, 3]` unit, world; uv `[N, 2]`
        """
        turn = self.rotation[side.round().long()]
        v, n = (torch.einsum("nij,ni->nj", turn, x) for x in (view, normal))
        c = (v * n).sum(1, keepdim=True).clamp(0, 1)
        into = RATIO * (c * n - v) - n * (1 - RATIO**2 * (1 - c * c)).clamp(min=0).sqrt()
        iris = self.radius * math.sin(math.radians(IRIS))
        depth = self.radius * math.cos(math.radians(IRIS)) - BEHIND
        t = (depth - local[:, 2:]) / into[:, 2:].clamp(max=-0.15)
        hit = (local + t * into)[:, :2]
        away = hit.norm(dim=1, keepdim=True)
        share = away / iris  # 1 at the rim
        angle = torch.asin((away.clamp(max=iris) / self.radius).clamp(max=1)).rad2deg() / self.angle
        half = (self.island[2] - self.island[0]) / 2
        centre = uv.new_tensor([(self.island[0] + self.island[2]) / 2, (self.island[1] + self.island[3]) / 2])
        seen = centre + hit / away.clamp(min=1e-7) * self.axes * angle * half
        # where the surface itself leaves the iris' cone there is white
        outside = local[:, :2].norm(dim=1, keepdim=True) / iris
        blend = ((RIM[1] + 0.10 - outside) / 0.12).clamp(0, 1) * (local[:, 2:] > 0)
        blend = blend * blend * (3 - 2 * blend)
        hollow = torch.cat([-DISH * hit / iris, torch.ones_like(away)], 1)
        hollow = torch.einsum("nij,nj->ni", turn, F.normalize(hollow, dim=1))
        return IrisHit(torch.lerp(uv, seen, blend), hollow, share, torch.atan2(hit[:, 1], hit[:, 0])[:, None], blend)


@dataclass
class IrisHit:
    """uv: `[N, 2]` of what is seen; normal: `[N, 3]` of the iris, world; radius: `[N, 1]`, 1 at its rim; turn: `[N, 1]`
    radians round the axis; inside: `[N, 1]` 1 where the iris is seen, 0 on the white"""

    uv: Tensor
    normal: Tensor
    radius: Tensor
    turn: Tensor
    inside: Tensor

    def color(self, albedo: Tensor) -> Tensor:
        """Albedo `[N, 3]` with a dark limbus and radial fibres."""
        ring = ((self.radius - RIM[0]) / (RIM[1] - RIM[0])).clamp(0, 1)
        dark = 1 - LIMBUS * ring * ring * self.inside
        zone = ((self.radius - 0.40) / 0.12).clamp(0, 1) * ((0.97 - self.radius) / 0.15).clamp(0, 1)
        wave = torch.sin(self.turn * FIBRES + 3 * torch.sin(self.turn * 7 + self.radius * 5))
        wave = 0.6 * wave + 0.4 * torch.sin(self.turn * 2.3 * FIBRES + 8 * self.radius + 2 * torch.sin(self.turn * 11))
        return albedo * dark * (1 + FIBRE * wave * zone * self.inside)
