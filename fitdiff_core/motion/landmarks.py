"""Motion from ComfyUI's FACE_LANDMARKS: MediaPipe's mesh points and its 52 ARKit weights for each frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from ..face import parse_choice, select_face
from ..face.external import face_from_landmarks, parse_landmarks
from .read import Given


def given_landmarks(
    landmarks: Any, count: int, size: tuple[int, int], names: Sequence[str], which: str | int = "largest"
) -> Given:
    """What FACE_LANDMARKS say about one face in each frame.

    landmarks: see `face.external.choose_faces`; a face may have "blendshapes", ARKit name -> weight
    count, size: number of frames, and (H, W). names: of the head's shapes
    which: the face that is meant in the first frame that shows one; later the nearest to it is taken

    Weights are None where no face has blendshapes. tongueOut, which MediaPipe does not know, is 0.
    Raises UserError for another form, or landmarks of other images.
    """
    parse_choice(which)
    parse_landmarks(landmarks, count, size)  # says what is wrong
    meshes: list[Tensor | None] = []
    weights, any_weights, last = torch.zeros(count, len(names)), False, None
    for i, frame in enumerate(landmarks["frames"]):
        entry, mesh = _chosen(frame, which, last)
        meshes.append(mesh)
        if mesh is None:
            continue
        last = mesh
        shapes = entry.get("blendshapes")
        if shapes is not None:
            weights[i], any_weights = _weights(shapes, names), True
    return Given(meshes, weights if any_weights else None)


def _chosen(frame: Sequence[Any], which: str | int, last: Tensor | None) -> tuple[Any, Tensor | None]:
    """The face of one frame that is meant, and its mesh; None where there is none."""
    if not frame:
        return None, None
    faces = [face_from_landmarks(entry) for entry in frame]
    if last is not None:
        centre = last[:, :2].mean(0)
        k = min(range(len(faces)), key=lambda i: float((faces[i].mesh[:, :2].mean(0) - centre).norm()))
    else:
        face = select_face(faces, which)
        k = next(i for i, other in enumerate(faces) if other is face)
    return frame[k], faces[k].mesh


def _weights(shapes: Any, names: Sequence[str]) -> Tensor:
    if not isinstance(shapes, Mapping):
        raise UserError(
            "The blendshapes of the face landmarks are no table; connect ComfyUI's MediaPipe Face Landmarker."
        )
    try:
        values = torch.tensor([float(shapes.get(name, 0.0)) for name in names])
    except (TypeError, ValueError):
        raise UserError("A blendshape of the face landmarks is no number; find the face again.") from None
    if not torch.isfinite(values).all():
        raise UserError("The blendshapes of the face landmarks hold NaN or infinite values; find the face again.")
    return values.clamp(0, 1)
