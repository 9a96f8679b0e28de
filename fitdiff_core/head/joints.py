"""A skeleton for the head: Root, Neck, Head, Jaw, Eye_L and Eye_R, and how the skin follows it.

The jaw's axis is the one that carries the tip of the chin where the blendshape jawOpen does, and the weights of the jaw
are read from that shape. So a tool that opens the jaw by its joint and one that uses the blendshape show the same chin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .model import HeadModel

JOINTS = ("Root", "Neck", "Head", "Jaw", "Eye_L", "Eye_R")
PARENTS = (None, 0, 1, 2, 2, 2)
BELOW_EARS = 0.02  # metres: the head turns on the neck below and behind the ears
BEHIND_EARS = 0.01
NECK = 0.35  # where the neck bends, as a share of the way from its lower edge to the head's joint
LEAST = 0.02  # weight of the jaw below which a vertex does not follow it
SOFT = 0.001  # metres of travel at which the weight of the jaw is halved


@dataclass
class Skeleton:
    """positions: `[6, 3]` of JOINTS, metres. jaw_angle: radians about +x that the jaw turns for jawOpen = 1

    weights: `[V, 6]` of the head's vertices, each row sums to 1
    """

    positions: Tensor
    weights: Tensor
    jaw_angle: float


@torch.no_grad()
def skeleton(head: HeadModel, shape: Tensor) -> Skeleton:
    """The joints of one person, float64 on the CPU. shape: `[1, K]`."""
    shape = shape.detach().float()  # float64 only on the CPU: other devices may have none
    neutral = head(shape)[0].cpu().double()
    n, rows = head.n_skin, head.n_vertices
    open_ = torch.zeros(1, head.n_expression, device=shape.device)
    if "jawOpen" in head.expression_names:
        open_[0, head.expression_names.index("jawOpen")] = 1
    moved = head(shape, open_)[0].cpu().double() - neutral
    tip = int(head.landmark_ids[8])
    ears = neutral[head.vertex_region("ears").cpu() > 0.5].mean(0)
    jaw, angle = _hinge(neutral[tip], moved[tip], ears)
    teeth = torch.zeros(rows, dtype=torch.bool)
    teeth[head.teeth_rows] = True
    travel = moved.norm(dim=1)
    lower = teeth & (travel > 0.5 * travel.max())
    count = (rows - n) // 2
    eyes = head.eye_centres(shape)[0].cpu().double()
    skull = torch.stack([torch.zeros(()).double(), ears[1] - BELOW_EARS, ears[2] - BEHIND_EARS])
    low = neutral[border(head)].mean(0)
    low[0] = 0
    positions = torch.stack([low, low + NECK * (skull - low), skull, jaw, *eyes])

    turned = _turn(neutral, jaw, angle) - neutral
    follow = _share(moved, turned) * (1 - head.vertex_region("scalp").cpu().double())
    follow[follow < LEAST] = 0
    follow[n:] = 0
    follow[teeth] = 0
    if lower.any():
        follow[lower] = _share(moved, turned)[lower].mean()  # a row of teeth stays one
    axis = skull - low
    t = ((neutral - low) @ axis / axis.square().sum()).clamp(0, 1)
    neck = head.vertex_region("neck").cpu().double()
    ramp = lambda x: x.clamp(0, 1) ** 2 * (3 - 2 * x.clamp(0, 1))  # noqa: E731
    upper, lower = ramp((t - NECK) / (0.95 - NECK)), ramp(t / NECK)
    upper = 1 - neck * (1 - upper)
    lower = torch.maximum(1 - neck * (1 - lower), upper)
    weights = torch.zeros(rows, len(JOINTS), dtype=torch.float64)
    weights[:, 0], weights[:, 1], weights[:, 2] = 1 - lower, lower - upper, upper
    weights *= (1 - follow)[:, None]
    weights[:, 3] = follow
    for i, name in enumerate(("Eye_L", "Eye_R")):
        ball = slice(n + i * count, n + (i + 1) * count)
        weights[ball] = 0
        weights[ball, JOINTS.index(name)] = 1
    return Skeleton(positions, weights, angle)


def border(head: HeadModel) -> Tensor:
    """The lower edge of the neck: vertex ids `[N]` in their order round it, starting at the front, to the left (+x)."""
    tri = head.triangles.cpu()
    tri = tri[(tri < head.teeth_rows.start).all(1)]
    edges = torch.cat([tri[:, [0, 1]], tri[:, [1, 2]], tri[:, [2, 0]]])
    low, high = edges.sort(1).values.unbind(1)
    _, inverse, count = torch.unique(low * head.n_vertices + high, return_inverse=True, return_counts=True)
    free = edges[count[inverse] == 1]
    after = dict(free.tolist())
    y = head(torch.zeros(1, head.n_identity, device=head.uv.device))[0].cpu()
    loops, left = [], set(after)
    while left:
        way = [min(left)]
        while (nxt := after.get(way[-1])) in left and nxt != way[0]:
            way.append(nxt)
        left -= set(way)
        loops.append(way)
    loop = torch.tensor(min(loops, key=lambda way: float(y[way, 1].mean())))
    points = y[loop]
    front = int((points[:, 2] - 10 * points[:, 0].abs()).argmax())
    loop = loop.roll(-front)
    return loop if y[loop[1], 0] > 0 else loop.flip(0).roll(1)


def _hinge(tip: Tensor, way: Tensor, ears: Tensor) -> tuple[Tensor, float]:
    """Point on the jaw's axis `[3]` and angle about +x that carry the tip of the chin `[3]` by `way` `[3]`.

    The axes that do lie on a line through the middle of the way, at right angles to it. The one nearest to the ears
    `[3]` is taken, because the real joint is in front of them.
    """
    chord = way[1:].norm()
    flat = torch.zeros(1).double()
    if chord < 1e-4:
        return torch.cat([flat, ears[1:]]), 0.0
    normal = torch.stack([-way[2], way[1]]) / chord
    middle = tip[1:] + way[1:] / 2
    away = (ears[1:] - middle) @ normal
    # turned about +x, what lies in front goes down
    return torch.cat([flat, middle + away * normal]), 2 * math.atan2(float(chord), 2 * abs(float(away)))


def _share(moved: Tensor, turned: Tensor) -> Tensor:
    """How much of the jaw's motion `turned` `[N, 3]` the shape's `moved` `[N, 3]` is: `[N]`, 0..1."""
    return ((moved * turned).sum(1) / (turned.square().sum(1) + SOFT**2)).clamp(0, 1)


def _turn(points: Tensor, pivot: Tensor, angle: float) -> Tensor:
    """Points `[N, 3]` turned about the x axis through `pivot`."""
    c, s = math.cos(angle), math.sin(angle)
    turn = torch.tensor([[1.0, 0, 0], [0, c, -s], [0, s, c]]).double()
    return (points - pivot) @ turn.T + pivot


@torch.no_grad()
def turned_jaw(head: HeadModel, shape: Tensor) -> Tensor:
    """Vertices `[V, 3]` with the jaw's joint turned as for jawOpen = 1, by linear blend skinning. shape: `[1, K]`."""
    bones = skeleton(head, shape)
    neutral = head(shape.detach().float())[0].cpu().double()
    moved = _turn(neutral, bones.positions[JOINTS.index("Jaw")], bones.jaw_angle)
    return torch.lerp(neutral, moved, bones.weights[:, JOINTS.index("Jaw"), None])
