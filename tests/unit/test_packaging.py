"""What pip and ComfyUI's registry read: Python versions, classifiers, the `fitdiff` command."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib

import pytest

from tests.support.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_python_versions_agree_everywhere():
    low, high = map(int, re.fullmatch(r">=3\.(\d+),<3\.(\d+)", PROJECT["requires-python"]).groups())
    versions = [f"3.{minor}" for minor in range(low, high)]
    prefix = "Programming Language :: Python :: 3."
    assert [c.removeprefix(prefix[:-2]) for c in PROJECT["classifiers"] if c.startswith(prefix)] == versions
    readme, makefile = (ROOT / "README.md").read_text(), (ROOT / "Makefile").read_text()
    assert f"(3, {low}) <= sys.version_info < (3, {high})" in makefile
    assert readme.count(f"Python 3.{low} to 3.{high - 1}") == len(re.findall(r"Python 3\.\d+", readme)) == 2
    ci = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert set(re.findall(r'"(3\.\d+)"', ci)) <= set(versions)


def test_the_registry_learns_systems_and_gpus():
    """The names are those of ComfyUI's registry."""
    given = set(PROJECT["classifiers"])
    assert "Operating System :: OS Independent" in given
    assert {c.split(" :: ")[-1] for c in given if c.startswith("Environment :: GPU ::")} == {
        "NVIDIA CUDA",
        "AMD ROCm",
        "Intel Arc",
        "Apple Metal",
    }


@pytest.mark.slow
def test_pip_install_gives_the_command(tmp_path):
    """Installed from a copy of the tree without the network, the command starts and the weights are there."""
    source, target = tmp_path / "source", tmp_path / "installed"
    kept = ("fitdiff_core", "fitdiff_lab", "pyproject.toml", "README.md", "LICENSE", "NOTICE")
    for name in kept:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / name, source / name)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-build-isolation",
        "--no-deps",
        "--target",
        target,
        source,
    ]
    done = subprocess.run(list(map(str, pip)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (target / "fitdiff_core" / "assets" / "fitdiff.safetensors").stat().st_size > 1e6
    run = subprocess.run(
        [str(target / "bin" / "fitdiff"), "--help"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(target)},
        cwd=tmp_path,
    )
    assert run.returncode == 0 and "--face WHICH" in run.stdout, run.stderr
