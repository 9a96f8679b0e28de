"""Memory that is free in this process and not yet the system's again."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

ARENAS = -8  # number of glibc's M_ARENA_MAX


def share_heap() -> None:
    """Let all threads of this process take memory from one heap, where the C library is glibc.

    Else what one thread has freed is of no use to another. For programs of our own: it must come before their threads.
    """
    set_option = _library_function("mallopt")
    if set_option is not None:
        set_option(ARENAS, 1)


def give_back() -> None:
    """Hand freed memory back to the system, where the C library is glibc; elsewhere nothing happens.

    Tensors of some megabytes come from a heap that only shrinks at its end. So what one step of a run has freed still
    counts while the next one grows.
    """
    trim = _library_function("malloc_trim")
    if trim is not None:
        trim(0)


def _library_function(name: str) -> Callable[..., int] | None:
    """A function of the C library; None on other systems than Linux, and in libraries without it."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
