"""One table of each bad or odd input that the pack must answer. `python -m tests.bad_inputs` writes docs/bad_inputs.md.

`tests/unit/test_bad_inputs.py` feeds its rows to the command line, `tests/comfy/test_bad_inputs.py` to the nodes of a
real ComfyUI. Both check the outcome.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

DOC = Path(__file__).resolve().parents[2] / "docs" / "bad_inputs.md"
INTRO = """# Bad and odd inputs

What each of them comes to. Written by `python -m tests.bad_inputs` from the table that the tests run
through the command line and through a real ComfyUI, row by row.

- **exit 2**: the command line ends with that message on stderr, no traceback, and writes no file.
- **refused**: ComfyUI says so when the graph is queued; nothing runs.
- **stops**: the node stops the graph with that message; the server goes on with the next one.
- **works**: odd, but taken.
"""


@dataclass(frozen=True)
class Case:
    """One row. make: (folder for its files) -> arguments of the command line, or a prompt; says: part of the message;
    under: circumstances, as a context manager.
    """

    group: str
    what: str
    outcome: str
    says: str
    make: Callable[[Path], list | dict]
    under: Callable[[], AbstractContextManager] = nullcontext

    @property
    def id(self) -> str:
        return f"{self.group}: {self.what}"


def table(kind: str) -> list[Case]:
    """The rows of the "command line" or of the "nodes"."""
    from . import avatars, checkpoints, files, graphs, values

    command_line = files.CASES + checkpoints.CASES + avatars.CLI
    return {"command line": command_line, "nodes": values.CASES + graphs.CASES + avatars.NODES}[kind]


def markdown() -> str:
    lines = [INTRO]
    for kind in ("command line", "nodes"):
        cases = table(kind)
        lines.append(f"## {kind.capitalize()}: {len(cases)} rows\n")
        for group in dict.fromkeys(c.group for c in cases):
            lines += [f"### {group}\n", "| given | outcome | says |", "|---|---|---|"]
            for c in (c for c in cases if c.group == group):
                says = c.says.replace("|", "\\|")
                lines.append(f"| {c.what.replace('|', chr(92) + '|')} | {c.outcome} | {says} |")
            lines.append("")
    return "\n".join(lines)
