"""Odd photos in, PNGs out."""

import io
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fitdiff_core.errors import UserError
from fitdiff_core.files import write_atomic
from fitdiff_core.image import (
    encode_png,
    from_image,
    linear_to_srgb,
    load_photo,
    save_png,
    srgb_to_linear,
    to_image,
)
from fitdiff_core.maps import TextureMaps

RAMP = np.linspace(0, 255, 96 * 64 * 3).reshape(64, 96, 3).astype(np.uint8)


def test_srgb_matches_the_standard_and_inverts():
    x = torch.linspace(0, 1, 1001, dtype=torch.float64)
    assert torch.allclose(srgb_to_linear(linear_to_srgb(x)), x, atol=1e-9)
    # IEC 61966-2-1: mid grey 0.5 -> 0.21404, and the linear toe
    assert abs(srgb_to_linear(torch.tensor(0.5, dtype=torch.float64)).item() - 0.2140411) < 1e-6
    assert abs(srgb_to_linear(torch.tensor(0.03, dtype=torch.float64)).item() - 0.03 / 12.92) < 1e-12


def test_srgb_has_gradients_at_black():
    x = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    linear_to_srgb(x).sum().backward()
    assert torch.allclose(x.grad, torch.full_like(x, 12.92))


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "P", "CMYK", "1", "YCbCr"])
def test_every_mode_loads_as_rgb(tmp_path, mode):
    im = Image.fromarray(RAMP).convert(mode)
    path = tmp_path / ("a.tiff" if mode in ("CMYK", "YCbCr") else "a.png")
    im.save(path)
    photo = load_photo(path)
    assert photo.shape == (1, 3, 64, 96) and photo.dtype == torch.float32
    assert photo.min() >= 0 and photo.max() <= 1 and photo.std() > 0.1


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path):
    Image.fromarray(RAMP[..., 0].astype(np.uint16) * 257).save(tmp_path / "a.png")
    assert (load_photo(tmp_path / "a.png")[0, 0] - torch.from_numpy(RAMP[..., 0] / 255.0).float()).abs().max() < 0.01


def test_transparent_pixels_become_white(tmp_path):
    Image.new("RGBA", (64, 64), (255, 0, 0, 0)).save(tmp_path / "a.png")
    assert (load_photo(tmp_path / "a.png") == 1).all()


def test_exif_rotation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn 90 degrees clockwise to view
    Image.fromarray(RAMP).save(tmp_path / "a.jpg", exif=exif, quality=95)
    photo = load_photo(tmp_path / "a.jpg")
    assert photo.shape == (1, 3, 96, 64)
    upright = torch.from_numpy(np.rot90(RAMP, -1).copy() / 255.0).permute(2, 0, 1)
    assert (photo[0] - upright).abs().mean() < 0.02


@pytest.mark.parametrize("size", [(5000, 3000), (3000, 5000)])
def test_large_photos_are_reduced(tmp_path, size):
    Image.new("RGB", size, (90, 60, 30)).save(tmp_path / "a.jpg")
    assert max(load_photo(tmp_path / "a.jpg").shape) <= 2048


@pytest.mark.parametrize(
    "content, words",
    [
        (None, "No such photo"),
        (b"", "Cannot read"),
        (b"not an image", "Cannot read"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "Cannot read"),
    ],
)
def test_bad_files_say_what_to_do(tmp_path, content, words):
    path = tmp_path / "a.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=words):
        load_photo(path)


def test_truncated_jpeg_and_tiny_photo_are_refused(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(RAMP).save(buffer, "JPEG")
    (tmp_path / "cut.jpg").write_bytes(buffer.getvalue()[:300])
    with pytest.raises(UserError, match="Cannot read"):
        load_photo(tmp_path / "cut.jpg")
    Image.new("RGB", (20, 300)).save(tmp_path / "tiny.png")
    with pytest.raises(UserError, match="20x300"):
        load_photo(tmp_path / "tiny.png")


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_node_images_of_any_channel_count(channels):
    x = torch.rand(2, 5, 7, channels)
    y = from_image(x)
    assert y.shape == (2, 3, 5, 7)
    if channels == 3:
        assert torch.equal(to_image(y), x)


@pytest.mark.parametrize(
    "bad",
    [torch.zeros(0, 4, 4, 3), torch.zeros(4, 4, 3), torch.full((1, 4, 4, 3), float("nan")), torch.zeros(1, 4, 4, 7)],
)
def test_bad_node_images_are_refused(bad):
    with pytest.raises(UserError):
        from_image(bad)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([8, 16]), st.sampled_from([1, 3]), st.integers(0, 2**31))
def test_png_round_trip(h, w, bits, channels, seed):
    x = torch.rand(1, channels, h, w, generator=torch.Generator().manual_seed(seed))
    data = encode_png(x, bits)
    with Image.open(io.BytesIO(data)) as im:
        im.load()
        assert im.size == (w, h)
        if bits == 8:
            a = np.asarray(im).reshape(h, w, channels) / 255.0
            assert np.abs(a - x[0].permute(1, 2, 0).numpy()).max() <= 0.5 / 255 + 1e-6
    if bits == 16:  # Pillow reads 16-bit RGB as 8: read the rows ourselves
        raw = zlib.decompress(data[41 : 41 + int.from_bytes(data[33:37], "big")])
        rows = np.frombuffer(raw, np.uint8).reshape(h, -1)
        a = np.ascontiguousarray(rows[:, 1:]).view(">u2").reshape(h, w, channels) / 65535.0
        assert np.abs(a - x[0].permute(1, 2, 0).numpy()).max() <= 0.5 / 65535 + 1e-6


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = save_png(tmp_path / "a.png", torch.rand(3, 8, 8))
    before = path.read_bytes()

    def full_disk(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full_disk)
    with pytest.raises(UserError, match="No space left"):
        save_png(path, torch.rand(3, 8, 8))
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_write_below_a_file_is_a_user_error(tmp_path):
    (tmp_path / "f").write_text("x")
    with pytest.raises(UserError, match="Cannot write"):
        write_atomic(tmp_path / "f" / "a.bin", b"1")


def test_maps_stack_and_resize_keep_their_meaning():
    normal = torch.nn.functional.normalize(torch.rand(2, 3, 16, 16) + torch.tensor([0, 0, 1.0]).view(1, 3, 1, 1), dim=1)
    maps = TextureMaps(torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16), normal)
    again = TextureMaps.from_stack(maps.stack())
    assert torch.allclose(again.normal, normal, atol=1e-6) and torch.equal(again.diffuse, maps.diffuse)
    small = maps.resize(8)
    assert small.size == (8, 8) and torch.allclose(small.normal.norm(dim=1), torch.ones(2, 8, 8), atol=1e-5)
    assert torch.allclose(small.diffuse.mean(), maps.diffuse.mean(), atol=0.02)
    assert len(maps[1]) == 1 and torch.equal(maps[1].specular, maps.specular[1:])
