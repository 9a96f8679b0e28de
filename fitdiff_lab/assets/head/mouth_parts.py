"""Add what lies behind the lips to a head file: the back teeth, gums, palate and tongue of ICT-FaceKit.

    python -m fitdiff_lab.assets.head.mouth_parts --ict FILE [--head FILE]

They are placed and moved as the teeth are (see `mouth`). They are no part of the head model's own vertices: fits of
photos do not see them, pictures and files do. The head's mouth cavity is narrower than the molars' arch, so the file
also says how far its walls give way. The command changes the file in place and keeps its other tensors. Takes seconds.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from fitdiff_core.errors import command
from fitdiff_core.head.inner_mouth import GUMS, MOUTH, TEETH, TONGUE, patch_uv
from fitdiff_core.head.model import ASSET, HeadModel, load_head

from ...cli import command_parser
from .expressions import ict_recipe
from .ict_source import TONGUE as TONGUE_OF_ICT
from .ict_source import IctHead, load_ict
from .mouth import ANCHORS, CROWN, FOREMOST, LOWER, UPPER, small_motions
from .pack import read, write
from .registration import similarity

TONGUE_OUT = "tongueOut"
FOLLOWS = 0.25  # share of the jaw's travel from which something hangs on the jaw
OUT, DROP, OVER_LIP = 0.038, 0.007, 0.004  # metres that the tip comes out, falls, and lies over the line of the lips
THIN, FLAT = 0.2, 0.45  # how much narrower, and how thick, it is then
INSET = 0.0008  # metres that gums are drawn in, so that they stay behind the lips
DARK = 30.0  # light falls to 1/e over 1/DARK metres behind the incisors
WALL = 0.0045  # metres that the walls of the cavity are moved to the sides
RAMP = (0.008, 0.022)  # metres from the lips between which walls begin to give way


def back_teeth(ict: IctHead) -> tuple[np.ndarray, np.ndarray]:
    """The crowns that `mouth.crowns` leaves out: ids [T] of ICT's vertices, upper [T] bool, and their triangles."""
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
        if points[:, 2].mean() >= FOREMOST[0 if upper[ids[0]] else 1]:
            continue
        edge = points[:, 1].min() if upper[ids[0]] else points[:, 1].max()
        faces = ict.teeth[tooth[ict.teeth[:, 0]] == one]
        kept.append(faces[(np.abs(ict.vertices[faces, 1] - edge) < CROWN).all(1)])
    return np.concatenate(kept), upper


def build_mouth(head: HeadModel, ict: IctHead) -> dict[str, np.ndarray]:
    """The tensors of the inner mouth in a head file; `fitdiff_core.head.inner_mouth` reads them."""
    crowns, upper = back_teeth(ict)
    triangles = np.concatenate([crowns, ict.gums])
    ids, triangles = np.unique(triangles, return_inverse=True)
    triangles = triangles.reshape(-1, 3)
    rows = head.landmark_ids.numpy()[ANCHORS]
    anchors = head.mean.double().numpy()[: 3 * head.n_control].reshape(-1, 3)[rows]
    modes = head.identity.double().numpy()[:, : 3 * head.n_control].reshape(head.n_identity, -1, 3)[:, rows]
    size, rotation, origin = similarity(ict.vertices[ict.landmarks[ANCHORS]], anchors)
    centre = anchors.mean(0)
    system = small_motions(anchors, centre).reshape(-1, 7)
    motion = np.linalg.lstsq(system, modes.reshape(head.n_identity, -1).T, rcond=None)[0]

    index = {name: i for i, name in enumerate(ict.expression_names)}
    jaw = ict.expression[index["jawOpen"]]
    whole = np.linalg.norm(jaw[np.unique(ict.teeth)], axis=1).max()
    hangs = (np.linalg.norm(jaw[ids], axis=1) / whole).clip(0, 1)
    kind = np.full(len(ids), GUMS)
    kind[np.isin(ids, crowns)] = TEETH
    raw = ict.vertices[ids]
    tongue = (ids >= TONGUE_OF_ICT.start) & (ids < TONGUE_OF_ICT.stop) & (kind == GUMS)
    tongue |= _share_of_neighbours(tongue, triangles) > 0.75  # two vertices of it have other numbers
    kind[tongue] = TONGUE
    mean = size * raw @ rotation.T + origin
    low = np.where(kind == TEETH, ~upper[ids], hangs > FOLLOWS).astype(float)
    low = np.where(kind == TEETH, low, np.clip(hangs / FOLLOWS, 0, 1))[:, None]
    mean[:, 1:] += low * LOWER + (1 - low) * UPPER
    inward = _normals(mean, triangles) * INSET
    mean -= inward * (kind == GUMS)[:, None]

    actions, moves = [], []
    for k, name in enumerate(head.expression_names):
        move = sum((size * ict.expression[index[s]][ids] @ rotation.T for s in ict_recipe(name)), np.zeros_like(mean))
        if name == TONGUE_OUT:
            move = _tongue_out(mean, tongue, anchors[-8:, 1].mean())
        if np.abs(move).max() > 1e-3:
            actions.append(k)
            moves.append(move)
    front = mean[:, 2].max()
    light = np.clip(np.exp(-DARK * (front - mean[:, 2] + 0.006)), 0.02, 1)
    if tongue.any():  # less of it reaches the floor of the mouth and the sides of the tongue
        top = mean[tongue, 1].max()
        light *= np.where(kind == TONGUE, np.clip(1 - 40 * (top - mean[:, 1]), 0.25, 1), 1)
    return {
        "mouth_mean": mean.astype(np.float32),
        "mouth_motion": motion.T.astype(np.float32),
        "mouth_centre": centre.astype(np.float32),
        "mouth_actions": np.array(actions, np.int32),
        "mouth_expression": np.stack(moves).astype(np.float16),
        "mouth_triangles": triangles.astype(np.int32),
        "mouth_uv": patch_uv(kind, light).astype(np.float32),
        "mouth_kind": kind.astype(np.uint8),
        "mouth_jaw": np.where(kind == TEETH, ~upper[ids], hangs).astype(np.float16),
        **_walls(head),
    }


def _tongue_out(mean: np.ndarray, tongue: np.ndarray, lips: float) -> np.ndarray:
    """[M,3] displacement of the tongue when it is put out: flat over the lower lip, then down.

    lips: height of the line between the lips. With it goes a jaw that opens by a third to a half.
    """
    z = mean[tongue, 2]
    along = (z - z.min()) / (z.max() - z.min())
    ramp = np.clip((along - 0.4) / 0.4, 0, 1)
    ramp = ramp * ramp * (3 - 2 * ramp)
    # the middle of the tongue's thickness along it
    bins = np.clip((along * 12).astype(int), 0, 11)
    middle = np.array([mean[tongue, 1][bins == k].mean() if (bins == k).any() else 0.0 for k in range(12)])
    centre = np.interp(along * 12 - 0.5, np.arange(12), middle)
    height = mean[tongue, 1] - centre
    y = lips + OVER_LIP + height * FLAT - DROP * np.clip((along - 0.7) / 0.3, 0, 1) ** 1.5
    move = np.zeros_like(mean)
    move[tongue, 2] = OUT * np.clip((along - 0.2) / 0.8, 0, 1) ** 1.3
    move[tongue, 1] = ramp * (y - mean[tongue, 1])
    move[tongue, 0] = -THIN * ramp * mean[tongue, 0]
    return move


def _walls(head: HeadModel) -> dict[str, np.ndarray]:
    """Rows of the skin's mouth cavity, and how far each gives way."""
    import torch

    skin = head(torch.zeros(1, head.n_identity))[0, : head.teeth_rows.start].numpy().astype(float)
    lips = skin[head.landmark_ids.numpy()[60:68]]
    inside = head.vertex_region("mouth_interior")[: len(skin)].numpy() > 0.5
    away = np.linalg.norm(skin[:, None] - lips, axis=2).min(1)
    share = np.clip((away - RAMP[0]) / (RAMP[1] - RAMP[0]), 0, 1)
    share = share * share * (3 - 2 * share) * inside
    rows = np.flatnonzero(share > 1e-3)
    middle = np.array([0, lips[:, 1].mean(), 0])
    flat = (skin[rows] - middle) * [1, 1, 0]
    flat /= np.linalg.norm(flat, axis=1, keepdims=True).clip(1e-6)
    offset = share[rows, None] * flat * [WALL, 1.6 * WALL, 0]
    return {"mouth_wall_rows": rows.astype(np.int32), "mouth_wall_offsets": offset.astype(np.float16)}


def _share_of_neighbours(marked: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """[M] share of each vertex's neighbours that are marked [M]."""
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    edges = np.unique(np.sort(edges, 1), axis=0)
    both = np.concatenate([edges, edges[:, ::-1]])
    count = np.bincount(both[:, 0], minlength=len(marked))
    return np.bincount(both[:, 0], marked[both[:, 1]], len(marked)) / count.clip(1)


def _normals(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    import torch

    from fitdiff_core.render.normals import vertex_normals

    return vertex_normals(torch.from_numpy(points)[None], torch.from_numpy(triangles))[0].numpy()


def add_mouth_parts(path: Path, ict: IctHead) -> None:
    """Adds or replaces the inner mouth of the head file at ``path``. Raises UserError as `load_head` does."""
    tensors, metadata = read(path)
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(MOUTH)}
    write(path, kept | build_mouth(load_head(path), ict), metadata)


@command
def main(argv: list[str] | None = None) -> int:
    p = command_parser("assets.head.mouth_parts", __doc__)
    p.add_argument("--ict", required=True, type=Path, help="ICT-FaceKit Light as one safetensors file")
    p.add_argument("--head", type=Path, default=ASSET, help="the head file to change (default: the shipped one)")
    args = p.parse_args(argv)
    add_mouth_parts(args.head, load_ict(args.ict))
    return 0


if __name__ == "__main__":
    sys.exit(main())
