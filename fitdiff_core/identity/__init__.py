"""Identity: who the person in a photo is (embedding and activation layers of a recognition network), differentiably."""

from .embedding import Identity, View, blend_identities, encode_identity, identity_of, walk_identities
from .packs import list_packs, load_recognizer
from .recognizer import Features, Recognizer

__all__ = [
    "Features",
    "Identity",
    "Recognizer",
    "View",
    "blend_identities",
    "encode_identity",
    "identity_of",
    "list_packs",
    "load_recognizer",
    "walk_identities",
]
