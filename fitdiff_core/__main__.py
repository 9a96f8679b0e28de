"""`python -m fitdiff_core` is the command `fitdiff`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
