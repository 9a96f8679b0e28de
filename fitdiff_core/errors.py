"""The one exception type a person is meant to read, what a command makes of it, and what a lack of memory looks
like."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable


class UserError(ValueError):
    """Something the user can put right. The message says what was wrong and what to do about it."""


def command(main: Callable[..., int | None]) -> Callable[..., int | None]:
    """Decorator for a command's `main`: a UserError becomes one line on stderr and the exit status 2."""

    @functools.wraps(main)
    def run(*args, **kw) -> int | None:
        try:
            return main(*args, **kw)
        except UserError as e:
            print(f"error: {e}", file=sys.stderr)
            return 2

    return run


def out_of_memory(e: BaseException) -> bool:
    """torch has one exception type for a GPU's memory, and plain RuntimeErrors for the CPU's."""
    return isinstance(e, MemoryError) or "out of memory" in str(e).lower() or "can't allocate memory" in str(e)
