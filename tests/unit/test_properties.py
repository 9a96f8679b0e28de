"""What holds for any photo, any damaged file, any small mesh and any file name."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from fitdiff_core.errors import UserError
from fitdiff_core.export import write_glb, write_obj, write_ply
from fitdiff_core.identity.arcface import load_arcface
from fitdiff_core.image import from_image, load_photo, to_image
from fitdiff_core.maps import TextureMaps
from fitdiff_core.model.autoencoder import MapAutoencoder
from fitdiff_core.model.checkpoint import load_model, save_model
from fitdiff_core.model.denoiser import Denoiser
from tests.support.meshes import PlainHead
from tests.support.tiny_networks import AE, DN, HEAD

SEEDS = st.integers(0, 2**32 - 1)
MODES = {
    "1": "png",
    "L": "png",
    "LA": "png",
    "P": "png",
    "RGB": "png",
    "RGBA": "png",
    "I;16": "png",
    "CMYK": "tiff",
    "YCbCr": "tiff",
    "F": "tiff",
    "RGBX": "tiff",
}


def noise(width, height, channels, seed):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def picture(width, height, mode, seed) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(noise(width, height, 2, seed).view(np.uint16)[..., 0])
    rgb = Image.fromarray(noise(width, height, 3, seed))
    im = rgb.convert(mode) if mode != "RGBX" else rgb.convert("RGBX")
    if mode in ("LA", "RGBA"):
        im.putalpha(Image.fromarray(noise(width, height, 1, seed + 1)[..., 0]))
    return im


# --- pictures --------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(48, 90), st.integers(48, 90), st.sampled_from(sorted(MODES)), st.integers(1, 8), SEEDS)
def test_any_photo_loads_as_it_looks(width, height, mode, orientation, seed):
    im = picture(width, height, mode, seed)
    exif = Image.Exif()
    exif[0x0112] = orientation
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a.{MODES[mode]}"
        im.save(path, exif=exif)
        photo = load_photo(path)
        with path.open("rb") as file, Image.open(file) as stored:
            plain = ImageOps.exif_transpose(stored).convert("RGB")
    assert photo.shape == (1, 3, *((width, height) if orientation > 4 else (height, width)))
    assert photo.dtype == torch.float32 and photo.min() >= 0 and photo.max() <= 1
    if mode in ("1", "L", "P", "RGB", "CMYK", "YCbCr"):
        np.testing.assert_allclose(photo[0].permute(1, 2, 0).numpy() * 255, np.asarray(plain), atol=1e-3)
    elif mode in ("RGBA", "LA"):  # over white: never darker than the colour itself
        assert (photo[0].permute(1, 2, 0).numpy() * 255 - np.asarray(plain) > -1).all()


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 3),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(1, 4),
    st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.uint8]),
    SEEDS,
)
def test_any_image_becomes_rgb_and_stays(batch, height, width, channels, dtype, seed):
    x = torch.randn(batch, height, width, channels, generator=torch.Generator().manual_seed(seed)).mul(0.6).add(0.5)
    x = (x.clamp(0, 1) * 255).to(dtype) if dtype == torch.uint8 else x.to(dtype)
    given = x.clone()
    y = from_image(x)
    assert y.shape == (batch, 3, height, width) and y.dtype == torch.float32
    assert y.min() >= 0 and y.max() <= 1
    assert torch.equal(from_image(to_image(y)), y)
    assert torch.equal(x, given), "the input is left as it was"


# --- damaged files: a message or a result, nothing else --------------------------------------------------------------


def damage(data: bytes, places: list[tuple[int, int]], cut: int | None) -> bytes:
    data = bytearray(data)
    for at, value in places:
        data[at % len(data)] = value
    return bytes(data if cut is None else data[: cut % len(data)])


PLACES = st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), min_size=1, max_size=6)
CUT = st.one_of(st.none(), st.integers(0, 2**20))


def encoded(format: str) -> bytes:
    buffer = io.BytesIO()
    im = picture(64, 64, "P" if format == "GIF" else "RGB", 0)
    im.save(buffer, format)
    return buffer.getvalue()


FORMATS = {f: encoded(f) for f in ("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "TGA", "PPM", "ICO", "PCX")}


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(FORMATS)), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6), CUT)
def test_a_damaged_photo_is_a_picture_or_a_message(format, places, cut):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a.{format.lower()}"
        path.write_bytes(damage(FORMATS[format], places, cut))
        try:
            assert load_photo(path).shape[1] == 3
        except UserError as e:
            assert "a." in str(e)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    torch.manual_seed(0)
    save_model(path, MapAutoencoder(AE), Denoiser(DN), recognizer="test", atlas_version="a1")
    return path.read_bytes()


def test_a_damaged_checkpoint_is_a_model_or_a_message(checkpoint):
    length = 8 + int.from_bytes(checkpoint[:8], "little")

    @settings(max_examples=120, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, length - 1), st.integers(0, 255)), max_size=4), CUT)
    def run(places, cut):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "m.safetensors"
            path.write_bytes(damage(checkpoint, places, cut))
            try:
                assert load_model(path, head=HEAD).latent_shape == (5, 4, 4)
            except UserError as e:
                assert "m.safetensors" in str(e)

    run()


def test_a_damaged_recogniser_is_one_or_a_message():
    pytest.importorskip("onnx")
    from tests.support.onnx_networks import iresnet

    whole = iresnet(dim=64).SerializeToString()

    @settings(max_examples=40, deadline=None)
    @given(PLACES, CUT, st.booleans())
    def run(places, cut, at_the_ends):
        if at_the_ends:  # where names and shapes are, not weights
            places = [(at % 400 if at % 2 else -(at % 400) - 1, value) for at, value in places]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "w.onnx"
            path.write_bytes(damage(whole, places, cut))
            try:
                assert load_arcface(path).dim >= 32
            except UserError as e:
                assert "w" in str(e)

    run()


# --- meshes ----------------------------------------------------------------------------------------------------------


@st.composite
def avatars(draw):
    """A handful of triangles anywhere, some of them without area, as a head without eyes."""
    n, t = draw(st.integers(3, 12)), draw(st.integers(1, 12))
    g = torch.Generator().manual_seed(draw(SEEDS))
    vertices = torch.randn(1, n, 3, generator=g) * draw(st.sampled_from([1e-3, 0.1, 50.0]))
    triangles = torch.stack([torch.randperm(n, generator=g)[:3] for _ in range(t)])
    if draw(st.booleans()):
        vertices[0, triangles[0, 1]] = vertices[0, triangles[0, 0]]
    size = draw(st.integers(1, 5))
    normal = F.normalize(torch.randn(1, 3, size, size, generator=g) + torch.tensor([0, 0, 2.0]).view(3, 1, 1), dim=1)
    maps = TextureMaps(torch.rand(1, 3, size, size, generator=g), torch.rand(1, 3, size, size, generator=g), normal)
    head = PlainHead(triangles, torch.rand(n, 2, generator=g))
    return SimpleNamespace(head=head, shape=torch.zeros(1, 4), maps=maps, hair=None, vertices=lambda: vertices)


@settings(max_examples=40, deadline=None)
@given(avatars(), st.sampled_from([(write_glb, "glb"), (write_obj, "obj"), (write_ply, "ply")]))
def test_any_mesh_reads_back(avatar, writer):
    trimesh = pytest.importorskip("trimesh")
    write, suffix = writer
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / f"a b.{suffix}", avatar)
        loaded = trimesh.load(path, process=False, maintain_order=True)
        assert not [p for p in Path(folder).iterdir() if p.name.endswith(".part")]
    (mesh,) = loaded.geometry.values() if hasattr(loaded, "geometry") else [loaded]
    want = avatar.vertices()[0][avatar.head.triangles].numpy()
    tolerance = 1e-6 if suffix == "obj" else 0  # OBJ is text, to 0.1 micrometres
    np.testing.assert_allclose(mesh.vertices[mesh.faces], want, atol=tolerance, rtol=1e-6)
    if suffix == "glb":
        np.testing.assert_allclose(mesh.visual.uv[mesh.faces], avatar.head.uv[avatar.head.triangles].numpy(), atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(mesh.vertex_normals, axis=1), 1, atol=1e-3)
