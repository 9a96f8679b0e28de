"""Texture maps as PNG: albedo in sRGB, normals as n / 2 + 0.5."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import UserError
from ..files import write_atomic
from ..filters import normalized_convolution
from ..hair.groom import grow_hair
from ..head.gloss import SKIN, skin_roughness
from ..image import encode_pngs, linear_to_srgb
from ..maps import MAP_NAMES, TextureMaps
from ..render.interpolation import interpolate
from ..render.orientation import raster_to_image

if TYPE_CHECKING:
    from ..avatar import Avatar
    from ..head import HeadModel

BLEED = 4 / 512  # of the texture's side: standard deviation of what fills the gaps between charts


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


def map_batch_images(maps: TextureMaps) -> dict[str, Tensor]:
    """`map_images` of a batch of heads: pictures `[B, 3, H, W]` by map name."""
    heads = [map_images(maps[i]) for i in range(len(maps))]
    return {name: torch.stack([head[name] for head in heads]) for name in MAP_NAMES}


@torch.no_grad()
def roughness_image(head: HeadModel, size: int = 64) -> Tensor:
    """glTF's metallic-roughness texture `[1, 3, size, size]`: roughness in green, for a mesh with one material for all
    parts."""
    rough = head.roughness.cpu().float()
    green = rough[: head.teeth_rows.start].mean().expand(size, size)
    for name in ("teeth", "eyes"):
        own = rough[head.vertex_region(name).cpu() > 0].mean()
        green = torch.lerp(green, own, head.region(name, size).cpu().float())
    return torch.stack([torch.zeros_like(green), green, torch.zeros_like(green)])[None]


@torch.no_grad()
def surface_image(avatar: Avatar, size: int) -> Tensor:
    """glTF's occlusion (red), roughness (green) and metalness (blue, 0) of one head `[3, size, size]`, linear.

    The roughness is that of the regions of the skin (see `head.gloss`). The occlusion is of the neutral head, under its
    hair.
    """
    head, style = avatar.head, avatar.hair[0] if avatar.hair else None
    light = head.occlusion.float().cpu()
    hair = None if style is None else grow_hair(head, avatar.shape, style)
    if hair is not None:
        light = light * hair.head_light
    values = torch.stack([light, skin_roughness(head, avatar.shape).float().cpu()], 1)
    rast = head.rasterize_atlas(size).cpu()
    drawn = raster_to_image(interpolate(values, rast, head.triangles.cpu()))
    covered = raster_to_image(rast[..., 3:] > 0).float()
    # beyond the charts their colours go on, so that smaller copies of the texture have no seams
    around = normalized_convolution(drawn, covered, BLEED * size)
    plain = torch.tensor([1.0, SKIN])[None, :, None, None].expand_as(drawn)
    around = torch.where(normalized_convolution(covered, torch.ones_like(covered), BLEED * size) > 0.02, around, plain)
    picture = torch.where(covered > 0, drawn, around)
    return torch.cat([picture, torch.zeros_like(covered)], 1)[0].clamp(0, 1)


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
    pictures = encode_pngs(map_images(maps, flip_green), bits)
    return {name: write_atomic(Path(folder) / f"{prefix}{name}.png", data) for name, data in pictures.items()}
