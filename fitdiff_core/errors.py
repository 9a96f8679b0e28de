"""The exception for errors that the user can correct, and how commands report it."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable


class UserError(ValueError):
    """An error that the user can correct. The message says what is wrong and what to do."""


def command(main: Callable[..., int | None]) -> Callable[..., int | None]:
    """Decorator for the `main` of a command: prints a UserError as one line on stderr and returns exit status 2."""

    @functools.wraps(main)
    def run(*args, **kw) -> int | None:
        try:
            return main(*args, **kw)
        except UserError as e:
            print(f"error: {e}", file=sys.stderr)
            return 2

    return run


def out_of_memory(e: BaseException) -> bool:
    """Whether an exception says that memory is exhausted. torch raises plain RuntimeErrors for that on the CPU."""
    return isinstance(e, MemoryError) or "out of memory" in str(e).lower() or "can't allocate memory" in str(e)
