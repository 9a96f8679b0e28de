"""What surrounds a head in a photo: a background, shoulders, and hair that has volume. Crude on purpose.

The recogniser crops close to the face; these only have to keep it from learning that heads are bald and float in grey.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from ..render.camera import Camera
from .people import SkinAttributes

LONG = ("medium", "long")


def random_background(rng: np.random.Generator, size: tuple[int, int]) -> Tensor:
    """Linear RGB `[1, 3, H, W]`: a plain wall, a gradient, or out-of-focus clutter."""
    height, width = size
    base = np.exp(rng.normal(-1.6, 0.9, 3) * [0.25, 0.25, 0.25] + rng.normal(-1.2, 0.9))
    out = torch.from_numpy(base).float().view(1, 3, 1, 1).expand(1, 3, height, width)
    for cells in (2, 5, 14):
        if rng.random() < 0.65:
            lattice = torch.from_numpy(
                rng.normal(0, rng.uniform(0.1, 0.7), (1, 1, cells, cells)) + rng.normal(0, 0.15, (1, 3, cells, cells))
            ).float()
            mode = "bilinear" if rng.random() < 0.8 else "nearest"
            field = F.interpolate(lattice, size, mode=mode, align_corners=False if mode == "bilinear" else None)
            out = out * torch.exp(field)
    return out.clamp(0, 3)


def hair_volume(head, vertices: Tensor, normals: Tensor, a: SkinAttributes, rng: np.random.Generator) -> Tensor:
    """Raise the scalp of vertices `[1, V, 3]` (metres) into a cap of hair; other hair styles leave it as it is."""
    thick = {
        "bald": 0.0,
        "shaved": 0.001,
        "short": rng.uniform(0.004, 0.022),
        "medium": rng.uniform(0.010, 0.035),
        "long": rng.uniform(0.008, 0.030),
    }[a.hair]
    if thick < 0.002 or "scalp" not in head.region_names:
        return vertices
    weight = head.vertex_region("scalp").to(vertices)
    wave = torch.zeros(vertices.shape[1])
    for _ in range(5):
        k = torch.from_numpy(rng.normal(0, 38, 3)).float()
        wave = wave + torch.cos(vertices[0] @ k + rng.random() * 6.28)
    rise = weight**1.5 * thick * (1 + 0.22 * wave)
    return vertices + normals * rise.clamp(min=0)[None, :, None]


class HairMass:
    """Long hair as two flat layers of the picture: one behind the head, and strands that hang beside the face."""

    def __init__(self, a: SkinAttributes, camera: Camera, size: tuple[int, int], rng: np.random.Generator):
        self.size, self.a = size, a
        height, width = size
        self.back = torch.zeros(1, 1, *size)
        self.front = torch.zeros(1, 1, *size)
        if a.hair not in LONG:
            self.colour = None
            return
        length = rng.uniform(0.02, 0.10) if a.hair == "medium" else rng.uniform(0.10, 0.30)
        spread = rng.uniform(0.078, 0.110) * (1.0 if a.hair == "long" else 0.95)
        heights = np.linspace(0.125, -length, 14)
        outline = spread * np.interp(heights, [-0.3, -0.06, 0.03, 0.09, 0.125], [1.15, 1.08, 1.0, 0.8, 0.15])
        wobble = 0.006 * np.cumsum(rng.standard_normal((2, len(heights))), 1) * 0.6
        self.back = self._layer(camera, outline + wobble[0], -outline - wobble[1], heights, -0.035)
        if rng.random() < 0.75:
            side_seen = float(camera.position()[0, 0])
            for side in (1, -1):
                if rng.random() < 0.18:
                    continue
                inner = side * (rng.uniform(0.056, 0.072) + 0.004 * np.cumsum(rng.standard_normal(len(heights))) * 0.5)
                inner = inner + side * np.interp(heights, [0.03, 0.1], [0, -0.03])
                panel = self._layer(camera, side * outline, inner, heights, 0.012)
                if side * side_seen < -0.08 * float(camera.position().norm()):
                    self.back = torch.maximum(self.back, panel)  # the far side lies behind the cheek
                else:
                    self.front = torch.maximum(self.front, panel * (torch.linspace(1, 0, height).view(1, 1, -1, 1) < 2))
        strand = torch.from_numpy(rng.standard_normal((1, 1, 6, width))).float()
        noise = F.interpolate(strand, size, mode="bilinear", align_corners=False)
        locks = F.interpolate(
            torch.from_numpy(rng.standard_normal((1, 1, 4, 18))).float(), size, mode="bicubic", align_corners=False
        )
        self.colour = torch.tensor(a.hair_colour).view(1, 3, 1, 1) * torch.exp(0.25 * noise + 0.30 * locks)

    def _layer(self, camera: Camera, left: np.ndarray, right: np.ndarray, heights: np.ndarray, depth: float) -> Tensor:
        height, width = self.size
        edge = np.concatenate([np.stack([left, heights], 1), np.stack([right, heights], 1)[::-1]])
        points = torch.from_numpy(np.concatenate([edge, np.full((len(edge), 1), depth)], 1)).float()[None]
        polygon = camera.project(points, self.size)[0].clamp(-4 * width, 5 * width)
        image = Image.new("L", (width, height))
        ImageDraw.Draw(image).polygon([(float(x), float(y)) for x, y in polygon], fill=255)
        mask = torch.from_numpy(np.asarray(image, np.float32) / 255)[None, None]
        return F.avg_pool2d(mask, 5, 1, 2, count_include_pad=False)

    def behind(self, background: Tensor, lit: Tensor) -> Tensor:
        """Lay the back layer over the background; lit `[3]` is the light's mean colour."""
        if self.colour is None:
            return background
        return background + self.back * (self.colour * lit.view(1, 3, 1, 1) * 0.8 - background)

    def before(self, image: Tensor, lit: Tensor) -> Tensor:
        if self.colour is None:
            return image
        return image + self.front * (self.colour * lit.view(1, 3, 1, 1) - image)


def shoulders(background: Tensor, camera: Camera, lit: Tensor, rng: np.random.Generator) -> Tensor:
    """Clothes below the neck, as one flat shape of a random colour."""
    size = background.shape[-2:]
    x = np.array([0.05, 0.09, 0.17, 0.22, 0.24])
    y = np.array([-0.135, -0.15, -0.18, -0.23, -0.45]) + rng.normal(0, 0.008)
    points = np.concatenate([np.stack([x, y], 1), np.stack([-x, y], 1)[::-1]])
    points = torch.from_numpy(np.concatenate([points, np.full((len(points), 1), -0.03)], 1)).float()[None]
    polygon = camera.project(points, size)[0]
    image = Image.new("L", (size[1], size[0]))
    ImageDraw.Draw(image).polygon([(float(a), float(b)) for a, b in polygon], fill=255)
    mask = F.avg_pool2d(
        torch.from_numpy(np.asarray(image, np.float32) / 255)[None, None], 3, 1, 1, count_include_pad=False
    )
    cloth = torch.from_numpy(np.exp(rng.normal(-2.0, 1.0) + rng.normal(0, 0.35, 3))).float().clamp(max=0.85)
    return background + mask * ((cloth * lit).view(1, 3, 1, 1) - background)


def teeth(
    image: Tensor, inside: Tensor, corners: Tensor, camera: Camera, lit: Tensor, rng: np.random.Generator
) -> Tensor:
    """Upper teeth where the mouth stands open.

    image linear `[1, 3, H, W]`; inside `[1, 1, H, W]` visible share of the mouth's inside; corners `[5, 3]` metres:
    points of the upper lip's inner edge from one corner to the other.
    """
    if float(inside.sum()) < 6:
        return image
    size = image.shape[-2:]
    arch = corners + torch.tensor([0.0, 0.0012, -0.007])
    arch = torch.cat([arch[:1] * torch.tensor([0.86, 1, 1]), arch[1:-1], arch[-1:] * torch.tensor([0.86, 1, 1])])
    lower = arch[1:-1] - torch.tensor([0.0, 0.0095, 0.0])
    polygon = camera.project(torch.cat([arch + torch.tensor([0.0, 0.004, 0.0]), lower.flip(0)])[None], size)[0]
    shape = Image.new("L", (size[1] * 2, size[0] * 2))
    ImageDraw.Draw(shape).polygon([(float(x) * 2, float(y) * 2) for x, y in polygon], fill=255)
    mask = (
        torch.from_numpy(np.asarray(shape.resize((size[1], size[0]), Image.Resampling.BOX), np.float32) / 255)[
            None, None
        ]
        * inside
    )
    white = torch.from_numpy(np.array([0.62, 0.58, 0.48]) * math.exp(rng.normal(0, 0.12))).float() * lit * 0.75
    return image + mask * (white.view(1, 3, 1, 1) - image)


def glasses(image: Tensor, landmarks: Tensor, camera: Camera, rng: np.random.Generator) -> Tensor:
    """A plain pair of spectacles over the eyes: linear image `[1, 3, H, W]`, landmarks `[68, 3]` metres."""
    size = image.shape[-2:]
    wide, tall, square = rng.uniform(0.023, 0.029), rng.uniform(0.014, 0.022), rng.uniform(2.0, 4.5)
    turn = torch.linspace(0, 2 * math.pi, 33)
    c, s = torch.cos(turn), torch.sin(turn)
    rim = torch.stack([wide * c.sign() * c.abs() ** (2 / square), tall * s.sign() * s.abs() ** (2 / square)], 1)
    front = float(landmarks[36:48, 2].max()) + 0.014
    lines = []
    for i, side in ((36, -1), (42, 1)):
        centre = landmarks[i : i + 6].mean(0)
        bend = (rim[:, :1] * side + 0.0).clamp(min=0) * -0.25  # the frame follows the face backwards
        lines.append(torch.cat([rim + centre[:2] - torch.tensor([0.0, 0.003]), front + bend], 1))
        hinge = lines[-1][16 if side < 0 else 0]
        ear = torch.stack([hinge, hinge * torch.tensor([0.0, 1, 0]) + torch.tensor([side * 0.078, 0.0, -0.005])])
        lines.append(ear)
    left, right = lines[2][16], lines[0][0]
    lines.append(torch.stack([right, (left + right) / 2 + torch.tensor([0.0, 0.004, 0.004]), left]))
    width = int(rng.integers(2, 7))
    shape = Image.new("L", (size[1] * 3, size[0] * 3))
    draw = ImageDraw.Draw(shape)
    for n, line in enumerate(lines):
        if n in (1, 3) and float(line[1, 0]) * float(camera.position()[0, 0]) < 0:
            continue  # the far temple is behind the head
        points = camera.project(line[None], size)[0] * 3
        draw.line([(float(x), float(y)) for x, y in points], fill=255, width=width, joint="curve")
    small = shape.resize((size[1], size[0]), Image.Resampling.BOX)
    mask = torch.from_numpy(np.asarray(small, np.float32) / 255)[None, None] * rng.uniform(0.6, 1)
    dark = np.exp(rng.normal(-3.6, 0.8) + rng.normal(0, 0.3, 3))
    return image + mask * (torch.from_numpy(dark).float().view(1, 3, 1, 1) - image)
