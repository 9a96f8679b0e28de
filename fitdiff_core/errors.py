"""The one exception type a person is meant to read, and what a lack of memory looks like."""


class UserError(ValueError):
    """Something the user can put right. The message says what was wrong and what to do about it."""


def out_of_memory(e: BaseException) -> bool:
    """torch has one exception type for a GPU's memory, and plain RuntimeErrors for the CPU's."""
    return isinstance(e, MemoryError) or "out of memory" in str(e).lower() or "can't allocate memory" in str(e)
