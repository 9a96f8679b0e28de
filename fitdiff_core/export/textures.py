"""Texture maps as PNG: albedo in sRGB, normals as n / 2 + 0.5."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

from ..errors import UserError
from ..image import encode_png, linear_to_srgb, write_atomic
from ..maps import TextureMaps


def map_images(maps: TextureMaps, flip_green: bool = False) -> dict[str, Tensor]:
    """Images `[3, H, W]` in 0..1 by name: "diffuse" and "specular" in sRGB, "normal" as n / 2 + 0.5.

    maps: of one head
    flip_green: normals with y down (DirectX, Unreal) instead of y up (OpenGL, glTF); default False
    Raises UserError for a batch of several heads, or for values that are not finite.
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
    """Write `{prefix}diffuse.png`, `{prefix}specular.png` and `{prefix}normal.png`; returns the paths by map name.

    folder: where to write
    maps, flip_green: as in `map_images`
    bits: per channel, 8 (default) or 16
    prefix: of the file names; default none
    Raises UserError as `map_images`, or if a file cannot be written.
    """
    pictures = {name: encode_png(picture, bits) for name, picture in map_images(maps, flip_green).items()}
    return {name: write_atomic(Path(folder) / f"{prefix}{name}.png", data) for name, data in pictures.items()}
