"""Long hair in a photo: a soft layer behind the head, and locks beside the face.

The layers are drawn in the picture, not in the mesh. Strands follow a wavy outline, the edges are irregular, and the
light is that of a cylinder. The recogniser crops close to the face, so this only keeps it from learning that heads are
bald.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from fitdiff_core.render.camera import Camera
from fitdiff_core.render.light import Light
from fitdiff_core.render.orientation import flip_rows

from .people import SkinAttributes

LONG = ("medium", "long")
_HEIGHTS = np.linspace(-0.40, 0.16, 29)  # knots of the outlines, metres


class LongHair:
    """The long hair of one person in one picture. People with short hair have none.

    a: attributes. size: (H, W) of the picture. rng: all draws.
    """

    def __init__(
        self, a: SkinAttributes, camera: Camera, light: Light, size: tuple[int, int], rng: np.random.Generator
    ):
        self.size, self.rng, self.camera, self.worn = size, rng, camera, a.hair in LONG
        self.back = self.front = torch.zeros(1, 1, *size)
        if not self.worn:
            return
        self.tile = torch.from_numpy(rng.standard_normal((1, 2, 12, 512), dtype=np.float32))
        self.tile[:, 1] = F.avg_pool2d(self.tile[:, 1:], (5, 25), 1, (2, 12))[:, 0] * 9
        self.colour = torch.tensor(a.hair_colour).view(1, 3, 1, 1)
        length = rng.uniform(0.03, 0.11) if a.hair == "medium" else rng.uniform(0.12, 0.32)
        yaw = math.atan2(*(float(camera.position()[0, i]) for i in (0, 2)))
        wide = rng.uniform(0.084, 0.112)
        shape = np.interp(_HEIGHTS, [-0.4, -0.2, -0.06, 0.03, 0.09, 0.125, 0.16], [1.2, 1.1, 1.05, 1.0, 0.82, 0.4, 0])
        outer = [wide * shape + self._wave(0.005) for _ in range(2)]

        x, y = _plane(camera, size, yaw, -0.02)
        u, edge = self._outline(x, y, outer)
        self.back, strands = self._cover(u, y, edge, length)
        self.back_colour = self.colour * strands * _cylinder(light, u, yaw) * rng.uniform(0.45, 0.8)
        self.front_colour = self.back_colour
        if rng.random() < 0.2:
            return  # worn behind the ears
        x, y = _plane(camera, size, 0.0, 0.03)
        u, edge = self._outline(x, y, outer)
        mask, strands = self._cover(u, y, edge, length)
        self.front_colour = self.colour * strands * _cylinder(light, u, 0.0)
        sides = []
        for side in (1.0, -1.0):
            temple, jaw = rng.uniform(0.058, 0.076), rng.uniform(0.060, 0.090)
            inner = np.interp(
                _HEIGHTS, [-0.4, -0.05, 0.0, 0.045, 0.08, 0.11], [jaw, jaw, temple + 0.004, temple, 0.045, 0.02]
            )
            inner = inner + 0.03 * np.clip(1 - (_HEIGHTS + length) / 0.06, 0, 1) ** 2  # tips fall back
            inner = _at_height([inner + self._wave(0.005)], y)
            ragged = 0.003 * self._sample(side * 3 + x * 2, y)[:, 1:]
            panel = torch.sigmoid((side * x - inner + ragged) / 0.0022) * torch.sigmoid((0.085 - y) / 0.010)
            if rng.random() < 0.2 or side * math.sin(yaw) < -0.12:
                continue  # tucked behind the ear, or hidden by the head
            sides.append(mask * panel)
        if sides:
            self.front = sum(sides).clamp(max=1)

    def _wave(self, amount: float) -> np.ndarray:
        phase, turns = self.rng.random(2) * 6.28, self.rng.uniform(2, 9, 2)
        t = np.linspace(0, 6.28, len(_HEIGHTS))
        return amount * (np.sin(turns[0] * t / 2 + phase[0]) + 0.6 * np.sin(turns[1] * t / 2 + phase[1]))

    def _outline(self, x: Tensor, y: Tensor, outer: list[np.ndarray]) -> tuple[Tensor, Tensor]:
        """Place across the hair (-1..1 between its edges) and its half width in metres, `[1, 1, H, W]` each."""
        right, left = _at_height(outer, y).split(1, 1)
        edge = torch.where(x > 0, right, left).clamp(min=0.004)
        return x / edge, edge

    def _sample(self, u: Tensor, y: Tensor) -> Tensor:
        """Noise that is long along the strands, `[1, 2, H, W]`: single strands and locks."""
        grid = torch.stack([u[:, 0] * 0.6, y[:, 0] * 4.0], -1)
        return F.grid_sample(self.tile, grid, padding_mode="reflection", align_corners=False)

    def _cover(self, u: Tensor, y: Tensor, edge: Tensor, length: float) -> tuple[Tensor, Tensor]:
        """Opacity and brightness of the strands, `[1, 1, H, W]` each."""
        noise = self._sample(u, y)
        across = torch.sigmoid(((1 - u.abs()) * edge + 0.0025 * noise[:, 1:]) / 0.002)
        ends = torch.sigmoid((y + length + 0.012 * noise[:, 1:] + 0.006 * noise[:, :1]) / 0.004)
        return across * ends, torch.exp(0.16 * noise[:, :1] + 0.26 * noise[:, 1:])

    def behind(self, background: Tensor) -> Tensor:
        """The linear background `[1, 3, H, W]` with the layer behind the head."""
        return background + self.back * (self.back_colour - background) if self.worn else background

    def before(self, image: Tensor) -> Tensor:
        """The linear picture `[1, 3, H, W]` with the front layer, stray locks, and their shade."""
        if not self.worn:
            return image
        if self.front.any():
            shadow = F.avg_pool2d(F.avg_pool2d(self.front, 4, ceil_mode=True), 5, 1, 2)
            image = image * (1 - 0.45 * F.interpolate(shadow, self.size, mode="bilinear", align_corners=False))
            image = image + self.front * (self.front_colour - image)
        if self.rng.random() < 0.25:
            image = image + self._stray() * (self.front_colour - image)
        return image

    def _stray(self) -> Tensor:
        """Opacity `[1, 1, H, W]` of thin locks from the parting over forehead and cheek."""
        side, reach = self.rng.choice([-1.0, 1.0]), self.rng.uniform(0.035, 0.075)
        t = torch.linspace(0, 1, 14)
        shape = Image.new("L", (self.size[1] * 2, self.size[0] * 2))
        draw = ImageDraw.Draw(shape)
        for _ in range(self.rng.integers(3, 14)):
            end, low = side * (reach + self.rng.normal(0, 0.006)), self.rng.uniform(-0.06, 0.03)
            x = side * 0.012 + (end - side * 0.012) * torch.sin(t * 1.6)
            y = 0.105 + (low - 0.105) * t
            points = torch.stack([x, y, 0.115 - 0.05 * t - 0.25 * x.abs()], 1)
            points = self.camera.project(points[None], self.size)[0] * 2
            line = [(float(p), float(q)) for p, q in points]
            draw.line(line, fill=int(self.rng.integers(90, 230)), width=int(self.rng.integers(1, 4)))
        small = shape.resize((self.size[1], self.size[0]), Image.Resampling.BOX)
        return torch.from_numpy(np.asarray(small, np.float32) / 255)[None, None]


def _at_height(knots: list[np.ndarray], y: Tensor) -> Tensor:
    """Values `[1, K, H, W]` at heights y `[1, 1, H, W]` of K curves that are given at `_HEIGHTS`."""
    table = torch.from_numpy(np.stack(knots)).float()[None, :, None]
    at = (y[:, 0] - _HEIGHTS[0]) * float(2 / (_HEIGHTS[-1] - _HEIGHTS[0])) - 1
    grid = torch.stack([at, torch.zeros_like(at)], -1)
    return F.grid_sample(table, grid, padding_mode="border", align_corners=True)


def _plane(camera: Camera, size: tuple[int, int], yaw: float, depth: float) -> tuple[Tensor, Tensor]:
    """Where each pixel's ray meets the vertical plane that faces `yaw` (radians): metres right and up, `[1, 1, H, W]`.

    depth: of the plane, metres towards `yaw`.
    """
    rays, eye = flip_rows(camera.rays(size))[0], camera.position()[0]
    ahead = torch.tensor([math.sin(yaw), 0.0, math.cos(yaw)])
    across = torch.tensor([math.cos(yaw), 0.0, -math.sin(yaw)])
    reach = (depth - eye @ ahead) / (rays @ ahead).clamp(max=-0.05)
    hit = eye + reach[..., None] * rays
    return (hit @ across)[None, None], hit[..., 1][None, None]


def _cylinder(light: Light, u: Tensor, yaw: float) -> Tensor:
    """Light `[1, 3, H, W]` on a vertical cylinder. u: place across it, -1..1."""
    turn = torch.linspace(-1.3, 1.3, 15)
    normal = torch.stack([torch.sin(turn + yaw) * 0.95, torch.full_like(turn, 0.31), torch.cos(turn + yaw) * 0.95], -1)
    lit = light.irradiance(normal[None])[0].clamp(min=0)
    lit = lit + (normal @ light.direction[0].T).clamp(min=0) @ light.color[0] / math.pi
    grid = torch.stack([u[:, 0].clamp(-1, 1), torch.zeros_like(u[:, 0])], -1)
    return F.grid_sample(lit.T[None, :, None], grid, padding_mode="border", align_corners=True)
