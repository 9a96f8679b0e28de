"""How much ambient light hair lets through, from a coarse grid of its density."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from .body import HIGH, LOW
from .cards import Ribbons

VOXEL = 0.01  # metres
LEAST = 0.22  # of the light arrives everywhere: it is scattered from strand to strand


class Density:
    """Area of cards in each voxel, over the area of the voxel's side."""

    def __init__(self, hair: Ribbons):
        self.size = np.ceil((HIGH - LOW) / VOXEL).astype(int) + 1
        corner = hair.positions[hair.triangles]
        area = np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1) / 2
        at = np.clip(np.round((corner.mean(1) - LOW) / VOXEL).astype(int), 0, self.size - 1)
        index = (at[:, 2] * self.size[1] + at[:, 1]) * self.size[0] + at[:, 0]
        share = np.bincount(index, area, int(self.size.prod())) / VOXEL**2
        grid = torch.from_numpy(share.reshape(self.size[::-1])).float()[None, None]
        self.grid = F.avg_pool3d(grid, 3, 1, 1)

    def light(self, points: np.ndarray, out: np.ndarray, reach: tuple[tuple[float, float], ...]) -> np.ndarray:
        """Share of ambient light `[N]` at points `[N, 3]` that face `out`. reach: (metres, weight) of samples."""
        total = torch.zeros(len(points))
        span = (self.size - 1) * VOXEL
        for metres, weight in reach:
            at = torch.from_numpy((points + metres * out - LOW) / span * 2 - 1).float()
            total += weight * F.grid_sample(self.grid, at[None, :, None, None], align_corners=True)[0, 0, :, 0, 0]
        return (LEAST + (1 - LEAST) * torch.exp(-total)).numpy().astype(float)
