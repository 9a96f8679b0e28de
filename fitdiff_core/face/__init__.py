"""Faces in a photo: detection, choice, alignment, and the detections of other programs."""

from .align import warp
from .choice import ORDERS, ChosenFaces, FaceSource, check_same_face, order_faces, parse_choice, select_face
from .detect import Face, FaceDetector, load_detector
from .external import choose_faces, meant_faces
from .mesh_points import five_points

__all__ = [
    "ORDERS",
    "ChosenFaces",
    "Face",
    "FaceDetector",
    "FaceSource",
    "check_same_face",
    "choose_faces",
    "five_points",
    "load_detector",
    "meant_faces",
    "order_faces",
    "parse_choice",
    "select_face",
    "warp",
]
