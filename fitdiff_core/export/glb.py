"""glTF 2.0 binary: mesh and textures in one file.

Four meshes, "Head", "Teeth", "Eye_L" and "Eye_R", share three PNG images. The head has the 52 ARKit blendshapes as
morph targets, the teeth those of the jaw, each eye its own four eyeLook targets. The node of an eye is at the eye's
centre, so that it can be rotated. `KHR_materials_specular` carries the specular albedo. The extension is not
required: a viewer without it shows a specular reflectance of 4 %.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import __version__
from ..files import write_atomic
from ..hair.underlay import worn_maps
from ..image import encode_png
from ..render.shading import rough_f90
from .blendshapes import Target, eye_targets, face_targets
from .gltf_binary import INDEX_BUFFER, VERTEX_BUFFER, Binary
from .hair import CUTOFF, SPECULAR, hair_part
from .mesh import Part, split_parts
from .textures import map_images

if TYPE_CHECKING:
    from ..avatar import Avatar
    from ..scene import Scene

LINEAR, LINEAR_MIPMAP_LINEAR, CLAMP = 9729, 9987, 33071
IMAGES = ("diffuse", "normal", "specular")


def write_glb(
    path: str | os.PathLike,
    avatar: Avatar,
    texture_size: int | None = None,
    flip_green: bool = False,
    scene: Scene | None = None,
    blendshapes: bool = True,
) -> Path:
    """Write an avatar's head as `.glb`, in metres, +y up, facing +z; returns the path.

    path: file to write
    avatar: batch 1
    texture_size: side of the maps in pixels; None keeps their size
    flip_green: write the normal map with y down (DirectX; glTF specifies y up); default False
    scene: its expression becomes the initial weights of the morph targets, its gaze the rotation of the eyes. Without
        blendshapes it poses the vertices. None: neutral
    blendshapes: write the morph targets, about 9 MB; default True
    Raises UserError for a batch, values that are not finite, or a file that cannot be written.
    """
    return write_atomic(path, encode_glb(avatar, texture_size, flip_green, scene, blendshapes))


def encode_glb(
    avatar: Avatar,
    texture_size: int | None = None,
    flip_green: bool = False,
    scene: Scene | None = None,
    blendshapes: bool = True,
) -> bytes:
    """The bytes of the file; arguments and errors as `write_glb`."""
    maps = worn_maps(avatar)
    maps = maps if texture_size is None else maps.resize(texture_size)
    pictures = map_images(maps, flip_green)
    blendshapes = blendshapes and bool(avatar.head.expression_names)
    parts = split_parts(avatar, None if blendshapes else scene)
    binary = Binary()
    of_face = face_targets(avatar, [part for part in parts if part.pivot is None]) if blendshapes else {}
    meshes, nodes = [], []
    for material, part in enumerate(parts):
        node, targets, weights = {"name": part.object, "mesh": material}, (), None
        if part.name in of_face:
            targets = of_face[part.name]
            if scene is not None:
                weights = dict(zip(avatar.head.expression_names, scene.expression[0].tolist(), strict=True))
        elif blendshapes:
            targets = eye_targets(part)
            if scene is not None:
                node["rotation"] = _quaternion(*scene.gaze[0].tolist())
        if part.pivot is not None:
            node["translation"] = part.pivot.astype(float).tolist()
        meshes.append(_mesh(part, material, binary, targets, weights))
        nodes.append(node)
    names, materials = list(IMAGES), [_material(part) for part in parts]
    if hair := hair_part(avatar, scene, flip_green):
        meshes.append(_mesh(hair.part, len(materials), binary, (), None))
        meshes[-1]["primitives"][0]["attributes"]["COLOR_0"] = binary.accessor(hair.light, "VEC4", VERTEX_BUFFER)
        nodes.append({"name": hair.part.object, "mesh": len(materials)})
        materials.append(_hair_material(hair.part, len(names)))
        pictures |= {"hair": hair.color, "hair_normal": hair.normal}
        names += ["hair", "hair_normal"]
    images = [
        {"name": name, "mimeType": "image/png", "bufferView": binary.view(encode_png(pictures[name]))} for name in names
    ]
    document = {
        "asset": {"version": "2.0", "generator": f"FitDiff {__version__}"},
        "extensionsUsed": ["KHR_materials_specular"],
        "scene": 0,
        "scenes": [{"name": "FitDiff", "nodes": list(range(len(nodes)))}],
        "nodes": nodes,
        "meshes": meshes,
        "materials": materials,
        "textures": [{"name": name, "sampler": 0, "source": i} for i, name in enumerate(names)],
        "images": images,
        "samplers": [{"magFilter": LINEAR, "minFilter": LINEAR_MIPMAP_LINEAR, "wrapS": CLAMP, "wrapT": CLAMP}],
        "accessors": binary.accessors,
        "bufferViews": binary.views,
        "buffers": [{"byteLength": len(binary.data)}],
    }
    return _container(document, binary)


def _container(document: dict, binary: Binary) -> bytes:
    """GLB container (glTF 2.0, section 4): header, JSON chunk, binary chunk."""
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    size = 12 + 8 + len(text) + 8 + len(binary.data)
    return b"".join(
        [
            struct.pack("<4sII", b"glTF", 2, size),
            struct.pack("<I4s", len(text), b"JSON"),
            text,
            struct.pack("<I4s", len(binary.data), b"BIN\0"),
            bytes(binary.data),
        ]
    )


def _material(part: Part) -> dict:
    """glTF material of one part."""
    f90 = max(rough_f90(part.roughness), 0.08)  # never below the largest F0
    return {
        "name": part.name,
        "pbrMetallicRoughness": {
            "baseColorTexture": {"index": IMAGES.index("diffuse")},
            "metallicFactor": 0,
            "roughnessFactor": part.roughness,
        },
        "normalTexture": {"index": IMAGES.index("normal")},
        # F90 = specularFactor, F0 = 0.04 * specularColorFactor * texture * specularFactor; ours is 0.08 * specular
        "extensions": {
            "KHR_materials_specular": {
                "specularFactor": f90,
                "specularColorFactor": [2 / f90] * 3,
                "specularColorTexture": {"index": IMAGES.index("specular")},
            }
        },
    }


def _hair_material(part: Part, image: int) -> dict:
    """glTF material of hair. image: index of its colour; the normals follow."""
    return {
        "name": part.name,
        "alphaMode": "MASK",
        "alphaCutoff": CUTOFF,
        "pbrMetallicRoughness": {
            "baseColorTexture": {"index": image},
            "metallicFactor": 0,
            "roughnessFactor": part.roughness,
        },
        "normalTexture": {"index": image + 1},
        "extensions": {"KHR_materials_specular": {"specularFactor": SPECULAR}},
    }


def _mesh(part: Part, material: int, binary: Binary, targets: Iterable[Target], weights: dict | None) -> dict:
    """glTF mesh of one part; its arrays go to `binary`. weights: initial weight by target name, default 0."""
    # glTF counts v from the top. The tangent's w is kept: the bitangent then points up in the image, as +Y normals need
    uv = np.stack([part.uv[:, 0], 1 - part.uv[:, 1]], 1)
    positions = part.positions if part.pivot is None else part.positions - part.pivot
    primitive = {
        "attributes": {
            "POSITION": binary.accessor(positions, "VEC3", VERTEX_BUFFER, bounds=True),
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
    mesh = {"name": part.object, "primitives": [primitive]}
    names, moves, n = [], [], len(part.positions)
    for target in targets:
        names.append(target.name)
        moves.append(
            {
                "POSITION": binary.sparse(n, target.rows, target.offsets, bounds=True),
                "NORMAL": binary.sparse(n, target.normal_rows, target.normal_offsets),
            }
        )
    if names:
        primitive["targets"] = moves
        mesh |= {"weights": [(weights or {}).get(name, 0.0) for name in names], "extras": {"targetNames": names}}
    return mesh


def _quaternion(yaw: float, pitch: float) -> list[float]:
    """Quaternion (x, y, z, w) of `gaze_rotation`: pitch about -x, then yaw about y, radians."""
    a, b = yaw / 2, -pitch / 2
    return [
        math.cos(a) * math.sin(b),
        math.sin(a) * math.cos(b),
        -math.sin(a) * math.sin(b),
        math.cos(a) * math.cos(b),
    ]
