"""`fitdiff --each`: a head of each photo, whatever happens to the others."""

import argparse
import shutil

import pytest
from PIL import Image

from fitdiff_core.each_cli import folders_of, photos_of, run_each
from fitdiff_core.errors import UserError
from tests.support.cli import cli
from tests.support.paths import SAMPLE


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("b.png", "a.jpg", "notes.txt"):
        (folder / name).write_bytes(b"")
    return folder


def test_a_folder_gives_its_pictures_by_name(photos):
    assert [p.name for p in photos_of([str(photos)])] == ["a.jpg", "b.png"]
    assert photos_of([str(photos / "b.png"), str(photos)])[0].name == "b.png"
    with pytest.raises(UserError, match="no file or folder"):
        photos_of([str(photos / "missing.jpg")])
    (photos / "empty").mkdir()
    with pytest.raises(UserError, match="found no photo"):
        photos_of([str(photos / "empty")])


def test_photos_of_one_name_get_folders_of_their_own(tmp_path):
    photos = [tmp_path / "x" / "me.jpg", tmp_path / "y" / "me.png", tmp_path / "you.jpg"]
    assert [f.name for f in folders_of(photos, tmp_path)] == ["me", "me_2", "you"]


def test_a_failure_is_named_and_a_second_call_makes_only_what_is_missing(photos, tmp_path, capsys):
    args = argparse.Namespace(photo=[str(photos)], out=str(tmp_path / "out"), seed=3)
    made = []

    def make_one(one):
        made.append(one)
        if one.photo[0].endswith("b.png") and len(made) < 3:
            raise UserError("No face was found.")
        folder = tmp_path / "out" / one.out.rpartition("/")[2]
        folder.mkdir(parents=True)
        (folder / "report.json").write_text("{}")
        return {"seconds": {"total": 1.0}, "similarity": {}}

    assert run_each(args, make_one) == 1
    said = capsys.readouterr()
    assert "1 heads made, 1 failed" in said.out and "b.png: No face was found." in said.err
    assert [one.seed for one in made] == [3, 3] and made[0].out.endswith("out/a")
    assert run_each(args, make_one) == 0
    assert "1 heads made, 1 were there before, 0 failed" in capsys.readouterr().out
    assert len(made) == 3 and args.photo == [str(photos)]


def test_each_needs_photos():
    run = cli("--each")
    assert run.returncode == 2 and "--each takes photos" in run.stderr


@pytest.mark.slow
def test_the_command_line_makes_each(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    shutil.copy(SAMPLE, folder / "woman.jpg")
    Image.new("RGB", (256, 256), (90, 120, 90)).save(folder / "nobody.png")
    out = tmp_path / "heads"
    run = cli(folder, "--each", "--out", out, "--steps", 2, "--hair", "none", "--no-blendshapes")
    assert run.returncode == 1 and "1 heads made, 1 failed" in run.stdout and "nobody.png" in run.stderr
    assert (out / "woman" / "avatar.glb").is_file() and not (out / "nobody").exists()
