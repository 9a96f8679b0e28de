"""A lighter mesh of the same head, for a distance or a phone: a subset of the vertices under fewer triangles.

The skin falls back to the control mesh of the head model: its vertices are the first of the refined mesh, so the
surface stays where it is, without cracks. The inner mouth loses vertices by clustering (Rossignac & Borrel 1993); cards
of hair and lashes lose two of three rings of vertices. All that is left are vertices of the full mesh, with its UVs,
normals, blendshapes and joint weights.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..head.inner_mouth import TEETH, InnerMouth
from ..head.joints import border
from .mesh import Part

if TYPE_CHECKING:
    from ..head import HeadModel
    from ..head.whole import WholeHead

OF_A_FACE = 8  # triangles that refinement makes of one face of the control mesh
NEAR, FRONT = 0.0032, 0.016  # metres: side of a cluster as far as FRONT behind the incisors
FAR = 0.0075  # ... and deeper in the mouth
TOOTH = 0.0024  # ... on back teeth
RINGS = 3  # so many segments of a card become one; with fewer cards the scalp would show


def lighter(part: Part, whole: WholeHead) -> Part:
    """One part of `split_parts` with fewer triangles; eyes, teeth and wet lines stay."""
    if part.name == "Skin":
        of_rows = _skin(whole)
    elif part.name == "Mouth" and whole.mouth is not None:
        of_rows = _mouth(whole.mouth) + whole.parts["Mouth"].start
    else:
        return part
    place = np.full(whole.n_vertices, -1)
    place[part.rows] = np.arange(len(part.rows))
    return subset(part, place[of_rows])[0]


def subset(part: Part, indices: np.ndarray) -> tuple[Part, np.ndarray]:
    """The part with the triangles `[T, 3]`, and the numbers `[M]` of the vertices that are left."""
    kept, faces = np.unique(indices, return_inverse=True)
    arrays = {name: getattr(part, name)[kept] for name in ("positions", "normals", "tangents", "uv", "rows")}
    weights = None if part.weights is None else part.weights[kept]
    return replace(part, indices=faces.reshape(-1, 3), weights=weights, **arrays), kept


def _skin(whole: WholeHead) -> np.ndarray:
    """Triangles `[T, 3]` of the control mesh and of the neck's underside, in rows of the whole head."""
    head = whole.head
    quads = control_faces(head)
    mean = head(torch.zeros(1, head.n_identity, device=head.uv.device))[0].cpu().numpy()
    first, second = (np.linalg.norm(mean[quads[:, i]] - mean[quads[:, i + 2]], axis=1) for i in (0, 1))
    turned = np.where((first <= second)[:, None], quads, np.roll(quads, -1, 1))  # cut along the shorter diagonal
    faces = np.concatenate([turned[:, [0, 1, 2]], turned[:, [0, 2, 3]]])
    if "Cut" not in whole.parts:
        return faces
    ring = border(head).numpy()
    kept = np.flatnonzero(ring < head.n_control)
    after, start, n = np.roll(kept, -1), whole.parts["Cut"].start, len(ring)
    fan = np.stack([after, kept, n + kept], 1) + start  # as in `WholeHead`
    return np.concatenate([faces, fan])


def control_faces(head: HeadModel) -> np.ndarray:
    """Faces `[F, 4]` of the control mesh, counter-clockwise from outside.

    Refinement writes eight triangles a face, two at each corner, and each pair begins with its corner. Raises
    ValueError for a head file that was refined otherwise.
    """
    tri = head.triangles.cpu().numpy()
    skin = tri[(tri < head.teeth_rows.start).all(1)]
    if len(skin) % OF_A_FACE:
        raise ValueError("this head file is no refined mesh of quads")
    corners = skin.reshape(-1, OF_A_FACE, 3)[:, ::2, 0]
    if (corners >= head.n_control).any():
        raise ValueError("this head file is refined in an unknown order")
    return corners


def _mouth(mouth: InnerMouth) -> np.ndarray:
    """Triangles `[T, 3]` of the inner mouth after clustering its mean, the same for everybody."""
    points, faces = mouth.mean.numpy(), mouth.triangles.numpy()
    near = points[:, 2] > points[:, 2].max() - FRONT
    cell = np.where(mouth.kind.numpy() == TEETH, TOOTH, np.where(near, NEAR, FAR))[:, None]
    keys = np.concatenate(
        [components(faces, len(points))[:, None], mouth.kind.numpy()[:, None], near[:, None], np.floor(points / cell)],
        1,
    )
    _, label = np.unique(keys, axis=0, return_inverse=True)
    label = label.reshape(-1)
    count = np.bincount(label)
    middle = np.stack([np.bincount(label, points[:, k]) / count for k in range(3)], 1)
    away = np.linalg.norm(points - middle[label], axis=1)
    order = np.lexsort((away, label))
    nearest = order[np.searchsorted(label[order], np.arange(len(count)))]  # the vertex that stands for each cluster
    left = nearest[label[faces]]
    left = left[(left[:, 0] != left[:, 1]) & (left[:, 1] != left[:, 2]) & (left[:, 2] != left[:, 0])]
    _, once = np.unique(np.sort(left, 1), axis=0, return_index=True)
    return left[np.sort(once)]


def components(faces: np.ndarray, count: int) -> np.ndarray:
    """Number `[N]` of the connected piece of each vertex: that of its first vertex."""
    label = np.arange(count)
    while True:
        lowest = label[faces].min(1)
        new = label.copy()
        for k in range(3):
            np.minimum.at(new, faces[:, k], lowest)
        new = new[new]  # jump ahead
        if (new == label).all():
            return label
        label = new


def lighter_strips(faces: np.ndarray, count: int) -> np.ndarray:
    """Triangles `[T, 3]` of strips, with every third ring of vertices along each.

    faces: strips of `count` vertices as `hair.cards` and `hair.lashes` make them: one after the other, ring after ring
    """
    owner = components(faces, count)[faces[:, 0]]
    order = np.argsort(owner, kind="stable")
    _, first = np.unique(owner[order], return_index=True)
    out = [faces[:0]]
    for own in np.split(faces[order], first[1:]):
        start, ring = own.min(), int(np.ptp(own[0]))  # its first triangle has the vertices 0, 1 and ring
        rings = (own.max() - start + 1) // ring
        kept = np.linspace(0, rings - 1, max(1, round((rings - 1) / RINGS)) + 1).round().astype(int)
        a = start + kept[:-1, None] * ring + np.arange(ring - 1)
        c = start + kept[1:, None] * ring + np.arange(ring - 1)
        turned = tuple(own[0] - start) not in ((0, ring, 1), (ring, 1, 0), (1, 0, ring))
        for tri in (np.stack([a, c, a + 1], -1), np.stack([c + 1, a + 1, c], -1)):
            out.append((tri[..., ::-1] if turned else tri).reshape(-1, 3))
    return np.concatenate(out)
