"""`write_avatar`: one function for all file formats, and the options that each format has."""

from __future__ import annotations

import os
from dataclasses import dataclass
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
    from ..motion import Motion
    from ..scene import Scene

FORMATS = ("glb", "obj", "ply", "usdz")
MAP_FILES = {"none": None, "8-bit": 8, "16-bit": 16}  # PNGs of the maps beside the mesh -> bits per channel


@dataclass(frozen=True)
class ExportOptions:
    """How an avatar is written.

    format: one of `FORMATS`
    texture_size: side of the maps in pixels; None keeps their size
    flip_green: write the normal map with y down (DirectX, Unreal). Not inside a usdz, where USD defines +y up
    unit: "metres" or "centimetres" (obj, ply, usdz); a glb is always in metres
    map_files: "none", "8-bit" or "16-bit": PNGs `NAME_diffuse.png`, `NAME_specular.png`, `NAME_normal.png` beside the
        mesh. obj and ply always have them, 8-bit for "none"
    blendshapes: write the 52 ARKit morph targets (glb only)
    extras: texts for `asset.extras` of a glb, such as ComfyUI's "workflow" and "prompt"; see `write_glb`
    rig: write joints and a skin (glb only)
    visemes: after the blendshapes, write 15 visemes and the shapes that avatar players ask for (glb only)
    motion: becomes the file's animation (glb only)
    light: write a third of the triangles, with the same blendshapes, joints and UVs (glb only)
    """

    format: str = "glb"
    texture_size: int | None = None
    flip_green: bool = False
    unit: str = "metres"
    map_files: str = "none"
    blendshapes: bool = True
    extras: dict[str, str] | None = None
    rig: bool = True
    visemes: bool = False
    motion: Motion | None = None
    light: bool = False


def format_error(format: str, unit: str = "metres") -> str | None:
    """Error message for a format that is unknown or does not have `unit`; None if the choice is valid."""
    if format not in FORMATS:
        return f"Unknown format '{format}'; choose one of {', '.join(FORMATS)}."
    if format == "glb" and unit != "metres":
        return (
            f"A GLB is in metres by definition, not in {unit}; choose metres, or obj, ply or usdz. Unreal scales a GLB "
            "itself."
        )
    return None


def write_avatar(
    path: str | os.PathLike, avatar: Avatar, options: ExportOptions | None = None, scene: Scene | None = None
) -> Path:
    """Write an avatar as a mesh file with its maps; returns the path of the mesh.

    path: mesh file to write
    avatar: batch 1
    options: format and its options; None for the defaults of `ExportOptions`
    scene: its expression and gaze pose the head (in a glb with blendshapes: initial weights); None: neutral
    Raises UserError for invalid options, and as `write_glb`.
    """
    o = options or ExportOptions()
    if error := format_error(o.format, o.unit):
        raise UserError(error)
    if o.motion is not None and o.format != "glb":
        raise UserError(f"A {o.format} file holds no animation; choose glb, or leave the motion out.")
    if o.map_files not in MAP_FILES:
        raise UserError(f"Unknown map files '{o.map_files}'; choose one of {', '.join(MAP_FILES)}.")
    path, bits = Path(path), MAP_FILES[o.map_files]
    if o.format in ("obj", "ply"):
        write = write_obj if o.format == "obj" else write_ply
        return write(path, avatar, o.texture_size, o.flip_green, scene, o.unit, bits or 8)
    if o.format == "glb":
        own = (o.texture_size, o.flip_green, scene, o.blendshapes, o.extras, o.rig, o.visemes, o.motion, o.light)
        path = write_glb(path, avatar, *own)
    else:
        path = write_usdz(path, avatar, o.texture_size, scene, o.unit)
    if bits:
        maps = avatar.maps if o.texture_size is None else avatar.maps.resize(o.texture_size)
        write_maps(path.parent, maps, o.flip_green, bits, prefix=f"{path.stem}_")
    return path
