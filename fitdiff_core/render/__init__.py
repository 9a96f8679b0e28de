"""A small differentiable renderer in plain torch: rasterize, interpolate, shade, antialias."""

from .antialiasing import EdgeTable, antialias
from .camera import Camera
from .interpolation import interpolate, texture
from .light import PRESETS, Light
from .normals import tangents, vertex_normals
from .rasterizer import BACKENDS, rasterize
from .renderer import RenderOutput, render
from .shading import shade

__all__ = [
    "BACKENDS",
    "PRESETS",
    "Camera",
    "EdgeTable",
    "Light",
    "RenderOutput",
    "antialias",
    "interpolate",
    "rasterize",
    "render",
    "shade",
    "tangents",
    "texture",
    "vertex_normals",
]
