"""Writes avatars as files: GLB with blendshapes, OBJ, PLY, USDZ, and texture maps as PNG."""

from .files import FORMATS, MAP_FILES, ExportOptions, format_error, write_avatar
from .glb import write_glb
from .mesh import UNITS
from .obj import write_obj
from .ply import write_ply
from .textures import write_maps
from .usdz import write_usdz

__all__ = [
    "FORMATS",
    "MAP_FILES",
    "UNITS",
    "ExportOptions",
    "format_error",
    "write_avatar",
    "write_glb",
    "write_maps",
    "write_obj",
    "write_ply",
    "write_usdz",
]
