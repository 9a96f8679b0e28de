"""Motion of a face: read from video frames or another program's landmarks, steadied, and put on a head."""

from .landmarks import given_landmarks
from .motion import TURNS, Motion, check_fps
from .read import Given, read_motion

__all__ = ["TURNS", "Given", "Motion", "check_fps", "given_landmarks", "read_motion"]
