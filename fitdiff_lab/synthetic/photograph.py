"""Renders an avatar in a scene as a photo from a phone or a web page."""

from __future__ import annotations

import io
import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from fitdiff_core.image import LUMINANCE, linear_to_srgb
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
    """A random photo of an avatar: sRGB `[1, 3, H, W]` in 0..1, of `scene.size`.

    avatar, scene: of batch 1.
    rng: all draws (background, hair, accessories, camera).
    attributes: of the person, for hair with volume and glasses; default none of them.
    degrade: add blur, noise, sharpening and JPEG compression.
    balance: least and largest share of the light's colour that white balance removes.
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
        long_hair = LongHair(attributes, camera, light, size, rng)
        background = shoulders(long_hair.behind(background), camera, lit, rng)
        haired = hair_volume(head, vertices, vertex_normals(vertices, head.triangles), attributes, rng)
        surface = cast_shadows(head, haired, light, int(rng.integers(1, 4)))
        image = render(haired, surface, avatar.maps, camera, light, size, background).image
        points = head.landmarks(vertices, "68")[0]
        if rng.random() < (0.06 if attributes.age < 45 else 0.16):
            image = glasses(image, points, camera, rng)
        image = long_hair.before(image)
        if rng.random() < 0.03:
            image = fingers(image, points, camera, rng)
    face = face_luminance(image, camera, head, vertices, size)
    return develop(image, face, lit, rng, degrade, balance)


def face_luminance(image: Tensor, camera, head, vertices: Tensor, size: tuple[int, int]) -> float:
    """Mean luminance of the linear image in the box of the landmarks."""
    points = camera.project(head.landmarks(vertices, "68"), size)[0]
    low, high = points.amin(0).long(), points.amax(0).long()
    x0, y0 = max(int(low[0]), 0), max(int(low[1]), 0)
    part = image[..., y0 : max(int(high[1]), y0 + 2), x0 : max(int(high[0]), x0 + 2)]
    part = part if part.numel() else image
    return float((part * torch.tensor(LUMINANCE).view(1, 3, 1, 1)).sum(1).mean().clamp(min=1e-4))


def develop(
    image: Tensor, face: float, lit: Tensor, rng: np.random.Generator, degrade: bool, balance: tuple[float, float]
) -> Tensor:
    """Exposure, white balance and tone curve, then the effects of lens, sensor and compression.

    image: linear `[1, 3, H, W]`. face: mean luminance of the face. lit: `[3]` light on the scene.
    """
    # cameras expose for the whole scene: dark faces come out darker, but less so than their albedo
    target = 0.21 * (face / 0.25) ** rng.uniform(0.1, 0.5) * math.exp(rng.normal(0, 0.28))
    gain = min(target, 0.42) / face
    # white balance removes most of the light's colour, with an error
    white = (lit / lit.mean().clamp(min=1e-4)).clamp(min=0.2) ** -rng.uniform(*balance)
    white = white * torch.from_numpy(tint(rng, 0.3)).float()
    x = image * (gain * white / white.mean()).view(1, 3, 1, 1)
    if degrade:
        if rng.random() < 0.4:  # an enlarged small picture
            scale = rng.uniform(0.5, 1.0)
            small = F.interpolate(x, scale_factor=scale, mode="bilinear", antialias=True, align_corners=False)
            x = F.interpolate(small, image.shape[-2:], mode="bicubic", align_corners=False).clamp(min=0)
        if rng.random() < 0.4:
            x = gaussian_blur(x[0], rng.uniform(0.35, 1.1))[None]
        shot = 0.006 * rng.random() ** 4
        noise = torch.from_numpy(rng.standard_normal(x.shape, dtype=np.float32))
        x = x + noise * (shot * x.clamp(min=0) * 0.5 + (0.004 * rng.random()) ** 2).sqrt()
    x = x.clamp(min=0)
    x = torch.where(x > 0.7, 0.7 + 0.3 * torch.tanh((x - 0.7) / 0.3 * 0.8), x)  # soft limit of the highlights
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
    """Compress and read back. x: sRGB `[1, 3, H, W]`."""
    buffer = io.BytesIO()
    Image.fromarray((x[0].permute(1, 2, 0) * 255 + 0.5).byte().numpy()).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as image:
        return torch.from_numpy(np.array(image, np.float32) / 255).permute(2, 0, 1)[None]
