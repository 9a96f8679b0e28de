"""glTF 2.0 binary: mesh and textures in one file.

Meshes such as "Head", "Teeth", "Eye_L" and "Eye_R" share three PNG images. Each has the 52 ARKit blendshapes as morph
targets, in one order. Those that don't move a mesh share one accessor of zeros. A skin with the joints Root, Neck,
Head, Jaw, Eye_L and Eye_R moves all of them. Without it, the node of an eye is at the eye's centre, so that it can be
rotated. A motion becomes an animation of weights and joints. `KHR_materials_specular` carries the specular albedo: F0
is 0.04 times the texture, for a head whose specular albedo is at most 0.5. The extension is not required: a viewer
without it shows a specular reflectance of 4 %.
"""

from __future__ import annotations

import json
import logging
import math
import os
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from .. import __version__
from ..files import write_atomic
from ..hair.underlay import worn_maps
from ..head import HeadModel
from ..head.joints import JOINTS
from ..image import encode_pngs, linear_to_srgb
from ..maps import TextureMaps
from .animation import animation
from .blendshapes import Target, eye_targets, face_targets, in_order, with_mixtures
from .eyes import BASE_ROUGHNESS, CLEARCOAT, hollow_iris
from .gltf_binary import INDEX_BUFFER, VERTEX_BUFFER, Binary
from .hair import CUTOFF, SPECULAR, hair_part, lash_part, lash_targets
from .light_mesh import lighter
from .mesh import Part, split_parts
from .rig import Rig
from .textures import map_images, surface_image

if TYPE_CHECKING:
    from ..avatar import Avatar
    from ..motion import Motion
    from ..scene import Scene

LINEAR, LINEAR_MIPMAP_LINEAR, CLAMP = 9729, 9987, 33071
IMAGES = ("diffuse", "normal", "specular")
SURFACE = 512  # largest side of the texture of occlusion and roughness
READ_AHEAD = 1 << 20  # bytes of a dropped file that ComfyUI's frontend reads; the JSON chunk must end within them
LOG = logging.getLogger(__name__)


def write_glb(path: str | os.PathLike, avatar: Avatar, *args: Any, **options: Any) -> Path:
    """Write an avatar's head as `.glb`, in metres, +y up, facing +z; returns the path.

    path: file to write. avatar: batch 1. args, options: as of `encode_glb`
    Raises UserError for a batch, values that are not finite, or a file that cannot be written.
    """
    return write_atomic(path, encode_glb(avatar, *args, **options))


def encode_glb(
    avatar: Avatar,
    texture_size: int | None = None,
    flip_green: bool = False,
    scene: Scene | None = None,
    blendshapes: bool = True,
    extras: dict[str, str] | None = None,
    rig: bool = True,
    visemes: bool = False,
    motion: Motion | None = None,
    light: bool = False,
) -> bytes:
    """The bytes of a GLB.

    avatar: batch 1
    texture_size: side of the maps in pixels; None keeps their size
    flip_green: write the normal map with y down (DirectX; glTF specifies y up); default False
    scene: its expression becomes the initial weights of the morph targets, its gaze the rotation of the eyes. Without
        blendshapes it poses the vertices. None: neutral
    blendshapes: write the morph targets, about 9 MB; default True
    extras: texts for the file's `asset.extras`, such as ComfyUI's "workflow" and "prompt". Where the JSON chunk would
        be longer than `READ_AHEAD`, only "workflow" is kept. Default none
    rig: write joints and a skin; default True
    visemes: after the 52 blendshapes, write the mixtures of `head.visemes`; default False
    motion: becomes the file's animation; None for none
    light: a third of the triangles, see `light_mesh`; default False
    Raises UserError for a batch, or values that are not finite.
    """
    maps = worn_maps(avatar)
    maps = maps if texture_size is None else maps.resize(texture_size)
    maps = hollow_iris(maps, avatar.head)
    pictures = map_images(maps, flip_green)
    pictures["specular"], specular_scale = _specular(maps)
    images_of, surface = list(IMAGES), None
    if isinstance(avatar.head, HeadModel):
        surface = len(images_of)
        pictures["surface"] = surface_image(avatar, min(maps.size[0], SURFACE))
        images_of.append("surface")
    names = avatar.head.expression_names if blendshapes else ()
    parts = split_parts(avatar, None if names else scene)
    if light and isinstance(avatar.head, HeadModel):
        parts = [lighter(part, avatar.whole) for part in parts]
    file = _File(Rig(avatar) if rig and avatar.head.expression_names else None)
    of_face = face_targets(avatar, [part for part in parts if part.pivot is None]) if names else {}
    gaze = None if scene is None or not names else _quaternion(*scene.gaze[0].tolist())
    for part in parts:
        targets: Iterable[Target] = ()
        weights: dict[str, float] | None = None
        if part.name in of_face:
            targets = of_face[part.name]
            if scene is not None:
                weights = dict(zip(names, scene.expression[0].tolist(), strict=True))
        elif names:
            targets = list(eye_targets(part))
        targets = in_order(targets, names)
        if visemes and names:
            targets = with_mixtures(targets, len(part.positions))
        material = _material(part, specular_scale, surface if part.name == "Skin" else None)
        file.add(part, material, targets, weights, gaze)
    if lashes := lash_part(avatar, None if names else scene, light=light):
        targets = in_order(lash_targets(avatar, lashes) if names else (), names)
        if visemes and names:
            targets = with_mixtures(targets, len(lashes.part.positions))
        weights = dict(zip(names, scene.expression[0].tolist(), strict=True)) if scene is not None and names else None
        file.add(lashes.part, _hair_material(lashes.part, len(images_of), None), targets, weights)
        pictures["lashes"] = lashes.color
        images_of.append("lashes")
    if hair := hair_part(avatar, scene, flip_green, light=light):
        file.add(hair.part, _hair_material(hair.part, len(images_of), len(images_of) + 1))
        file.meshes[-1]["primitives"][0]["attributes"]["COLOR_0"] = file.binary.vertices(hair.light, "VEC4")
        pictures |= {"hair": hair.color, "hair_normal": hair.normal}
        images_of += ["hair", "hair_normal"]
    file.motion, file.names = motion, names
    return file.bytes({name: pictures[name] for name in images_of}, extras or {}, gaze)


class _File:
    """Meshes, materials and nodes of a file while it is built. rig: None for a file without joints."""

    def __init__(self, rig: Rig | None):
        self.rig, self.binary = rig, Binary()
        self.meshes: list[dict] = []
        self.materials: list[dict] = []
        self.nodes: list[dict] = []
        self.motion: Motion | None = None
        self.names: Sequence[str] = ()  # of the blendshapes

    def animations(self, joints: int) -> dict:
        """The motion as an entry of the document, if there is one. joints: number of the first joint's node"""
        if self.motion is None:
            return {}
        eyes = [i for i, node in enumerate(self.nodes) if node["name"].startswith("Eye_")]
        shapes = {i: len(self.meshes[i].get("weights", ())) for i in range(len(self.nodes)) if i not in eyes}
        if self.rig is not None:
            eyes = [joints + JOINTS.index(name) for name in ("Eye_L", "Eye_R")]
        targets = {i: count for i, count in shapes.items() if count}
        return {
            "animations": [
                animation(self.motion, self.binary, self.names, targets, None if self.rig is None else joints, eyes)
            ]
        }

    def add(
        self,
        part: Part,
        material: dict,
        targets: Iterable[Target] = (),
        weights: dict[str, float] | None = None,
        gaze: list[float] | None = None,
    ) -> None:
        """A part with its own material. weights: initial ones of `targets`. gaze: quaternion of a part with a pivot."""
        node: dict[str, object] = {"name": part.object, "mesh": len(self.meshes)}
        if self.rig is not None:  # the nodes of the joints have the plain names
            node |= {"name": f"{part.object}_Mesh", "skin": 0}
        elif part.pivot is not None:
            node["translation"] = part.pivot.astype(float).tolist()
            if gaze is not None:
                node["rotation"] = gaze
        mesh = _mesh(part, len(self.materials), self.binary, targets, weights, self.rig)
        if "normalTexture" in material:
            tangents = self.binary.vertices(part.tangents, "VEC4")
            mesh["primitives"][0]["attributes"]["TANGENT"] = tangents
        self.meshes.append(mesh)
        self.materials.append(material)
        self.nodes.append(node)

    def bytes(self, pictures: dict[str, Tensor], extras: dict[str, str], gaze: list[float] | None) -> bytes:
        """The file. pictures: the textures by name, in their order. extras: as `encode_glb`. gaze: of the joints"""
        binary, nodes, skins = self.binary, list(self.nodes), {}
        roots = list(range(len(nodes)))
        animations = self.animations(len(nodes))
        if self.rig is not None:
            roots.append(len(nodes))
            skins = {"skins": [self.rig.skin(len(nodes), binary)]}
            nodes += self.rig.nodes(len(nodes), gaze)
        images = [
            {"name": name, "mimeType": "image/png", "bufferView": binary.view(data)}
            for name, data in encode_pngs(pictures).items()
        ]
        document = {
            "asset": {"version": "2.0", "generator": f"FitDiff {__version__}"},
            "extensionsUsed": sorted({key for material in self.materials for key in material["extensions"]}),
            "scene": 0,
            "scenes": [{"name": "FitDiff", "nodes": roots}],
            "nodes": nodes,
            "meshes": self.meshes,
            **skins,
            **animations,
            "materials": self.materials,
            "textures": [{"name": name, "sampler": 0, "source": i} for i, name in enumerate(pictures)],
            "images": images,
            "samplers": [{"magFilter": LINEAR, "minFilter": LINEAR_MIPMAP_LINEAR, "wrapS": CLAMP, "wrapT": CLAMP}],
            "accessors": binary.accessors,
            "bufferViews": binary.views,
            "buffers": [{"byteLength": len(binary.data)}],
        }
        return _container(_with_extras(document, extras), binary)


def _with_extras(document: dict, extras: dict[str, str]) -> dict:
    """The document with `extras` in its asset; see `encode_glb`."""
    if not extras:
        return document
    graph = {k: v for k, v in extras.items() if k == "workflow"}
    for kept in (extras, graph):
        full = {**document, "asset": {**document["asset"], "extras": kept}}
        if 20 + len(_json_chunk(full)) <= READ_AHEAD:
            return full
    LOG.warning("The graph of this file is longer than the 1 MiB that ComfyUI reads of a dropped GLB.")
    return full


def _specular(maps: TextureMaps) -> tuple[Tensor, float]:
    """(specular picture `[3, H, W]` in sRGB, colour factor k >= 1), so that F0 = 0.04 * k * linear texture.

    k is 1 unless the map goes beyond 0.5. Many programs clip or ignore factors, but none ignores the texture.
    """
    f0 = 2 * maps.specular[0].detach().clamp(0, 1)
    scale = max(1.0, round(float(f0.max()), 4))
    return linear_to_srgb((f0 / scale).clamp(0, 1)), scale


def _json_chunk(document: dict) -> bytes:
    """The document as text, padded to 4 bytes."""
    text = json.dumps(document, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % 4)


def _container(document: dict, binary: Binary) -> bytes:
    """GLB container (glTF 2.0, section 4): header, JSON chunk, binary chunk."""
    text = _json_chunk(document)
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


def _material(part: Part, specular_scale: float, surface: int | None = None) -> dict:
    """glTF material of one part. specular_scale: as `_specular` gives it. surface: index of the texture of occlusion
    and roughness, None for a part without it."""
    eye = part.pivot is not None
    rough: dict[str, Any] = {"roughnessFactor": BASE_ROUGHNESS if eye else part.roughness}
    if surface is not None:
        rough = {"roughnessFactor": 1, "metallicRoughnessTexture": {"index": surface}}
    return {
        "name": part.name,
        "pbrMetallicRoughness": {
            "baseColorTexture": {"index": IMAGES.index("diffuse")},
            "metallicFactor": 0,
            **rough,
        },
        **({} if surface is None else {"occlusionTexture": {"index": surface}}),
        "normalTexture": {"index": IMAGES.index("normal")},
        # F90 = specularFactor = 1, F0 = 0.04 * specularColorFactor * texture
        "extensions": {
            "KHR_materials_specular": {
                "specularFactor": 1,
                "specularColorFactor": [specular_scale] * 3,
                "specularColorTexture": {"index": IMAGES.index("specular")},
            },
            **({"KHR_materials_clearcoat": CLEARCOAT} if eye else {}),
        },
    }


def _hair_material(part: Part, color: int, normal: int | None) -> dict:
    """glTF material of hair and lashes. color, normal: indices of the textures; None for no normals."""
    return {
        "name": part.name,
        "alphaMode": "MASK",
        "alphaCutoff": CUTOFF,
        "pbrMetallicRoughness": {
            "baseColorTexture": {"index": color},
            "metallicFactor": 0,
            "roughnessFactor": part.roughness,
        },
        **({} if normal is None else {"normalTexture": {"index": normal}}),
        "extensions": {"KHR_materials_specular": {"specularFactor": SPECULAR}},
    }


def _mesh(
    part: Part,
    material: int,
    binary: Binary,
    targets: Iterable[Target],
    weights: dict | None,
    rig: Rig | None = None,
) -> dict:
    """glTF mesh of one part; its arrays go to `binary`. weights: initial weight by target name, default 0."""
    # glTF counts v from the top. The tangent's w is kept: the bitangent then points up in the image, as +Y normals need
    uv = np.stack([part.uv[:, 0], 1 - part.uv[:, 1]], 1)
    positions = part.positions if part.pivot is None or rig is not None else part.positions - part.pivot
    attributes = {
        "POSITION": binary.accessor(positions, "VEC3", VERTEX_BUFFER, bounds=True),
        "NORMAL": binary.accessor(part.normals, "VEC3", VERTEX_BUFFER),
        "TEXCOORD_0": binary.accessor(uv, "VEC2", VERTEX_BUFFER),
    }
    primitive = {
        "attributes": attributes,
        # the largest uint16 is reserved (primitive restart)
        "indices": binary.accessor(
            part.indices.reshape(-1).astype("<u2" if len(part.positions) < 0xFFFF else "<u4"), "SCALAR", INDEX_BUFFER
        ),
        "material": material,
    }
    if rig is not None:
        attributes |= rig.attributes(part, binary)
    mesh: dict[str, object] = {"name": part.object, "primitives": [primitive]}
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
