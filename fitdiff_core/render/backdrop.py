"""A studio behind the head: a glow in the middle of a dark wall, and the head's soft shadow on it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UserError
from ..filters import gaussian_blur_replicate
from ..image import LUMINANCE
from .camera import Camera
from .light import Light

BACKDROPS = ("studio", "grey", "white", "black")
FLAT = {"grey": 0.18, "white": 1.0, "black": 0.0}  # linear
CENTRE, EDGE, SPREAD = (0.150, 0.154, 0.162), (0.030, 0.031, 0.034), 0.9
WALL = 0.3  # metres behind the head
SHADOW = 0.3  # how dark the strongest lamp's shadow is
SOFT = 0.035  # of the picture's height, standard deviation of the shadow's edge


def backdrop(name: str, size: tuple[int, int], like: Tensor) -> Tensor:
    """Linear RGB `[1, 3, H, W]` of a backdrop without shadows; as the viewer draws it. Raises UserError for a name."""
    height, width = size
    if name in FLAT:
        return like.new_full((1, 3, height, width), FLAT[name])
    if name not in BACKDROPS:
        raise UserError(f"Unknown backdrop '{name}'; choose one of {', '.join(BACKDROPS)}.")
    y = 1 - (torch.arange(height, dtype=like.dtype, device=like.device) + 0.5) * (2 / height) + 0.1
    x = ((torch.arange(width, dtype=like.dtype, device=like.device) + 0.5) * (2 / width) - 1) * (width / height)
    glow = torch.exp(-SPREAD * (x.square()[None] + y.square()[:, None]))
    return torch.lerp(like.new_tensor(EDGE)[:, None, None], like.new_tensor(CENTRE)[:, None, None], glow)[None]


def wall_shadow(mask: Tensor, camera: Camera, light: Light) -> Tensor:
    """Share of light `[B, 1, H, W]` that the head leaves on a wall WALL behind it, which faces the camera.

    mask: `[B, 1, H, W]` of the head as the camera sees it. It is moved along the brightest lamp's direction and
    blurred: an estimate, because the lamp sees the head from elsewhere. camera, light: B or 1.
    """
    height = mask.shape[-2]
    axes, distance = camera.matrix(), camera.position().norm(dim=1)
    lit = torch.ones_like(mask)
    way = torch.einsum("bij,blj->bli", axes.expand(len(light), -1, -1) if len(axes) == 1 else axes, light.direction)
    key = (light.color @ light.color.new_tensor(LUMINANCE)).argmax(1)
    for b in range(len(mask)):
        k, c = b if len(way) > 1 else 0, b if len(distance) > 1 else 0
        scale = float(camera.focal[c] / (distance[c] + WALL)) / 2  # pictures' heights to a metre on the wall
        far = float(distance[c] / (distance[c] + WALL))
        x, y, z = way[k, int(key[min(k, len(key) - 1)])].tolist()
        if z > 0.2:  # from beside or behind there is no shadow on the wall
            shift = (-x / z * WALL * scale, y / z * WALL * scale)
            lit[b] = 1 - SHADOW * _moved(mask[b], shift, far, SOFT * height)
    return lit


def _moved(mask: Tensor, shift: tuple[float, float], scale: float, sigma: float) -> Tensor:
    """Mask `[1, H, W]` scaled about the middle, shifted (x, y down, in picture heights) and blurred."""
    _, height, width = mask.shape
    small = max(1, int(sigma / 4))
    coarse = F.avg_pool2d(mask[None], small, ceil_mode=True, count_include_pad=False)
    x, y = shift[0] * 2 * height / width, shift[1] * 2
    theta = mask.new_tensor([[[1 / scale, 0, -x / scale], [0, 1 / scale, -y / scale]]])
    at = F.affine_grid(theta, [1, 1, *coarse.shape[-2:]], align_corners=False)
    coarse = F.grid_sample(coarse, at, padding_mode="border" if shift[1] < 0 else "zeros", align_corners=False)
    reach = max(1, round(2.5 * sigma / small))
    coarse = gaussian_blur_replicate(coarse, sigma / small, reach)
    return F.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)[0]
