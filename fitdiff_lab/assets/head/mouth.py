"""Close the lips of a head file at rest, and add teeth.

    python -m fitdiff_lab.assets.head.mouth --ict FILE [--head FILE]

In ICT-FaceKit's neutral pose the lips are a millimetre apart, so most heads would have an open mouth: a part of
`mouthClose` is added to the mean. The crowns of ICT's teeth are placed in our mean head by a similarity of the points
around the mouth. With the identity they move by the linearised similarity (rotation, scale, translation) that fits
these points best, because a jaw does not bend. With the expression they move as in ICT: the upper row stays, the lower
row follows the jaw. The command changes the file in place and keeps its other tensors. Takes seconds.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from fitdiff_core.errors import command
from fitdiff_core.head.model import ASSET, HeadModel, load_head
from fitdiff_core.head.teeth import PATCH

from ...cli import command_parser
from .expressions import ict_recipe
from .ict_source import IctHead, load_ict
from .pack import read, write
from .registration import similarity

LIPS_AT_REST = 0.035  # share of mouthClose; with it the lips of half of all heads just touch
CROWN = 0.012  # visible length of a tooth from its edge, metres
# teeth behind this z in ICT's frame (upper, lower row; metres) are left out: they would pass through the cheeks
FOREMOST = 0.08, 0.09
# how far the rows are moved up and forward to fit into the mouth cavity, metres
UPPER, LOWER = (-0.0018, -0.001), (0.0005, -0.001)
# the points of the 68 that place the teeth: chin, underside of the nose, lips, and the inner line of the lips four
# times
ANCHORS = [7, 8, 9, *range(31, 36), *range(48, 60), *range(60, 68), *range(60, 68), *range(60, 68), *range(60, 68)]
ROUGHNESS = 0.2
# ambient light that passes the lips: at the incisors, decrease for each metre behind them, minimum
LIGHT, DARKER, DARKEST = 0.9, 20.0, 0.3
MARGIN = 3 / 512  # inside the patch, as a share of the atlas


def crowns(ict: IctHead) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The front teeth without their roots: ids [T] of ICT's vertices, triangles [F,3] of these, upper [T] bool."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    edges = np.concatenate([ict.teeth[:, [0, 1]], ict.teeth[:, [1, 2]]])
    n = len(ict.vertices)
    _, tooth = connected_components(coo_matrix((np.ones(len(edges)), edges.T), (n, n)), directed=False)
    middle, kept, upper = ict.vertices[np.unique(ict.teeth), 1].mean(), [], np.zeros(n, bool)
    for one in np.unique(tooth[ict.teeth[:, 0]]):
        ids = np.flatnonzero(tooth == one)
        points = ict.vertices[ids]
        upper[ids] = points[:, 1].mean() > middle
        if points[:, 2].mean() < FOREMOST[0 if upper[ids[0]] else 1]:
            continue
        edge = points[:, 1].min() if upper[ids[0]] else points[:, 1].max()
        faces = ict.teeth[tooth[ict.teeth[:, 0]] == one]
        kept.append(faces[(np.abs(ict.vertices[faces, 1] - edge) < CROWN).all(1)])
    ids, triangles = np.unique(np.concatenate(kept), return_inverse=True)
    return ids, triangles.reshape(-1, 3), upper[ids]


def small_motions(points: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """[n,3,7] displacement of points [n,3] by a unit of each motion of a linearised similarity about ``centre``."""
    offset = points - centre
    place = np.broadcast_to(np.eye(3), (len(points), 3, 3))
    turn = np.stack([np.cross(axis, offset) for axis in np.eye(3)], 2)
    return np.concatenate([place, offset[:, :, None], turn], 2)


def build_teeth(head: HeadModel, ict: IctHead) -> dict[str, np.ndarray]:
    """The tensors of the teeth in a head file."""
    ids, triangles, upper = crowns(ict)
    rows = head.landmark_ids.numpy()[ANCHORS]  # the same in the control mesh and in the refined one
    anchors = head.mean.double().numpy()[: 3 * head.n_control].reshape(-1, 3)[rows]
    modes = head.identity.double().numpy()[:, : 3 * head.n_control].reshape(head.n_identity, -1, 3)[:, rows]
    size, rotation, origin = similarity(ict.vertices[ict.landmarks[ANCHORS]], anchors)
    mean = size * ict.vertices[ids] @ rotation.T + origin
    mean[:, 1:] += np.where(upper[:, None], UPPER, LOWER)

    system = small_motions(anchors, anchors.mean(0)).reshape(-1, 7)
    motion = np.linalg.lstsq(system, modes.reshape(head.n_identity, -1).T, rcond=None)[0]
    identity = np.einsum("vxm,mk->kvx", small_motions(mean, anchors.mean(0)), motion)

    index = {name: i for i, name in enumerate(ict.expression_names)}
    expression = np.zeros((head.n_expression, len(ids), 3))
    for k, name in enumerate(head.expression_names):
        for source in ict_recipe(name):
            expression[k] += size * ict.expression[index[source]][ids] @ rotation.T
    light = np.clip(LIGHT - DARKER * (mean[:, 2].max() - mean[:, 2]), DARKEST, 1)

    def byte(x) -> np.ndarray:
        return np.round(255 * np.broadcast_to(x, len(ids))).astype(np.uint8)

    return {
        "teeth_mean": mean.astype(np.float32),
        "teeth_identity": identity.astype(np.float16),
        "teeth_expression": expression.astype(np.float16),
        "teeth_triangles": triangles.astype(np.int32),
        "teeth_uv": unwrap_teeth(mean, upper).astype(np.float32),
        "teeth_occlusion": byte(light),
        "teeth_roughness": byte(ROUGHNESS),
    }


def unwrap_teeth(points: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """[n,2] uv in the teeth's patch: u along the arch, v up. Front and back of a tooth have the same place."""
    u0, v0, u1, v1 = PATCH[0] + MARGIN, PATCH[1] + MARGIN, PATCH[2] - MARGIN, PATCH[3] - MARGIN
    angle = np.arctan2(points[:, 0], points[:, 2] - points[:, 2].min() + 0.01)
    u = (u0 + u1) / 2 + (u1 - u0) / 2 * angle / np.abs(angle).max()
    v = np.empty(len(points))
    for row, low, high in ((upper, (v0 + v1) / 2 + MARGIN, v1), (~upper, v0, (v0 + v1) / 2 - MARGIN)):
        y = points[row, 1]
        v[row] = low + (high - low) * (y - y.min()) / (y.max() - y.min())
    return np.stack([u, v], 1)


def close_lips(tensors: dict[str, np.ndarray], metadata: dict) -> None:
    """Adds `LIPS_AT_REST` of mouthClose to the mean, once, in place. The pose of a full mouthClose stays the same."""
    if "lips_at_rest" in metadata:
        return
    row = metadata["expression_names"].index("mouthClose")
    action = tensors["expression"][row].astype(np.float64)
    tensors["control_mean"] = (tensors["control_mean"] + LIPS_AT_REST * action).astype(np.float32)
    tensors["expression"] = tensors["expression"].copy()
    tensors["expression"][row] = (1 - LIPS_AT_REST) * action
    metadata["lips_at_rest"] = LIPS_AT_REST


def add_mouth(path: Path, ict: IctHead) -> None:
    """Closes the lips of the head file at ``path`` and adds or replaces its teeth.

    Raises UserError as `load_head` does.
    """
    tensors, metadata = read(path)
    close_lips(tensors, metadata)
    write(path, tensors, metadata)
    write(path, tensors | build_teeth(load_head(path), ict), metadata)


@command
def main(argv: list[str] | None = None) -> int:
    p = command_parser("assets.head.mouth", __doc__)
    p.add_argument("--ict", required=True, type=Path, help="ICT-FaceKit Light as one safetensors file")
    p.add_argument("--head", type=Path, default=ASSET, help="the head file to change (default: the shipped one)")
    args = p.parse_args(argv)
    add_mouth(args.head, load_ict(args.ict))
    return 0


if __name__ == "__main__":
    sys.exit(main())
