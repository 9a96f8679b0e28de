"""Faces in a photo: detection, alignment, and the detections of other programs."""

from .align import warp
from .detect import Face, FaceDetector, load_detector, select_face
from .external import meant_faces
from .mesh_points import five_points

__all__ = ["Face", "FaceDetector", "meant_faces", "five_points", "load_detector", "select_face", "warp"]
