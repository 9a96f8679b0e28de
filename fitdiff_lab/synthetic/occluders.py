"""Things before a face, drawn over a linear picture: glasses, strands and fringes, hands, masks, hats, other objects.

Each function takes the picture `[1, 3, H, W]` and a `Sitter`, and returns the picture and the opacity `[1, 1, H, W]` of
what was drawn. The shapes are crude. They teach a network what does not belong to a face, not how it looks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from fitdiff_core.render.camera import Camera

from .background import fingers
from .people import HAIR

Drawn = tuple[Tensor, Tensor]

ROOTS = 0.098  # height of the roots of a fringe, metres
# profile of the mean head without its nose, metres: height, depth
PROFILE_Y = (-0.08, -0.06, -0.04, 0.0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.112)
PROFILE_Z = (0.082, 0.083, 0.083, 0.078, 0.074, 0.071, 0.064, 0.049, 0.027, -0.01)


def front(x: Tensor, y: Tensor) -> Tensor:
    """Depth of the face's surface at `x`, `y`, metres."""
    return torch.from_numpy(np.interp(y.numpy(), PROFILE_Y, PROFILE_Z)).float() - 7 * x.square()


@dataclass(frozen=True)
class Sitter:
    """Who is drawn over. points: 68 landmarks `[68, 3]` metres. lit: `[3]` radiance of white facing the camera."""

    points: Tensor
    camera: Camera
    lit: Tensor
    rng: np.random.Generator

    def project(self, points: Tensor, size: tuple[int, int]) -> Tensor:
        """World `[N, 3]` -> pixels `[N, 2]`."""
        return self.camera.project(points[None], size)[0]


def noise(rng: np.random.Generator, cells: int, size: int) -> Tensor:
    """Smooth noise of unit variance `[1, 1, size, size]` with `cells` cells a side."""
    lattice = torch.from_numpy(rng.standard_normal((1, 1, cells, cells), dtype=np.float32))
    return F.interpolate(lattice, (size, size), mode="bicubic", align_corners=False)


def canvas(size: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """A grey picture of twice the size, for antialiasing."""
    image = Image.new("L", (2 * size, 2 * size))
    return image, ImageDraw.Draw(image)


def coverage(image: Image.Image) -> Tensor:
    """A drawing of `canvas` -> opacity `[1, 1, size, size]`."""
    small = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    return torch.from_numpy(np.asarray(small, np.float32) / 255)[None, None]


def over(image: Tensor, mask: Tensor, colour: Tensor, shadow: float = 0.0) -> Tensor:
    """`colour` laid over the picture by `mask`, with a soft shadow around it."""
    if shadow:
        soft = F.avg_pool2d(F.avg_pool2d(mask, 9, 1, 4), 7, 1, 3)
        image = image * (1 - shadow * soft)
    return image + mask * (colour - image)


def cloth(s: Sitter, size: int, base: np.ndarray | None = None) -> Tensor:
    """A random material in the sitter's light `[1, 3, size, size]`: shaded across, sometimes patterned."""
    rng = s.rng
    if base is None:
        base = np.clip(np.exp(rng.normal(-1.6, 0.9) + rng.normal(0, 0.5 * rng.random(), 3)), 0.005, 0.85)
    colour = (torch.from_numpy(base).float() * s.lit).view(1, 3, 1, 1)
    shade = torch.exp(0.25 * noise(rng, 4, size) + 0.05 * noise(rng, 40, size))
    if rng.random() < 0.25:
        shade = shade * torch.exp(rng.uniform(0.2, 0.8) * noise(rng, int(rng.integers(10, 50)), size).sign())
    return colour * shade


def spectacles(image: Tensor, s: Sitter, dark: bool = False) -> Drawn:
    """Glasses of any frame, from wire to thick; `dark` are sunglasses."""
    rng, size = s.rng, image.shape[-1]
    wide, tall, square = rng.uniform(0.023, 0.030), rng.uniform(0.014, 0.024), rng.uniform(2.0, 5.0)
    turn = torch.linspace(0, 2 * math.pi, 33)
    c, si = torch.cos(turn), torch.sin(turn)
    rim = torch.stack([wide * c.sign() * c.abs() ** (2 / square), tall * si.sign() * si.abs() ** (2 / square)], 1)
    front = float(s.points[36:48, 2].max()) + 0.012
    frame, draw = canvas(size)
    lens, fill = canvas(size)
    unit = float((s.project(s.points[[36, 45]], image.shape[-2:]) * 2).diff(dim=0).norm()) / 90  # mm in canvas pixels
    width = max(1, round(rng.uniform(0.7, 6.5) * unit))
    rims = []
    for i, side in ((36, -1), (42, 1)):
        centre = s.points[i : i + 6].mean(0)
        bend = (rim[:, :1] * side).clamp(min=0) * -0.25
        line = torch.cat([rim + centre[:2] - torch.tensor([0.0, 0.003]), front + bend], 1)
        rims.append(line)
        flat = [tuple(p) for p in (s.project(line, image.shape[-2:]) * 2).tolist()]
        fill.polygon(flat, fill=255)
        if rng.random() < 0.95:
            draw.line(flat, fill=255, width=width, joint="curve")
        hinge = line[16 if side < 0 else 0]
        if float(hinge[0]) * float(s.camera.position()[0, 0]) > -0.001:  # the far temple is behind the head
            ear = torch.stack([hinge, torch.stack([torch.tensor(side * 0.078), hinge[1], torch.tensor(-0.005)])])
            draw.line([tuple(p) for p in (s.project(ear, image.shape[-2:]) * 2).tolist()], fill=255, width=width)
    bridge = torch.stack([rims[0][0], (rims[0][0] + rims[1][16]) / 2 + torch.tensor([0.0, 0.004, 0.004]), rims[1][16]])
    draw.line([tuple(p) for p in (s.project(bridge, image.shape[-2:]) * 2).tolist()], fill=255, width=width)
    frame_mask, lens_mask = coverage(frame) * rng.uniform(0.75, 1), coverage(lens)
    tint = torch.from_numpy(np.clip(np.exp(rng.normal(-3.2, 1.2) + rng.normal(0, 0.35, 3)), 0.003, 0.7)).float()
    if rng.random() < 0.5:  # the frame's shadow on the cheeks
        below = F.pad(frame_mask, (0, 0, size // 50, 0))[..., :size, :]
        image = image * (1 - rng.uniform(0.1, 0.5) * F.avg_pool2d(below, 5, 1, 2))
    if dark:
        opacity = rng.uniform(0.75, 0.99)
        glass = torch.exp(rng.normal(-3.4, 0.6) + 0.5 * noise(rng, 3, size)) * s.lit.view(1, 3, 1, 1)
        image = image + lens_mask * opacity * (glass - image)
    elif rng.random() < 0.3:  # reflections
        glow = (noise(rng, 5, size) - 1).clamp(min=0) * lens_mask * float(s.lit.mean())
        image = image + rng.uniform(0.05, 0.4) * glow
    image = over(image, frame_mask, (tint * (0.3 + s.lit)).view(1, 3, 1, 1))
    return image, torch.maximum(frame_mask, lens_mask * float(dark))


def strands(image: Tensor, s: Sitter, fringe: bool = False) -> Drawn:
    """Strands over forehead and cheeks, of any hair colour; `fringe` covers the forehead down to brows or eyes."""
    rng, size = s.rng, image.shape[-1]
    frame, draw = canvas(size)
    side, x0 = rng.choice([-1.0, 1.0]), rng.normal(0, 0.02)
    many = int(rng.integers(150, 400)) if fringe else int(rng.integers(5, 70))
    reach, low = rng.normal(0.045, 0.03), rng.uniform(0.012, 0.055) if fringe else rng.uniform(-0.05, 0.055)
    sweep = rng.normal(0, 0.025)
    t = torch.linspace(0, 1, 14)
    thick = size / 128
    for _ in range(many):
        if fringe:
            start = rng.uniform(-0.062, 0.062)
            end = start * 1.1 + sweep + rng.normal(0, 0.006)
        else:
            start, end = x0 + rng.normal(0, 0.025), side * (reach + rng.normal(0, 0.02))
        lowest = low + rng.normal(0, 0.007)
        x = start + (end - start) * torch.sin(t * 1.6)
        y = ROOTS + (lowest - ROOTS) * t
        points = s.project(torch.stack([x, y, front(x, y) + 0.004], 1), image.shape[-2:]) * 2
        width = max(1, round(thick * rng.uniform(0.8, 4)))
        draw.line([tuple(p) for p in points.tolist()], fill=int(rng.integers(110, 255)), width=width)
    mask = coverage(frame)
    hair = torch.tensor(list(HAIR.values())[rng.integers(len(HAIR))]) * math.exp(rng.normal(0, 0.3))
    colour = (hair * s.lit * rng.uniform(0.5, 1.2)).view(1, 3, 1, 1)
    colour = colour * torch.exp(0.3 * noise(rng, 48, size) + 0.25 * noise(rng, 9, size))
    return over(image, mask, colour, rng.uniform(0, 0.6)), mask


def hand(image: Tensor, s: Sitter) -> Drawn:
    """Fingers, or a whole palm before cheek, chin or mouth, of about the face's own colour."""
    rng, size = s.rng, image.shape[-1]
    if rng.random() < 0.5:
        drawn = fingers(image, s.points, s.camera, rng)
        return drawn, ((drawn - image).abs().sum(1, keepdim=True) > 1e-3).float()
    frame, draw = canvas(size)
    points = s.project(s.points, image.shape[-2:]) * 2
    unit = float((points[16] - points[0]).norm()) / 140
    at = points[int(rng.choice([3, 5, 8, 11, 13, 48, 54, 57]))].numpy() + rng.normal(0, 12 * unit, 2)
    angle = rng.uniform(0, 2 * math.pi)
    along = np.array([math.cos(angle), math.sin(angle)])
    across = np.array([-along[1], along[0]])
    for k in range(-2, 3):
        a = at + across * k * 18 * unit
        b = a + along * (110 + rng.normal(0, 10)) * unit
        draw.line([tuple(a), tuple(b)], fill=255, width=max(2, round(17 * unit)))
        draw.ellipse([*(a - 8.5 * unit), *(a + 8.5 * unit)], fill=255)
    mask = F.avg_pool2d(coverage(frame), 3, 1, 1)
    cheek = (points[[2, 14, 30]] / 2).round().long()
    x, y = cheek[:, 0].clamp(0, size - 1), cheek[:, 1].clamp(0, size - 1)
    colour = image[0, :, y, x].mean(1) * math.exp(rng.normal(0, 0.15))
    edges = F.avg_pool2d(mask, 9, 1, 4)
    shade = (0.55 + 0.45 * edges) * torch.exp(0.15 * noise(rng, 14, size))
    return over(image, mask, colour.view(1, 3, 1, 1) * shade, rng.uniform(0, 0.4)), mask


def face_mask(image: Tensor, s: Sitter) -> Drawn:
    """Cloth over nose and mouth, or over the mouth alone."""
    rng, size = s.rng, image.shape[-1]
    points = s.project(s.points, image.shape[-2:]) * 2
    top = int(rng.choice([28, 29, 30, 33]))
    jaw = points[2:15]
    centre = points[[33, 57]].mean(0)
    jaw = centre + (jaw - centre) * rng.uniform(0.92, 1.04)
    nose = points[top : top + 1]
    left, right = (jaw[-1:] + nose * 1.0) / 2, (jaw[:1] + nose) / 2
    sag = points.new_tensor([[0.0, rng.uniform(0, 0.02) * 2 * size]])
    frame, draw = canvas(size)
    draw.polygon([tuple(p) for p in torch.cat([jaw, left + sag, nose, right + sag]).tolist()], fill=255)
    mask = coverage(frame)
    usual = [(0.75, 0.75, 0.73), (0.25, 0.45, 0.62), (0.02, 0.02, 0.02), (0.35, 0.6, 0.6)]
    base = np.array(usual[rng.integers(len(usual))]) if rng.random() < 0.6 else None
    folds = torch.exp(0.12 * torch.sin(torch.linspace(0, rng.uniform(30, 90), size)).view(1, 1, size, 1))
    return over(image, mask, cloth(s, size, base) * folds, rng.uniform(0, 0.5)), mask


def hat(image: Tensor, s: Sitter) -> Drawn:
    """A cap, a brim or a scarf down to somewhere between hairline and brows, with its shadow."""
    rng, size = s.rng, image.shape[-1]
    height = float(s.points[17:27, 1].max()) + rng.uniform(0.004, 0.045)
    turn = torch.linspace(-math.pi * 0.55, math.pi * 0.55, 25)
    reach = rng.uniform(1.0, 1.5)
    curve = rng.uniform(-0.02, 0.02) * torch.cos(turn)
    brim = torch.stack([0.085 * reach * torch.sin(turn), height + curve, 0.02 + 0.09 * reach * torch.cos(turn)], 1)
    crown = torch.tensor([[0.1, 0.2, 0.0], [-0.1, 0.2, 0.0]])
    points = s.project(torch.cat([brim, crown]), image.shape[-2:]) * 2
    frame, draw = canvas(size)
    draw.polygon([tuple(p) for p in points.tolist()], fill=255)
    mask = coverage(frame)
    drop = int(size * rng.uniform(0.02, 0.25))
    below = F.avg_pool2d(F.pad(mask, (0, 0, drop, 0))[..., :size, :], 5, 1, 2)
    image = image * (1 - rng.uniform(0, 0.7) * below * (1 - mask))
    return over(image, mask, cloth(s, size)), mask


def thing(image: Tensor, s: Sitter) -> Drawn:
    """Any other object, a microphone or a phone say: an ellipse or a bar that comes in from somewhere."""
    rng, size = s.rng, image.shape[-1]
    frame, draw = canvas(size)
    points = s.project(s.points, image.shape[-2:]) * 2
    unit = float((points[16] - points[0]).norm()) / 140
    at = points[int(rng.choice([4, 8, 12, 57, 48, 54, 2, 14]))].numpy() + rng.normal(0, 18 * unit, 2)
    half = rng.uniform(8, 32, 2) * unit
    if rng.random() < 0.5:
        draw.ellipse([*(at - half), *(at + half)], fill=255)
    away = at + np.array([rng.normal(0, 0.5), rng.choice([1.0, 1.0, 0.2])]) * 3 * size
    draw.line([tuple(at), tuple(away)], fill=255, width=max(2, round(rng.uniform(8, 40) * unit)))
    mask = coverage(frame)
    return over(image, mask, cloth(s, size), rng.uniform(0, 0.5)), mask
