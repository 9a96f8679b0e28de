"""Faces that another program found, in the form in which ComfyUI's own nodes hand them on.

FACE_LANDMARKS (MediaPipe Face Landmarker) has the face mesh that our detector would find, so it takes its place.
BOUNDING_BOX (the same node, SDPose, RT-DETR, SAM3, a box drawn by hand) only says which face is meant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from .detect import Face, FaceDetector, box_overlap, five_points, same_face, select_face
from .mesh_points import EAR_LEFT, EAR_RIGHT, MOUTH_LEFT, MOUTH_RIGHT, N_POINTS

MARGIN = 0.5  # a box's surroundings, in box sides, where a face too small for a look at the whole picture is searched


def meant_faces(
    photos: Sequence[Tensor],
    detector: FaceDetector,
    which: str | int = "largest",
    landmarks: Mapping[str, Any] | None = None,
    boxes: Any = None,
) -> list[Face]:
    """The face that is meant in each photo, one for each.

    photos: `[3, H, W]` each, sRGB 0..1
    detector: searches the photos, unless landmarks are given
    which: "largest" or an index, largest first; of the boxes where there are boxes, else of the faces
    landmarks: FACE_LANDMARKS, `{"frames": [[face, ...], ...], "image_size": (H, W)}`, a frame for each photo; a face has
        "landmarks_xy" `[468 or 478, 2]` px and "landmarks_3d" of the same length
    boxes: BOUNDING_BOX, `{"x", "y", "width", "height"}` px or a list of them for each photo; one list serves all photos

    Raises UserError where an object is of another form, or belongs to other photos, or shows no such face.
    """
    frames = None if landmarks is None else mesh_frames(landmarks, len(photos), tuple(photos[0].shape[-2:]))
    rows = None if boxes is None else box_frames(boxes, len(photos))
    chosen = []
    for i, photo in enumerate(photos):
        where = f"Photo {i + 1} of {len(photos)}: " if len(photos) > 1 else ""
        try:
            found = detector.detect(photo) if frames is None else frames[i]
            if rows is not None:
                chosen.append(face_in_box(_pick(rows[i], which), found, photo, None if frames else detector))
            elif frames is not None and not found:
                raise UserError(
                    "The face landmarks hold no face; lower min_confidence of the node that found them, or "
                    "disconnect them."
                )
            else:
                chosen.append(select_face(found, which))
        except UserError as e:
            raise UserError(f"{where}{e}") from None
    return chosen


def mesh_frames(landmarks: Any, count: int, size: tuple[int, int]) -> list[list[Face]]:
    """FACE_LANDMARKS of `count` photos of `size` (H, W) -> the faces of each, largest first."""
    frames = landmarks.get("frames") if isinstance(landmarks, Mapping) else None
    if not isinstance(frames, Sequence) or not all(isinstance(frame, Sequence) for frame in frames):
        raise UserError(
            f"These face landmarks ({_form(landmarks)}) are not of the form that ComfyUI's MediaPipe Face Landmarker gives: a "
            "dict with 'frames', a list of faces for each image; connect that node's face_landmarks."
        )
    _same_count("face landmarks", len(frames), count)
    seen = landmarks.get("image_size")
    if seen is not None and tuple(int(n) for n in seen) != size:
        raise UserError(
            f"The face landmarks were found in an image of {seen[1]} x {seen[0]} pixels, this one has {size[1]} x "
            f"{size[0]}; connect the same image to both nodes."
        )
    return [sorted((mesh_face(face) for face in frame), key=lambda face: -face.area) for frame in frames]


def mesh_face(given: Any) -> Face:
    """One face of FACE_LANDMARKS. Its pixels are counted from the first pixel's centre, ours from that pixel's corner."""
    xy = _points(given, "landmarks_xy", 2)
    canonical = _points(given, "landmarks_3d", 3) if given.get("landmarks_3d") is not None else torch.zeros(N_POINTS, 3)
    # depth comes in pixels of the network's own crop, which the two sets of x and y put in proportion
    spread = (canonical[:, :2] - canonical[:, :2].mean(0)).norm()
    scale = (xy - xy.mean(0)).norm() / spread if spread > 0 else torch.tensor(0.0)
    xy = xy + 0.5
    mesh = torch.cat([xy, canonical[:, 2:] * scale], 1)
    eyes = five_points(mesh)
    mouth = xy[[MOUTH_RIGHT, MOUTH_LEFT]].mean(0, keepdim=True)
    keypoints = torch.cat([eyes[:3], mouth, xy[[EAR_RIGHT, EAR_LEFT]]])
    presence = torch.tensor(float(given.get("presence", 0.0))).sigmoid()
    return Face(torch.cat([xy.amin(0), xy.amax(0)]), float(given.get("score", 1.0)), keypoints, mesh, float(presence))


def _points(face: Any, name: str, width: int) -> Tensor:
    if not isinstance(face, Mapping) or name not in face:
        raise UserError(
            f"A face among the face landmarks has no '{name}' ({_form(face)}); connect ComfyUI's MediaPipe Face "
            "Landmarker."
        )
    points = torch.as_tensor(face[name]).float()
    if points.ndim != 2 or points.shape[0] not in (N_POINTS, N_POINTS + 10) or points.shape[1] != width:
        raise UserError(
            f"'{name}' of the face landmarks is {tuple(points.shape)}; this needs MediaPipe's face mesh, "
            f"[{N_POINTS} or {N_POINTS + 10}, {width}]."
        )
    if not torch.isfinite(points).all():
        raise UserError(f"'{name}' of the face landmarks holds NaN or infinite values; find the face again.")
    return points[:N_POINTS]


def box_frames(boxes: Any, count: int) -> list[list[Tensor]]:
    """BOUNDING_BOX for `count` photos -> boxes `[4]` (x0, y0, x1, y1 px) of each photo, largest first."""
    if isinstance(boxes, Mapping):
        boxes = [[boxes]]
    elif isinstance(boxes, Sequence) and boxes and all(isinstance(box, Mapping) for box in boxes):
        boxes = [boxes]
    if not isinstance(boxes, Sequence) or isinstance(boxes, str) or not all(isinstance(r, Sequence) for r in boxes):
        raise UserError(
            f"These boxes ({_form(boxes)}) are not of ComfyUI's form: {{x, y, width, height}}, or a list of such "
            "for each image."
        )
    if not boxes:
        raise UserError(
            "The boxes are empty: nothing was found; lower the threshold of the node that made them, or disconnect "
            "them."
        )
    if len(boxes) > 1:
        _same_count("boxes", len(boxes), count)
    rows = [sorted((_corners(box) for box in row), key=lambda b: -float((b[2:] - b[:2]).prod())) for row in boxes]
    return rows * count if len(rows) == 1 else rows


def _corners(box: Any) -> Tensor:
    try:
        x, y, width, height = (float(box[key]) for key in ("x", "y", "width", "height"))
    except (TypeError, KeyError, ValueError):
        raise UserError(f"A box needs the numbers x, y, width and height ({_form(box)}).") from None
    corners = torch.tensor([x, y, x + width, y + height])
    if not torch.isfinite(corners).all() or width <= 0 or height <= 0:
        raise UserError(
            f"A box of {width:g} x {height:g} pixels at {x:g}, {y:g} encloses nothing; draw it around the face."
        )
    return corners


def face_in_box(box: Tensor, found: list[Face], photo: Tensor, detector: FaceDetector | None = None) -> Face:
    """The face among `found` that `box [4]` shares most with; if there is none, a closer look with `detector`."""
    inside = [face for face in found if same_face(box, face.box)]
    if not inside and detector is not None:
        inside = [face for face in closer_look(box, photo, detector) if same_face(box, face.box)]
    if not inside:
        x0, y0, x1, y1 = (round(v) for v in box.tolist())
        raise UserError(
            f"There is no face in the box of {x1 - x0} x {y1 - y0} pixels at {x0}, {y0}; draw it around the face."
        )
    return max(inside, key=lambda face: float(box_overlap(box, face.box[None])))


def closer_look(box: Tensor, photo: Tensor, detector: FaceDetector) -> list[Face]:
    """Detect in the part of `photo [3, H, W]` around `box`; faces in the whole photo's pixels."""
    height, width = photo.shape[-2:]
    margin = (box[2:] - box[:2]) * MARGIN
    x0, y0 = (box[:2] - margin).clamp(min=0).floor().int().tolist()
    x1, y1 = torch.minimum(box[2:] + margin, torch.tensor([width, height])).ceil().int().tolist()
    if x1 - x0 < 8 or y1 - y0 < 8:
        return []
    shift = torch.tensor([float(x0), float(y0)])
    faces = detector.detect(photo[..., y0:y1, x0:x1])
    return [
        Face(
            f.box + shift.repeat(2),
            f.score,
            f.keypoints + shift,
            torch.cat([f.mesh[:, :2] + shift, f.mesh[:, 2:]], 1),
            f.mesh_score,
        )
        for f in faces
    ]


def _pick(boxes: list[Tensor], which: str | int) -> Tensor:
    index = 0 if which == "largest" else int(which)
    if index >= len(boxes):
        raise UserError(f"There is no box number {index}: there are {len(boxes)}. Count from 0, largest first.")
    return boxes[index]


def _same_count(what: str, given: int, photos: int) -> None:
    if given != photos:
        raise UserError(f"The {what} are of {given} images, here are {photos}; connect the same batch to both nodes.")


def _form(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"a dict with {sorted(map(str, value))[:8]}"
    return f"a {type(value).__name__}"
