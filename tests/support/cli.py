"""The command line, called in this process (fast) or in one of its own (as a person runs it)."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from fitdiff_core.cli import main
from tests.support.paths import ROOT


@dataclass(frozen=True)
class Run:
    returncode: int
    stdout: str
    stderr: str


def cli(*args, cwd: Path | None = None) -> Run:
    """`fitdiff ARGS` in this process: no second import of torch. The exit of argparse becomes its status."""
    out, err = io.StringIO(), io.StringIO()
    where = contextlib.chdir(cwd) if cwd else contextlib.nullcontext()
    with where, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main([str(a) for a in args])
        except SystemExit as e:
            status = e.code
    return Run(status, out.getvalue(), err.getvalue())


def cli_process(*args, cwd: Path | None = None) -> Run:
    """`python -m fitdiff_core ARGS` in a process of its own, on one thread."""
    env = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")
    command = [sys.executable, "-m", "fitdiff_core", *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env)
    return Run(done.returncode, done.stdout, done.stderr)
