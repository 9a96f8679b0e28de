"""Photos as they come from phones and cameras: ICC profiles and HEIC."""

from __future__ import annotations

import io
import logging
import struct
import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from fitdiff_core.errors import UserError
from fitdiff_core.image import load_photo

COLOURS = np.random.default_rng(0).integers(0, 256, (64, 80, 3)).astype(np.uint8)
SRGB = ((0.64, 0.33), (0.3, 0.6), (0.15, 0.06))
DISPLAY_P3 = ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06))
ADOBE_RGB = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
D50 = np.array([0.9642, 1.0, 0.8249])
D65 = np.array([0.9505, 1.0, 1.089])
# Bradford adaptation from D65 to D50 (ICC.1:2022, Annex E)
ADAPT = np.array([[1.0478, 0.0229, -0.0501], [0.0295, 0.9905, -0.0171], [-0.0092, 0.0151, 0.7519]])


def to_xyz(primaries) -> np.ndarray:
    """RGB -> XYZ of a space with D65 white."""
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    return columns * np.linalg.solve(columns, D65)


def icc(space: str, tags: dict[bytes, bytes]) -> bytes:
    """A version 2 display profile (ICC.1:2001-04)."""
    head, table, data = b"", b"", b""
    tags = {b"desc": b"desc" + bytes(4) + struct.pack(">I", 2) + b"t\0" + bytes(78), **tags}
    start = 132 + 12 * len(tags)
    for name, value in tags.items():
        value += bytes(-len(value) % 4)
        table += name + struct.pack(">II", start + len(data), len(value))
        data += value
    size = start + len(data)
    head = struct.pack(">I4sI4s4s4s", size, bytes(4), 0x02400000, b"mntr", space.encode().ljust(4), b"XYZ ")
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    head += struct.pack(">3i", *(round(v * 65536) for v in D50))
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


def curve(gamma: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))


def xyz(values) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(float(v) * 65536) for v in values))


def rgb_profile(primaries, gamma: float) -> bytes:
    columns = (ADAPT @ to_xyz(primaries)).T
    tags = {name: xyz(c) for name, c in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)}
    return icc("RGB", tags | {b"wtpt": xyz(D50), **{n: curve(gamma) for n in (b"rTRC", b"gTRC", b"bTRC")}})


def grey_profile(gamma: float) -> bytes:
    return icc("GRAY", {b"wtpt": xyz(D50), b"kTRC": curve(gamma)})


def by_hand(pixels: np.ndarray, primaries, gamma: float) -> np.ndarray:
    """What the pixels are in sRGB, 0..255, by the definitions."""
    linear = (pixels / 255) ** gamma @ (np.linalg.inv(to_xyz(SRGB)) @ to_xyz(primaries)).T
    linear = linear.clip(0, 1)
    return 255 * np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def loaded(path) -> np.ndarray:
    return (load_photo(path)[0].permute(1, 2, 0) * 255).numpy()


@pytest.mark.parametrize("name", ["png", "jpg", "tiff", "webp"])
@pytest.mark.parametrize("primaries, gamma", [(DISPLAY_P3, 2.2), (ADOBE_RGB, 2.19921875)])
def test_profile_of_the_file_is_applied(tmp_path, name, primaries, gamma):
    blocks = Image.fromarray(COLOURS[:8, :10]).resize((80, 64), Image.Resampling.NEAREST)  # JPEG keeps them
    path = tmp_path / f"a.{name}"
    options = {"jpg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}}.get(name, {})
    blocks.save(path, icc_profile=rgb_profile(primaries, gamma), **options)
    expected = by_hand(np.asarray(blocks, float), primaries, gamma)
    assert np.abs(expected - np.asarray(blocks)).mean() > 2, "the profile must matter"
    assert np.abs(loaded(path) - expected).mean() < 1


def test_alpha_palette_and_grey_keep_their_meaning(tmp_path):
    profile = rgb_profile(DISPLAY_P3, 2.2)
    expected = by_hand(COLOURS.astype(float), DISPLAY_P3, 2.2)
    clear = Image.fromarray(COLOURS)
    clear.putalpha(Image.fromarray(np.repeat(np.array([[0, 255]], np.uint8), 64, 0).repeat(40, 1)))
    clear.save(tmp_path / "rgba.png", icc_profile=profile)
    pixels = loaded(tmp_path / "rgba.png")
    assert (pixels[:, :40] == 255).all() and np.abs(pixels[:, 40:] - expected[:, 40:]).max() < 3

    palette = Image.fromarray(COLOURS).quantize(32)
    palette.save(tmp_path / "p.png", icc_profile=profile)
    expected = by_hand(np.asarray(palette.convert("RGB"), float), DISPLAY_P3, 2.2)
    assert np.abs(loaded(tmp_path / "p.png") - expected).max() < 3

    grey = COLOURS[..., 0]
    expected = by_hand(grey[..., None].repeat(3, 2).astype(float), SRGB, 1.8)
    for name, picture in (("l", Image.fromarray(grey)), ("16", Image.fromarray(grey.astype(np.uint16) * 257))):
        picture.save(tmp_path / f"{name}.png", icc_profile=grey_profile(1.8))
        assert np.abs(loaded(tmp_path / f"{name}.png") - expected).max() < 3
    Image.fromarray(grey).save(tmp_path / "rgb_profile.png", icc_profile=profile)  # as many programs save grey photos
    expected = by_hand(grey[..., None].repeat(3, 2).astype(float), SRGB, 2.2)
    assert np.abs(loaded(tmp_path / "rgb_profile.png") - expected).max() < 3


def cmyk_profile() -> bytes:
    """A printer with a table of two steps a channel: Lab by mixing ink-free white and full inks (ICC.1:2001, lut8)."""
    inks = [(0.55, -37, -50), (0.48, 74, -3), (0.89, -5, 93), (0.16, 0, 0)]
    table = b""
    for c in range(2):
        for m in range(2):
            for y in range(2):
                for k in range(2):
                    light, a, b = 1.0, 0.0, 0.0
                    for on, (l_, a_, b_) in zip((c, m, y, k), inks, strict=True):
                        light, a, b = (light * l_, a + a_, b + b_) if on else (light, a, b)
                    table += bytes(int(np.clip(v, 0, 255)) for v in (light * 255, a + 128, b + 128))
    identity = struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + bytes(range(256)) * 4 + table + bytes(range(256)) * 3
    profile = icc("CMYK", {b"wtpt": xyz(D50), b"A2B0": lut})
    return profile[:12] + b"prtr" + profile[16:20] + b"Lab " + profile[24:]


def test_cmyk_is_converted_by_its_profile_and_not_by_subtraction(tmp_path):
    cyan = Image.new("CMYK", (64, 64), (255, 0, 0, 0))
    cyan.save(tmp_path / "plain.tiff")
    cyan.save(tmp_path / "print.tiff", icc_profile=cmyk_profile())
    plain, printed = (loaded(tmp_path / f"{n}.tiff")[0, 0] for n in ("plain", "print"))
    assert list(plain) == [0, 255, 255]
    assert printed[0] < 30 and 120 < printed[1] < 180 and 190 < printed[2] < 255, "cyan ink is darker than 0, 255, 255"


def test_srgb_profile_changes_no_pixel(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(COLOURS).save(tmp_path / "a.png", icc_profile=profile)
    np.testing.assert_array_equal(loaded(tmp_path / "a.png").round(), COLOURS)


@pytest.mark.parametrize("profile", [b"broken", rgb_profile(DISPLAY_P3, 2.2)[:200], cmyk_profile(), grey_profile(2.2)])
def test_unusable_profile_is_left_out_with_a_warning(tmp_path, caplog, profile):
    Image.fromarray(COLOURS).save(tmp_path / "a.png", icc_profile=profile)
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(loaded(tmp_path / "a.png").round(), COLOURS)
    assert "colour profile cannot be used" in caplog.text and "a.png" in caplog.text


def test_exif_turn_keeps_the_profile(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(COLOURS).save(tmp_path / "a.png", exif=exif, icc_profile=rgb_profile(DISPLAY_P3, 2.2))
    expected = by_hand(np.rot90(COLOURS, -1).astype(float), DISPLAY_P3, 2.2)
    assert np.abs(loaded(tmp_path / "a.png") - expected).max() < 3


def heic(major=b"heic", *others: bytes) -> bytes:
    """The start of a HEIC file."""
    brands = major + bytes(4) + b"".join(others)
    return struct.pack(">I", 8 + len(brands)) + b"ftyp" + brands + bytes(64)


@pytest.mark.parametrize("name", ["a.heic", "a.HEIF", "a.jpg"])
@pytest.mark.parametrize("start", [heic(b"heic", b"mif1"), heic(b"mif1", b"mif1", b"heic"), heic(b"msf1", b"hevc")])
def test_heic_is_named_whatever_the_file_is_called(tmp_path, monkeypatch, name, start):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / name).write_bytes(start)
    with pytest.raises(UserError, match="is a HEIC photo.*pillow-heif.*export it as JPEG"):
        load_photo(tmp_path / name)


def test_heic_is_read_by_the_opener_of_pillow_heif(tmp_path, monkeypatch):
    """With a stand-in for pillow-heif, which opens a PNG behind the header."""
    picture = io.BytesIO()
    Image.fromarray(COLOURS).save(picture, "PNG")
    (tmp_path / "a.jpg").write_bytes(heic(b"heic", b"mif1") + picture.getvalue())

    def open_it(file, name):
        data = file.read()
        return Image.open(io.BytesIO(data[data.index(b"\x89PNG") :]))

    def register_heif_opener():
        Image.register_open("TEST_HEIF", open_it, lambda prefix: prefix[4:8] == b"ftyp")

    monkeypatch.setitem(sys.modules, "pillow_heif", types.SimpleNamespace(register_heif_opener=register_heif_opener))
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    Image.init()
    np.testing.assert_array_equal(loaded(tmp_path / "a.jpg").round(), COLOURS)


def test_real_heic_is_read(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    blocks = Image.fromarray(COLOURS[:8, :10]).resize((80, 64), Image.Resampling.NEAREST)
    heif.from_pillow(blocks).save(tmp_path / "a.jpg", quality=90)
    assert (tmp_path / "a.jpg").read_bytes()[4:8] == b"ftyp"
    assert np.abs(loaded(tmp_path / "a.jpg") - np.asarray(blocks, float)).mean() < 6


@pytest.mark.parametrize("data", [b"", b"text", b"\xff\xd8\xff" + bytes(50), b"GIF89a" + bytes(9), heic(b"avif")])
def test_no_message_names_a_python_object(tmp_path, data):
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(UserError, match="Save it again as JPEG or PNG") as e:
        load_photo(tmp_path / "a.jpg")
    assert "<_io" not in str(e.value) and "Buffered" not in str(e.value) and "object at" not in str(e.value)


def test_photo_is_finite(tmp_path):
    Image.fromarray(COLOURS).save(tmp_path / "a.png", icc_profile=rgb_profile(DISPLAY_P3, 2.2))
    assert torch.isfinite(load_photo(tmp_path / "a.png")).all()
