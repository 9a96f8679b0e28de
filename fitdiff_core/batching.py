"""Helpers for types whose tensors share a batch axis (axis 0)."""

from __future__ import annotations

from torch import Tensor


def entry(x: Tensor, i: int) -> Tensor:
    """Entry i of `x [B, ...]` as a batch of one, `[1, ...]` (a view).

    Raises IndexError outside the batch. A plain slice would be empty there, and iteration would never end.
    """
    i = range(len(x))[i]
    return x[i : i + 1]


def repeat(x: Tensor, batch: int) -> Tensor:
    """`x [B, ...]` as it is for B = batch; `[1, ...]` copied to `[batch, ...]`. Raises RuntimeError for another B."""
    return x if len(x) == batch else x.expand(batch, *x.shape[1:]).clone()
