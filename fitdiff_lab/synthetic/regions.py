"""Soft regions of the face, placed in space by the 68 landmarks of the mean head. Computed once for each canvas."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .strokes import spline
from .uv_canvas import UVCanvas, gaussian_blur


def _ramp(x: Tensor, xs, ys) -> Tensor:
    """Piecewise linear function through (xs, ys), constant beyond the ends."""
    xs, ys = torch.as_tensor(xs, dtype=x.dtype), torch.as_tensor(ys, dtype=x.dtype)
    i = torch.searchsorted(xs, x.contiguous()).clamp(1, len(xs) - 1)
    t = ((x - xs[i - 1]) / (xs[i] - xs[i - 1])).clamp(0, 1)
    return ys[i - 1] + t * (ys[i] - ys[i - 1])


class Regions:
    """Fields `[S, S]` by name: `regions["cheek"]`.

    They are weights 0..1; those that end in `_mm` are signed distances.
    """

    def __init__(self, canvas: UVCanvas):
        self.canvas = canvas
        self._fields: dict[str, Tensor] = {}
        self._tone()
        self._lips()
        self._eyes()
        self._hair()

    def __getitem__(self, name: str) -> Tensor:
        return self._fields[name]

    def names(self) -> tuple[str, ...]:
        return tuple(self._fields)

    def stack(self, names) -> Tensor:
        """`[N, S, S]` of these regions."""
        return torch.stack([self._fields[n] for n in names])

    def _head(self, name: str) -> Tensor:
        """A region of the head file; zeros where the file does not have it."""
        if name in self.canvas.head.region_names:
            return self.canvas.head.region(name, self.canvas.size).float()
        return torch.zeros(self.canvas.size, self.canvas.size)

    def _tone(self) -> None:
        c, p = self.canvas, self.canvas.landmarks
        eye = (p[42:48].mean(0) + p[36:42].mean(0) * torch.tensor([-1.0, 1, 1])) / 2  # subject's left, +x
        tip, mouth = p[30], p[48:68].mean(0)
        ex, ey, ez = (float(v) for v in eye)
        mid = torch.tensor([0.0, 1.0, 1.0])
        f = self._fields
        f["cheek"] = c.bumps([ex * 1.15, float(tip[1]) + 2, float(tip[2]) - 24], [17, 13, 26])
        f["cheekbone"] = c.bumps([ex * 1.55, ey - 22, ez - 6], [14, 10, 20])
        f["nose"] = c.bump(tip * mid, [11, 9, 14]) + 0.6 * c.bumps(
            [float(p[35][0]), float(p[35][1]) + 3, float(p[35][2])], [6, 6, 8]
        )
        f["bridge"] = c.bump(p[28] * mid, [8, 14, 12])
        f["chin"] = c.bump((p[8] + p[57]) / 2 * mid, [15, 10, 20])
        f["forehead"] = c.bump([0, float(p[19][1]) + 24, float(p[27][2]) - 2], [36, 18, 40])
        f["glabella"] = c.bump(p[27] * mid + torch.tensor([0.0, 10, 0]), [10, 9, 15])
        f["under_eye"] = c.bumps([ex * 0.95, ey - 12, ez], [11, 5.2, 14])
        f["inner_eye"] = c.bumps([ex * 0.58, ey - 3, ez], [5, 6, 9])
        f["lid"] = c.bumps([ex, ey + 6.5, ez], [13, 5, 13])
        f["socket"] = c.bumps([ex, ey, ez], [17, 11, 18])
        f["philtrum"] = c.bump((p[33] + p[51]) / 2 * mid, [9, 5, 10])
        f["perioral"] = c.bump(mouth * mid, [26, 17, 22])
        f["temple"] = c.bumps([62, ey + 14, ez - 32], [13, 17, 20])
        f["nasolabial"] = c.bumps([float(p[35][0]) + 9, float(p[35][1]) - 5, float(p[35][2])], [6, 9, 9])
        f["jaw"] = c.bumps([52, float(p[8][1]) + 22, ez - 38], [16, 18, 30])
        f["ear"] = gaussian_blur(self._head("ears")[None], 1.5)[0]
        f["neck"] = torch.sigmoid((float(p[8][1]) - 8 - c.position[1]) / 6)
        f["nostril"] = c.bumps([abs(float(p[34][0])) + 1.5, float(p[33][1]) + 5, float(p[33][2]) - 5], [2.6, 2.2, 5.0])

    def _lips(self) -> None:
        c, p = self.canvas, self.canvas.landmarks
        f = self._fields
        f["mouth_inside"] = gaussian_blur(self._head("mouth_interior")[None], 0.8)[0]
        # the outline lies on the skin and the unwrap is smooth there, so a polygon in texels is exact enough
        outer = c.to_texel(torch.cat([spline(torch.cat([p[48:60], p[48:49]]), 97)[:-1]]))
        inner_line = c.to_texel(spline(torch.cat([p[60:68], p[60:61]]), 65)[:-1])
        f["lips_mm"] = _polygon_distance(outer, c.size) * float(c.scale[:, _yx(outer)[0], _yx(outer)[1]].mean())
        f["lips"] = torch.sigmoid(f["lips_mm"] / 0.7)
        f["lip_line_mm"] = _polygon_distance(inner_line, c.size).abs() * float(
            c.scale[:, _yx(inner_line)[0], _yx(inner_line)[1]].mean()
        )

    def _eyes(self) -> None:
        c, p = self.canvas, self.canvas.landmarks
        f = self._fields
        y = c.position[1]
        upper, lower = [], []
        for side in (-1.0, 1.0):
            ring = self._lid_margin(side)
            outer, inner = ring[:, 0].abs().argmax(), ring[:, 0].abs().argmin()
            ring = ring.roll(-int(outer), 0)
            turn = int((inner - outer) % len(ring))
            halves = ring[: turn + 1], torch.cat([ring[turn:], ring[:1]])
            for half in halves:
                (upper if half[:, 1].mean() > ring[:, 1].mean() else lower).append(c.distance_to(half))
        f["upper_lid_mm"], f["lower_lid_mm"] = torch.minimum(*upper), torch.minimum(*lower)
        centre_y = p[36:48, 1].mean()
        f["above_eye"] = torch.sigmoid((y - centre_y) / 1.5)
        corner = torch.stack([p[36], p[45]])
        f["outer_corner"] = sum(c.bump(q + torch.tensor([2.0, 2.0, 0]) * q.sign(), [7, 6, 8]) for q in corner)

    def _lid_margin(self, side: float) -> Tensor:
        """Points `[N, 3]` mm on the edge of an eye's opening: in each direction, the skin nearest to the eye's axis.

        side: -1 right eye, +1 left eye (sign of x).
        """
        c = self.canvas
        eyes = c.head.vertex_region("eyes") > 0.5
        ball = c.head(torch.zeros(1, c.head.n_identity))[0, eyes] * 1000
        centre = ball[ball[:, 0] * side > 0].mean(0)
        at = c.position.permute(1, 2, 0)[c.skin] - centre
        # the inside of the lids lies behind the eyeball's surface; their edge is where they come out of it
        inside = (ball[ball[:, 0] * side > 0] - centre).norm(dim=1).median() + 0.3
        at = at[(at.norm(dim=1) < 26) & (at.norm(dim=1) > inside) & (at[:, 2] > 0)]
        bins = 48
        turn = ((torch.atan2(at[:, 1], at[:, 0]) / (2 * math.pi) + 0.5) * bins).long().clamp(max=bins - 1)
        radius = at[:, :2].norm(dim=1)
        found = [at[turn == k][radius[turn == k].argmin()] for k in range(bins) if (turn == k).any()]
        return torch.stack(found) + centre

    def _hair(self) -> None:
        c, p = self.canvas, self.canvas.landmarks
        f = self._fields
        x, y, z = c.position[0].abs(), c.position[1], c.position[2]
        brow, ear_z = float(p[19][1]), float(p[0][2])
        ey = float(p[36:48, 1].mean())
        line = _ramp(
            x, [0, 20, 40, 58, 66, 74, 80], [brow + 49, brow + 48, brow + 42, brow + 24, ey + 12, ey - 4, ey - 14]
        )
        f["hairline_mm"] = y - line  # above the frontal hairline
        f["behind_mm"] = torch.minimum(
            ear_z - 14 - z, (y - (float(p[33][1]) - 30)) * 1.0
        )  # behind the ears, above the nape
        f["recede"] = c.bumps([44, brow + 42, float(p[19][2]) - 22], [15, 20, 24])
        f["fringe"] = torch.sigmoid((58 - x) / 5)
        f["crown"] = c.bump([0, float(y[c.skin].max()), -25], [55, 40, 60])
        # beard: below a line from the side of the nose over the cheek to the sideburn
        cheek_line = _ramp(
            x,
            [0, 14, 30, 48, 62, 72],
            [float(p[33][1]) - 2, float(p[33][1]) - 3, float(p[48][1]) + 3, float(p[48][1]) + 10, ey - 24, ey - 8],
        )
        f["beard_mm"] = cheek_line - y
        front = torch.sigmoid((z - (ear_z - 2)) / 3)
        under = torch.sigmoid((y - (float(p[8][1]) - 26)) / 5)
        f["beard_area"] = front * under * (1 - f["ear"]).clamp(0, 1) * torch.sigmoid((-f["lips_mm"] - 0.5) / 0.8)
        # moustache: a band above the outline of the upper lip, to the corners of the mouth
        band = c.distance_to(spline(p[48:55], 25))
        lip_y = _ramp(c.position[0], p[48:55, 0].tolist(), p[48:55, 1].tolist())
        wide = torch.sigmoid((float(p[54][0]) + 5 - x) / 2)
        band = torch.exp(-0.5 * ((band - 3).clamp(min=0) / 4.5) ** 2)
        f["moustache"] = band * torch.sigmoid((y - lip_y) / 1.2) * wide
        f["chin_beard"] = torch.maximum(
            c.bump(torch.tensor([0.0, float(p[8][1]) + 4, float(p[8][2])]), [23, 17, 26]),
            0.8 * c.bumps(p[54] * torch.tensor([1.15, 1, 1]) + torch.tensor([0, -12.0, 0]), [7, 12, 14]),
        ).clamp(max=1)
        f["soul_patch_gap"] = c.bumps([9, float(p[57][1]) - 5, float(p[57][2])], [5, 4.5, 10])


def _yx(points: Tensor) -> tuple[Tensor, Tensor]:
    q = points.round().long()
    return q[:, 1], q[:, 0]


def _polygon_distance(polygon: Tensor, size: int) -> Tensor:
    """Signed distance `[size, size]` in texels to a closed polygon `[N, 2]`, positive inside."""
    q = torch.arange(size, dtype=torch.float32)
    y, x = torch.meshgrid(q, q, indexing="ij")
    best, inside = torch.full_like(x, 1e6), torch.zeros_like(x, dtype=torch.bool)
    for a, b in zip(polygon, polygon.roll(-1, 0), strict=True):
        d = b - a
        t = (((x - a[0]) * d[0] + (y - a[1]) * d[1]) / (d @ d).clamp(min=1e-9)).clamp(0, 1)
        best = torch.minimum(best, (x - a[0] - t * d[0]) ** 2 + (y - a[1] - t * d[1]) ** 2)
        crosses = (a[1] > y) != (b[1] > y)
        at = a[0] + (y - a[1]) * d[0] / torch.where(d[1].abs() < 1e-9, 1e-9, d[1])
        inside ^= crosses & (x < at)
    return torch.where(inside, 1.0, -1.0) * best.sqrt()
