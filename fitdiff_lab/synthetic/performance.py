"""A performance that is known frame by frame: speech, blinks, brows, a smile, head turns and saccades."""

from __future__ import annotations

import math

import numpy as np
import torch

from fitdiff_core.export.blendshapes import LOOK_ANGLE, LOOKS
from fitdiff_core.head.visemes import VISEMES, mixture
from fitdiff_core.motion import Motion

SENTENCE = "SS aa PP I DD E nn kk O FF E RR U CH aa TH I nn DD O PP aa SS U RR E FF I kk aa".split()
STILL = (4.6, 5.8)  # seconds in which nothing moves
BLINKS = (1.1, 2.9, 6.6, 8.2)  # seconds
CLOSING, SHUT, OPENING = 0.10, 0.04, 0.16  # seconds of a blink


def performance(names: tuple[str, ...], seconds: float = 10.0, fps: float = 25.0, seed: int = 0) -> Motion:
    """A talking person.

    names: of the head's 52 shapes. seed: order of the visemes, and where the eyes look

    The lids follow the gaze by the eyeLook weights. From 4.6 to 5.8 s the face is still.
    """
    rng = np.random.default_rng(seed)
    n = round(seconds * fps)
    t = np.arange(n) / fps
    held = _held(t)  # time as the moving parts see it: it stands while the face is still
    w = _speech(held, names, rng)
    column = {name: i for i, name in enumerate(names)}

    def add(amount: np.ndarray, *shapes: str) -> None:
        for shape in shapes:
            w[:, column[shape]] += amount

    blink = np.maximum.reduce([_blink(t - at) for at in BLINKS])
    add(blink, "eyeBlinkLeft", "eyeBlinkRight")
    add(0.7 * _bump(held, 1.8, 2.9), "browInnerUp", "browOuterUpLeft", "browOuterUpRight")
    add(0.6 * _bump(held, 6.9, 7.9), "browDownLeft", "browDownRight")
    add(0.6 * _bump(held, 8.3, 9.8), "mouthSmileLeft", "mouthSmileRight")
    add(0.35 * _bump(held, 8.3, 9.8), "cheekSquintLeft", "cheekSquintRight", "eyeSquintLeft", "eyeSquintRight")
    add(0.25 * _bump(held, 4.0, 6.4), "mouthSmileLeft", "mouthSmileRight")
    gaze = _saccades(held, rng)
    for look, (across, up) in LOOKS.items():
        for side, sign in (("Left", 1.0), ("Right", -1.0)):
            amount = np.clip((gaze[:, 0] * across * sign + gaze[:, 1] * up) / LOOK_ANGLE, 0, 1)
            add(amount, look + side)
    yaw = 17 * np.sin(2 * math.pi * held / 5.3) + 5 * np.sin(2 * math.pi * held / 1.9)
    pitch = 7 * np.sin(2 * math.pi * held / 3.1 + 0.6)
    roll = 6 * np.sin(2 * math.pi * held / 4.1 + 2)
    turn = _rotation_vectors(np.radians(np.stack([yaw, pitch, roll], 1)))
    tensor = lambda x: torch.from_numpy(np.ascontiguousarray(x)).float()  # noqa: E731
    return Motion(tensor(np.clip(w, 0, 1)), turn, tensor(gaze), fps)


def still_frames(motion: Motion) -> torch.Tensor:
    """`[F]` bool: frames in which nothing moves, nor did in the frame before."""
    t = torch.arange(len(motion)) / motion.fps
    return (t > STILL[0] + 1.5 / motion.fps) & (t < STILL[1])


def _held(t: np.ndarray) -> np.ndarray:
    return np.where(t < STILL[0], t, np.maximum(STILL[0], t - (STILL[1] - STILL[0])))


def _smooth(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def _bump(t: np.ndarray, start: float, end: float, ease: float = 0.25) -> np.ndarray:
    return _smooth((t - start) / ease) * _smooth((end - t) / ease)


def _blink(t: np.ndarray) -> np.ndarray:
    return _smooth(t / CLOSING) * _smooth((CLOSING + SHUT + OPENING - t) / OPENING)


def _speech(t: np.ndarray, names: tuple[str, ...], rng: np.random.Generator) -> np.ndarray:
    """`[F, 52]`: visemes that fade into each other, with a pause now and then."""
    shapes = {f"viseme_{k.removeprefix('viseme_')}": _row(k, names) for k in VISEMES}
    w, at, k = np.zeros((len(t), len(names))), 0.3, 0
    while at < t[-1] + 0.3:
        length = rng.uniform(0.13, 0.22)
        name = f"viseme_{SENTENCE[k % len(SENTENCE)]}"
        w += _bump(t, at - 0.05, at + length + 0.05, 0.1)[:, None] * shapes[name] * rng.uniform(0.75, 1.0)
        at, k = at + length, k + 1
        if k % 9 == 0:
            at += 0.35
    return w


def _row(viseme: str, names: tuple[str, ...]) -> np.ndarray:
    weights = mixture(viseme, names)
    return np.array([weights.get(name, 0.0) for name in names])


def _saccades(t: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`[F, 2]` radians: the eyes rest on a place and jump to the next within 60 ms."""
    gaze, at = np.zeros((len(t), 2)), 0.6
    place = np.zeros(2)
    while at < t[-1]:
        to = np.radians([rng.uniform(-18, 18), rng.uniform(-11, 9)]) * (rng.random() > 0.3)
        gaze += _smooth((t - at) / 0.06)[:, None] * (to - place)
        place, at = to, at + rng.uniform(0.5, 1.1)
    return gaze


def _rotation_vectors(angles: np.ndarray) -> torch.Tensor:
    """Yaw, pitch, roll `[F, 3]` radians (to the subject's left, up, and tilted to the left) -> axis times angle."""
    from fitdiff_core.expressions import head_rotation
    from fitdiff_core.render.viewer_camera import axis_angle

    return torch.stack([axis_angle(head_rotation(*row).double()) for row in np.degrees(angles).tolist()]).float()
