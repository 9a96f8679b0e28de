"""`fitdiff drive`: a film and an avatar file become an animated GLB, a table of the motion, and pictures."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from fitdiff_core.avatar_file import save_avatar
from tests.support.cli import cli
from tests.support.gltf import Glb
from tests.support.paths import ROOT
from tests.support.plain_avatar import plain_avatar


@pytest.fixture(scope="module")
def driven(tmp_path_factory):
    """The folder of a run over five frames of the shipped performance, a frame with no face among them."""
    folder = tmp_path_factory.mktemp("drive")
    avatar = save_avatar(folder / "head.avatar.safetensors", plain_avatar().with_hair(None))
    frames = folder / "frames"
    frames.mkdir()
    with Image.open(ROOT / "samples" / "performance.webp") as film:
        for i in range(5):
            film.seek(i)
            film.convert("RGB").save(frames / f"{i}.png")
    Image.new("RGB", (256, 256), (90, 90, 90)).save(frames / "2.png")
    out = folder / "out"
    run = cli("drive", avatar, frames, "--fps", 10, "--out", out, "--pictures", "webp", "--size", 64, "--head", "added")
    assert run.returncode == 0, run.stderr
    return out, run


def test_files_and_words(driven):
    out, run = driven
    assert {f.name for f in out.iterdir()} == {"driven.glb", "driven.webp", "motion.json", "report.json"}
    assert "5 frames (0.5 s)" in run.stdout and "1 of 5 frames show no face" in run.stderr
    report = json.loads((out / "report.json").read_text())
    assert (report["frames"], report["seen"], report["fps"]) == (5, 4, 10)
    with Image.open(out / "driven.webp") as film:
        assert film.n_frames == 5 and film.size == (64, 64)


def test_the_table_is_what_the_glb_plays(driven):
    out, _ = driven
    table, glb = json.loads((out / "motion.json").read_text()), Glb(out / "driven.glb")
    (animation,) = glb.json["animations"]
    weights = next(
        glb.accessor(animation["samplers"][c["sampler"]]["output"])
        for c in animation["channels"]
        if c["target"]["path"] == "weights"
    )
    for row, found in zip(table["weights"], weights.reshape(5, 52), strict=True):
        assert found.tolist() == pytest.approx(row, abs=1e-4)
    jaw = [row[table["names"].index("jawOpen")] for row in table["weights"]]
    assert max(jaw) > 0.2, "the mouth opens in these frames"
    assert len(table["turn"]) == len(table["gaze"]) == 5
