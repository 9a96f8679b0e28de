"""glTF 2.0 binary: mesh and textures in one file, for Blender, Unreal, three.js and every viewer.

Two meshes, "Head" and "Eyes", share three PNGs. `KHR_materials_specular` carries the specular albedo; it is used, not
required, so a viewer that does not know it shows plain 4 % gloss.
"""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import __version__
from ..image import encode_png, write_atomic
from .mesh import Part, split
from .textures import map_images

if TYPE_CHECKING:
    from ..avatar import Avatar

FLOAT, UINT16, UINT32 = 5126, 5123, 5125
VERTEX_BUFFER, INDEX_BUFFER = 34962, 34963
LINEAR, LINEAR_MIPMAP_LINEAR, CLAMP = 9729, 9987, 33071
IMAGES = ("diffuse", "normal", "specular")


def write_glb(
    path: str | os.PathLike, avatar: Avatar, texture_size: int | None = None, flip_green: bool = False
) -> Path:
    """Write a batch-1 avatar's neutral head as `.glb`; returns the path.

    texture_size: resize the maps to this many pixels a side (default: as they are). flip_green: write the normal map
    y-down for engines that expect DirectX's (not what glTF specifies). Metres, +y up, facing +z.
    Raises UserError for a batch, values that are not finite, or a file that cannot be written.
    """
    return write_atomic(path, encode_glb(avatar, texture_size, flip_green))


def encode_glb(avatar: Avatar, texture_size: int | None = None, flip_green: bool = False) -> bytes:
    """The bytes `write_glb` writes."""
    maps = avatar.maps if texture_size is None else avatar.maps.resize(texture_size)
    pictures = map_images(maps, flip_green)
    parts = split(avatar)
    binary = _Binary()
    meshes = [_mesh(part, material, binary) for material, part in enumerate(parts)]
    images = [
        {"name": name, "mimeType": "image/png", "bufferView": binary.view(encode_png(pictures[name]))}
        for name in IMAGES
    ]
    document = {
        "asset": {"version": "2.0", "generator": f"FitDiff {__version__}"},
        "extensionsUsed": ["KHR_materials_specular"],
        "scene": 0,
        "scenes": [{"name": "FitDiff", "nodes": list(range(len(meshes)))}],
        "nodes": [{"name": mesh["name"], "mesh": i} for i, mesh in enumerate(meshes)],
        "meshes": meshes,
        "materials": [_material(part) for part in parts],
        "textures": [{"name": name, "sampler": 0, "source": i} for i, name in enumerate(IMAGES)],
        "images": images,
        "samplers": [{"magFilter": LINEAR, "minFilter": LINEAR_MIPMAP_LINEAR, "wrapS": CLAMP, "wrapT": CLAMP}],
        "accessors": binary.accessors,
        "bufferViews": binary.views,
        "buffers": [{"byteLength": len(binary.data)}],
    }
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    size = 12 + 8 + len(text) + 8 + len(binary.data)
    return b"".join([
        struct.pack("<4sII", b"glTF", 2, size), struct.pack("<I4s", len(text), b"JSON"), text,
        struct.pack("<I4s", len(binary.data), b"BIN\0"), bytes(binary.data),
    ])


def _material(part: Part) -> dict:
    return {
        "name": f"FitDiff_{part.name}",
        "pbrMetallicRoughness": {
            "baseColorTexture": {"index": IMAGES.index("diffuse")},
            "metallicFactor": 0,
            "roughnessFactor": part.roughness,
        },
        "normalTexture": {"index": IMAGES.index("normal")},
        # F0 = 0.04 * factor * texture; ours is 0.08 * specular
        "extensions": {
            "KHR_materials_specular": {
                "specularColorFactor": [2, 2, 2],
                "specularColorTexture": {"index": IMAGES.index("specular")},
            }
        },
    }


def _mesh(part: Part, material: int, binary: _Binary) -> dict:
    # glTF counts v from the top. The tangent's w stays: it points the bitangent up in the picture, as +Y normals want
    uv = np.stack([part.uv[:, 0], 1 - part.uv[:, 1]], 1)
    primitive = {
        "attributes": {
            "POSITION": binary.accessor(part.positions, "VEC3", VERTEX_BUFFER, bounds=True),
            "NORMAL": binary.accessor(part.normals, "VEC3", VERTEX_BUFFER),
            "TANGENT": binary.accessor(part.tangents, "VEC4", VERTEX_BUFFER),
            "TEXCOORD_0": binary.accessor(uv, "VEC2", VERTEX_BUFFER),
        },
        # the largest uint16 is reserved (primitive restart)
        "indices": binary.accessor(
            part.indices.reshape(-1).astype("<u2" if len(part.positions) < 0xFFFF else "<u4"), "SCALAR", INDEX_BUFFER
        ),
        "material": material,
    }
    return {"name": {"Skin": "Head"}.get(part.name, part.name), "primitives": [primitive]}


class _Binary:
    """The file's binary chunk as it grows, every view on a 4-byte border."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[dict] = []
        self.accessors: list[dict] = []

    def view(self, data: bytes, target: int | None = None) -> int:
        view = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(data)}
        self.views.append(view if target is None else {**view, "target": target})
        self.data += data + b"\0" * (-len(data) % 4)
        return len(self.views) - 1

    def accessor(self, values: np.ndarray, kind: str, target: int, bounds: bool = False) -> int:
        component = {"u2": UINT16, "u4": UINT32, "f4": FLOAT}[values.dtype.str[1:]]
        values = values.astype(values.dtype.newbyteorder("<"))
        accessor = {
            "bufferView": self.view(values.tobytes(), target), "componentType": component, "count": len(values),
            "type": kind,
        }
        if bounds:  # as float32: the validator compares them with the stored values
            accessor |= {"min": values.min(0).astype(float).tolist(), "max": values.max(0).astype(float).tolist()}
        self.accessors.append(accessor)
        return len(self.accessors) - 1
