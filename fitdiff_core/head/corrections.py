"""Corrections of three expressions, so that lids shut and lips stay on each other.

The fits of photos use the head model's own linear shapes. For pictures and files these shapes fall short in two ways:
eyeBlink leaves a slit of up to 2 mm, which depends on the person, and jawOpen with mouthClose moves the lips through
each other. Each correction is an offset that is added to a shape at weight 1. In a file it is a part of the blendshape.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from .lids import Lids, lids_of, lower_at, nearest_on

if TYPE_CHECKING:
    from .model import HeadModel

NAMES = ("eyeBlinkLeft", "eyeBlinkRight", "mouthClose")
COVER = 0.00015  # metres that the upper lid's edge lies over the lower one's when shut
CLEAR = 0.001  # metres between a shut lid and the eyeball, less at its edge
ROUNDS = 6
SHUT = 3  # power of the weight with which lids are corrected in pictures: a squint stays as the photo showed it
LIPS = 0.030  # metres from the lips over which mouthClose is corrected
KEPT = 4
TOGETHER = 13  # expressions at a time: all of them at once take 100 MB
_close = WeakTensorKeyDictionary()
_found: OrderedDict[tuple, tuple[HeadModel, Tensor]] = OrderedDict()


@torch.no_grad()
def corrections(head: HeadModel, shape: Tensor) -> Tensor:
    """Offsets `[3, V, 3]` of `NAMES` for one person, metres, float64 on the CPU. shape: `[1, K]`.

    The latest are kept. A head file without one of these expressions gets zeros for it.
    """
    shape = shape.detach().cpu().float()  # float64 only on the CPU: other devices may have none
    key = (id(head), shape.numpy().tobytes())
    if key not in _found:
        offsets = torch.zeros(len(NAMES), head.n_vertices, 3, dtype=torch.float64)
        names = head.expression_names
        for i, name in enumerate(NAMES[:2]):
            if name in names:
                rows, moved = _shut(head, shape, i, names.index(name))
                offsets[i, rows] = moved
        if {"jawOpen", "mouthClose"} <= set(names):
            offsets[2] = _close_lips(head)
        _found[key] = head, offsets
        while len(_found) > KEPT:
            _found.popitem(last=False)
    _found.move_to_end(key)
    return _found[key][1]


def posed(head: HeadModel, shape: Tensor, expression: Tensor, gaze: Tensor | None = None) -> Tensor:
    """`HeadModel.forward` with the corrections: vertices `[B, V, 3]`.

    The lids are corrected by the third power of the weight of eyeBlink: half-open lids are as the fit found them. Lips
    are corrected by the smaller of the weights of jawOpen and mouthClose. A file adds each correction by its weight.
    """
    vertices = head(shape, expression, gaze)
    strength = correction_weights(head, expression)
    if not strength.any():
        return vertices
    offsets = torch.stack([corrections(head, one[None]) for one in shape]).to(vertices)
    return vertices + torch.einsum("bk,bkvx->bvx", strength.to(vertices), offsets)


def correction_weights(head: HeadModel, expression: Tensor) -> Tensor:
    """How much of each of `NAMES` pictures get: `[B, 3]` for weights `[B, 52]`."""
    names = head.expression_names

    def of(name: str) -> Tensor:
        zero = torch.zeros_like(expression[:, 0])
        return expression[:, names.index(name)].clamp(0, 1) if name in names else zero

    lips = torch.minimum(of("jawOpen"), of("mouthClose"))
    return torch.stack([of("eyeBlinkLeft") ** SHUT, of("eyeBlinkRight") ** SHUT, lips], 1)


@torch.no_grad()
def full_expressions(head: HeadModel, shape: Tensor) -> Tensor:
    """Vertices `[E, V, 3]` of one person at weight 1 of each expression, corrected. shape: `[1, K]` float64."""
    each = torch.eye(head.n_expression, dtype=torch.float64, device=shape.device)
    vertices = shape.new_empty(len(each), head.n_vertices, 3)
    for rows, weights in zip(vertices.split(TOGETHER), each.split(TOGETHER), strict=True):
        rows.copy_(head(shape.expand(len(weights), -1), weights))
    for offsets, name in zip(corrections(head, shape), NAMES, strict=True):
        if name in head.expression_names:
            vertices[head.expression_names.index(name)] += offsets.to(vertices)
    return vertices


def _shut(head: HeadModel, shape: Tensor, side: int, index: int) -> tuple[Tensor, Tensor]:
    """(rows `[K]`, offsets `[K, 3]`) that shut the lids of one eye at weight 1 of eyeBlink."""
    lids: Lids = lids_of(head)[side]
    device = head.uv.device
    one = torch.zeros(1, head.n_expression, device=device)
    one[0, index] = 1
    neutral, shut = (head(shape.to(device), e)[0].cpu().double() for e in (None, one))
    shape_of_ball = head.eyeball.cpu().double()
    centre = head.eye_centres(shape.to(device))[0, side].cpu().double()
    shut = shut.clone()
    start, up = shut.clone(), lids.of_upper
    before = neutral[up.rows] - centre
    outside = before.norm(dim=1) > shape_of_ball.norm(dim=1).min()  # the lid's inner side stays behind
    free = (outside * up.weight).clamp(max=1)[:, None]
    lift = CLEAR * (up.away / 0.002).clamp(0.3, 1)
    for _ in range(ROUNDS):
        target = lower_at(shut[lids.lower], shut[lids.upper])
        target[:, 1] -= COVER
        pull = target - shut[lids.upper]
        pull[[0, -1]] = 0  # the corners belong to both lids
        shut[up.rows] += up.offsets(pull)
        after = shut[up.rows] - centre
        away = F.normalize(after, dim=1)
        deep = (_radius(shape_of_ball, away) + lift - after.norm(dim=1)).clamp(min=0)
        shut[up.rows] += away * deep[:, None] * free
    return up.rows, (shut - start)[up.rows]


def _radius(ball: Tensor, direction: Tensor) -> Tensor:
    """Distance `[N]` of the surface of an eyeball `[M, 3]` from its centre in unit directions `[N, 3]`."""
    length = ball.norm(dim=1)
    return length[torch.cdist(direction, ball / length[:, None]).argmin(1)]


def _close_lips(head: HeadModel) -> Tensor:
    """Offset `[V, 3]` after which mouthClose takes back at the lips what jawOpen did there. The same for everybody."""
    if head.triangles not in _close:
        names = head.expression_names
        both = torch.zeros(1, head.n_expression, device=head.uv.device)
        both[0, names.index("jawOpen")] = both[0, names.index("mouthClose")] = 1
        zero = torch.zeros(1, head.n_identity, device=head.uv.device)
        neutral = head(zero)[0].cpu().double()
        left_over = head(zero, both)[0].cpu().double() - neutral
        inner = neutral[head.landmark_ids.cpu()[60:68]]
        line = torch.cat([inner, inner[:1]])
        lips = head.vertex_region("lips").cpu().double()
        away = nearest_on(neutral, line)[0] - 0.006
        fall = (1 - away / LIPS).clamp(0, 1)
        share = torch.maximum(fall**2 * (3 - 2 * fall), lips)
        share[head.teeth_rows.start :] = 0
        _close[head.triangles] = -left_over * share[:, None]
    return _close[head.triangles]
