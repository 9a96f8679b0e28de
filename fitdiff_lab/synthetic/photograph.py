"""From an avatar and a scene to a photo as a phone or a web page would show it."""

from __future__ import annotations

import io
import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from fitdiff_core.image import linear_to_srgb
from fitdiff_core.render import render, vertex_normals

from .background import fingers, glasses, hair_volume, random_background, shoulders
from .long_hair import LongHair
from .people import SkinAttributes
from .scenes import tint
from .shadows import cast_shadows
from .uv_canvas import gaussian_blur


@torch.no_grad()
def take_photograph(
    avatar,
    scene,
    rng: np.random.Generator,
    attributes: SkinAttributes | None = None,
    degrade: bool = True,
    balance: tuple[float, float] = (0.5, 1.0),
) -> Tensor:
    """-> sRGB `[1, 3, H, W]` in 0..1 of `scene.size`.

    avatar, scene: one entry each. attributes: give the head hair with volume; without them it is as the texture shows.
    degrade: add blur, noise and JPEG as cameras and web sites do. balance: from how little to how much of the light's colour
    the camera takes out.
    """
    size, camera, light, head = scene.size, scene.camera, scene.light, avatar.head
    vertices = avatar.vertices(scene)
    lit = (
        light.irradiance(torch.tensor([[[0.0, 0.25, 0.97]]]))[0, 0].clamp(min=0)
        + light.color.sum((0, 1)) * 0.5 / math.pi
    )
    background = random_background(rng, size) * lit.mean().clamp(min=0.05)
    if attributes is None:
        background = shoulders(background, camera, lit, rng)
        surface = cast_shadows(head, vertices, light)
        image = render(vertices, surface, avatar.maps, camera, light, size, background).image
    else:
        mane = LongHair(attributes, camera, light, size, rng)
        background = shoulders(mane.behind(background), camera, lit, rng)
        haired = hair_volume(head, vertices, vertex_normals(vertices, head.triangles), attributes, rng)
        surface = cast_shadows(head, haired, light, int(rng.integers(1, 4)))
        image = render(haired, surface, avatar.maps, camera, light, size, background).image
        points = head.landmarks(vertices, "68")[0]
        if rng.random() < (0.06 if attributes.age < 45 else 0.16):
            image = glasses(image, points, camera, rng)
        image = mane.before(image)
        if rng.random() < 0.03:
            image = fingers(image, points, camera, rng)
    face = _face_luminance(image, camera, head, vertices, size)
    return _develop(image, face, lit, rng, degrade, balance)


def _face_luminance(image: Tensor, camera, head, vertices: Tensor, size: tuple[int, int]) -> float:
    points = camera.project(head.landmarks(vertices, "68"), size)[0]
    low, high = points.amin(0).long(), points.amax(0).long()
    x0, y0 = max(int(low[0]), 0), max(int(low[1]), 0)
    part = image[..., y0 : max(int(high[1]), y0 + 2), x0 : max(int(high[0]), x0 + 2)]
    part = part if part.numel() else image
    return float((part * torch.tensor([0.2126, 0.7152, 0.0722]).view(1, 3, 1, 1)).sum(1).mean().clamp(min=1e-4))


def _develop(
    image: Tensor, face: float, lit: Tensor, rng: np.random.Generator, degrade: bool, balance: tuple[float, float]
) -> Tensor:
    """Exposure, white balance, tone curve, then what lenses, sensors and compression do."""
    # cameras expose for the whole scene: darker faces come out darker, yet by less than their albedo
    target = 0.21 * (face / 0.25) ** rng.uniform(0.1, 0.5) * math.exp(rng.normal(0, 0.28))
    gain = min(target, 0.42) / face
    # white balance takes most of the light's colour out, and errs a little
    white = (lit / lit.mean().clamp(min=1e-4)).clamp(min=0.2) ** -rng.uniform(*balance)
    white = white * torch.from_numpy(tint(rng, 0.3)).float()
    x = image * (gain * white / white.mean()).view(1, 3, 1, 1)
    if degrade:
        if rng.random() < 0.4:  # a small picture enlarged
            scale = rng.uniform(0.5, 1.0)
            small = F.interpolate(x, scale_factor=scale, mode="bilinear", antialias=True, align_corners=False)
            x = F.interpolate(small, image.shape[-2:], mode="bicubic", align_corners=False).clamp(min=0)
        if rng.random() < 0.4:
            x = gaussian_blur(x[0], rng.uniform(0.35, 1.1))[None]
        shot = 0.006 * rng.random() ** 4
        noise = torch.from_numpy(rng.standard_normal(x.shape, dtype=np.float32))
        x = x + noise * (shot * x.clamp(min=0) * 0.5 + (0.004 * rng.random()) ** 2).sqrt()
    x = x.clamp(min=0)
    x = torch.where(x > 0.7, 0.7 + 0.3 * torch.tanh((x - 0.7) / 0.3 * 0.8), x)  # highlights roll off
    x = linear_to_srgb(x).clamp(0, 1)
    if degrade and rng.random() < 0.75:  # cameras and web sites sharpen
        x = (x + rng.uniform(0.2, 1.3) * (x - gaussian_blur(x[0], rng.uniform(0.7, 1.4))[None])).clamp(0, 1)
    x = x + rng.uniform(0.1, 1.0) * (x * x * (3 - 2 * x) - x)  # contrast
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * (0.0 if rng.random() < 0.03 else math.exp(rng.normal(0.07, 0.14)))
    x = x.clamp(0, 1)
    if degrade and rng.random() < 0.75:
        x = _jpeg(x, int(rng.integers(35, 96)))
    return x


def _jpeg(x: Tensor, quality: int) -> Tensor:
    buffer = io.BytesIO()
    Image.fromarray((x[0].permute(1, 2, 0) * 255 + 0.5).byte().numpy()).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as image:
        return torch.from_numpy(np.array(image, np.float32) / 255).permute(2, 0, 1)[None]
