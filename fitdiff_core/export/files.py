"""One call for every file format: which there are, and what each can and cannot do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from .glb import write_glb
from .obj import write_obj
from .ply import write_ply
from .textures import write_maps
from .usdz import write_usdz

if TYPE_CHECKING:
    from ..avatar import Avatar
    from ..scene import Scene

FORMATS = ("glb", "obj", "ply", "usdz")
MAP_FILES = {"none": None, "8-bit": 8, "16-bit": 16}  # PNGs beside the mesh -> bits a channel


def problem(format: str, unit: str = "metres") -> str | None:
    """What is wrong with a choice of format and unit, if anything."""
    if format not in FORMATS:
        return f"Unknown format '{format}'; choose one of {', '.join(FORMATS)}."
    if format == "glb" and unit != "metres":
        return f"A GLB is in metres by definition, not in {unit}; choose metres, or obj, ply or usdz. Unreal scales a GLB itself."
    return None


def write_avatar(
    path: str | os.PathLike,
    avatar: Avatar,
    format: str = "glb",
    texture_size: int | None = None,
    flip_green: bool = False,
    scene: Scene | None = None,
    unit: str = "metres",
    map_files: str = "none",
    blendshapes: bool = True,
) -> Path:
    """Write a batch-1 avatar in any of `FORMATS`; returns the path of the mesh.

    map_files: "none", "8-bit" or "16-bit" PNGs named `NAME_diffuse.png`, ... beside the mesh; obj and ply always have
    them (8-bit for "none"). flip_green: not inside a usdz, whose normals are +Y by definition. Other arguments as `write_glb` (which alone has blendshapes) and `write_obj`.
    Raises UserError for a choice that the format has not, and as those two.
    """
    if wrong := problem(format, unit):
        raise UserError(wrong)
    if map_files not in MAP_FILES:
        raise UserError(f"Unknown map files '{map_files}'; choose one of {', '.join(MAP_FILES)}.")
    path, bits = Path(path), MAP_FILES[map_files]
    if format in ("obj", "ply"):
        write = write_obj if format == "obj" else write_ply
        return write(path, avatar, texture_size, flip_green, scene, unit, bits or 8)
    if format == "glb":
        path = write_glb(path, avatar, texture_size, flip_green, scene, blendshapes)
    else:
        path = write_usdz(path, avatar, texture_size, scene, unit)
    if bits:
        maps = avatar.maps if texture_size is None else avatar.maps.resize(texture_size)
        write_maps(path.parent, maps, flip_green, bits, prefix=f"{path.stem}_")
    return path
