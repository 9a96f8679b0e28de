"""Background and accessories of a photo: background, shoulders, volume of the hair, glasses, fingers. All are simple
shapes.

The recogniser crops close to the face. These only keep it from learning that heads are bald and have a grey background.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from fitdiff_core.render.camera import Camera

from .people import SkinAttributes

# linear RGB of blurred backgrounds
_WALLS = (
    (0.75, 0.73, 0.70),
    (0.55, 0.50, 0.42),
    (0.38, 0.39, 0.40),
    (0.30, 0.34, 0.40),
    (0.16, 0.15, 0.14),
    (0.20, 0.10, 0.07),
)
_OUTDOORS = (
    (0.55, 0.68, 0.85),
    (0.85, 0.88, 0.90),
    (0.10, 0.16, 0.04),
    (0.05, 0.09, 0.03),
    (0.22, 0.27, 0.10),
    (0.22, 0.18, 0.13),
    (0.35, 0.34, 0.32),
)
_INDOORS = (
    (0.60, 0.54, 0.45),
    (0.30, 0.18, 0.09),
    (0.12, 0.08, 0.06),
    (0.45, 0.42, 0.38),
    (0.05, 0.05, 0.06),
    (0.85, 0.82, 0.75),
    (0.10, 0.13, 0.20),
    (0.30, 0.05, 0.04),
)


def random_background(rng: np.random.Generator, size: tuple[int, int]) -> Tensor:
    """Linear RGB `[1, 3, H, W]`: black, white, a wall, or a blurred place indoors or outdoors. size: (H, W)."""
    kind = rng.random()
    if kind < 0.14:
        return torch.full((1, 3, *size), 0.03 * rng.random() ** 2)
    if kind < 0.22:
        return torch.full((1, 3, *size), rng.uniform(0.8, 1.6))
    if kind < 0.50:
        wall = np.array(_WALLS[rng.integers(len(_WALLS))]) * np.exp(rng.normal(0, 0.3) + rng.normal(0, 0.05, 3))
        small = torch.from_numpy(wall).float().view(1, 3, 1, 1) * torch.exp(
            _field(rng, 2, 0.25) + _field(rng, 20, 0.04)
        )
    else:
        palette = np.array(_OUTDOORS if kind < 0.74 else _INDOORS)
        small = _clutter(rng, palette, kind >= 0.74)
    return F.interpolate(small, size, mode="bilinear", align_corners=False).clamp(0, 6)


def _field(rng: np.random.Generator, cells: int, amount: float, side: int = 56) -> Tensor:
    """Smooth grey noise `[1, 1, side, side]`."""
    lattice = torch.from_numpy(rng.standard_normal((1, 1, cells, cells), dtype=np.float32)) * amount
    return F.interpolate(lattice, (side, side), mode="bicubic", align_corners=False)


def _clutter(rng: np.random.Generator, palette: np.ndarray, straight: bool) -> Tensor:
    """Patches of colours of a palette, `[1, 3, 56, 56]`. straight: with vertical and horizontal edges, as in rooms."""
    colours = palette[rng.choice(len(palette), 4)] * np.exp(rng.normal(0, 0.35, (4, 1)))
    out = np.empty((56, 56, 3))
    if straight:
        out[:] = colours[0]
        for c in colours[np.r_[1:4, rng.integers(0, 4, 3)]]:
            x, y = rng.integers(-10, 50, 2)
            w, h = rng.integers(4, 40, 2)
            out[max(y, 0) : max(y + h, 0), max(x, 0) : max(x + w, 0)] = c
    else:
        score = torch.cat([_field(rng, int(rng.integers(3, 12)), 1.0) for _ in range(4)], 1)
        height = torch.linspace(1.5, -1.5, 56).view(1, 1, 56, 1) * torch.tensor(colours.mean(1) * 2 - 0.6).view(
            1, 4, 1, 1
        )
        out[:] = torch.einsum(
            "khw,kc->hwc", torch.softmax((score + height) * 4, 1)[0].double(), torch.from_numpy(colours)
        )
    image = torch.from_numpy(out).float().permute(2, 0, 1)[None]
    image = image * torch.exp(_field(rng, 3, 0.25) + _field(rng, 14, 0.12))
    if rng.random() < 0.3:  # blurred lamps
        at = torch.arange(56.0)
        for _ in range(rng.integers(1, 9)):
            x, y, r = rng.uniform(0, 56), rng.uniform(0, 40), rng.uniform(1.5, 4)
            disk = torch.sigmoid((r - ((at[:, None] - y) ** 2 + (at - x) ** 2).sqrt()) * 2)
            image = image + disk * torch.tensor([1.0, 0.85, 0.6]).view(1, 3, 1, 1) * float(rng.gamma(1.0, 0.6))
    blur = 2 * int(rng.integers(0, 4)) + 1
    return F.avg_pool2d(F.pad(image, [blur // 2] * 4, mode="replicate"), blur, 1)


def hair_volume(head, vertices: Tensor, normals: Tensor, a: SkinAttributes, rng: np.random.Generator) -> Tensor:
    """Vertices `[1, V, 3]` with the scalp raised by the hair's thickness; unchanged without hair.

    vertices, normals: `[1, V, 3]`, metres. a: attributes of the person.
    """
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


def shoulders(background: Tensor, camera: Camera, lit: Tensor, rng: np.random.Generator) -> Tensor:
    """Draw clothes below the neck: one flat shape of a random colour.

    background: linear `[1, 3, H, W]`. lit: `[3]` light on the clothes.
    """
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
    cloth = (
        torch.from_numpy(np.exp(rng.normal(-2.2, 1.1) + rng.normal(0, 0.3 * rng.random(), 3))).float().clamp(max=0.8)
    )
    return background + mask * ((cloth * lit).view(1, 3, 1, 1) - background)


def glasses(image: Tensor, landmarks: Tensor, camera: Camera, rng: np.random.Generator) -> Tensor:
    """Draw glasses. image: linear `[1, 3, H, W]`. landmarks: `[68, 3]` metres."""
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


def fingers(image: Tensor, landmarks: Tensor, camera: Camera, rng: np.random.Generator) -> Tensor:
    """Draw a few fingers in front of the lower face, in the colour of the face.

    image: linear `[1, 3, H, W]`. landmarks: `[68, 3]` metres.
    """
    size = image.shape[-2:]
    points = camera.project(landmarks[None], size)[0]
    unit = float((points[16] - points[0]).norm()) / 10
    anchor = points[int(rng.integers(3, 14))] + torch.from_numpy(rng.normal(0, 1.2 * unit, 2)).float()
    along = np.array([rng.normal(0, 0.6), 1.0])
    along, width = along / np.linalg.norm(along), max(unit * rng.uniform(0.8, 1.1), 2.0)
    shape = Image.new("L", (size[1], size[0]))
    draw = ImageDraw.Draw(shape)
    shade = 255
    for k in range(rng.integers(2, 5)):
        start = anchor.numpy() + np.array([along[1], -along[0]]) * k * width * 1.02 + along * rng.normal(0, 0.4 * unit)
        thick = width * (1 - 0.04 * k)
        end = start + along * 12 * unit
        draw.line([tuple(start), tuple(end)], fill=shade, width=int(thick))
        draw.ellipse([*(start - thick / 2), *(start + thick / 2)], fill=shade)
        shade -= 22  # each finger a little darker than the last
    mask = F.avg_pool2d(torch.from_numpy(np.asarray(shape, np.float32) / 255)[None, None], 3, 1, 1)
    cheek = points[[2, 14, 30]].round().long()
    x, y = cheek[:, 0].clamp(0, size[1] - 1), cheek[:, 1].clamp(0, size[0] - 1)
    colour = image[0, :, y, x].mean(1) * 0.9
    return image + mask.sqrt() * (colour.view(1, 3, 1, 1) * (0.45 + 0.55 * mask) - image)
