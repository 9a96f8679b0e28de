"""The pack as a Python package, without ComfyUI."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import subprocess
import sys
import tomllib

from tests.support.paths import ROOT


def test_entry_point_imports_without_comfyui_under_any_folder_name():
    code = (
        "import importlib.util, inspect, sys\n"
        f"spec = importlib.util.spec_from_file_location('any-name.1', r'{ROOT / '__init__.py'}')\n"
        "m = importlib.util.module_from_spec(spec); spec.loader.exec_module(m)\n"
        "assert inspect.iscoroutinefunction(m.comfy_entrypoint) and m.WEB_DIRECTORY\n"
        "assert not hasattr(m, 'NODE_CLASS_MAPPINGS')  # it would hide the V3 entry point\n"
        "assert 'torch' not in sys.modules and 'comfy_api' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/", timeout=60)
    assert done.returncode == 0, done.stderr


def test_web_directory_exists_and_the_page_loads_one_small_script():
    spec = importlib.util.spec_from_file_location("fd_entry", ROOT / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert inspect.iscoroutinefunction(module.comfy_entrypoint)
    web = ROOT / module.WEB_DIRECTORY
    # ComfyUI's page loads every .js at its start; the viewer's modules are .mjs, which the script imports when needed
    (script,) = web.rglob("*.js")
    assert web.is_dir() and script.name == "stage.js" and script.stat().st_size < 10_000


def test_nodes_import_the_library_relatively():
    """Two copies of fitdiff_core (installed, and the pack's own) must never mix."""
    for file in (ROOT / "nodes").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                modules.append(node.module)
            assert not [m for m in modules if m.split(".")[0] == "fitdiff_core"], file.name


def test_requirements_ask_for_nothing_that_comfyui_brings():
    lines = [line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    wanted = {re.split(r"[<>=!~\[ ]", line)[0].lower() for line in lines if line}
    assert not wanted & {"torch", "torchvision", "numpy", "pillow", "safetensors", "einops", "tqdm", "onnxruntime"}


def test_registry_pictures_are_there_and_small():
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    comfy, repository = config["tool"]["comfy"], config["project"]["urls"]["Repository"]
    for key in ("Icon", "Banner"):
        address = comfy[key].removeprefix(repository.replace("github.com", "raw.githubusercontent.com") + "/main/")
        assert (ROOT / address).stat().st_size < 100_000, key


def test_readme_lists_every_node_and_workflow():
    text = (ROOT / "README.md").read_text()
    linked = set(re.findall(r"\]\((web/docs/FitDiff_\w+\.md|workflows/\w+\.json)\)", text))
    files = [*(ROOT / "web" / "docs").glob("*.md"), *(ROOT / "workflows").glob("*.json")]
    assert linked == {f.relative_to(ROOT).as_posix() for f in files}
