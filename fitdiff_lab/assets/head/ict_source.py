"""Reads ICT-FaceKit Light (MIT): a mean head, 100 identity modes and 57 expressions, learned from light-stage scans.

The file is not part of this repository; commands take its path (safetensors, centimetres, y up, face to +z).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fitdiff_core.errors import UserError

# Vertex ranges of ICT-FaceKit's mesh, from its README. The skin is one connected surface; the other parts are separate.
FACE_END, HEAD_END, MOUTH_SOCKET_END, EYE_SOCKETS_END = 9409, 11248, 13294, 14062
# Largest sphere about ICT's eye centres that stays behind the lids; ICT's own sclera (15.3 mm) passes through them.
EYE_RADIUS = 0.0146
EYE_DROP = 0.0005  # metres that the eyes are moved down; with ICT's own centres the iris is too high
GUMS_AND_TONGUE, TONGUE = slice(14062, 17039), slice(16616, 17039)
TEETH, SCLERA_LEFT, SCLERA_RIGHT = slice(17039, 21451), slice(21451, 22221), slice(23021, 23791)


@dataclass
class IctHead:
    """ICT's head.

    vertices: [N,3] metres.
    triangles: [T,3] of the outer skin (face, scalp, neck; no sockets).
    teeth: [T',3], each tooth a separate part with its root.
    gums: [T'',3] gums, palate, throat and tongue.
    identity: [100,N,3] modes of unit deviation.
    expression: [57,N,3].
    landmarks: [68] vertices.
    eye_centres: [2,3], left then right.
    eye_radius: metres.
    """

    vertices: np.ndarray
    triangles: np.ndarray
    teeth: np.ndarray
    gums: np.ndarray
    identity: np.ndarray
    expression: np.ndarray
    expression_names: list[str]
    landmarks: np.ndarray
    eye_centres: np.ndarray
    eye_radius: float

    def eye_motion(self, deltas: np.ndarray) -> np.ndarray:
        """Translation [k,2,3] of each eyeball (left, right) for displacements [k,N,3]."""
        return np.stack([deltas[:, part].mean(1) for part in (SCLERA_LEFT, SCLERA_RIGHT)], 1)

    def face(self) -> np.ndarray:
        """Triangles [T',3] of the facial skin, where the scans are dense."""
        return self.triangles[(self.triangles < FACE_END).all(1)]


def load_ict(path: str | Path) -> IctHead:
    """Read the file. Raises UserError where it is missing or is not an export of ICT-FaceKit Light."""
    from safetensors import safe_open

    if not Path(path).is_file():
        raise UserError(f"No ICT-FaceKit file at {path}; give the path of ict_facekit_light.safetensors.")
    with safe_open(str(path), "np") as f:
        need = {"vertices", "quads", "identity", "expression", "landmarks68"}
        names = (f.metadata() or {}).get("expression_names")
        if not need <= set(f.keys()) or names is None:
            raise UserError(f"{path} is not an export of ICT-FaceKit Light: it lacks {sorted(need - set(f.keys()))}.")
        vertices, identity, expression = (
            f.get_tensor(k).astype(np.float32) * 0.01 for k in ("vertices", "identity", "expression")
        )
        quads, landmarks = f.get_tensor("quads"), f.get_tensor("landmarks68").astype(int)
    triangles = np.concatenate([quads[:, :3], quads[quads[:, 3] >= 0][:, [0, 2, 3]]]).astype(int)
    vertices = vertices.astype(np.float64)
    balls = [_front_sphere(vertices[part]) for part in (SCLERA_LEFT, SCLERA_RIGHT)]
    return IctHead(
        vertices=vertices,
        triangles=triangles[(triangles < HEAD_END).all(1)],
        teeth=triangles[((triangles >= TEETH.start) & (triangles < TEETH.stop)).all(1)],
        gums=triangles[((triangles >= GUMS_AND_TONGUE.start) & (triangles < GUMS_AND_TONGUE.stop)).all(1)],
        identity=identity,
        expression=expression,
        expression_names=json.loads(names),
        landmarks=landmarks,
        eye_centres=np.stack(balls) - [0, EYE_DROP, 0],
        eye_radius=EYE_RADIUS,
    )


def _front_sphere(points: np.ndarray) -> np.ndarray:
    """Centre of the sphere through the white of one eye. Cornea, flat back and outliers are left out."""
    low, high = points[:, 2].min(), points[:, 2].max()
    height = (points[:, 2] - low) / (high - low)
    ring = points[(height > 0.45) & (height < 0.88)]
    for _ in range(3):
        system = np.concatenate([2 * ring, np.ones((len(ring), 1))], 1)
        x = np.linalg.lstsq(system, (ring**2).sum(1), rcond=None)[0]
        radius = float(np.sqrt(x[3] + x[:3] @ x[:3]))
        miss = np.abs(np.linalg.norm(ring - x[:3], axis=1) - radius)
        ring = ring[miss < np.quantile(miss, 0.9)]
    return x[:3]
