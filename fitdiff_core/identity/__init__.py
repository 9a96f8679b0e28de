"""Identity: find the face in a photo, align it, and say who it is (embedding and activations), differentiably."""

from .align import warp
from .detect import Face, FaceDetector, five_points, load_detector, select_face
from .embedding import Identity, View, blend_identities, encode_identity, identity_of, walk_identities
from .given import given_faces
from .packs import list_packs, load_recognizer
from .recognizer import Features, Recognizer

__all__ = [
    "Face", "FaceDetector", "Features", "Identity", "Recognizer", "View", "blend_identities", "encode_identity", "five_points",
    "given_faces", "identity_of", "list_packs", "load_detector", "load_recognizer", "select_face", "walk_identities",
    "warp",
]
