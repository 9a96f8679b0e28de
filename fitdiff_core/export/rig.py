"""The skeleton of a head in a glTF file: joints as nodes, a skin, and the weights of each mesh."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..head.joints import JOINTS, PARENTS, Skeleton, skeleton

if TYPE_CHECKING:
    from ..avatar import Avatar
    from .gltf_binary import Binary
    from .mesh import Part

STEPS = 1024  # weights are multiples of 1/1024, so that they sum to 1 exactly
INFLUENCES = 4  # joints that can move one vertex


class Rig:
    """Joints and weights of one avatar (batch 1) for a file."""

    def __init__(self, avatar: Avatar):
        self.skeleton: Skeleton = skeleton(avatar.head, avatar.shape)
        self.of_vertices = avatar.whole.joint_weights(self.skeleton.weights).numpy()
        self.positions = self.skeleton.positions.numpy()

    def weights(self, part: Part) -> np.ndarray:
        """`[N, 6]` of the vertices of a part."""
        return self.of_vertices[part.rows] if part.weights is None else part.weights

    def attributes(self, part: Part, binary: Binary) -> dict[str, int]:
        """Accessors JOINTS_0 and WEIGHTS_0 of a part."""
        joints, weights = strongest(self.weights(part))
        return {"JOINTS_0": binary.joints(joints), "WEIGHTS_0": binary.vertices(weights, "VEC4")}

    def nodes(self, first: int, gaze: list[float] | None) -> list[dict]:
        """The joints as nodes, the first of them node number `first`.

        gaze: quaternion of both eyes; None looks ahead
        """
        nodes = []
        for i, name in enumerate(JOINTS):
            parent = PARENTS[i]
            at = self.positions[i] - (0 if parent is None else self.positions[parent])
            node: dict = {"name": name, "translation": at.astype(float).tolist()}
            if children := [first + k for k, p in enumerate(PARENTS) if p == i]:
                node["children"] = children
            if gaze is not None and name.startswith("Eye"):
                node["rotation"] = gaze
            if name == "Jaw":
                half = self.skeleton.jaw_angle / 2
                node["extras"] = {"jawOpen": [math.sin(half), 0.0, 0.0, math.cos(half)]}
            nodes.append(node)
        return nodes

    def skin(self, first: int, binary: Binary) -> dict:
        """The glTF skin; its joints are the nodes from `first` on."""
        inverse = np.tile(np.eye(4, dtype=np.float32), (len(JOINTS), 1, 1))
        inverse[:, 3, :3] = -self.positions  # column-major
        return {
            "name": "FitDiff",
            "joints": list(range(first, first + len(JOINTS))),
            "skeleton": first,
            "inverseBindMatrices": binary.matrices(inverse.reshape(-1, 16)),
        }


def with_joint(joint: str, count: int) -> np.ndarray:
    """Weights `[count, 6]` of vertices that move with one joint."""
    return np.tile(np.eye(len(JOINTS))[JOINTS.index(joint)], (count, 1))


def strongest(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The four strongest joints of each vertex: (joints `[N, 4]` uint8, weights `[N, 4]` float32) of `[N, J]`."""
    order = np.argsort(-weights, axis=1, kind="stable")[:, :INFLUENCES]
    kept = np.take_along_axis(weights, order, 1)
    steps = np.round(kept / kept.sum(1, keepdims=True) * STEPS).astype(int)
    steps[:, 0] += STEPS - steps.sum(1)
    joints = np.where(steps > 0, order, 0)  # a joint without weight must be 0
    return joints.astype(np.uint8), (steps / STEPS).astype(np.float32)
