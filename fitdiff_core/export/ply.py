"""Stanford PLY, binary: one mesh with normal, uv and colour per vertex, for MeshLab, CloudCompare and point tools."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from .. import __version__
from ..files import write_atomic
from ..hair.underlay import worn_maps
from ..image import linear_to_srgb
from .hair import hair_part, hair_vertex_colors, lash_part
from .mesh import split_parts, unit_scale
from .obj import plain_stem
from .textures import write_maps

if TYPE_CHECKING:
    from ..avatar import Avatar
    from ..scene import Scene

PROPERTIES = [(name, "<f4") for name in ("x", "y", "z", "nx", "ny", "nz", "s", "t")]
PROPERTIES += [(name, "u1") for name in ("red", "green", "blue")]
VERTEX = np.dtype(PROPERTIES)
FACE = np.dtype([("count", "u1"), ("indices", "<i4", 3)])


def write_ply(
    path: str | os.PathLike,
    avatar: Avatar,
    texture_size: int | None = None,
    flip_green: bool = False,
    scene: Scene | None = None,
    unit: str = "metres",
    bits: int = 8,
) -> Path:
    """Write an avatar's head as `NAME.ply` (binary, little-endian) and `NAME_{diffuse,specular,normal}.png`.

    Skin, teeth, eyes and hair are one mesh, because PLY has no materials. The colour is the diffuse map at the vertex,
    sRGB, 8 bits. `s`, `t` are the uv, t from the bottom. Arguments, result and errors as `write_obj`.
    """
    path = Path(path)
    scale = unit_scale(unit)
    maps = worn_maps(avatar)
    maps = maps if texture_size is None else maps.resize(texture_size)
    parts = split_parts(avatar, scene)
    stem = plain_stem(path)
    pictures = write_maps(path.parent, maps, flip_green, bits, prefix=f"{stem}_")
    uv = np.concatenate([p.uv for p in parts])
    colors = vertex_colors(avatar, uv)
    cards = lash_part(avatar, scene, both_faces=False), hair_part(avatar, scene, both_faces=False)
    for hair in filter(None, cards):
        parts.append(hair.part)
        colors = np.concatenate([colors, hair_vertex_colors(hair)])
        uv = np.concatenate([uv, hair.part.uv])
    vertices = np.zeros(len(uv), VERTEX)
    positions = np.concatenate([p.positions for p in parts]) * scale
    for names, values in (
        ("xyz", positions),
        (("nx", "ny", "nz"), np.concatenate([p.normals for p in parts])),
        ("st", uv),
        (("red", "green", "blue"), colors),
    ):
        for name, column in zip(names, values.T, strict=True):
            vertices[name] = column
    starts = np.cumsum([0] + [len(p.positions) for p in parts])[:-1]
    triangles = np.concatenate([p.indices + start for p, start in zip(parts, starts, strict=True)])
    faces = np.zeros(len(triangles), FACE)
    faces["count"], faces["indices"] = 3, triangles
    types = {"<f4": "float", "u1": "uchar"}
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"comment FitDiff {__version__}: {unit}, y up, facing +z",
        f"comment TextureFile {pictures['diffuse'].name}",
        f"element vertex {len(vertices)}",
        *(f"property {types[kind]} {name}" for name, kind in PROPERTIES),
        f"element face {len(faces)}",
        "property list uchar int vertex_indices",
        "end_header\n",
    ]
    return write_atomic(path, "\n".join(header).encode() + vertices.tobytes() + faces.tobytes())


@torch.no_grad()
def vertex_colors(avatar: Avatar, uv: np.ndarray) -> np.ndarray:
    """Diffuse map at uv `[N, 2]` (v from the bottom) -> sRGB `[N, 3]` uint8; bilinear, in linear light."""
    at = torch.from_numpy(uv) * torch.tensor([2.0, -2.0]) + torch.tensor([-1.0, 1.0])
    diffuse = worn_maps(avatar).diffuse[:1].detach().float().cpu()
    values = F.grid_sample(diffuse, at[None, None], padding_mode="border", align_corners=False)[0, :, 0].T
    return (linear_to_srgb(values.clamp(0, 1)) * 255 + 0.5).byte().numpy()
