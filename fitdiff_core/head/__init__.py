"""The head model: topology, identity basis, 52 expressions, UV atlas, eyes, teeth, landmarks and regions."""

from .model import HeadModel, load_head

__all__ = ["HeadModel", "load_head"]
