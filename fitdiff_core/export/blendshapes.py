"""The head's 52 ARKit actions as offsets from its neutral mesh: glTF's morph targets."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..head.model import gaze_rotation
from ..render.normals import vertex_normals
from .mesh import Part

if TYPE_CHECKING:
    from ..avatar import Avatar
    from ..head import HeadModel

STILL = 2e-5  # metres: a vertex that moves less stays where it is (a twentieth of a texel at 512)
TURNED = 0.01  # a normal that turns less than 0.6 degrees is left alone
LOOK_ANGLE = math.radians(30)  # how far a full eyeLook... turns the eyeball; ARKit names no figure
LOOKS = {  # action -> (yaw, pitch) of the eye on the subject's left; "In" is towards the nose
    "eyeLookDown": (0, -1),
    "eyeLookIn": (-1, 0),
    "eyeLookOut": (1, 0),
    "eyeLookUp": (0, 1),
}


@dataclass
class Target:
    """One action at full weight. Vertices `rows [M]` move by `offsets [M, 3]`, normals `normal_rows` by `normal_offsets`."""

    name: str
    rows: np.ndarray
    offsets: np.ndarray
    normal_rows: np.ndarray
    normal_offsets: np.ndarray


@torch.no_grad()
def face_targets(avatar: Avatar, parts: list[Part]) -> dict[str, list[Target]]:
    """By part's name, in the head model's order: of the skin all 52, of the teeth those that move them (the jaw's). Exact
    sums, since the head is linear in them.

    Their normals are there because a viewer that blends positions alone keeps the neutral head's shading: an open jaw
    would be lit like a shut one.
    """
    head = avatar.head
    shape = avatar.shape.detach().double().cpu()
    head = head if head.uv.device.type == "cpu" else _on_cpu(head)
    neutral, tri = head(shape), head.triangles.long()
    normals = vertex_normals(neutral, tri)
    targets = {part.name: [] for part in parts}
    for i, name in enumerate(head.expression_names):
        moved = head(shape, torch.eye(head.n_expression, dtype=torch.float64)[i : i + 1])
        offsets, turns = (moved - neutral)[0], (vertex_normals(moved, tri) - normals)[0]
        for part in parts:
            target = _target(name, offsets[part.rows], turns[part.rows])
            if part.name == "Skin" or len(target.rows):
                targets[part.name].append(target)
    return targets


@torch.no_grad()
def eye_targets(part: Part) -> Iterator[Target]:
    """The four eyeLook targets of one eyeball about its pivot: the chord of a turn by `LOOK_ANGLE`."""
    left = part.name.endswith("L")
    points, normals = torch.from_numpy(part.positions - part.pivot).double(), torch.from_numpy(part.normals).double()
    for action, (yaw, pitch) in LOOKS.items():
        gaze = torch.tensor([[yaw if left else -yaw, pitch]], dtype=torch.float64) * LOOK_ANGLE
        turn = gaze_rotation(gaze)[0].T - torch.eye(3, dtype=torch.float64)
        yield _target(action + ("Left" if left else "Right"), points @ turn, normals @ turn)


def _target(name: str, offsets: Tensor, normals: Tensor) -> Target:
    rows = (offsets.norm(dim=1) > STILL).nonzero()[:, 0]
    turned = (normals.norm(dim=1) > TURNED).nonzero()[:, 0]
    return Target(name, rows.numpy(), offsets[rows].float().numpy(), turned.numpy(), normals[turned].float().numpy())


def _on_cpu(head: HeadModel) -> HeadModel:
    import copy

    return copy.deepcopy(head).cpu()
