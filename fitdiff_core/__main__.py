"""`python -m fitdiff_core` is the command `fitdiff`."""

import sys

from .cli import command

if __name__ == "__main__":
    sys.exit(command())
