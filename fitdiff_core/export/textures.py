"""Texture maps as PNGs: albedo in sRGB, normals as colours."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

from ..errors import UserError
from ..files import write_atomic
from ..image import encode_png, linear_to_srgb
from ..maps import TextureMaps


def map_images(maps: TextureMaps, flip_green: bool = False) -> dict[str, Tensor]:
    """The maps of one head as pictures `[3, H, W]` in 0..1: diffuse and specular in sRGB, normal as n / 2 + 0.5.

    flip_green: normals with y down (DirectX, Unreal) in place of y up (OpenGL, glTF).
    Raises UserError for a batch of several heads or maps that are not finite.
    """
    if len(maps) != 1:
        raise UserError(f"A file holds one head, not {len(maps)}; pick one of the batch.")
    if not torch.isfinite(maps.stack()).all():
        raise UserError("The texture maps hold NaN or infinite values; decode or load them again.")
    normal = maps.normal[0].detach()
    if flip_green:
        normal = normal * normal.new_tensor([1, -1, 1])[:, None, None]
    return {
        "diffuse": linear_to_srgb(maps.diffuse[0].detach().clamp(0, 1)),
        "specular": linear_to_srgb(maps.specular[0].detach().clamp(0, 1)),
        "normal": normal * 0.5 + 0.5,
    }


def write_maps(
    folder: str | os.PathLike, maps: TextureMaps, flip_green: bool = False, bits: int = 8, prefix: str = ""
) -> dict[str, Path]:
    """Write `{prefix}diffuse.png`, `{prefix}specular.png` and `{prefix}normal.png`; see `map_images`.

    bits: 8 or 16 a channel. Returns the paths by map name. Raises UserError where a file cannot be written.
    """
    pictures = {name: encode_png(picture, bits) for name, picture in map_images(maps, flip_green).items()}
    return {name: write_atomic(Path(folder) / f"{prefix}{name}.png", data) for name, data in pictures.items()}
