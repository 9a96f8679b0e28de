"""USDZ: a USD stage and its PNG images in one uncompressed archive, for Apple's viewers, Omniverse, Houdini and
Blender.

The stage is text (`.usda`), which the USDZ specification allows, so only the standard library is needed. Blendshapes
are not
written: as text, a UsdSkel rig would be several times the size of the GLB.
"""

from __future__ import annotations

import io
import os
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import __version__
from ..files import write_atomic
from ..hair.underlay import worn_maps
from ..image import encode_png
from ..render.shading import F0_SCALE
from .hair import CUTOFF, LASHES, NAME, hair_part, lash_part
from .mesh import UNITS, Part, split_parts, unit_scale
from .textures import map_images

if TYPE_CHECKING:
    from ..avatar import Avatar
    from ..scene import Scene

ALIGNMENT = 64  # bytes, of each file's data inside the archive (USDZ specification)


def write_usdz(
    path: str | os.PathLike,
    avatar: Avatar,
    texture_size: int | None = None,
    scene: Scene | None = None,
    unit: str = "metres",
    bits: int = 8,
) -> Path:
    """Write an avatar's head as `.usdz` with its maps inside. Arguments, result and errors as `write_obj`.

    The material is UsdPreviewSurface in the specular workflow, where `specularColor` is F0. Readers that support only
    the metallic workflow use the index of refraction, 1.5, which is an F0 of 4 %. The normal map has +y up, as USD
    defines.
    """
    maps = worn_maps(avatar)
    maps = maps if texture_size is None else maps.resize(texture_size)
    pictures = {f"textures/{k}.png": encode_png(v, bits) for k, v in map_images(maps).items()}
    name = re.sub(r"[^A-Za-z0-9_]", "_", Path(path).stem)
    parts = split_parts(avatar, scene)
    for hair in filter(None, (lash_part(avatar, scene), hair_part(avatar, scene))):
        parts.append(hair.part)
        kind = hair.part.name.lower()
        pictures[f"textures/{kind}.png"] = encode_png(hair.color)
        pictures[f"textures/{kind}_normal.png"] = encode_png(hair.normal)
    stage = _stage(parts, unit)
    return write_atomic(path, _archive({f"{name}.usda": stage.encode(), **pictures}))


def _archive(files: dict[str, bytes]) -> bytes:
    """Uncompressed zip archive with each file's data at a multiple of `ALIGNMENT`. The stage must be first."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            start = buffer.tell() + 30 + len(name.encode()) + 4  # local header, name, head of the extra field
            pad = -start % ALIGNMENT
            info.extra = (0x1986).to_bytes(2, "little") + pad.to_bytes(2, "little") + bytes(pad)
            archive.writestr(info, data)
    return buffer.getvalue()


def _stage(parts: list[Part], unit: str) -> str:
    """Text of the stage."""
    scale = unit_scale(unit)
    meshes = "".join(_mesh(part, scale) for part in parts)
    materials = "".join(_hair_material(part) if part.name in (NAME, LASHES) else _material(part) for part in parts)
    return f"""#usda 1.0
(
    defaultPrim = "Avatar"
    doc = "FitDiff {__version__}"
    metersPerUnit = {1 / UNITS[unit]:g}
    upAxis = "Y"
)

def Xform "Avatar" (
    kind = "component"
)
{{{meshes}
    def Scope "Materials"
    {{{materials}    }}
}}
"""


def _mesh(part: Part, scale: float) -> str:
    """Text of one part's mesh. scale: units per metre."""
    points = part.positions * scale
    return f'''
    def Mesh "{part.object}" (
        prepend apiSchemas = ["MaterialBindingAPI"]
    )
    {{
        uniform token subdivisionScheme = "none"
        float3[] extent = [{_tuples(np.stack([points.min(0), points.max(0)]), 7)}]
        int[] faceVertexCounts = [{", ".join(["3"] * len(part.indices))}]
        int[] faceVertexIndices = [{", ".join(map(str, part.indices.reshape(-1).tolist()))}]
        point3f[] points = [{_tuples(points, 7)}]
        normal3f[] normals = [{_tuples(part.normals, 5)}] (
            interpolation = "vertex"
        )
        texCoord2f[] primvars:st = [{_tuples(part.uv, 6)}] (
            interpolation = "vertex"
        )
        rel material:binding = </Avatar/Materials/{part.name}>
    }}
'''


def _material(part: Part) -> str:
    """Text of one part's material."""
    f0 = F0_SCALE
    return f'''
        def Material "{part.name}"
        {{
            token outputs:surface.connect = </Avatar/Materials/{part.name}/Surface.outputs:surface>

            def Shader "Surface"
            {{
                uniform token info:id = "UsdPreviewSurface"
                color3f inputs:diffuseColor.connect = </Avatar/Materials/{part.name}/Diffuse.outputs:rgb>
                float inputs:ior = 1.5
                float inputs:metallic = 0
                normal3f inputs:normal.connect = </Avatar/Materials/{part.name}/Normal.outputs:rgb>
                float inputs:roughness = {part.roughness}
                color3f inputs:specularColor.connect = </Avatar/Materials/{part.name}/Specular.outputs:rgb>
                int inputs:useSpecularWorkflow = 1
                token outputs:surface
            }}

            def Shader "Uv"
            {{
                uniform token info:id = "UsdPrimvarReader_float2"
                string inputs:varname = "st"
                float2 outputs:result
            }}
{_texture(part, "Diffuse", "sRGB", (1, 1, 1, 1), (0, 0, 0, 0))}
{_texture(part, "Specular", "sRGB", (f0, f0, f0, 1), (0, 0, 0, 0))}
{_texture(part, "Normal", "raw", (2, 2, 2, 1), (-1, -1, -1, 0))}        }}
'''


def _hair_material(part: Part) -> str:
    """Text of the material of hair or lashes: cut-out alpha, metallic workflow."""
    return f'''
        def Material "{part.name}"
        {{
            token outputs:surface.connect = </Avatar/Materials/{part.name}/Surface.outputs:surface>

            def Shader "Surface"
            {{
                uniform token info:id = "UsdPreviewSurface"
                color3f inputs:diffuseColor.connect = </Avatar/Materials/{part.name}/{part.name}.outputs:rgb>
                float inputs:ior = 1.5
                float inputs:metallic = 0
                normal3f inputs:normal.connect = </Avatar/Materials/{part.name}/{part.name}_Normal.outputs:rgb>
                float inputs:opacity.connect = </Avatar/Materials/{part.name}/{part.name}.outputs:a>
                float inputs:opacityThreshold = {CUTOFF}
                float inputs:roughness = {part.roughness}
                token outputs:surface
            }}

            def Shader "Uv"
            {{
                uniform token info:id = "UsdPrimvarReader_float2"
                string inputs:varname = "st"
                float2 outputs:result
            }}
{_texture(part, part.name, "sRGB", (1, 1, 1, 1), (0, 0, 0, 0), alpha=True)}
{_texture(part, f"{part.name}_Normal", "raw", (2, 2, 2, 1), (-1, -1, -1, 0))}        }}
'''


def _texture(part: Part, name: str, space: str, scale: tuple, bias: tuple, alpha: bool = False) -> str:
    """Text of a texture shader: value = scale * texel + bias, RGBA. space: "sRGB" or "raw". alpha: with an output a."""
    more = "\n                float outputs:a" if alpha else ""
    return f'''
            def Shader "{name}"
            {{
                uniform token info:id = "UsdUVTexture"
                float4 inputs:bias = {bias}
                asset inputs:file = @textures/{name.lower()}.png@
                float4 inputs:scale = {scale}
                token inputs:sourceColorSpace = "{space}"
                float2 inputs:st.connect = </Avatar/Materials/{part.name}/Uv.outputs:result>
                token inputs:wrapS = "clamp"
                token inputs:wrapT = "clamp"
                float3 outputs:rgb{more}
            }}
'''


def _tuples(values: np.ndarray, digits: int) -> str:
    """Rows of `values [N, M]` as "(a, b, ...), ..." with significant digits."""
    return ", ".join("(" + ", ".join(f"{x:.{digits}g}" for x in row) + ")" for row in values.tolist())
