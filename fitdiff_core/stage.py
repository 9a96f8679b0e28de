"""What the viewer page sets: a JSON text -> camera, light, expression and gaze, and the tables that the page needs."""

from __future__ import annotations

import base64
import json
import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from .avatar import Avatar
from .errors import UserError
from .export.blendshapes import LOOK_ANGLE
from .export.mesh import split_parts, whole_of
from .expressions import PRESETS as EXPRESSIONS
from .expressions import look_gaze, parse_weights, weight_vector
from .hair.groom import grow_hair
from .head import HeadModel
from .head.gloss import whole_roughness
from .head.model import LIPS, TEETH_BEHIND
from .image import LUMINANCE, linear_to_srgb
from .metadata import check_fields, is_number, is_text, list_of
from .render import Camera, Light
from .render.light import PRESETS
from .render.panoramas import PANORAMAS, named_light, panorama, panorama_light
from .render.rig import combine_lights, directional_light, hex_rgb
from .render.viewer_camera import camera_from_viewer, camera_to_viewer
from .scene import Scene

VERSION = 1
PHOTO = "scene"  # the environment that is the connected scene's light
MODES = ("shaded", "clay", "albedo", "specular", "normal", "wireframe")
GROUPS = {  # of the 52 shapes, by the start of their names
    "Brows": ("brow",),
    "Eyes": ("eye",),
    "Cheeks and nose": ("cheek", "nose"),
    "Jaw": ("jaw",),
    "Mouth": ("mouth", "tongue"),
}
_CAMERA = {"position": list_of(is_number, 3), "target": list_of(is_number, 3), "fov": is_number}
_LIGHT = {"environment": is_text, "turn": is_number, "ambient": is_number, "exposure": is_number}
_LAMP = {"azimuth": is_number, "elevation": is_number, "intensity": is_number, "color": is_text}


@dataclass
class Stage:
    """Settings of the page. Angles in degrees, positive to the subject's left and upwards.

    camera: position, target `[3]` in metres and vertical field of view, or None for that of the scene
    environment: one of PRESETS, a panorama, or PHOTO; None for PHOTO where there is a scene, else the studio
    turn: of everything but the lamp. ambient: its factor. exposure: of all light, in stops
    lamp: azimuth, elevation, irradiance and colour of the movable lamp; None for the environment's own brightest lamp
    weights: ARKit name -> 0..1; None for those of the scene. gaze: yaw and pitch of the eyes, None as well
    hair, detail: whether hair and normal map are shown
    """

    camera: dict[str, Any] | None = None
    environment: str | None = None
    turn: float = 0.0
    ambient: float = 1.0
    exposure: float = 0.0
    lamp: dict[str, Any] | None = None
    weights: dict[str, float] | None = None
    gaze: tuple[float, float] | None = None
    hair: bool = True
    detail: bool = True
    names: tuple[str, ...] = field(default=(), repr=False)


def parse_stage(text: str | None, names: tuple[str, ...]) -> Stage:
    """Settings from the page's text; blank for none. names: of the 52 shapes. Raises UserError for other text."""
    if text is None or not text.strip():
        return Stage(names=names)
    try:
        table = json.loads(text)
        if not isinstance(table, dict) or table.get("v") != VERSION:
            raise ValueError(f"it is no table of version {VERSION}")
        light, view = table.get("light", {}), table.get("view", {})
        if not isinstance(light, dict) or not isinstance(view, dict):
            raise ValueError("light or view is no table")
        for part, checks in ((table.get("camera"), _CAMERA), (light, _LIGHT), (light.get("lamp"), _LAMP)):
            if part is not None:
                check_fields(part, checks, optional=tuple(_LIGHT))
        gaze = table.get("gaze")
        if gaze is not None and not list_of(is_number, 2)(gaze):
            raise ValueError("the gaze is no pair of angles")
        weights = table.get("expression")
        _in_range(light, gaze)
    except UserError:
        raise
    except (ValueError, TypeError, AttributeError, RecursionError) as e:
        raise UserError(f"The stage's settings cannot be read ({e}); empty the field, or set the stage again.") from e
    return Stage(
        table.get("camera"),
        light.get("environment"),
        float(light.get("turn", 0)),
        float(light.get("ambient", 1)),
        float(light.get("exposure", 0)),
        light.get("lamp"),
        None if weights is None else parse_weights(json.dumps(weights), names),
        None if gaze is None else (float(gaze[0]), float(gaze[1])),
        view.get("hair") is not False,
        view.get("detail") is not False,
        names,
    )


def _in_range(light: dict[str, Any], gaze: list[float] | None) -> None:
    lamp = light.get("lamp") or {}
    limits = (
        (light.get("turn", 0), 720),
        (light.get("ambient", 1), 100),
        (light.get("exposure", 0), 10),
        (lamp.get("intensity", 0), 1000),
        *((angle, 90) for angle in gaze or ()),
    )
    if (
        any(abs(value) > limit for value, limit in limits)
        or light.get("ambient", 1) < 0
        or lamp.get("intensity", 0) < 0
    ):
        raise ValueError("a value is out of range")


def stage_scene(stage: Stage, scene: Scene | None = None) -> Scene:
    """The scene of one picture that the page shows, its light included.

    scene: the connected one, of which the parts that the page left alone are taken; None is a studio portrait
    """
    given = scene
    scene = Scene.portrait() if scene is None else scene[0].detach()
    device = scene.expression.device
    camera, expression, gaze = scene.camera, scene.expression, scene.gaze
    if stage.camera is not None:
        camera = _camera(stage.camera).to(device)
    if stage.weights is not None:
        expression = weight_vector(stage.weights, stage.names).to(expression)
    if stage.gaze is not None:
        gaze = torch.tensor([stage.gaze]).deg2rad().to(gaze)
        gaze = gaze + look_gaze(expression, stage.names, LOOK_ANGLE)
    light = stage_light(stage, given)
    return replace(scene, camera=camera, light=light, expression=expression, gaze=gaze, crop=None)


def _camera(table: dict[str, Any]) -> Camera:
    point = lambda values: dict(zip("xyz", values, strict=True))  # noqa: E731
    return camera_from_viewer({**table, "position": point(table["position"]), "target": point(table["target"])})


def stage_light(stage: Stage, scene: Scene | None = None) -> Light:
    """The page's light: the environment, turned and scaled, the lamp, and the exposure over both."""
    name = stage.environment or (PHOTO if scene is not None else "studio")
    base = environment_of(name, scene)
    rest, key = split_key(base)
    if stage.turn:
        rest = rest.rotated(stage.turn)
    light = rest.scaled(stage.ambient)
    if stage.lamp is not None:
        lamp = stage.lamp
        color = hex_rgb(lamp["color"]) * float(lamp["intensity"])
        light = combine_lights(light, directional_light(lamp["azimuth"], lamp["elevation"], color).to(light.sh))
    elif key is not None:
        light = combine_lights(light, key.rotated(stage.turn) if stage.turn else key)
    light = light.scaled(2.0**stage.exposure)
    return replace(light, shadows=bool(light.direction.shape[1]))


def environment_of(name: str, scene: Scene | None = None) -> Light:
    """Light by the page's name for it. Raises UserError for an unknown name, or the scene's light without a scene."""
    if name == PHOTO:
        if scene is None:
            raise UserError("The stage shows the scene's light; connect the scene, or choose another environment.")
        return scene[0].light.detach()
    return named_light(name)


def split_key(light: Light) -> tuple[Light, Light | None]:
    """A light of batch 1 without its brightest lamp, and that lamp alone; None where there is none."""
    if not light.direction.shape[1]:
        return light, None
    key = int((light.color[0] @ light.color.new_tensor(LUMINANCE)).argmax())
    rest = [i for i in range(light.direction.shape[1]) if i != key]
    alone = Light(torch.zeros_like(light.sh), light.direction[:, [key]], light.color[:, [key]], light.shadows)
    return Light(light.sh, light.direction[:, rest], light.color[:, rest], light.shadows), alone


def stage_tables(avatar: Avatar, scene: Scene | None = None) -> dict[str, Any]:
    """What the page needs beside the GLB: environments, expressions, groups of shapes, and the start of everything."""
    names = avatar.head.expression_names
    start = Scene.portrait() if scene is None else scene[0].detach().to("cpu")
    lights = {name: Light.preset(name) for name in PRESETS}
    if scene is not None:
        lights = {PHOTO: start.light, **lights}
    environments = {name: environment_table(light) for name, light in lights.items()}
    environments |= {name: {**environment_table(panorama_light(name)), **panorama_table(name)} for name in PANORAMAS}
    camera = camera_to_viewer(start.camera)
    looked = look_gaze(start.expression, names, LOOK_ANGLE)  # the page adds it again
    weights = dict(zip(names, start.expression[0].tolist(), strict=True))
    return {
        "version": VERSION,
        "environments": environments,
        "panoramas": list(PANORAMAS),
        "expressions": {name: dict(w) for name, w in EXPRESSIONS.items()},
        "groups": {title: [n for n in names if n.startswith(starts)] for title, starts in GROUPS.items()},
        "modes": list(MODES),
        "start": {
            "camera": {
                "position": [round(camera["position"][a], 5) for a in "xyz"],
                "target": [round(camera["target"][a], 5) for a in "xyz"],
                "fov": round(camera["fov"], 4),
            },
            "environment": next(iter(lights)) if scene is not None else "studio",
            "expression": {n: round(w, 4) for n, w in weights.items() if w > 5e-3},
            "gaze": [round(math.degrees(a), 3) for a in (start.gaze - looked)[0].tolist()],
        },
        "hair": bool(avatar.hair and avatar.hair[0]),
    }


def environment_table(light: Light) -> dict[str, Any]:
    """A light of batch 1 for the page: harmonics, lamps, and the brightest lamp as the movable one."""
    rest, key = split_key(light)
    return {
        "sh": [[round(v, 6) for v in row] for row in light.sh[0].tolist()],
        "lamps": [
            {"direction": [round(v, 6) for v in d], "color": [round(v, 6) for v in c]}
            for d, c in zip(rest.direction[0].tolist(), rest.color[0].tolist(), strict=True)
        ],
        "lamp": lamp_table(key),
    }


def panorama_table(name: str) -> dict[str, Any]:
    """What the page needs to take the lamp out of a panorama, as `Light.from_environment` does."""
    light, pixels = panorama_light(name), panorama(name)
    return {
        "panorama": name,
        "direction": [round(v, 6) for v in light.direction[0, 0].tolist()],
        "floor": [round(v, 6) for v in pixels.flatten(2)[0].median(1).values.tolist()],
    }


def lamp_table(key: Light | None) -> dict[str, Any]:
    """The movable lamp: azimuth, elevation, irradiance of its brightest channel, and its colour as sRGB."""
    if key is None:
        return {"azimuth": 40.0, "elevation": 30.0, "intensity": 0.0, "color": "#ffffff"}
    (x, y, z), color = key.direction[0, 0].tolist(), key.color[0, 0].clamp(min=0)
    peak = max(float(color.max()), 1e-6)
    digits = (linear_to_srgb((color / peak).clamp(0, 1)) * 255 + 0.5).byte().tolist()
    return {
        "azimuth": round(math.degrees(math.atan2(x, z)), 3),
        "elevation": round(math.degrees(math.asin(max(-1.0, min(1.0, y)))), 3),
        "intensity": round(peak, 5),
        "color": "#" + "".join(f"{int(v):02x}" for v in digits),
    }


@torch.no_grad()
def stage_payload(avatar: Avatar, scene: Scene | None = None) -> dict[str, Any]:
    """`stage_tables`, and what the page's shading needs of one head beside its GLB.

    attributes: mesh of the GLB -> name -> base64 of bytes, a value or three for each vertex. Of all meshes but the hair
        `occlusion` (share of ambient light, hair counts) and `roughness`, 0..255; of the hair `along` (direction of the
        strands, -127..127) and `gloss` (strength of highlights)
    slit: how far the lips stand open, which darkens the teeth: metres when closed, by each shape's weight, and the
        distance of the teeth behind them; absent for a head without teeth
    """
    head, shape = avatar.head, avatar.shape[:1]
    whole = whole_of(avatar)
    light = head.occlusion.float().cpu().clone()
    rough = (whole_roughness(head, shape) if isinstance(head, HeadModel) else whole.roughness).float().cpu()
    style = avatar.hair[0] if avatar.hair else None
    hair = None if style is None else grow_hair(head, shape, style)
    if hair is not None:
        light = light * hair.head_light
    light = torch.cat([light, light.new_ones(whole.n_vertices - len(light))])  # further parts are painted dark
    attributes = {}
    for part in split_parts(avatar[0]):
        rows = torch.from_numpy(part.rows)
        attributes[part.object] = {"occlusion": _base64(light[rows] * 255), "roughness": _base64(rough[rows] * 255)}
    if hair is not None:
        gloss = (hair.gloss / hair.gloss.max().clamp(min=1e-6)).clamp(0, 1)
        along = torch.nn.functional.normalize(hair.direction, dim=1)
        attributes["Hair"] = {"along": _base64((along * 127).round() % 256), "gloss": _base64(gloss * 255)}
    payload = {**stage_tables(avatar, scene), "attributes": attributes}
    if head.n_teeth:
        each = head(shape.expand(head.n_expression + 1, -1), torch.eye(head.n_expression + 1)[:, 1:].to(shape))
        points = head.landmarks(each)
        open_ = (points[:, LIPS[0]] - points[:, LIPS[1]])[..., 1].mean(1)
        by = {n: round(float(v - open_[0]), 6) for n, v in zip(head.expression_names, open_[1:], strict=True)}
        payload["slit"] = {
            "closed": round(float(open_[0]), 6),
            "by": {n: v for n, v in by.items() if abs(v) > 1e-5},
            "behind": TEETH_BEHIND,
        }
    return payload


def _base64(values: torch.Tensor) -> str:
    """0..255 -> bytes."""
    return base64.b64encode(values.round().byte().numpy().tobytes()).decode()
