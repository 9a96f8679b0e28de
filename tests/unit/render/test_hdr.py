"""Radiance pictures against an encoder of our own, and files that are damaged."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fitdiff_core.errors import UserError
from fitdiff_core.render.hdr import decode_rgbe, load_hdr
from tests.support.rgbe import HEADER, plain, runs


def panorama(h=6, w=16, seed=0):
    r = np.random.default_rng(seed)
    image = r.random((h, w, 3)).astype(np.float32) * 0.5
    image[1:3, 2:12] = (0.25, 0.5, 0.125)  # something for the runs
    image[4, 5] = (900.0, 500.0, 20.0)
    image[5, 6] = 0
    return image


@pytest.mark.parametrize("encode", [plain, runs])
def test_pixels_come_back(encode):
    image = panorama()
    got = decode_rgbe(encode(image))
    assert got.dtype == np.float32 and got.shape == image.shape
    assert (np.abs(got - image) <= image.max(-1, keepdims=True) / 128 + 1e-9).all(), "to one step of the mantissa"
    assert got[4, 5, 0] > 890 and (got[5, 6] == 0).all()
    exact = panorama() * 0 + np.float32([0.25, 0.5, 0.125])
    assert np.array_equal(decode_rgbe(encode(exact)), exact)


def test_old_runs_repeat_the_pixel_before():
    one, other = bytes([128, 64, 32, 129]), bytes([10, 20, 30, 128])
    body = one + bytes([1, 1, 1, 4]) + other + other + one  # 1 + 4 + 3 = 8 pixels
    got = decode_rgbe(HEADER % (b"", 1, 8) + body)
    assert np.array_equal(got[0, :5], np.tile(got[0, 0], (5, 1))) and np.allclose(got[0, 0], [1.0, 0.5, 0.25])
    assert np.allclose(got[0, 5], np.array([10, 20, 30]) / 256)


def test_exposure_is_taken_out():
    image = panorama()
    assert np.allclose(decode_rgbe(plain(image, b"EXPOSURE=2.0\nEXPOSURE=4\n")) * 8, decode_rgbe(plain(image)))


@pytest.mark.parametrize(
    "data, says",
    [
        (b"", "not a Radiance"),
        (b"\x89PNG\r\n", "not a Radiance"),
        (b"#?RADIANCE\n", "size"),
        (b"#?RADIANCE\n\n+Y 4 +X 4\n" + b"\0" * 64, "size"),
        (b"#?RADIANCE\nFORMAT=32-bit_rle_xyze\n\n-Y 1 +X 8\n" + b"\0" * 32, "RGB"),
        (HEADER % (b"", 0, 4), "cannot be read"),
        (HEADER % (b"", 999999, 999999), "cannot be read"),
        (HEADER % (b"", 9000, 8000) + b"\0" * 99, "cut off"),
        (HEADER % (b"EXPOSURE=bright\n", 1, 8) + b"\0" * 32, "exposure"),
        (HEADER % (b"EXPOSURE=0\n", 1, 8) + b"\0" * 32, "exposure"),
        (HEADER % (b"", 1, 8) + bytes([1, 1, 1, 4]) + b"\0" * 28, "run"),
        (HEADER % (b"", 1, 8) + bytes([2, 2, 0, 8, 0, 0, 0, 0]), "run"),
        (HEADER % (b"", 1, 8) + bytes([2, 2, 0, 8, 128 + 9, 5]) + b"\0" * 9, "run"),
    ],
)
def test_what_cannot_be_right_is_said(data, says):
    with pytest.raises(UserError, match=says):
        decode_rgbe(data)


@given(st.integers(0, 500), st.integers(0, 255), st.booleans())
@settings(max_examples=150, deadline=None)
def test_damage_ends_in_a_message_or_a_picture(at, value, cut):
    data = bytearray(runs(panorama()))
    at %= len(data)
    if cut:
        del data[at:]
    else:
        data[at] = value
    try:
        assert decode_rgbe(bytes(data)).ndim == 3
    except UserError as e:
        assert str(e)


def test_a_file_is_read_upright(tmp_path):
    image = panorama()
    file = tmp_path / "sky.hdr"
    file.write_bytes(runs(image))
    got = load_hdr(file)
    assert got.shape == (1, 3, 6, 16) and got.dtype == torch.float32
    assert got[0, 0, 4, 5] > 890, "row 0 is the top"
    with pytest.raises(UserError, match="No such panorama"):
        load_hdr(tmp_path / "missing.hdr")
    file.write_bytes(b"not a picture")
    with pytest.raises(UserError, match="sky.hdr"):
        load_hdr(file)


def test_exr_without_the_package_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "OpenEXR", None)
    (tmp_path / "sky.exr").write_bytes(b"v/1\1")
    with pytest.raises(UserError, match="pip install OpenEXR"):
        load_hdr(tmp_path / "sky.exr")


def test_exr_with_the_package(tmp_path):
    exr = pytest.importorskip("OpenEXR")
    image = panorama()
    header = {"compression": exr.ZIP_COMPRESSION, "type": exr.scanlineimage}
    exr.File(header, {"RGB": image}).write(str(tmp_path / "sky.exr"))
    assert np.allclose(load_hdr(tmp_path / "sky.exr")[0].permute(1, 2, 0).numpy(), image, rtol=1e-2)
    exr.File(header, {"Y": image[..., 0].copy()}).write(str(tmp_path / "grey.exr"))
    grey = load_hdr(tmp_path / "grey.exr")
    assert torch.equal(grey[:, 0], grey[:, 2]) and np.allclose(grey[0, 0].numpy(), image[..., 0], rtol=1e-2)
    (tmp_path / "sky.exr").write_bytes(b"v/1\1 broken")
    with pytest.raises(UserError, match="sky.exr"):
        load_hdr(tmp_path / "sky.exr")
