"""Avatars as files: GLB, OBJ, and the texture maps as PNGs."""

from .glb import write_glb
from .obj import write_obj
from .textures import write_maps

__all__ = ["write_glb", "write_maps", "write_obj"]
