"""Memory that is free in this process and not yet the system's again."""

from __future__ import annotations

import ctypes
import sys


def give_back() -> None:
    """Hand freed memory back to the system, where the C library is glibc; elsewhere nothing happens.

    Tensors of some megabytes come from a heap that only shrinks at its end, and each thread has a heap of its own. So
    what one step of a run has freed still counts while the next one grows.
    """
    if not sys.platform.startswith("linux"):
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
    if trim is not None:
        trim(0)
