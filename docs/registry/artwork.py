"""Draw the registry's icon and banner beside this file, from the shipped model: heads of people who do not exist.

PYTHONPATH=. python docs/registry/artwork.py      (from the repository's root; again after every new checkpoint)
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from fitdiff_core import pipeline
from fitdiff_core.render import Camera, rig
from fitdiff_core.render.passes import normal_image, render_passes
from fitdiff_core.scene import Scene

HERE = Path(__file__).parent
GROUND = (26, 28, 34)
SEED = 8  # a head that looks well
LAMPS = (  # azimuth, elevation, kelvin, intensity of the banner's heads
    (70, 20, 3200, 3.4),
    (35, 35, 5000, 3.0),
    (0, 45, 6500, 2.8),
    (-35, 30, 8000, 3.0),
    (-75, 15, 10000, 3.4),
)


def lit(avatar, lamp, yaw: float, size: tuple[int, int]) -> Image.Image:
    """RGBA picture of the head under one lamp, its mask as alpha."""
    azimuth, elevation, kelvin, intensity = lamp
    light = rig.combine_lights(
        rig.directional_light(azimuth, elevation, rig.temperature_rgb(kelvin) * intensity),
        rig.uniform_light((0.12,) * 3),
    )
    image, mask = pipeline.render_avatar(
        avatar, Scene.portrait(1), size, light=light, camera=Camera.orbit(yaw, 2, 0.9, 18.5)
    )
    return rgba(image, mask)


def rgba(image: torch.Tensor, mask: torch.Tensor) -> Image.Image:
    """sRGB `[1, 3, H, W]` and mask -> RGBA, faded out below: the neck ends in a rim."""
    height = mask.shape[-2]
    fade = ((1 - torch.arange(height) / height) / 0.22).clamp(0, 1).view(1, 1, -1, 1)
    stack = torch.cat([image, mask * fade], 1)[0].clamp(0, 1).permute(1, 2, 0)
    return Image.fromarray((stack.numpy() * 255 + 0.5).astype(np.uint8))


def normals(avatar, yaw: float, size: tuple[int, int]) -> Image.Image:
    found = render_passes(avatar.vertices(Scene.portrait(1)), avatar.head, Camera.orbit(yaw, 2, 0.9, 18.5), size, None)
    return rgba(normal_image(found.normal, found.mask, "opengl"), found.mask)


def icon(avatar, side: int = 256) -> Image.Image:
    """One head: its shape on the left, its skin in light on the right, on a rounded tile."""
    big = 3 * side
    tile = Image.new("RGB", (big, big), GROUND)
    for picture, box in (
        (normals(avatar, 0, (big, big)), (0, 0, big // 2, big)),
        (lit(avatar, LAMPS[1], 0, (big, big)), (big // 2, 0, big, big)),
    ):
        part = picture.crop(box)
        tile.paste(part, box[:2], part.getchannel("A"))
    corners = Image.new("L", (big, big), 0)
    ImageDraw.Draw(corners).rounded_rectangle((0, 0, big - 1, big - 1), big // 6, fill=255)
    tile.putalpha(corners)
    return tile.resize((side, side), Image.Resampling.LANCZOS)


def banner(avatar, width: int = 1260, height: int = 540) -> Image.Image:
    """One head turning under five lamps, and the name; 21:9 as the registry asks."""
    sheet = Image.new("RGB", (width, height), GROUND)
    step = width // len(LAMPS)
    for i, lamp in enumerate(LAMPS):
        head = lit(avatar, lamp, 50 - 25 * i, (350, 350))
        sheet.paste(head, (step * i + (step - 350) // 2, 46), head.getchannel("A"))
    pen = ImageDraw.Draw(sheet)
    pen.text((width // 2, 448), "FitDiff", fill=(240, 240, 240), anchor="mm", font=ImageFont.load_default(58))
    pen.text(
        (width // 2, 502),
        "one photo, one relightable 3D head",
        fill=(170, 175, 185),
        anchor="mm",
        font=ImageFont.load_default(26),
    )
    return sheet


def main() -> None:
    torch.set_num_threads(1)
    model = pipeline.load_model()
    latent, _ = pipeline.sample(model, seed=SEED, steps=20, cfg_scale=1.0, sampler="dpmpp_2m")
    avatar = pipeline.decode(model, latent)
    icon(avatar).save(HERE / "icon.png", optimize=True)
    banner(avatar).save(HERE / "banner.jpg", quality=86, optimize=True)
    for name in ("icon.png", "banner.jpg"):
        print(f"docs/registry/{name}: {(HERE / name).stat().st_size // 1024} KB")


if __name__ == "__main__":
    main()
