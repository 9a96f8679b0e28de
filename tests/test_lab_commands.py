"""The lab's commands: `python -m fitdiff_lab` lists all of them, and each help page works without optional packages."""

import ast
import subprocess
import sys
from pathlib import Path

from fitdiff_lab.__main__ import COMMANDS, listing

ROOT = Path(__file__).resolve().parents[1] / "fitdiff_lab"
OPTIONAL = ("scipy", "anny", "mitsuba", "matplotlib", "onnx", "onnxruntime", "insightface", "numba")


def commands() -> set[str]:
    """Names below fitdiff_lab of the modules that run as a command."""
    found = set()
    for path in ROOT.rglob("*.py"):
        blocks = [node for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, ast.If)]
        if any("__main__" in ast.unparse(block.test) for block in blocks):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found.add(".".join(parts[:-1] if parts[-1] == "__main__" else parts))
    return found - {""}


def test_all_commands_are_listed():
    assert set(COMMANDS) == commands()
    lines = listing().splitlines()[1:]
    assert len(lines) == len(COMMANDS) and max(map(len, lines)) <= 120


HELP_PAGES = """
import contextlib, importlib, io, sys

class Missing:
    # a finder that makes optional packages look as if they were not installed
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in OPTIONAL:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
for module in MODULES:
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        try:
            importlib.import_module(module).main(["--help"])
        except SystemExit as end:
            assert end.code == 0, module
    assert text.getvalue().startswith("usage:") and len(text.getvalue()) > 200, module
"""


def test_help_pages_need_no_optional_package():
    packages = {name for name in COMMANDS if (ROOT / Path(*name.split("."))).is_dir()}
    modules = [f"fitdiff_lab.{name}" + (".__main__" if name in packages else "") for name in COMMANDS]
    code = f"OPTIONAL, MODULES = {OPTIONAL!r}, {modules!r}\n{HELP_PAGES}"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
