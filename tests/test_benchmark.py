"""The benchmark command, on the sample photo and a picture without a face."""

import json
import shutil
import sys
from pathlib import Path

from PIL import Image

from fitdiff_core import benchmark

SAMPLE = Path(__file__).resolve().parents[1] / "samples" / "eileen_collins.jpg"
JUDGE = '''
import numpy as np
from PIL import Image


class Judge:
    """Mean colour as a stand-in for a recogniser: enough to see who is compared with whom."""

    def embed(self, image):
        image = Image.open(image) if isinstance(image, str) else image
        v = np.asarray(image.convert("RGB").resize((4, 4)), float).ravel()
        return v / np.linalg.norm(v)

    def similarity(self, a, b):
        return float(self.embed(a) @ self.embed(b))
'''


def test_one_photo_and_one_without_a_face(tmp_path, monkeypatch, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    shutil.copy(SAMPLE, photos / "face.jpg")
    Image.new("RGB", (200, 200), (90, 120, 60)).save(photos / "none.png")
    (photos / "notes.txt").write_text("not a photo")
    (tmp_path / "judge.py").write_text(JUDGE)
    out = tmp_path / "out"
    argv = ["benchmark", str(photos), "--out", str(out), "--steps", "2", "--judge", str(tmp_path / "judge.py")]
    monkeypatch.setattr(sys, "argv", argv)
    benchmark.main()
    report = json.loads((out / "results.json").read_text())
    summary, runs = report["summary"], report["photos"]
    assert summary["photos"] == 2 and summary["finished"] == 1
    assert runs["none.png"]["guided"]["exit"] == 2 and "face" in runs["none.png"]["guided"]["error"]
    assert runs["face.jpg"]["guided"]["peak_mb"] > 100 and runs["face.jpg"]["guided"]["wall"] > 0
    assert set(runs["face.jpg"]["judge"]) == {"guided", "unguided", "random"}
    assert summary["judge_mean"]["guided"] == round(runs["face.jpg"]["judge"]["guided"], 3)
    assert summary["consistency"]["identities"] == 1 and summary["consistency"]["two_seeds_distance"] > 0
    with Image.open(out / "contact.jpg") as sheet, Image.open(out / "renders.jpg") as bare:
        assert sheet.size == (2 * 5 * benchmark.PANEL, benchmark.PANEL)
        assert bare.size == (2 * 4 * benchmark.PANEL, benchmark.PANEL)
    assert '"finished": 1' in capsys.readouterr().out


def test_means_leave_out_what_the_judge_could_not_see():
    assert benchmark.mean([1.0, float("nan"), 3.0]) == 2.0
    assert benchmark.mean([float("nan")]) != benchmark.mean([float("nan")])
