"""The Python examples of docs/cli.md run as they stand."""

from __future__ import annotations

import re
import shutil

import pytest

from tests.support.paths import ROOT, SAMPLE

EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "cli.md").read_text("utf-8"), re.S)


@pytest.mark.slow
def test_the_python_examples_of_the_documentation_run(tmp_path, monkeypatch):
    for name in ("photo", "a", "b"):
        shutil.copy(SAMPLE, tmp_path / f"{name}.jpg")
    frames = tmp_path / "talk.mp4"  # a folder of frames does as well
    frames.mkdir()
    for name in ("1", "2", "3"):
        shutil.copy(SAMPLE, frames / f"{name}.jpg")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for example in EXAMPLES:
        quick = example.replace("guidance, seed=0)", "guidance, seed=0, steps=2)").replace(
            "guidance)  #", "guidance, steps=2)  #"
        )
        exec(compile(quick, "docs/cli.md", "exec"), names)  # noqa: S102 - our own documentation
    assert len(EXAMPLES) == 3 and (tmp_path / "avatar.glb").stat().st_size > 1e6
    assert len(names["scenes"]) == 2 and len(names["frames"]) == 3
    assert (tmp_path / "driven.glb").stat().st_size > (tmp_path / "avatar.glb").stat().st_size
