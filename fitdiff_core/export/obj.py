"""Wavefront OBJ with a material file and textures, for programs that do not read glTF."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import __version__
from ..files import write_atomic
from ..hair.underlay import worn_maps
from ..image import encode_png
from .hair import CUTOFF, HairPart, hair_part, lash_part
from .mesh import Part, split_parts, unit_scale
from .textures import write_maps

if TYPE_CHECKING:
    from ..avatar import Avatar
    from ..scene import Scene


def write_obj(
    path: str | os.PathLike,
    avatar: Avatar,
    texture_size: int | None = None,
    flip_green: bool = False,
    scene: Scene | None = None,
    unit: str = "metres",
    bits: int = 8,
) -> Path:
    """Write an avatar's head as `NAME.obj`, `NAME.mtl` and `NAME_{diffuse,specular,normal}.png`; returns the OBJ's
    path.

    The OBJ is written last, so it never refers to a missing file.

    path: the OBJ file
    avatar: batch 1
    texture_size: side of the maps in pixels; None keeps their size
    flip_green: write the normal map with y down (DirectX); default False
    scene: its expression and gaze pose the head; None: neutral
    unit: "metres" (default) or "centimetres"
    bits: per channel of the PNGs, 8 (default) or 16
    Raises UserError as `write_glb`, or for an unknown unit.
    """
    path = Path(path)
    scale = unit_scale(unit)
    maps = worn_maps(avatar)
    maps = maps if texture_size is None else maps.resize(texture_size)
    parts = split_parts(avatar, scene)
    stem = plain_stem(path)
    pictures = write_maps(path.parent, maps, flip_green, bits, prefix=f"{stem}_")
    materials = _materials(parts, {name: picture.name for name, picture in pictures.items()})
    for cards in filter(None, (lash_part(avatar, scene), hair_part(avatar, scene, flip_green))):
        materials += _hair_material(path.with_name(stem), cards)
        parts.append(cards.part)
    library = write_atomic(path.with_name(f"{stem}.mtl"), materials.encode())
    return write_atomic(path, _mesh(parts, library.name, unit, scale).encode())


def plain_stem(path: Path) -> str:
    """The file's name without its suffix, as OBJ, MTL and PLY can refer to it.

    They can't quote: a blank ends a name in many readers, `#` begins a comment, and `-` at the start an option.
    """
    return re.sub(r"[\s#\"]+|^-", "_", path.stem)


def _materials(parts: list[Part], pictures: dict[str, str]) -> str:
    """Text of the MTL file. pictures: map name -> file name."""
    lines = [f"# FitDiff {__version__}"]
    for part in parts:
        shininess = min(
            2 / part.roughness**4 - 2, 1000
        )  # Blinn-Phong exponent that matches GGX with alpha = roughness^2
        lines += [
            f"newmtl {part.name}",
            "Ka 0 0 0",
            "Kd 1 1 1",
            f"map_Kd {pictures['diffuse']}",
            "Ks 0.08 0.08 0.08",  # a specular albedo of 0.5 is F0 = 4 %
            f"map_Ks {pictures['specular']}",
            f"Ns {shininess:.1f}",
            f"Pr {part.roughness}",
            "Pm 0",
            f"norm {pictures['normal']}",
            f"map_Bump {pictures['normal']}",  # readers without `norm` (e.g. Blender) take this as a normal map
            "illum 2",
        ]
    return "\n".join(lines) + "\n"


def _hair_material(stem: Path, hair: HairPart) -> str:
    """Text of the material of hair or lashes; writes its pictures, such as `STEM_hair.png`, `..._alpha.png` and
    `..._normal.png`."""
    alpha, name = (hair.color[3:] >= CUTOFF).float(), hair.part.name.lower()  # OBJ has no cutoff
    pictures = {name: hair.color, f"{name}_alpha": alpha, f"{name}_normal": hair.normal}
    names = {
        kind: write_atomic(stem.with_name(f"{stem.name}_{kind}.png"), encode_png(picture)).name
        for kind, picture in pictures.items()
    }
    lines = [
        f"newmtl {hair.part.name}",
        "Ka 0 0 0",
        "Kd 1 1 1",
        f"map_Kd {names[name]}",
        f"map_d {names[f'{name}_alpha']}",
        "Ks 0.04 0.04 0.04",
        f"Ns {2 / hair.part.roughness**4 - 2:.1f}",
        f"Pr {hair.part.roughness}",
        "Pm 0",
        f"norm {names[f'{name}_normal']}",
        "illum 2",
    ]
    return "\n".join(lines) + "\n"


def _mesh(parts: list[Part], library: str, unit: str, scale: float) -> str:
    """Text of the OBJ file. library: name of the MTL file; scale: units per metre."""
    chunks = [f"# FitDiff {__version__}: {unit}, y up, facing +z", f"mtllib {library}"]
    start = 1
    for part in parts:
        chunks.append(f"o {part.object}")
        for key, values, digits in (("v", part.positions * scale, 7), ("vt", part.uv, 6), ("vn", part.normals, 5)):
            chunks.append("\n".join(key + "".join(f" {x:.{digits}f}" for x in row) for row in values.tolist()))
        chunks.append(f"usemtl {part.name}\ns 1")
        faces = np.repeat((part.indices + start)[:, :, None], 3, 2).reshape(-1, 9).tolist()
        chunks.append("\n".join("f {}/{}/{} {}/{}/{} {}/{}/{}".format(*face) for face in faces))
        start += len(part.positions)
    return "\n".join(chunks) + "\n"
