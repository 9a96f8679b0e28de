"""Shared by the lab's commands: the parser of a command's options."""

from __future__ import annotations

import argparse


def command_parser(module: str, doc: str) -> argparse.ArgumentParser:
    """A parser whose help page keeps the lines of the description.

    module: that runs the command, below fitdiff_lab. doc: its docstring.
    """
    return argparse.ArgumentParser(
        prog=f"python -m fitdiff_lab.{module}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
