"""Avatars as files: shape, maps, hair style and, if given, the scene, in one safetensors file.

A loaded avatar renders and exports the same bits as the saved one: tensors are float32. Hair is grown again from its
style. The head model is not in the file; its atlas version and number of coefficients are compared.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from .avatar import Avatar
from .errors import UserError
from .files import write_atomic
from .hair.style import HairStyle
from .head import HeadModel, load_head
from .maps import MAP_NAMES, TextureMaps
from .metadata import DAMAGE, check_fields, is_count, is_number, is_text, json_table, list_of
from .render import Camera, Light
from .scene import N_EXPRESSION, Scene

FORMAT = "fitdiff-avatar-1"
SUFFIX = ".avatar.safetensors"  # so that lists of files show avatars only
MAX_BYTES = 2 << 30
LARGEST = 1e4  # of any number in the file; metres, radians, radiance


def is_hair(value: Any) -> bool:
    return value is None or isinstance(value, dict)


METADATA = {"atlas_version": is_text, "heads": is_count, "hair": list_of(is_hair)}
SCENE = {"size": list_of(is_count, 2), "shadows": lambda value: type(value) is bool}


def save_avatar(path: str | os.PathLike, avatar: Avatar, scene: Scene | None = None) -> Path:
    """Write heads with their maps and hair, atomically; returns the path.

    scene: its camera, light, expression and gaze are kept too; None for none
    Raises UserError for values that are not finite, or a file that cannot be written.
    """
    tensors = {"shape": avatar.shape, **{name: getattr(avatar.maps, name) for name in MAP_NAMES}}
    hair = [None] * len(avatar) if avatar.hair is None else [s and asdict(s) for s in avatar.hair]
    described: dict[str, Any] = {"atlas_version": avatar.head.atlas_version, "heads": len(avatar), "hair": hair}
    if scene is not None:
        tensors |= {f"scene.{name}": value for name, value in _scene_tensors(scene).items()}
        described["scene"] = {"size": list(scene.size), "shadows": bool(scene.light.shadows)}
    tensors = {name: value.detach().float().cpu().contiguous().clone() for name, value in tensors.items()}
    if wrong := [name for name, value in tensors.items() if not torch.isfinite(value).all()]:
        raise UserError(f"The avatar's {wrong[0]} holds NaN or infinite values; sample it again.")
    return write_atomic(path, save(tensors, {"format": FORMAT, "avatar": json.dumps(described)}))


def load_avatar(
    path: str | os.PathLike, head: HeadModel | None = None, device: torch.device | str = "cpu"
) -> tuple[Avatar, Scene | None]:
    """Read a file of `save_avatar` -> the avatar, and its scene or None.

    head: None for the shipped one. Raises UserError for a missing or damaged file, or one of another head.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"No avatar file {path}; give a {SUFFIX} file that FitDiff Save Avatar or --save-avatar wrote.")
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"{path.name} is larger than 2 GB; this is no avatar file.")
    head = head or load_head(device=device)
    try:
        raw = path.read_bytes()
        described = _description(path, raw)
        tensors = load(raw)
        avatar, scene = _avatar(tensors, described, head), _scene(tensors, described)
    except UserError as e:
        raise UserError(f"{path.name}: {e}") from None
    except (SafetensorError, *DAMAGE) as e:
        raise UserError(f"{path.name} is damaged ({type(e).__name__}: {e}). Save the avatar again.") from e
    avatar = Avatar(head, avatar.shape.to(device), avatar.maps.to(device), avatar.hair)
    return avatar, None if scene is None else scene.to(device)


def _description(path: Path, raw: bytes) -> dict[str, Any]:
    """The table in the metadata, its fields checked."""
    length = int.from_bytes(raw[:8], "little")
    if not 2 <= length <= len(raw) - 8:
        raise UserError("this is no safetensors file, or it is cut short; save the avatar again.")
    header = json_table(raw[8 : 8 + length])
    metadata = header.get("__metadata__")
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise UserError(f"this is no avatar file (format '{FORMAT}' expected); give one of FitDiff Save Avatar.")
    described = json_table(metadata["avatar"])
    check_fields(described, METADATA)
    if described.get("scene") is not None:
        check_fields(described["scene"], SCENE)
    return described


def _take(tensors: dict[str, Tensor], name: str, *shape: int | None) -> Tensor:
    """A float tensor of this shape, None for any size. Raises ValueError otherwise, and for values out of range."""
    value = tensors[name]
    fits = value.ndim == len(shape) and all(want in (None, got) for want, got in zip(shape, value.shape, strict=True))
    empty = not value.numel() and not {None, 0} & set(shape)  # a scene may have no lamp
    if not fits or not value.is_floating_point() or empty:
        raise ValueError(f"{name} is {value.dtype} {tuple(value.shape)}")
    value = value.float()
    if not (torch.isfinite(value).all() and bool((value.abs() <= LARGEST).all())):
        raise ValueError(f"{name} holds values that are not finite, or too large")
    return value


def _avatar(tensors: dict[str, Tensor], described: dict[str, Any], head: HeadModel) -> Avatar:
    n = described["heads"]
    if described["atlas_version"] != head.atlas_version or tensors["shape"].shape[-1] != head.n_identity:
        raise UserError(
            f"this avatar is of atlas '{described['atlas_version']}' with {tensors['shape'].shape[-1]} shape "
            f"coefficients, the head has '{head.atlas_version}' and {head.n_identity}. Use the release that wrote it."
        )
    if len(described["hair"]) != n:
        raise ValueError(f"{len(described['hair'])} hair styles for {n} heads")
    planes = [_take(tensors, name, n, 3, None, None) for name in MAP_NAMES]
    size = planes[0].shape[-2:]
    if any(p.shape[-2:] != size for p in planes) or size[0] != size[1] or not 4 <= size[0] <= 1 << 14:
        raise ValueError(f"maps of {', '.join(str(tuple(p.shape[-2:])) for p in planes)} texels")
    diffuse, specular, normal = planes
    if min(float(diffuse.min()), float(specular.min())) < 0 or max(float(diffuse.max()), float(specular.max())) > 1:
        raise ValueError("an albedo lies outside 0..1")
    styles = tuple(None if s is None else _style(s) for s in described["hair"])
    hair = styles if any(s is not None for s in styles) else None
    return Avatar(head, _take(tensors, "shape", n, head.n_identity), TextureMaps(diffuse, specular, normal), hair)


def _style(table: dict[str, Any]) -> HairStyle:
    """A hair style from JSON. Raises ValueError for a field of another type, UserError for a value out of range."""
    default = asdict(HairStyle())
    if table.keys() - default.keys():
        raise ValueError(f"unknown hair fields {sorted(table.keys() - default.keys())[:3]}")
    checks: dict[str, Callable[[Any], bool]] = {}
    for f in fields(HairStyle):
        kind = type(default[f.name])
        checks[f.name] = {
            str: is_text,
            bool: lambda value: type(value) is bool,
            int: lambda value: type(value) is int and 0 <= value < 1 << 63,
            float: is_number,
            tuple: list_of(is_number),
        }.get(kind, lambda value: value is None or list_of(_is_share, 3)(value))
    check_fields(table, checks, optional=tuple(default))
    dye = table.get("dye")
    shaped = {name: tuple(table.get(name, ())) for name in ("outline", "opening", "limit")}
    return HairStyle(**{**table, "dye": None if dye is None else tuple(dye), **shaped})


def _is_share(value: Any) -> bool:
    return is_number(value) and 0 <= value <= 1


def _scene_tensors(scene: Scene) -> dict[str, Tensor]:
    camera, light = scene.camera, scene.light
    tensors = {
        "focal": camera.focal,
        "rotation": camera.rotation,
        "translation": camera.translation,
        "sh": light.sh,
        "direction": light.direction,
        "color": light.color,
        "expression": scene.expression,
        "gaze": scene.gaze,
    }
    return tensors if scene.crop is None else {**tensors, "crop": scene.crop}


def _scene(tensors: dict[str, Tensor], described: dict[str, Any]) -> Scene | None:
    about = described.get("scene")
    if about is None:
        return None
    take = lambda name, *shape: _take(tensors, f"scene.{name}", *shape)  # noqa: E731
    focal, sh = take("focal", None), take("sh", None, 9, 3)
    cameras, lights = len(focal), len(sh)
    if not cameras or not lights or not bool((focal > 0).all()):
        raise ValueError("the scene has no camera or no light")
    direction = take("direction", lights, None, 3)
    if direction.shape[1] and not bool(((direction.norm(dim=2) - 1).abs() < 1e-2).all()):
        raise ValueError("a lamp has no direction")
    expression = take("expression", None, N_EXPRESSION)
    gaze = take("gaze", None, 2)
    counts = {cameras, lights, len(expression), len(gaze)}
    if any(n not in (1, max(counts)) for n in counts):
        raise ValueError("the parts of the scene are of different numbers of pictures")
    if float(gaze.abs().max()) > math.pi:
        raise ValueError("the gaze is no angle")
    return Scene(
        Camera(focal, take("rotation", cameras, 3), take("translation", cameras, 3)),
        Light(sh, direction, take("color", lights, direction.shape[1], 3), about["shadows"]),
        expression,
        gaze,
        (about["size"][0], about["size"][1]),
        take("crop", None, 2, 3) if "scene.crop" in tensors else None,
    )
