"""Small pictures of eyes and mouth, cut at places that the expression does not move, and how far mesh points moved."""

from __future__ import annotations

import torch
from torch import Tensor

from ..face.align import warp
from ..face.mesh_points import EYE_LEFT, EYE_RIGHT, LIDS_LEFT, LIDS_RIGHT, LIPS, SUBNASALE

EYE, MOUTH = (20, 32), (32, 40)  # (height, width) of the patches
EYE_WIDTH, MOUTH_WIDTH = 0.72, 1.15  # of what they show, in distances of the eyes
MOUTH_DOWN = 0.45  # centre of the mouth's patch below the nose, in distances of the eyes
BROWS_LEFT = (276, 283, 282, 295, 285, 300, 293, 334, 296, 336)
BROWS_RIGHT = (46, 53, 52, 65, 55, 70, 63, 105, 66, 107)
CHIN = (152, 175, 199, 200)
POINTS = LIDS_LEFT + LIDS_RIGHT + BROWS_LEFT + BROWS_RIGHT + LIPS + CHIN + (61, 291, 50, 280, 205, 425, 129, 358)


def cut_patches(frame: Tensor, mesh: Tensor) -> tuple[Tensor, Tensor]:
    """Grey patches of the eyes `[2, 20, 32]` (left, and right mirrored) and of the mouth `[32, 40]`.

    frame: `[3, H, W]` sRGB 0..1. mesh: `[468, 3]` px
    """
    left, right = (mesh[list(ids)[:2]].mean(0) for ids in (EYE_LEFT, EYE_RIGHT))
    apart = float((left - right).norm())
    across = (left - right)[:2]
    angle = torch.atan2(across[1], across[0])
    down = torch.stack([-angle.sin(), angle.cos()])
    nose = mesh[SUBNASALE, :2]
    grey = frame.mean(0, keepdim=True)[None]
    places = [
        (left[:2], EYE_WIDTH, EYE),
        (right[:2], EYE_WIDTH, EYE),
        (nose + down * MOUTH_DOWN * apart, MOUTH_WIDTH, MOUTH),
    ]
    found = []
    for centre, width, size in places:
        scale = size[1] / (width * apart)
        c, s = angle.cos() * scale, angle.sin() * scale
        linear = torch.stack([torch.stack([c, s]), torch.stack([-s, c])])
        middle = torch.tensor([size[1] / 2, size[0] / 2])
        matrix = torch.cat([linear, (middle - linear @ centre)[:, None]], 1)
        found.append(warp(grey, matrix[None], size)[0, 0])
    return torch.stack([found[0], found[1].flip(1)]), found[2]


def evened(patches: Tensor) -> Tensor:
    """Patches `[..., h, w]` without the brightness and contrast of the light: log, mean 0, and spread limited."""
    logs = (patches.clamp(min=0) + 0.03).log()
    logs = logs - logs.mean((-2, -1), keepdim=True)
    return logs / (logs.std((-2, -1), keepdim=True) + 0.12)


def moved_points(target: Tensor, neutral: Tensor, rotation: Tensor, scale: Tensor) -> Tensor:
    """How far POINTS moved in the face's own plane, millimetres: `[F, P, 2]`.

    target, neutral: `[F, 468, 2]` seen points, and those of the neutral head in the same pose. rotation: `[F, 3, 3]`
    scale: `[F]` picture units of a metre
    """
    offset = (target - neutral)[:, list(POINTS)] / scale[:, None, None] * 1000
    # in the axes of the head as they appear in the picture, without the foreshortening of steep views
    axes = rotation[:, :2, :2]
    axes = axes / axes.norm(dim=1, keepdim=True).clamp(min=0.3)
    return offset @ axes
