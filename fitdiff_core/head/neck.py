"""The lower end of the neck, as pictures and files show it: a level, round edge.

The head model ends in an uneven line over the shoulders, 23 mm deep, whose wings and notches show from the front. Here
the edge is drawn in to a circle at one height, and the skin above follows, less the higher it lies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .model import HeadModel

TOP = 0.055  # metres above the edge's middle height from which the skin moves
RADIUS = 0.515  # of the edge, as a share of the way from its front to its back
FLARE = 0.05  # share of what lies outside the circle that stays


class LevelNeck:
    """How the neck of a head model follows its edge.

    rows: `[K]` vertices that move; weight: `[K]` how much of the edge's displacement, 0..1
    along: `[K]` place on the edge: number of a vertex of `border` plus share of the way to the next one
    """

    def __init__(self, head: HeadModel, border: Tensor):
        """border: `[N]` of `joints.border`."""
        self.border = border
        mean = head(torch.zeros(1, head.n_identity, device=head.uv.device))[0].cpu().double()
        edge = mean[border]
        self.back = int(edge[:, 2].argmin())
        middle = (edge[0] + edge[self.back]) / 2
        angle = _angle(edge, middle)
        place = _angle(mean, middle)
        distance = (place[:, None] - angle[None] + torch.pi) % (2 * torch.pi) - torch.pi
        before = torch.where(distance >= 0, distance, torch.full_like(distance, 9.0)).min(1)
        step = (angle.roll(-1) - angle) % (2 * torch.pi)
        share = (before.values / step[before.indices].clamp(min=1e-6)).clamp(0, 1)
        low = edge[before.indices, 1] * (1 - share) + edge.roll(-1, 0)[before.indices, 1] * share
        top = middle[1] + TOP
        t = ((top - mean[:, 1]) / (top - low).clamp(min=1e-3)).clamp(0, 1)
        weight = t * t * (3 - 2 * t) * head.vertex_region("neck").cpu().double()
        weight[border] = 1
        self.rows = torch.nonzero(weight > 1e-3)[:, 0]
        self.weight, self.along = weight[self.rows], (before.indices + share)[self.rows]
        inverse = torch.full((len(mean),), -1)
        inverse[border] = torch.arange(len(border))
        on_edge = inverse[self.rows] >= 0
        self.along[on_edge] = inverse[self.rows][on_edge].double()

    def offsets(self, vertices: Tensor) -> Tensor:
        """Offsets `[B, K, 3]` of `rows` for vertices `[B, V, 3]` of the head."""
        edge = vertices[:, self.border.to(vertices.device)]
        front, back = edge[:, 0], edge[:, self.back]
        middle = (front + back) / 2
        flat = (edge - middle[:, None]) * edge.new_tensor([1.0, 0.0, 1.0])
        away = flat.norm(dim=2, keepdim=True).clamp(min=1e-6)
        radius = RADIUS * (front - back).norm(dim=1)[:, None, None]
        pull = flat / away * (radius + FLARE * (away - radius)) - flat
        pull[..., 1] = middle[:, None, 1] - edge[..., 1]
        low = self.along.long().to(vertices.device) % len(self.border)
        share = (self.along - self.along.floor()).to(vertices)[:, None]
        between = pull[:, low] * (1 - share) + pull[:, (low + 1) % len(self.border)] * share
        return between * self.weight.to(vertices)[:, None]


def _angle(points: Tensor, middle: Tensor) -> Tensor:
    """Angle `[N]` about the vertical through `middle`, from the front to the left (+x)."""
    away = points - middle
    return torch.atan2(away[:, 0], away[:, 2])
