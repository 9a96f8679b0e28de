"""Tensors that may take part in a backward pass, wherever they were made."""

from __future__ import annotations

import copy
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor, nn


def without_inference_mode(value: Any) -> Any:
    """`value` with every tensor and module that was made under `torch.inference_mode()` replaced by a copy.

    Autograd refuses inference tensors. ComfyUI runs its nodes under inference mode, so weights and inputs may be such.
    value: a tensor, a module, or any nesting of them in tuples and dataclasses. Everything else is returned as it is.
    """
    if isinstance(value, Tensor):
        with torch.inference_mode(False):
            return value.clone() if value.is_inference() else value
    if isinstance(value, nn.Module):
        if not any(t.is_inference() for t in (*value.parameters(), *value.buffers())):
            return value
        with torch.inference_mode(False):
            return copy.deepcopy(value)
    if isinstance(value, tuple):
        return tuple(without_inference_mode(v) for v in value)
    if hasattr(value, "__dataclass_fields__"):
        return replace(
            value, **{f.name: without_inference_mode(getattr(value, f.name)) for f in fields(value) if f.init}
        )
    return value
