"""The head's 52 ARKit blendshapes as offsets from its neutral mesh: morph targets of glTF."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..head.corrections import full_expressions
from ..head.model import gaze_rotation
from ..head.visemes import EXTRA, mixture
from ..head.whole import whole_head
from ..render.normals import vertex_normals
from .mesh import Part

if TYPE_CHECKING:
    from ..avatar import Avatar
    from ..head import HeadModel

STILL = 2e-5  # metres; smaller offsets are left out (1/20 of a texel at 512)
TURNED = 0.01  # smaller changes of a unit normal (0.6 degrees) are left out
LOOK_ANGLE = math.radians(30)  # turn of the eyeball at weight 1 of an eyeLook blendshape; ARKit specifies none
LOOKS = {  # blendshape -> (yaw, pitch) of the subject's left eye; "In" is towards the nose
    "eyeLookDown": (0, -1),
    "eyeLookIn": (-1, 0),
    "eyeLookOut": (1, 0),
    "eyeLookUp": (0, 1),
}


@dataclass
class Target:
    """One blendshape at weight 1.

    name: ARKit name
    rows: `[M]`, vertices that move
    offsets: `[M, 3]`, metres
    normal_rows: `[L]`, vertices whose normal changes
    normal_offsets: `[L, 3]`
    """

    name: str
    rows: np.ndarray
    offsets: np.ndarray
    normal_rows: np.ndarray
    normal_offsets: np.ndarray


@torch.no_grad()
def face_targets(avatar: Avatar, parts: list[Part]) -> dict[str, list[Target]]:
    """Targets of all parts but the eyes by part name, in the head model's order.

    The skin has all 52, the others only those that move them; see `in_order`. Skin, teeth and mouth are linear in them,
    so sums are exact.
    They include normals. With positions alone, viewers shade the moved head with the normals of the neutral one.

    avatar: batch 1
    parts: those of `split_parts` without a pivot
    """
    head = avatar.head
    shape = avatar.shape.detach().cpu().double()
    head = head_on_cpu(head)
    whole = whole_head(head)
    tri = whole.triangles.long()
    neutral = whole.vertices(shape)
    normals = vertex_normals(neutral, tri)
    targets: dict[str, list[Target]] = {part.name: [] for part in parts}
    each = torch.eye(head.n_expression, dtype=torch.float64)
    for i, (name, at) in enumerate(zip(head.expression_names, full_expressions(head, shape), strict=True)):
        moved = whole.around(at[None], shape, each[i : i + 1])
        offsets, turns = (moved - neutral)[0], (vertex_normals(moved, tri) - normals)[0]
        for part in parts:
            target = offsets_target(name, offsets[part.rows], turns[part.rows])
            if part.name == "Skin" or len(target.rows):
                targets[part.name].append(target)
    return targets


@torch.no_grad()
def eye_targets(part: Part) -> Iterator[Target]:
    """The four eyeLook targets of one eyeball: offsets to its vertices turned by `LOOK_ANGLE` about the pivot."""
    left = part.name.endswith("L")
    points, normals = torch.from_numpy(part.positions - part.pivot).double(), torch.from_numpy(part.normals).double()
    for action, (yaw, pitch) in LOOKS.items():
        gaze = torch.tensor([[yaw if left else -yaw, pitch]], dtype=torch.float64) * LOOK_ANGLE
        turn = gaze_rotation(gaze)[0].T - torch.eye(3, dtype=torch.float64)
        yield offsets_target(action + ("Left" if left else "Right"), points @ turn, normals @ turn)


def in_order(targets: Iterable[Target], names: Sequence[str]) -> list[Target]:
    """One target for each name, in that order; one that moves nothing where `targets` has none.

    Every mesh of a file gets the same list, because tools drive all meshes with the names and numbers of one.
    """
    by_name = {target.name: target for target in targets}
    rows, offsets = np.zeros(0, np.int64), np.zeros((0, 3), np.float32)
    return [by_name.get(name) or Target(name, rows, offsets, rows, offsets) for name in names]


def with_mixtures(targets: list[Target], count: int) -> list[Target]:
    """Targets and, after them, the mixtures of `head.visemes.EXTRA`. count: vertices of the part."""
    names = [target.name for target in targets]
    by_name = dict(zip(names, targets, strict=True))
    mixed = []
    for name in EXTRA:
        offsets, turns = torch.zeros(count, 3), torch.zeros(count, 3)
        for action, weight in mixture(name, names).items():
            target = by_name[action]
            offsets[target.rows] += weight * torch.from_numpy(target.offsets)
            turns[target.normal_rows] += weight * torch.from_numpy(target.normal_offsets)
        mixed.append(offsets_target(name, offsets, turns))
    return targets + mixed


def offsets_target(name: str, offsets: Tensor, normals: Tensor) -> Target:
    """Target from dense offsets of positions and normals, both `[N, 3]`; small ones are left out."""
    rows = (offsets.norm(dim=1) > STILL).nonzero()[:, 0]
    turned = (normals.norm(dim=1) > TURNED).nonzero()[:, 0]
    return Target(name, rows.numpy(), offsets[rows].float().numpy(), turned.numpy(), normals[turned].float().numpy())


def head_on_cpu(head: HeadModel) -> HeadModel:
    """The head, or a copy of it on the CPU."""
    return head if head.uv.device.type == "cpu" else copy.deepcopy(head).cpu()
