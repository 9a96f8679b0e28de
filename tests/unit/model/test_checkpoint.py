"""The checkpoint file: what was saved comes back, and whatever is wrong with a file is told in words."""

import json
import struct
from types import SimpleNamespace

import pytest
import torch

from fitdiff_core.errors import UserError
from fitdiff_core.model.autoencoder import MapAutoencoder
from fitdiff_core.model.checkpoint import config_from, load_model, save_model
from fitdiff_core.model.denoiser import Denoiser, DenoiserConfig
from tests.support.tiny_networks import AE, DN, HEAD


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    autoencoder, denoiser = MapAutoencoder(AE), Denoiser(DN)
    for p in [*autoencoder.parameters(), *denoiser.parameters()]:
        p.data = p.data.half().float()
    return autoencoder, denoiser


@pytest.fixture
def path(tmp_path, networks):
    return save_model(
        tmp_path / "m.safetensors", *networks, recognizer="test", atlas_version="a1", training={"steps": 3}
    )


def read(path):
    raw = path.read_bytes()
    n = struct.unpack("<Q", raw[:8])[0]
    return json.loads(raw[8 : 8 + n]), raw[8 + n :]


def write(path, header, body):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def test_round_trip(path, networks):
    model = load_model(path, head=HEAD)
    assert model.recognizer == "test" and model.latent_shape == (5, 4, 4) and model.metadata["training"] == {"steps": 3}
    assert len(model.id) == 12 and model.device == torch.device("cpu")
    x, sigma = torch.randn(1, 5, 4, 4), torch.ones(1)
    with torch.no_grad():
        assert torch.allclose(model.denoiser(x, sigma), networks[1].eval()(x, sigma), atol=1e-5)
        assert torch.allclose(model.autoencoder.decode(x[:, :4]), networks[0].decode(x[:, :4]), atol=2e-3)
    assert not any(p.requires_grad for p in model.denoiser.parameters()) and not model.denoiser.training


def test_stored_as_half_precision(path):
    header, body = read(path)
    header.pop("__metadata__")
    assert {e["dtype"] for e in header.values()} == {"F16"}


def test_missing_file_names_the_path(tmp_path):
    with pytest.raises(UserError, match="No FitDiff weights at .*nowhere"):
        load_model(tmp_path / "nowhere.safetensors", head=HEAD)


def cut(path, header, body):
    path.write_bytes(path.read_bytes()[:-10])


def pad(path, header, body):
    path.write_bytes(path.read_bytes() + b"\0" * 10)


def huge_header(path, header, body):
    path.write_bytes(struct.pack("<Q", 1 << 60) + path.read_bytes()[8:])


def no_json(path, header, body):
    path.write_bytes(struct.pack("<Q", 4) + b"{{{{" + body)


def edit(change):
    def apply(path, header, body):
        change(header)
        write(path, header, body)

    return apply


def rename(header):
    name = next(k for k in header if k.startswith("denoiser"))
    header[name + "x"] = header.pop(name)


def first(header):
    return header[next(k for k in header if k.startswith("denoiser.net.stem.weight"))]


def architecture(**changes):
    def apply(header):
        described = json.loads(header["__metadata__"]["architecture"])
        for key, value in changes.items():
            described["denoiser"][key] = value
        header["__metadata__"]["architecture"] = json.dumps(described)

    return edit(apply)


def nan(path, header, body):
    write(path, header, body[:-2] + b"\x00\x7e")


BROKEN = {
    "empty": (lambda path, header, body: path.write_bytes(b""), "not a whole"),
    "pickle": (lambda path, header, body: path.write_bytes(b"PK\x03\x04" + bytes(99)), "pickle"),
    "lfs pointer": (lambda path, header, body: path.write_bytes(b"version https://git-lfs.github.com"), "LFS"),
    "cut short": (cut, "cut short"),
    "padded": (pad, "padded"),
    "huge header": (huge_header, "not a whole"),
    "no json": (no_json, "not JSON"),
    "other model": (edit(lambda h: h["__metadata__"].pop("format")), "not a FitDiff checkpoint"),
    "no metadata": (edit(lambda h: h.pop("__metadata__")), "not a FitDiff checkpoint"),
    "no recogniser": (edit(lambda h: h["__metadata__"].pop("recognizer")), "recogniser"),
    "renamed tensor": (edit(rename), "lacks 1"),
    "wrong type": (edit(lambda h: first(h).update(dtype="I64")), "makes no sense"),
    "wrong shape": (edit(lambda h: first(h).update(shape=[1])), "makes no sense"),
    "wrong offsets": (edit(lambda h: first(h).update(data_offsets=[-4, 8])), "makes no sense"),
    "offsets missing": (edit(lambda h: first(h).pop("data_offsets")), "makes no sense"),
    "transposed": (edit(lambda h: first(h).update(shape=first(h)["shape"][::-1])), "misshapen"),
    "other width": (architecture(widths=[32, 32, 32]), "misshapen"),
    "unknown field": (architecture(depth=3), "architecture"),
    "absurd width": (architecture(widths=[16, 32, 1 << 30]), "architecture"),
    "negative width": (architecture(cond=-16), "architecture"),
    "text for a number": (architecture(cond="16"), "architecture"),
    "odd width": (architecture(widths=[17, 32, 32]), "misshapen"),
    "latents differ": (architecture(size=8), "different latents"),
    "not a number": (nan, "NaN"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_refused_in_words(path, name):
    breaks, message = BROKEN[name]
    breaks(path, *read(path))
    with pytest.raises(UserError, match=message):
        load_model(path, head=HEAD)


def test_another_head_is_refused(path):
    with pytest.raises(UserError, match="atlas"):
        load_model(path, head=SimpleNamespace(atlas_version="a2", n_identity=10))
    with pytest.raises(UserError, match="shape coefficients"):
        load_model(path, head=SimpleNamespace(atlas_version="a1", n_identity=11))


def test_diverged_weights_are_not_saved(tmp_path, networks):
    bad = Denoiser(DN)
    bad.net.stem.weight.data[0] = 1e6
    with pytest.raises(UserError, match="diverged"):
        save_model(tmp_path / "x.safetensors", networks[0], bad, recognizer="test", atlas_version="a1")
    assert list(tmp_path.iterdir()) == []


def test_config_round_trip():
    from dataclasses import asdict

    assert config_from(DenoiserConfig, json.loads(json.dumps(asdict(DN)))) == DN
