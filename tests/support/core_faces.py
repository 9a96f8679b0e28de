"""FACE_LANDMARKS and BOUNDING_BOX as MediaPipe Face Landmarker of ComfyUI 0.29 gives them, from our faces."""

from __future__ import annotations

import numpy as np

from fitdiff_core.face import Face

CROP = 192  # px of the network's crop, in which core gives landmarks_3d


def core_face(face: Face) -> dict:
    """numpy throughout; 468 points and ten of the irises; pixels counted from the first pixel's centre."""
    mesh = face.mesh.numpy().astype(np.float32)
    irises = [np.repeat(mesh[ids].mean(0, keepdims=True), 5, 0) for ids in ([33, 133], [263, 362])]
    points = np.concatenate([mesh, *irises])
    xy = points[:, :2] - 0.5
    low, high = xy.min(0), xy.max(0)
    scale = CROP / (1.5 * (high - low).max())
    canonical = np.concatenate([(xy - (low + high) / 2) * scale + CROP / 2, points[:, 2:] * scale], 1)
    return {
        "bbox_xyxy": np.array([*low, *high], dtype=np.float32),
        "blendshapes": {"_neutral": 1e-6, "jawOpen": 0.02},
        "landmarks_xy": xy,
        "landmarks_3d": canonical.astype(np.float32),
        "presence": 6.5,
        "score": 0.93,
        "transformation_matrix": np.eye(4, dtype=np.float32),
    }


def core_landmarks(frames: list[list[Face]], height: int, width: int) -> dict:
    connections = {"lips": frozenset({(61, 146), (146, 91)}), "irises": frozenset({(468, 469)})}
    return {
        "frames": [[core_face(f) for f in faces] for faces in frames],
        "image_size": (height, width),
        "connection_sets": connections,
    }


def core_box(face: Face) -> dict:
    x0, y0, x1, y1 = (float(v) for v in face.box)
    return {"x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0, "label": "face", "score": 0.93}
