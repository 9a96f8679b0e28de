"""External detections: faces that another program found, in the form that ComfyUI's own nodes use.

FACE_LANDMARKS (MediaPipe Face Landmarker) has the same face mesh as our detector and replaces it.
BOUNDING_BOX (the same node, SDPose, RT-DETR, SAM3, a box drawn by hand) only selects a face.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from .choice import ORDERS, ChosenFaces, order_faces, parse_choice, photo_digest, select_face
from .detect import Face, FaceDetector, box_order, box_overlap, same_face
from .mesh_points import EAR_LEFT, EAR_RIGHT, MOUTH_LEFT, MOUTH_RIGHT, N_IRIS_POINTS, N_POINTS, five_points

MARGIN = 0.5  # around a box, in box sides: the region searched for a face too small to be found in the whole photo


def meant_faces(
    photos: Sequence[Tensor],
    detector: FaceDetector,
    which: str | int = "largest",
    landmarks: Mapping[str, Any] | None = None,
    boxes: Any = None,
) -> list[Face]:
    """The face that is meant in each photo, one for each: `choose_faces(...).chosen`."""
    return list(choose_faces(photos, detector, which, landmarks, boxes).chosen)


def choose_faces(
    photos: Sequence[Tensor],
    detector: FaceDetector,
    which: str | int = "largest",
    landmarks: Mapping[str, Any] | None = None,
    boxes: Any = None,
) -> ChosenFaces:
    """The faces of each photo, and the one that is meant. The chosen faces know their photo (`Face.photo`).

    photos: `[3, H, W]` each, sRGB 0..1
    detector: searches the photos, unless landmarks are given
    which: see `parse_choice`; of the boxes where there are boxes, else of the faces
    landmarks: FACE_LANDMARKS, `{"frames": [[face, ...], ...], "image_size": (H, W)}`, a frame for each photo; a face
        has "landmarks_xy" `[468 or 478, 2]` px and "landmarks_3d" of the same length
    boxes: BOUNDING_BOX, `{"x", "y", "width", "height"}` px or a list of them for each photo; one list serves all photos

    Raises UserError where an object is of another form, or belongs to other photos, or shows no such face.
    """
    frames = None
    if landmarks is not None:
        height, width = photos[0].shape[-2:]
        frames = parse_landmarks(landmarks, len(photos), (height, width))
    rows = None if boxes is None else parse_boxes(boxes, len(photos))
    order, _ = parse_choice(which)
    all_found, chosen = [], []
    for i, photo in enumerate(photos):
        where = f"Photo {i + 1} of {len(photos)}: " if len(photos) > 1 else ""
        try:
            found = detector.detect(photo) if frames is None else frames[i]
            if rows is not None:
                face = face_in_box(_select_box(rows[i], which), found, photo, None if frames else detector)
            elif frames is not None and not found:
                raise UserError(
                    "The face landmarks hold no face; lower min_confidence of the node that found them, or "
                    "disconnect them."
                )
            else:
                face = select_face(found, which)
        except UserError as e:
            raise UserError(f"{where}{e}") from None
        known = any(other is face for other in found)
        all_found.append(tuple(order_faces(found if known else [*found, face], order)))
        chosen.append(replace(face, photo=photo_digest(photo)))
    return ChosenFaces(tuple(all_found), tuple(chosen))


def parse_landmarks(landmarks: Any, count: int, size: tuple[int, int]) -> list[list[Face]]:
    """Faces of each photo, largest first, from FACE_LANDMARKS.

    landmarks: as in `external_faces`
    count: number of photos
    size: (H, W) of the photos in pixels
    Raises UserError if they have another form or belong to other photos.
    """
    frames = landmarks.get("frames") if isinstance(landmarks, Mapping) else None
    if not isinstance(frames, Sequence) or not all(isinstance(frame, Sequence) for frame in frames):
        raise UserError(
            f"These face landmarks ({_describe(landmarks)}) are not of the form that ComfyUI's MediaPipe Face "
            "Landmarker gives: a dict with 'frames', a list of faces for each image; connect that node's "
            "face_landmarks."
        )
    _check_count("face landmarks", len(frames), count)
    seen = landmarks.get("image_size")
    if seen is not None and tuple(int(n) for n in seen) != size:
        raise UserError(
            f"The face landmarks were found in an image of {seen[1]} x {seen[0]} pixels, this one has {size[1]} x "
            f"{size[0]}; connect the same image to both nodes."
        )
    return [order_faces([face_from_landmarks(face) for face in frame]) for frame in frames]


def face_from_landmarks(entry: Any) -> Face:
    """One face of FACE_LANDMARKS. Raises UserError for another form.

    Its pixel coordinates have their origin at the first pixel's centre, ours at that pixel's corner: half a pixel
    apart.
    """
    xy = _landmark_points(entry, "landmarks_xy", 2)
    canonical = (
        _landmark_points(entry, "landmarks_3d", 3)
        if entry.get("landmarks_3d") is not None
        else torch.zeros(N_POINTS, 3)
    )
    # landmarks_3d is in pixels of the network's crop; the spread of x and y in both gives the scale for z
    spread = (canonical[:, :2] - canonical[:, :2].mean(0)).norm()
    scale = (xy - xy.mean(0)).norm() / spread if spread > 0 else torch.tensor(0.0)
    xy = xy + 0.5
    mesh = torch.cat([xy, canonical[:, 2:] * scale], 1)
    eyes = five_points(mesh)
    mouth = xy[[MOUTH_RIGHT, MOUTH_LEFT]].mean(0, keepdim=True)
    keypoints = torch.cat([eyes[:3], mouth, xy[[EAR_RIGHT, EAR_LEFT]]])
    presence = torch.tensor(float(entry.get("presence", 0.0))).sigmoid()
    return Face(torch.cat([xy.amin(0), xy.amax(0)]), float(entry.get("score", 1.0)), keypoints, mesh, float(presence))


def _landmark_points(face: Any, name: str, width: int) -> Tensor:
    """Field `name` of a face as `[468, width]`, without the irises. Raises UserError for another form."""
    if not isinstance(face, Mapping) or name not in face:
        raise UserError(
            f"A face among the face landmarks has no '{name}' ({_describe(face)}); connect ComfyUI's MediaPipe Face "
            "Landmarker."
        )
    points = torch.as_tensor(face[name]).float()
    if points.ndim != 2 or points.shape[0] not in (N_POINTS, N_POINTS + N_IRIS_POINTS) or points.shape[1] != width:
        raise UserError(
            f"'{name}' of the face landmarks is {tuple(points.shape)}; this needs MediaPipe's face mesh, "
            f"[{N_POINTS} or {N_POINTS + N_IRIS_POINTS}, {width}]."
        )
    if not torch.isfinite(points).all():
        raise UserError(f"'{name}' of the face landmarks holds NaN or infinite values; find the face again.")
    return points[:N_POINTS]


def parse_boxes(boxes: Any, count: int) -> list[list[Tensor]]:
    """Boxes `[4]` (x0, y0, x1, y1 in pixels) of each of `count` photos, in `box_order`, from BOUNDING_BOX.

    boxes: as in `external_faces`
    Raises UserError for another form or another number of photos.
    """
    if isinstance(boxes, Mapping):
        boxes = [[boxes]]
    elif isinstance(boxes, Sequence) and boxes and all(isinstance(box, Mapping) for box in boxes):
        boxes = [boxes]
    if not isinstance(boxes, Sequence) or isinstance(boxes, str) or not all(isinstance(r, Sequence) for r in boxes):
        raise UserError(
            f"These boxes ({_describe(boxes)}) are not of ComfyUI's form: {{x, y, width, height}}, or a list of such "
            "for each image."
        )
    if not boxes:
        raise UserError(
            "The boxes are empty: nothing was found; lower the threshold of the node that made them, or disconnect "
            "them."
        )
    if len(boxes) > 1:
        _check_count("boxes", len(boxes), count)
    rows = [[_box_corners(box) for box in row] for row in boxes]
    rows = [[row[i] for i in box_order(row)] for row in rows]
    return rows * count if len(rows) == 1 else rows


def _box_corners(box: Any) -> Tensor:
    """Box `[4]`: x0, y0, x1, y1 in pixels. Raises UserError for another form or an empty box."""
    try:
        x, y, width, height = (float(box[key]) for key in ("x", "y", "width", "height"))
    except (TypeError, KeyError, ValueError):
        raise UserError(f"A box needs the numbers x, y, width and height ({_describe(box)}).") from None
    corners = torch.tensor([x, y, x + width, y + height])
    if not torch.isfinite(corners).all() or width <= 0 or height <= 0:
        raise UserError(
            f"A box of {width:g} x {height:g} pixels at {x:g}, {y:g} encloses nothing; draw it around the face."
        )
    return corners


def face_in_box(box: Tensor, found: list[Face], photo: Tensor, detector: FaceDetector | None = None) -> Face:
    """The face that overlaps a box most.

    box: `[4]`, x0, y0, x1, y1 in pixels
    found: faces of the photo
    photo: `[3, H, W]`, sRGB 0..1
    detector: searches near the box if none of `found` is in it; None: no search
    Raises UserError if there is no face in the box.
    """
    inside = [face for face in found if same_face(box, face.box)]
    if not inside and detector is not None:
        inside = [face for face in detect_near_box(box, photo, detector) if same_face(box, face.box)]
    if not inside:
        x0, y0, x1, y1 = (round(v) for v in box.tolist())
        raise UserError(
            f"There is no face in the box of {x1 - x0} x {y1 - y0} pixels at {x0}, {y0}; draw it around the face."
        )
    return max(inside, key=lambda face: float(box_overlap(box, face.box[None])))


def detect_near_box(box: Tensor, photo: Tensor, detector: FaceDetector) -> list[Face]:
    """Faces found near box `[4]` in photo `[3, H, W]`, in pixels of the whole photo."""
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


def _select_box(boxes: list[Tensor], which: str | int) -> Tensor:
    """The box that `which` selects. Raises UserError if there is none."""
    order, index = parse_choice(which)
    if not 0 <= index < len(boxes):
        first = "largest first" if order == ORDERS[0] else "from left to right"
        raise UserError(f"There is no box number {index}: there are {len(boxes)}. Count from 0, {first}.")
    return boxes[box_order(boxes, left_to_right=order == ORDERS[1])[index]]


def _check_count(what: str, count: int, photos: int) -> None:
    """Raises UserError unless the object has as many images as there are photos."""
    if count != photos:
        raise UserError(f"The {what} are of {count} images, here are {photos}; connect the same batch to both nodes.")


def _describe(value: Any) -> str:
    """Type of an object, and the keys of a dict, for error messages."""
    if isinstance(value, Mapping):
        return f"a dict with {sorted(map(str, value))[:8]}"
    return f"a {type(value).__name__}"
