"""Expressions by name, in ARKit weights; scenes with other expressions, turned heads, and blends of scenes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import UserError
from .head.model import gaze_rotation
from .render import Camera, Light
from .render.camera import rotation_matrix
from .render.viewer_camera import axis_angle
from .scene import Scene

BLEND_PARTS = ("all", "expression", "camera", "light")


def _both(**weights: float) -> dict[str, float]:
    """Weights of both sides: `mouthSmile` becomes `mouthSmileLeft` and `mouthSmileRight`."""
    return {f"{name}{side}": w for name, w in weights.items() for side in ("Left", "Right")}


PRESETS: dict[str, dict[str, float]] = {
    "neutral": {},
    "smile": _both(mouthSmile=0.6, mouthDimple=0.15, cheekSquint=0.45, eyeSquint=0.25),
    "laugh": {
        **_both(mouthSmile=0.85, cheekSquint=0.8, eyeSquint=0.55, eyeBlink=0.2, mouthUpperUp=0.3, browOuterUp=0.25),
        "jawOpen": 0.36,
        "browInnerUp": 0.2,
    },
    "sad": {
        **_both(mouthFrown=0.55, eyeBlink=0.12, eyeLookDown=0.2, mouthPress=0.15),
        "browInnerUp": 0.85,
        "mouthShrugLower": 0.45,
    },
    "angry": {
        **_both(browDown=0.9, eyeSquint=0.4, noseSneer=0.4, mouthPress=0.45, mouthFrown=0.25, eyeWide=0.15),
        "jawForward": 0.15,
    },
    "surprised": {**_both(eyeWide=0.75, browOuterUp=0.75), "browInnerUp": 0.8, "jawOpen": 0.38, "mouthFunnel": 0.2},
    "disgust": {
        **_both(noseSneer=0.85, mouthUpperUp=0.5, browDown=0.5, eyeSquint=0.45, mouthFrown=0.35, cheekSquint=0.35),
        "mouthShrugLower": 0.25,
    },
    "wink": {
        **_both(mouthSmile=0.35),
        "eyeBlinkLeft": 1.0,
        "eyeSquintLeft": 0.5,
        "cheekSquintLeft": 0.7,
        "mouthSmileLeft": 0.6,
        "browDownLeft": 0.3,
        "browOuterUpRight": 0.25,
    },
    "pucker": {"mouthPucker": 0.85, "mouthFunnel": 0.1, **_both(cheekSquint=0.1, eyeSquint=0.1)},
}


def parse_weights(text: str | None, names: tuple[str, ...]) -> dict[str, float]:
    """A JSON table of ARKit weights, such as `{"jawOpen": 0.4}`; blank for none.

    names: the shapes that exist. Case does not matter, nor `_L`, `_R` in place of Left, Right. Raises UserError for
    text that is no such table, an unknown shape, or a weight outside 0..1.
    """
    if text is None or not text.strip():
        return {}
    example = 'write a JSON table such as {"jawOpen": 0.4, "mouthSmileLeft": 0.7}'
    try:
        table = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise UserError(f"The weights are not JSON ({e}); {example}.") from None
    if not isinstance(table, dict):
        raise UserError(f"The weights are no table; {example}.")
    known, found = {name.lower(): name for name in names}, {}
    for given, weight in table.items():
        key = given.lower().removesuffix("_l").removesuffix("_r")
        key += "left" if given.lower().endswith("_l") else "right" if given.lower().endswith("_r") else ""
        if key not in known:
            raise UserError(f"There is no shape '{given[:40]}'; the 52 are ARKit's: {', '.join(names[:4])}, ...")
        number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
        if not number or not 0 <= weight <= 1:
            raise UserError(f"The weight of {given} must be a number from 0 to 1 (got {str(weight)[:40]}).")
        found[known[key]] = float(weight)
    return found


def weight_vector(weights: Mapping[str, float], names: tuple[str, ...]) -> Tensor:
    """Weights by name -> `[1, 52]` in the order of `names`; shapes that are not named are 0."""
    return torch.tensor([[float(weights.get(name, 0.0)) for name in names]]).clamp(0, 1)


def expression_of(preset: str, strength: float, weights: Mapping[str, float], names: tuple[str, ...]) -> Tensor:
    """`[1, 52]`: a preset times `strength`, and `weights` in place of what it says of the same shapes.

    Raises UserError for an unknown preset.
    """
    if preset not in PRESETS:
        raise UserError(f"Unknown expression '{preset}'; choose one of {', '.join(PRESETS)}.")
    scaled = {name: min(max(w * strength, 0.0), 1.0) for name, w in PRESETS[preset].items()}
    return weight_vector({**scaled, **weights}, names)


def look_gaze(expression: Tensor, names: tuple[str, ...], angle: float) -> Tensor:
    """Gaze `[B, 2]` (yaw, pitch, radians) of the eyeLook weights of `[B, 52]`, the mean of both eyes.

    angle: turn of an eye at weight 1, radians
    """
    w = {name: expression[:, i] for i, name in enumerate(names)}
    yaw = w["eyeLookOutLeft"] - w["eyeLookInLeft"] + w["eyeLookInRight"] - w["eyeLookOutRight"]
    pitch = w["eyeLookUpLeft"] - w["eyeLookDownLeft"] + w["eyeLookUpRight"] - w["eyeLookDownRight"]
    return torch.stack([yaw, pitch], 1) * (angle / 2)


def turn_head(scene: Scene, yaw: float, pitch: float, roll: float = 0.0) -> Scene:
    """The scene after the head has turned while camera and light stand still.

    yaw, pitch: degrees, to the subject's left and up. roll: degrees, the top of the head to the subject's left

    The head never moves in its own coordinates; camera and light move the other way. So the neck turns with it.
    """
    turn = head_rotation(yaw, pitch, roll).to(scene.expression)
    matrix = rotation_matrix(scene.camera.rotation.double()) @ turn.double()
    rotation = torch.stack([axis_angle(m) for m in matrix]).to(scene.camera.rotation)
    camera = Camera(scene.camera.focal, rotation, scene.camera.translation)
    return replace(scene, camera=camera, light=scene.light.turned(turn.T), crop=None)


def head_rotation(yaw: float, pitch: float, roll: float) -> Tensor:
    """`[3, 3]` of the head's turn, degrees as in `turn_head`."""
    angle = math.radians(-roll)
    c, s = math.cos(angle), math.sin(angle)
    tilt = torch.tensor([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    return gaze_rotation(torch.tensor([[yaw, pitch]], dtype=torch.float32).deg2rad())[0] @ tilt


def blend_scenes(a: Scene, b: Scene, weight: float, part: str = "all") -> Scene:
    """Between two scenes: 0 is `a`, 1 is `b`.

    part: one of BLEND_PARTS, what is blended; the rest is that of `a`. "expression" includes the gaze. A camera moves
    on a straight line and turns on a great circle; lights cross-fade.
    Raises UserError for another part, or for scenes of different numbers of pictures.
    """
    if part not in BLEND_PARTS:
        raise UserError(f"Unknown part '{part}'; choose one of {', '.join(BLEND_PARTS)}.")
    count = max(len(a), len(b))
    if any(len(s) not in (1, count) for s in (a, b)):
        raise UserError(f"Scenes of {len(a)} and {len(b)} pictures cannot be blended; connect equal numbers, or one.")
    a, b = a.expand(count), b.to(a.expression.device).expand(count)
    camera, light, expression, gaze = a.camera, a.light, a.expression, a.gaze
    if part in ("all", "expression"):
        expression, gaze = torch.lerp(expression, b.expression, weight), torch.lerp(gaze, b.gaze, weight)
    if part in ("all", "camera"):
        camera = _between_cameras(camera, b.camera, weight)
    if part in ("all", "light"):
        light = _between_lights(light, b.light, weight)
    moved = camera is not a.camera and 0 < weight
    return replace(a, camera=camera, light=light, expression=expression, gaze=gaze, crop=None if moved else a.crop)


def _between_cameras(a: Camera, b: Camera, weight: float) -> Camera:
    one, two = (rotation_matrix(c.rotation.double()) for c in (a, b))
    rotations = []
    for m, n in zip(one, two, strict=True):
        rotations.append(axis_angle(rotation_matrix(axis_angle(n @ m.T) * weight) @ m))
    rotation = torch.stack(rotations)
    position = torch.lerp(a.position().double(), b.position().double(), weight)
    focal = torch.exp(torch.lerp(a.focal.log(), b.focal.log(), weight))
    translation = -torch.einsum("bij,bj->bi", rotation_matrix(rotation), position)
    return Camera(focal, rotation.to(a.rotation), translation.to(a.translation))


def _between_lights(a: Light, b: Light, weight: float) -> Light:
    if weight <= 0 or weight >= 1:
        return a if weight <= 0 else b
    one, two = a.scaled(1 - weight), b.scaled(weight)
    return Light(
        one.sh + two.sh,
        F.normalize(torch.cat([one.direction, two.direction], 1), dim=-1),
        torch.cat([one.color, two.color], 1),
        a.shadows or b.shadows,
    )
