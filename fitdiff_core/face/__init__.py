"""Faces in a photo: detection, alignment, and faces that another program found."""

from .align import warp
from .detect import Face, FaceDetector, five_points, load_detector, select_face
from .external import meant_faces

__all__ = ["Face", "FaceDetector", "meant_faces", "five_points", "load_detector", "select_face", "warp"]
