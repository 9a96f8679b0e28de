"""Frames of films: folders, animated pictures, and what cannot be read."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from fitdiff_core.errors import UserError
from fitdiff_core.film import LONGEST, at_rate, open_film


def grey(value: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    return Image.new("RGB", size, (value,) * 3)


def test_a_folder_is_read_in_the_order_of_its_numbers(tmp_path):
    for i in (10, 9, 2):
        grey(i * 10).save(tmp_path / f"frame_{i}.png")
    film = open_film(tmp_path, 30.0)
    values = [round(float(f.mean()) * 25.5) for f in film.frames]
    assert (film.fps, film.count, values) == (30.0, 3, [2, 9, 10])


def test_an_animated_picture_keeps_its_time(tmp_path):
    frames = [grey(40 * i) for i in range(5)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], duration=100, lossless=True)
    film = open_film(tmp_path / "a.webp")
    read = list(film.frames)
    assert film.fps == pytest.approx(10) and film.count == len(read) == 5 and read[0].shape == (3, 48, 64)
    assert [round(float(f.mean()) * 255) for f in read] == [0, 40, 80, 120, 160]
    assert len(list(open_film(tmp_path / "a.webp", 5.0).frames)) in (2, 3)


def test_frames_at_another_rate():
    frames = [(i / 24, torch.full((3, 2, 2), float(i))) for i in range(24)]
    same = [int(f[0, 0, 0]) for f in at_rate(iter(frames), 24.0)]
    assert same == list(range(24))
    half = [int(f[0, 0, 0]) for f in at_rate(iter(frames), 12.0)]
    assert half[:4] == [0, 2, 4, 6] and len(half) in (12, 13)
    double = [int(f[0, 0, 0]) for f in at_rate(iter(frames), 48.0)]
    assert double[:5] == [0, 0, 1, 1, 2]


def test_large_frames_are_made_smaller(tmp_path):
    grey(90, (2 * LONGEST, 800)).save(tmp_path / "a.png")
    (frame,) = open_film(tmp_path).frames
    assert frame.shape[2] == LONGEST


def test_what_cannot_be_read_is_said(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="No such video"):
        open_film(tmp_path / "none.mp4")
    with pytest.raises(UserError, match="holds no pictures"):
        open_film(tmp_path)
    grey(3).save(tmp_path / "one.png")
    with pytest.raises(UserError, match="one picture, not a film"):
        open_film(tmp_path / "one.png")
    (tmp_path / "bad.webp").write_bytes(b"RIFF0000")
    with pytest.raises(UserError, match="Cannot read"):
        open_film(tmp_path / "bad.webp")
    grey(3, (80, 80)).save(tmp_path / "two.png")
    (tmp_path / "bad.webp").unlink()
    with pytest.raises(UserError, match="another size"):
        list(open_film(tmp_path).frames)
    with pytest.raises(UserError, match="frames a second"):
        open_film(tmp_path, 0.5)
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "talk.mp4").write_bytes(b"no video")
    with pytest.raises(UserError, match="install PyAV"):
        open_film(tmp_path / "talk.mp4")


def test_a_video_is_read_by_pyav(tmp_path):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "a.mp4"), "w") as out:
        stream = out.add_stream("mpeg4", rate=20)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(10):
            picture = np.full((48, 64, 3), 20 * i, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                out.mux(packet)
        for packet in stream.encode():
            out.mux(packet)
    film = open_film(tmp_path / "a.mp4")
    values = [float(f.mean()) * 255 for f in film.frames]
    assert film.fps == 20 and len(values) == 10 and np.allclose(values, np.arange(10) * 20, atol=6)
    (tmp_path / "b.mp4").write_bytes(b"no video")
    with pytest.raises(UserError, match="Cannot read"):
        open_film(tmp_path / "b.mp4")
