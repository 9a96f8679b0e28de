"""Every row of the table of bad and odd inputs that is for the command line."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from unittest import mock

import pytest

from fitdiff_core import pipeline
from fitdiff_core.cli import main
from fitdiff_core.image import load_photo
from tests.bad_inputs import table as bad_inputs
from tests.support.cli import cli_process
from tests.support.paths import SAMPLE

COMMANDS = bad_inputs.table("command line")


def test_the_table_is_long_and_the_page_is_made_from_it():
    assert len(COMMANDS) + len(bad_inputs.table("nodes")) >= 60
    names = [c.id for kind in ("command line", "nodes") for c in bad_inputs.table(kind)]
    assert len(set(names)) == len(names)
    assert bad_inputs.DOC.read_text() == bad_inputs.markdown(), "run `python -m tests.bad_inputs`"


@pytest.fixture(scope="module")
def person():
    """Recogniser, and the identity of the sample photo."""
    recognizer = pipeline.load_recognizer()
    return recognizer, pipeline.encode(load_photo(SAMPLE), recognizer)


@pytest.fixture
def folder():
    """One that everybody may write to, whoever the row is run as."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o777)
        yield Path(name)


@pytest.mark.parametrize("case", [c for c in COMMANDS if c.outcome == "exit 2"], ids=lambda c: c.id)
def test_refused_by_the_command_line(case, folder, capfd, monkeypatch):
    if case.group == "Recogniser packs":
        pytest.importorskip("onnx")
    monkeypatch.chdir(folder)
    args = [str(a) for a in case.make(folder)]
    if "--out" not in args:
        args += ["--out", str(folder / "out")]
    before = set(folder.rglob("*"))
    with case.under():
        try:
            status = main(args)
        except SystemExit as e:  # argparse
            status = e.code
    error = capfd.readouterr().err
    assert status == 2 and "Traceback" not in error, error
    assert case.says in error
    if not error.startswith("usage:"):
        assert len(error.strip().splitlines()) == 1 or case.group == "Recogniser packs", error
    assert not [p for p in set(folder.rglob("*")) - before if p.is_file()], "a file was left behind"


@pytest.mark.parametrize("case", [c for c in COMMANDS if c.outcome == "works"], ids=lambda c: c.id)
def test_odd_photos_are_taken(case, tmp_path, person):
    """As the command line reads them: the person found is the sample's."""
    recognizer, sample = person
    (path,) = case.make(tmp_path)
    photo = load_photo(path)
    assert max(photo.shape[2:]) <= 2048
    identity = pipeline.encode(photo, recognizer)
    assert recognizer.distance(identity.embedding, sample.embedding) < recognizer.same_threshold


def test_refused_in_a_process_of_its_own(tmp_path):
    """One row as a person runs it: nothing but the message on stderr."""
    (tmp_path / "a.jpg").write_bytes(b"")
    run = cli_process("a.jpg", cwd=tmp_path)
    assert run.returncode == 2 and run.stderr.startswith("error: Cannot read a.jpg") and run.stderr.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a.jpg"]


@pytest.mark.parametrize("where", ["fitdiff_core.pipeline.sample_scenes", "fitdiff_core.files.os.replace"])
def test_an_interrupted_run_leaves_no_file(where, tmp_path, capfd):
    """While sampling, and between writing a file and giving it its name."""
    with mock.patch(where, side_effect=KeyboardInterrupt):
        assert main(["--steps", "1", "--out", str(tmp_path / "out")]) == 130
    assert capfd.readouterr().err.strip().splitlines()[-1] == "interrupted"
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]
