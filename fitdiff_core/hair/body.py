"""Distance to head, neck and shoulders, for the collision of hair."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

CENTRE = np.array([0.0, 0.005, -0.015])  # the head is star-shaped about it, metres
TABLE = (72, 144)  # directions: from the top down, and round the vertical axis
LOW, HIGH, VOXEL = np.array([-0.2, -0.42, -0.2]), np.array([0.2, 0.2, 0.2]), 0.0066
SHOULDERS = (np.array([0.0, -0.325, -0.05]), np.array([0.2, 0.115, 0.075]))  # centre and radii of an ellipsoid
BELOW = -0.183  # height under which the head mesh ends


class Body:
    """Signed distance (metres, outside positive) to one head with a neck and shoulders, from a grid of voxels.

    vertices: `[V, 3]` metres; triangles: `[T, 3]`, those that hair may not enter
    """

    def __init__(self, vertices: np.ndarray, triangles: np.ndarray):
        self.radius = _radius_table(vertices, triangles)
        axes = [np.linspace(a, b, round((b - a) / VOXEL) + 1) for a, b in zip(LOW, HIGH, strict=True)]
        grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
        value = torch.from_numpy(self.exact(grid.reshape(-1, 3)).reshape(grid.shape[:3])).float()
        slope = torch.stack(torch.gradient(value, spacing=[float(a[1] - a[0]) for a in axes]), 0)
        slope = F.avg_pool3d(slope[None], 3, 1, 1)[0]
        length = slope.norm(dim=0).clamp(min=0.3)
        # the radial distance is too long where the surface is oblique
        self._grid = torch.cat([(value / length.clamp(min=1))[None], slope / length])[None].permute(0, 1, 4, 3, 2)
        self._grid = self._grid.contiguous()

    def exact(self, p: np.ndarray) -> np.ndarray:
        """Signed distance along the ray from CENTRE, or to neck and shoulders: points `[N, 3]` -> `[N]`."""
        q = p - CENTRE
        r = np.linalg.norm(q, axis=-1)
        row, column = _angles(q, r)
        head = r - _bilinear(self.radius, row, column)
        head = np.where(p[:, 1] < BELOW, 1.0, head)
        centre, radii = SHOULDERS
        shoulders = (np.linalg.norm((p - centre) / radii, axis=-1) - 1) * radii.min()
        neck = np.hypot(p[:, 0], p[:, 2] + 0.035) - 0.055
        return np.minimum(np.minimum(head, shoulders), np.where(p[:, 1] < -0.09, neck, 1.0))

    def __call__(self, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points `[..., 3]` -> distance `[...]` and unit outward direction `[..., 3]`."""
        at = torch.from_numpy((p.reshape(-1, 3) - LOW) / (HIGH - LOW) * 2 - 1).float()
        sampled = F.grid_sample(self._grid, at[None, :, None, None], align_corners=True, padding_mode="border")
        found = sampled[0, :, :, 0, 0].T.numpy().astype(float)
        out = found[:, 1:] / np.maximum(np.linalg.norm(found[:, 1:], axis=1, keepdims=True), 1e-6)
        return found[:, 0].reshape(p.shape[:-1]), out.reshape(p.shape)

    def push_out(self, p: np.ndarray, margin: float) -> np.ndarray:
        """Points `[..., 3]` moved so that they are at least `margin` metres outside."""
        for _ in range(3):
            distance, out = self(p)
            p = p + np.maximum(margin - distance, 0)[..., None] * out
        return p


def _angles(q: np.ndarray, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    row = np.arccos(np.clip(q[..., 1] / np.maximum(r, 1e-6), -1, 1)) / np.pi * (TABLE[0] - 1)
    return row, (np.arctan2(q[..., 0], q[..., 2]) / (2 * np.pi) % 1) * TABLE[1]


def _bilinear(table: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    i = np.clip(np.floor(row).astype(int), 0, TABLE[0] - 2)
    j = np.floor(column).astype(int)
    a, b = row - i, column - j
    j0, j1 = j % TABLE[1], (j + 1) % TABLE[1]
    above, below = table[i, j0] * (1 - b) + table[i, j1] * b, table[i + 1, j0] * (1 - b) + table[i + 1, j1] * b
    return above * (1 - a) + below * a


def _radius_table(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Largest distance of the mesh from CENTRE in each direction of TABLE."""
    steps = [(a, b) for a in np.linspace(0, 1, 4) for b in np.linspace(0, 1, 4) if a + b < 1.001]
    weight = np.array([(a, b, 1 - a - b) for a, b in steps])
    q = np.einsum("kc,tcx->ktx", weight, vertices[triangles]).reshape(-1, 3) - CENTRE
    r = np.linalg.norm(q, axis=1)
    row, column = _angles(q, r)
    table = np.zeros(TABLE)
    np.maximum.at(table, (row.round().astype(int), column.round().astype(int) % TABLE[1]), r)
    while (table == 0).any():  # directions that no sample met
        around = np.stack([np.roll(_padded(table), s, 1) for s in (-1, 0, 1)])
        around = np.concatenate([around[:, :-2], around[:, 1:-1], around[:, 2:]])
        known = (around > 0).sum(0)
        table = np.where((table == 0) & (known > 0), around.sum(0) / np.maximum(known, 1), table)
    for _ in range(2):
        p = _padded(table)
        table = (4 * table + p[:-2] + p[2:] + np.roll(table, 1, 1) + np.roll(table, -1, 1)) / 8
    return table


def _padded(table: np.ndarray) -> np.ndarray:
    return np.concatenate([table[:1], table, table[-1:]])
