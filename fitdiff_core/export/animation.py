"""A motion as glTF animation: weights of the morph targets, and rotations of the joints.

The neck takes NECK of the head's turn and the head the rest, so that the neck bends where it does in people. The eyes
turn by their joints; their eyeLook targets stay at 0, or the eyes would turn twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..head.joints import JOINTS
from ..head.model import gaze_rotation
from ..render.camera import rotation_matrix
from ..render.viewer_camera import axis_angle

if TYPE_CHECKING:
    from ..motion import Motion
    from .gltf_binary import Binary

NECK = 0.35
NAME = "Performance"


def animation(
    motion: Motion,
    binary: Binary,
    names: Sequence[str],
    targets: dict[int, int],
    joints: int | None,
    eyes: Sequence[int],
) -> dict:
    """The glTF animation; its arrays go to `binary`.

    names: of the 52 shapes, which come first among the targets
    targets: node of a mesh -> number of its morph targets; the eyes' meshes are not among them
    joints: number of the first joint's node; None for a file without a skin, where only eyes and weights move
    eyes: nodes that turn with the gaze
    """
    n = len(motion)
    times = binary.values(np.arange(n, dtype=np.float32) / np.float32(motion.fps), "SCALAR", bounds=True)
    samplers: list[dict] = []
    channels: list[dict] = []

    def add(values: int, nodes: Sequence[int], path: str) -> None:
        samplers.append({"input": times, "output": values, "interpolation": "LINEAR"})
        channels.extend({"sampler": len(samplers) - 1, "target": {"node": node, "path": path}} for node in nodes)

    weights = motion.weights.detach().cpu().numpy().astype(np.float32)
    for count in sorted(set(targets.values())):
        full = np.zeros((n, count), np.float32)
        full[:, : len(names)] = weights
        add(binary.values(full.reshape(-1), "SCALAR"), [k for k, c in targets.items() if c == count], "weights")
    if joints is not None:
        neck, top = shared_turn(rotation_matrix(motion.turn.detach().cpu().double()))
        for name, turn in (("Neck", neck), ("Head", top)):
            add(binary.values(quaternions(turn), "VEC4"), [joints + JOINTS.index(name)], "rotation")
    look = gaze_rotation(motion.gaze.detach().cpu().double())
    add(binary.values(quaternions(look), "VEC4"), eyes, "rotation")
    return {"name": NAME, "samplers": samplers, "channels": channels}


def shared_turn(turn: Tensor) -> tuple[Tensor, Tensor]:
    """Rotations `[F, 3, 3]` of the neck, and of the head on it, whose product is `turn`."""
    neck = torch.stack([rotation_matrix(axis_angle(m) * NECK) for m in turn.double()])
    return neck, neck.mT @ turn.double()


def quaternions(matrices: Tensor) -> np.ndarray:
    """Rotations `[F, 3, 3]` -> unit quaternions (x, y, z, w) `[F, 4]` float32, each in the half sphere of the one
    before, so that players turn the short way."""
    vectors = torch.stack([axis_angle(m) for m in matrices.double()])
    angle = vectors.norm(dim=1, keepdim=True)
    axis = vectors / angle.clamp(min=1e-12)
    q = torch.cat([axis * (angle / 2).sin(), (angle / 2).cos()], 1).numpy()
    flips = np.sign((q[1:] * q[:-1]).sum(1))
    q[1:] *= np.cumprod(np.where(flips < 0, -1.0, 1.0))[:, None]
    q = q.astype(np.float32)
    return q / np.linalg.norm(q, axis=1, keepdims=True)
