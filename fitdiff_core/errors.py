"""The one exception type a person is meant to read."""


class UserError(ValueError):
    """Something the user can put right. The message says what was wrong and what to do about it."""
