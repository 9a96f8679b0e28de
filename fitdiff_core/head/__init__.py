"""The head model: one topology, an identity basis, 52 expressions, an atlas, eyes, landmarks and regions."""

from .model import HeadModel, load_head

__all__ = ["HeadModel", "load_head"]
