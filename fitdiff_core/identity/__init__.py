"""Identity of a person in photos: embedding and activation layers of a face recogniser, differentiable."""

from .embedding import (
    Identity,
    PhotoFeatures,
    blend_identities,
    embedding_outliers,
    encode_crops,
    encode_identity,
    identity_outliers,
    walk_identities,
)
from .packs import list_packs, load_recognizer
from .recognizer import Features, Recognizer

__all__ = [
    "Features",
    "Identity",
    "Recognizer",
    "PhotoFeatures",
    "blend_identities",
    "embedding_outliers",
    "encode_crops",
    "encode_identity",
    "identity_outliers",
    "list_packs",
    "load_recognizer",
    "walk_identities",
]
