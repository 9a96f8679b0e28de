"""Random cameras, lights, expressions and gazes of the synthetic photographs."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from fitdiff_core.render.camera import Camera, rotation_matrix
from fitdiff_core.render.light import Light, sh_basis
from fitdiff_core.scene import N_EXPRESSION, Scene

# moods: (odds, ARKit weights at full strength); the weights of a face sum to at most LIMIT
LIMIT = 1.1
_SMILE = {"mouthSmileLeft": 0.5, "mouthSmileRight": 0.5, "cheekSquintLeft": 0.15, "cheekSquintRight": 0.15}
_GRIN = _SMILE | {
    "jawOpen": 0.12,
    "mouthUpperUpLeft": 0.2,
    "mouthUpperUpRight": 0.2,
    "mouthLowerDownLeft": 0.1,
    "mouthLowerDownRight": 0.1,
}
_MOODS = (
    (0.34, {}),
    (0.22, _SMILE),
    (0.20, _GRIN),
    (0.07, {"jawOpen": 0.3}),
    (0.05, {"browDownLeft": 0.5, "browDownRight": 0.5}),
    (0.05, {"browInnerUp": 0.5, "browOuterUpLeft": 0.3, "browOuterUpRight": 0.3}),
    (0.04, {"mouthFrownLeft": 0.4, "mouthFrownRight": 0.4}),
    (0.03, {"mouthPucker": 0.4}),
)


def random_expression(names: tuple[str, ...], rng: np.random.Generator) -> Tensor:
    """ARKit weights `[1, 52]`: one mood or none, and a few small random actions. names: of the weights."""
    x = np.zeros(N_EXPRESSION)
    p = np.array([m[0] for m in _MOODS])
    mood = _MOODS[rng.choice(len(_MOODS), p=p / p.sum())][1]
    index = {n: i for i, n in enumerate(names)}
    strength = rng.uniform(0.25, 1.0)
    for name, v in mood.items():
        if name in index:
            x[index[name]] += strength * v * rng.uniform(0.8, 1.2)
    stray = [i for n, i in index.items() if not n.startswith(("eyeLook", "tongue", "jawForward"))]
    for i in rng.choice(stray, 3, replace=False):
        x[i] += abs(rng.normal(0, 0.06))
    blink = 0.35 * rng.random() ** 3
    for name in ("eyeBlinkLeft", "eyeBlinkRight"):
        if name in index:
            x[index[name]] += blink
    total = x.sum()
    return torch.from_numpy(x * min(1.0, LIMIT / max(total, 1e-6))).float()[None]


def random_camera(rng: np.random.Generator, frame: tuple[float, float] = (0.225, 0.31)) -> Camera:
    """A camera, mostly near the front, at a distance of .42 to 3 m.

    frame: range of the picture's height at the head, m.
    """
    turn = rng.random()
    spread = 7.0 if turn < 0.35 else 18.0 if turn < 0.82 else 36.0
    yaw = float(np.clip(rng.normal(0, spread), -58, 58))
    pitch = float(np.clip(rng.normal(1, 4.0 + 0.22 * spread), -30, 30))
    roll = float(np.clip(rng.normal(0, 6), -22, 22))
    # from a phone at arm's length (24 mm equivalent) to a portrait lens across a room (120 mm)
    distance = float(np.exp(rng.uniform(math.log(0.42), math.log(3.0))))
    height = rng.uniform(*frame)
    target = (float(rng.normal(0, 0.010)), float(rng.normal(-0.012, 0.010)), 0.05)
    camera = Camera.orbit(yaw, pitch, distance, math.degrees(2 * math.atan(height / 2 / (distance - 0.03))), target)
    return rolled(camera, roll)


def rolled(camera: Camera, degrees: float) -> Camera:
    """The camera rotated about its viewing axis."""
    axis = torch.tensor([[0.0, 0.0, math.radians(degrees)]])
    turn = rotation_matrix(axis)
    return Camera(camera.focal, axis_angle(turn @ camera.matrix()), (turn @ camera.translation[..., None])[..., 0])


def axis_angle(matrix: Tensor) -> Tensor:
    """Axis-angle vectors `[B, 3]`, radians, of rotation matrices `[B, 3, 3]` by less than half a turn."""
    skew = torch.stack(
        [matrix[:, 2, 1] - matrix[:, 1, 2], matrix[:, 0, 2] - matrix[:, 2, 0], matrix[:, 1, 0] - matrix[:, 0, 1]], 1
    )
    cosine = (matrix.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2
    angle = torch.atan2(skew.norm(dim=1) / 2, cosine)
    scale = torch.where(angle < 1e-4, 0.5, angle / skew.norm(dim=1).clamp(min=1e-8))
    return skew * scale[:, None]


def tint(rng: np.random.Generator, amount: float = 1.0) -> np.ndarray:
    """Random colour `[3]` of a light, mean 1: between lamp and sky, seldom green or pink.

    amount: factor on the tint.
    """
    warm = rng.normal(0.03, 0.13) * amount
    c = np.exp([warm, 0.015 * amount * rng.standard_normal() + 0.15 * warm, -1.3 * warm])
    return c / c.mean()


def cap_light(axis: np.ndarray, half: float) -> np.ndarray:
    """Spherical harmonics `[9]` of radiance 1 within `half` radians of a unit vector (Funk-Hecke theorem)."""
    x = math.cos(half)
    bands = np.repeat([2 * math.pi * (1 - x), math.pi * (1 - x * x), math.pi * (x - x**3)], (1, 3, 5))
    return bands * sh_basis(torch.from_numpy(np.asarray(axis))).numpy()


def _toward(yaw: float, pitch: float) -> np.ndarray:
    return np.array([math.sin(yaw) * math.cos(pitch), math.sin(pitch), math.cos(yaw) * math.cos(pitch)])


def _yaw(camera: Camera) -> float:
    """Yaw of the camera about the head, radians."""
    side = camera.position()[0]
    return math.atan2(float(side[0]), float(side[2]))


def _light(sh: np.ndarray, directions: list[np.ndarray], colours: list[np.ndarray]) -> Light:
    """A `Light` of harmonics `[9, 3]` and any number of directional lights, `[3]` each."""
    lamps = (torch.from_numpy(np.array(x).reshape(1, -1, 3)).float() for x in (directions, colours))
    return Light(torch.from_numpy(sh).float()[None], *lamps)


def random_light(rng: np.random.Generator, camera: Camera) -> Light:
    """Ambient and area lights in spherical harmonics, and up to two directional lights, mostly on the camera's side."""
    ahead, sh = _yaw(camera), np.zeros((9, 3))

    surround = tint(rng)
    sh[0] += rng.gamma(2.0, 0.16) * surround * 2 * math.sqrt(math.pi)
    sh[1] += rng.normal(0.5, 0.25) * sh[0].mean() * 0.5 * tint(rng)  # brighter above than below
    for _ in range(rng.integers(0, 3)):
        half = rng.uniform(0.25, 0.9)
        axis = _toward(ahead + rng.normal(0, 1.1), float(np.clip(rng.normal(0.5, 0.4), -0.5, 1.4)))
        power = 0.8 * rng.gamma(1.5, 0.5) / (1 - math.cos(half))
        sh += power * tint(rng) * cap_light(axis, half)[:, None]
    directions, colours = [], []
    for k in range(rng.choice(3, p=[0.15, 0.55, 0.30])):
        # the first one is the key light (sun, window, lamp or flash); the second may come from behind
        yaw, pitch = ahead + rng.normal(0, 0.75 if k == 0 else 1.3), float(np.clip(rng.normal(0.55, 0.4), -0.4, 1.25))
        directions.append(_toward(yaw, pitch))
        colours.append(rng.gamma(2.2, 0.8) * tint(rng))
    return _light(sh, directions, colours)


def strong_light(rng: np.random.Generator, camera: Camera) -> Light:
    """A directional light from one side, little ambient light, and often a second directional light from the other
    side.

    The colours may be strong.
    """
    ahead = _yaw(camera)
    side = rng.choice((-1.0, 1.0))
    vivid = rng.choice((1.0, 4.0))  # weak tints as in rooms, or strong ones as from coloured bulbs
    power = rng.gamma(6.0, 0.5)
    directions = [_toward(ahead + side * rng.uniform(0.4, 1.6), float(np.clip(rng.normal(0.3, 0.3), -0.4, 1.2)))]
    colours = [power * tint(rng, vivid)]
    if rng.random() < 0.5:
        directions.append(
            _toward(ahead - side * rng.uniform(0.3, 1.6), float(np.clip(rng.normal(0.2, 0.3), -0.4, 1.2)))
        )
        colours.append(power * rng.uniform(0.15, 0.7) * tint(rng, vivid))
    sh = np.zeros((9, 3))
    sh[0] = power * math.exp(rng.uniform(math.log(0.02), math.log(0.15))) * tint(rng, vivid) / math.sqrt(math.pi)
    return _light(sh, directions, colours)


def random_scene(
    rng: np.random.Generator,
    expression_names: tuple[str, ...],
    size: tuple[int, int] = (224, 224),
    strong: bool = False,
) -> Scene:
    """A random camera, light, expression and gaze. size: (H, W). strong: use `strong_light`."""
    camera = random_camera(rng)
    gaze = rng.normal(0, [0.13, 0.07])
    if rng.random() < 0.6:  # people look into the lens
        p = camera.position()[0]
        gaze = (
            0.85 * np.array([math.atan2(float(p[0]), float(p[2])), math.atan2(float(p[1]), float(p[2]))]) + 0.2 * gaze
        )
    return Scene(
        camera,
        (strong_light if strong else random_light)(rng, camera),
        random_expression(expression_names, rng),
        torch.from_numpy(np.clip(gaze, -0.5, 0.5)).float()[None],
        size,
    )
