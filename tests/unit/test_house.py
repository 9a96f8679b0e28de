"""The house rules, read from the source: who may import whom, what the archive holds, how long a file may be."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

from tests.support.archive import archive_files
from tests.support.paths import ROOT

PACKAGES = ("fitdiff_core", "fitdiff_lab", "nodes")
HOST = {"comfy", "comfy_api", "folder_paths", "server"}  # what nodes may import of ComfyUI
LIBRARIES = {"torch", "numpy", "PIL"}  # and what ComfyUI brings
SCANNED = re.compile(
    r"subprocess|exec_module|Popen|\bexec\(|\beval\(|import_module"
)  # the Registry's scanner flags these
FILE_LINES, FUNCTION_LINES = 400, 80
LONG_BY_NATURE = {"define_schema"}  # a list of inputs, one a line


@dataclass
class Module:
    """One source file: its dotted name and the modules that it imports, ours and others."""

    name: str
    path: Path
    tree: ast.Module
    at_import: set[str] = field(default_factory=set)  # at the top level, when the module is loaded
    anywhere: set[str] = field(default_factory=set)  # in functions and under TYPE_CHECKING too

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"


def statements(nodes: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Every statement that runs when the module is loaded, inside `if` and `try` too, without `if TYPE_CHECKING`."""
    for node in nodes:
        yield node
        if isinstance(node, ast.If):
            checking = "TYPE_CHECKING" in ast.unparse(node.test)
            yield from statements(node.orelse if checking else node.body + node.orelse)
        elif isinstance(node, ast.Try):
            yield from statements(node.body + node.orelse + node.finalbody)
            for handler in node.handlers:
                yield from statements(handler.body)
        elif isinstance(node, (ast.With, ast.ClassDef)):
            yield from statements(node.body)


def imported(node: ast.stmt, module: Module, names: set[str]) -> Iterator[str]:
    """The modules that an import statement names. `from a import b` is a.b where that is a module of ours, else a."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        package = module.name.split(".") if module.is_package else module.name.split(".")[:-1]
        base = package[: len(package) - (node.level - 1)] if node.level else []
        source = ".".join([*base, *([node.module] if node.module else [])])
        for alias in node.names:
            full = f"{source}.{alias.name}" if source else alias.name
            yield full if full in names or not source else source


@cache
def modules() -> dict[str, Module]:
    """Dotted name -> module, of the three packages."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            found[name] = Module(name, path, ast.parse(path.read_text(encoding="utf-8")))
    for module in found.values():
        for node in statements(module.tree.body):
            module.at_import |= set(imported(node, module, set(found)))
        for node in ast.walk(module.tree):
            module.anywhere |= set(imported(node, module, set(found)))
    return found


def inside(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def test_the_graph_is_read_from_the_source():
    """A rule that finds no import would hold anything."""
    found = modules()
    assert "fitdiff_core.model.checkpoint" in found["fitdiff_core.pipeline"].anywhere
    assert "fitdiff_core.image" in found["nodes.pictures"].at_import
    assert any(inside(i, "fitdiff_core") for i in found["fitdiff_lab.train.denoiser"].anywhere)


def loaded_by(module: Module) -> set[str]:
    """The modules of ours that loading this one loads: what it imports, and the packages round those."""
    found = set()
    for name in module.at_import:
        parts = name.split(".")
        found |= {".".join(parts[: n + 1]) for n in range(len(parts))}
    parts = module.name.split(".")
    around = {".".join(parts[:n]) for n in range(1, len(parts) + 1)}  # begun already
    return {i for i in found if i in modules() and (i in module.at_import or i not in around)}


def test_no_import_goes_in_a_circle():
    graph = {name: sorted(loaded_by(module)) for name, module in modules().items()}
    done: set[str] = set()
    circles = []

    def visit(name: str, path: list[str]) -> None:
        if name in path:
            circles.append(" -> ".join([*path[path.index(name) :], name]))
        elif name not in done:
            for other in graph[name]:
                visit(other, [*path, name])
            done.add(name)

    for name in graph:
        visit(name, [])
    assert not circles, "\n".join(circles)


@pytest.mark.parametrize(
    ("who", "what"),
    [
        ("fitdiff_core", "fitdiff_lab"),
        ("fitdiff_core", "nodes"),
        ("fitdiff_core", "comfy"),
        ("fitdiff_core", "comfy_api"),
        ("fitdiff_core.detail", "fitdiff_core.guidance"),
        ("fitdiff_lab", "nodes"),
        ("nodes", "fitdiff_lab"),
    ],
)
def test_the_first_does_not_import_the_second(who, what):
    found = [
        f"{name} imports {i}"
        for name, module in modules().items()
        if inside(name, who)
        for i in sorted(module.anywhere)
        if inside(i, what)
    ]
    assert not found, "\n".join(found)


def test_nodes_import_the_core_and_the_host_only():
    allowed = {"nodes", "fitdiff_core"} | HOST | LIBRARIES | set(sys.stdlib_module_names)
    found = {
        (name, i)
        for name, module in modules().items()
        if inside(name, "nodes")
        for i in module.anywhere
        if i.split(".")[0] not in allowed
    }
    assert not found


def test_the_archive_holds_what_a_user_runs():
    files = archive_files()
    folders = {f.split("/")[0] for f in files if "/" in f}
    assert folders == {"docs", "fitdiff_core", "locales", "nodes", "samples", "web", "workflows"}
    assert {"__init__.py", "pyproject.toml", "requirements.txt", "LICENSE", "NOTICE", "README.md"} <= set(files)
    assert "fitdiff_core/assets/fitdiff.safetensors" in files and "docs/demo.jpg" in files
    large = [f for f in files if (ROOT / f).stat().st_size > 100_000 and not f.startswith("fitdiff_core/assets/")]
    large.remove("web/stage/three.min.mjs")
    assert not large


def test_the_archive_starts_no_process_and_runs_no_text():
    """Words that the Registry's scanner takes for danger, used or not."""
    found = [
        f"{f}:{number}: {line.strip()}"
        for f in archive_files()
        if f.endswith((".py", ".js"))
        for number, line in enumerate((ROOT / f).read_text(encoding="utf-8").splitlines(), 1)
        if SCANNED.search(line)
    ]
    assert not found, "\n".join(found)


RUNTIME = [m for name, m in modules().items() if not inside(name, "fitdiff_lab")]


def test_files_are_short():
    long = {m.name: n for m in RUNTIME if (n := len(m.path.read_text(encoding="utf-8").splitlines())) > FILE_LINES}
    assert not long, f"more than {FILE_LINES} lines"


def test_functions_are_short():
    long = {
        f"{m.name}.{node.name}": n
        for m in RUNTIME
        for node in ast.walk(m.tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name not in LONG_BY_NATURE
        if (n := node.end_lineno - node.lineno + 1) > FUNCTION_LINES
    }
    assert not long, f"more than {FUNCTION_LINES} lines"


def test_no_name_of_a_package_hides_a_module():
    """`from .rasterize import rasterize` in a package's __init__ makes the module `rasterize` unreachable."""
    found = []
    for name, module in modules().items():
        if not module.is_package:
            continue
        for node in statements(module.tree.body):
            bound = {}
            if isinstance(node, ast.ImportFrom) and not (node.level == 1 and node.module is None):
                bound = {alias.asname or alias.name: alias.name for alias in node.names}
            elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                bound = {node.name: node.name}
            found += [f"{name}.{b}" for b in bound if f"{name}.{b}" in modules()]
    assert not found, "hidden: " + ", ".join(found)


TESTS = sorted((ROOT / "tests").rglob("*.py"))


def imports_of(path: Path) -> set[str]:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    module = Module(name, path, ast.parse(path.read_text(encoding="utf-8")))
    found = set()
    for node in ast.walk(module.tree):
        found |= set(imported(node, module, set()))
        if isinstance(node, ast.ImportFrom):
            found |= {f"{i}.{alias.name}" for i in imported(node, module, set()) for alias in node.names}
    return found


def test_no_test_imports_another():
    found = {
        f"{path.relative_to(ROOT)} imports {i}"
        for path in TESTS
        for i in imports_of(path)
        if i.split(".")[0] in ("tests", "") and any(part.startswith("test_") for part in i.split("."))
    }
    assert not found


def test_the_unit_tier_needs_no_host():
    """ComfyUI and a browser are for tests/comfy and tests/browser, which are marked as such."""
    rooms = {path: path.relative_to(ROOT / "tests").parts[0] for path in TESTS}
    found = [
        str(path.relative_to(ROOT))
        for path, room in rooms.items()
        if room in ("unit", "support", "bad_inputs") and any(inside(i, "tests.host") for i in imports_of(path))
    ]
    assert not found
    for path, room in rooms.items():
        if room in ("comfy", "browser") and path.name.startswith("test_"):
            mark = next(n for n in ast.parse(path.read_text(encoding="utf-8")).body if "pytestmark" in ast.unparse(n))
            assert f"pytest.mark.{room}" in ast.unparse(mark), path.name
