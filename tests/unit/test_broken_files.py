"""Damaged files of every kind: each is read, or refused with a UserError. The damage is seeded."""

from __future__ import annotations

import io
import json
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load, save

from fitdiff_core.errors import UserError
from fitdiff_core.graph.interpreter import Graph, Node
from fitdiff_core.graph.onnx import load_onnx, read_signature
from fitdiff_core.graph.weights import load_graphs, load_resnet_state, save_networks
from fitdiff_core.hair.segmenter import HairSegmenter, SegmenterConfig
from fitdiff_core.head import load_head
from fitdiff_core.head.model import ASSET, FORMAT
from fitdiff_core.image import load_photo
from fitdiff_core.model.autoencoder import MapAutoencoder
from fitdiff_core.model.checkpoint import load_model, save_model
from fitdiff_core.model.denoiser import Denoiser
from fitdiff_core.photo_networks import FORMAT as PHOTO_FORMAT
from fitdiff_core.photo_networks import read_network
from fitdiff_core.render.hdr import load_hdr
from tests.support import mutations
from tests.support.rgbe import runs
from tests.support.tiny_networks import AE, DN, HEAD

RIGHT, WRONG = "read", "refused"


def outcomes(path, files, *readers):
    """How many files were read and how many refused; any other exception fails the test."""
    counts = {RIGHT: 0, WRONG: 0}
    for data in files:
        path.write_bytes(data)
        for read in readers:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    read(path)
                counts[RIGHT] += 1
            except UserError as e:
                assert len(str(e)) > 20
                counts[WRONG] += 1
    return counts


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP"])
def test_pictures(tmp_path, format):
    r = np.random.default_rng(0)
    picture = Image.fromarray(r.integers(0, 255, (72, 80, 3), np.uint8)).resize((160, 144))
    exif = Image.Exif()
    exif[0x0112] = 6
    data = io.BytesIO()
    picture.save(data, format, **({} if format in ("GIF", "BMP") else {"exif": exif}))
    seed, whole = sum(map(ord, format)), data.getvalue()
    files = [*mutations.of_bytes(whole, 40, seed), *mutations.of_bytes(whole, 60, seed + 1, head=200)]
    counts = outcomes(tmp_path / "a.jpg", files, load_photo)
    assert counts[WRONG] > 5


def test_panoramas(tmp_path):
    r = np.random.default_rng(0)
    whole = runs(r.random((8, 16, 3)).astype(np.float32).repeat(4, 0).repeat(4, 1))
    files = [*mutations.of_bytes(whole, 100, 1), *mutations.of_bytes(whole, 100, 2, head=80)]
    counts = outcomes(tmp_path / "a.hdr", files, load_hdr)
    assert min(counts.values()) > 10


@pytest.fixture(scope="module")
def small_head():
    """The shipped head with two identity coefficients and three expressions, so that it is read in no time."""
    header, _ = mutations.split(ASSET.read_bytes())
    tensors = load(ASSET.read_bytes())
    for part in ("", "teeth_", "eye_"):
        for kind, n in (("identity", 2), ("expression", 3)):
            if part + kind in tensors:
                tensors[part + kind] = tensors[part + kind][:n].clone()
    tensors["attribute_directions"] = tensors["attribute_directions"][:, :2].clone()
    described = json.loads(header["__metadata__"]["head"])
    described["expression_names"] = described["expression_names"][:3]
    return described, tensors


def head_file(described, tensors):
    return save(tensors, {"format": FORMAT, "head": json.dumps(described)})


def test_heads(tmp_path, small_head):
    described, tensors = small_head
    whole = head_file(described, tensors)
    header, body = mutations.split(whole)
    path = tmp_path / "head.safetensors"
    path.write_bytes(whole)
    assert load_head(path).n_expression == 3
    texts = [*map(json.dumps, mutations.of_json(described, 30, 0)), "[" * 100_000, "{", ""]
    metadata = [header["__metadata__"] | {"head": text} for text in texts] + [3, [], None, {"format": FORMAT}]
    files = [mutations.joined(header | {"__metadata__": value}, body) for value in metadata]
    files += mutations.of_bytes(whole, 10, 1)
    files += mutations.of_bytes(whole, 60, 2, head=len(whole) - len(body))
    counts = outcomes(path, files, load_head)
    assert counts[WRONG] > 40 and counts[RIGHT] > 5


@pytest.mark.parametrize("value", [[], 3, None, "x", [{}]])
def test_a_head_whose_metadata_is_no_table(tmp_path, small_head, value):
    described, tensors = small_head
    path = tmp_path / "head.safetensors"
    path.write_bytes(head_file(value, tensors))
    with pytest.raises(UserError, match="not a table.*Reinstall"):
        load_head(path)
    path.write_bytes(head_file({**described, "eye_island": value}, tensors))
    with pytest.raises(UserError, match="eye_island"):
        load_head(path)


@pytest.mark.parametrize("name, at, value", [("skin_triangles", (0, 0), 30_000), ("landmarks68", (3,), 60_000)])
def test_a_head_that_names_vertices_it_lacks(tmp_path, small_head, name, at, value):
    described, tensors = small_head
    broken = tensors[name].to(torch.int32)
    broken[at] = value
    path = tmp_path / "head.safetensors"
    path.write_bytes(head_file(described, tensors | {name: broken}))
    with pytest.raises(UserError, match="do not exist"):
        load_head(path)


def test_face_networks(tmp_path):
    path = tmp_path / "identity.safetensors"
    nodes = [Node("Conv", ("x", "w"), ("a",), {"pads": [1] * 4}), Node("Relu", ("a",), ("y",), {})]
    graph = Graph(nodes, {"w": torch.ones(2, 3, 3, 3)}, "x", ["y"])
    save_networks(path, {"eyes": (graph, 64)}, {"weight": torch.ones(4, 4)}, {})
    assert load_graphs(path)["eyes"][1] == 64
    whole = path.read_bytes()
    header, body = mutations.split(whole)
    plan = json.loads(header["__metadata__"]["plan"])
    files = [
        mutations.joined(header | {"__metadata__": header["__metadata__"] | {"plan": json.dumps(value)}}, body)
        for value in mutations.of_json(plan, 150, 3)
    ]
    files += mutations.of_bytes(whole, 100, 4)
    counts = outcomes(path, files, load_graphs, load_resnet_state)
    assert min(counts.values()) > 50


def test_networks_that_read_photos(tmp_path):
    path, net = tmp_path / "photo.safetensors", HairSegmenter(SegmenterConfig((8, 16)))
    described = {"hair": net.describe()}
    metadata = {"format": PHOTO_FORMAT, "architecture": json.dumps(described)}
    whole = save({f"hair.{k}": v.half() for k, v in net.state_dict().items()}, metadata)
    header, body = mutations.split(whole)
    texts = [json.dumps(value) for value in mutations.of_json(described, 60, 20)]
    files = [mutations.joined(header | {"__metadata__": metadata | {"architecture": text}}, body) for text in texts]
    files += mutations.of_bytes(whole, 20, 21)
    files += mutations.of_bytes(whole, 100, 22, head=len(whole) - len(body))
    counts = outcomes(path, [whole, *files], lambda p: read_network("hair", HairSegmenter, SegmenterConfig, p))
    assert counts[WRONG] > 60 and counts[RIGHT] > 5


@pytest.mark.slow
def test_checkpoints(tmp_path):
    path = tmp_path / "a.safetensors"
    torch.manual_seed(0)
    save_model(path, MapAutoencoder(AE), Denoiser(DN), recognizer="r", atlas_version="a1")
    whole = path.read_bytes()
    header, body = mutations.split(whole)
    architecture = json.loads(header["__metadata__"]["architecture"])
    files = [
        mutations.joined(header | {"__metadata__": header["__metadata__"] | {"architecture": json.dumps(value)}}, body)
        for value in mutations.of_json(architecture, 15, 5)
    ]
    files += [
        mutations.joined(value, body) for value in mutations.of_json({"__metadata__": header["__metadata__"]}, 25, 6)
    ]
    files += [
        mutations.joined(header | value, body) for value in mutations.of_json(header, 20, 7) if type(value) is dict
    ]
    files += mutations.of_bytes(whole, 15, 8)
    files += mutations.of_bytes(whole, 150, 9, head=len(whole) - len(body))
    counts = outcomes(path, files, lambda p: load_model(p, head=HEAD))
    assert counts[WRONG] > 100


def test_onnx(tmp_path):
    pytest.importorskip("onnx")
    from tests.support.onnx_networks import iresnet

    whole = iresnet(size=112).SerializeToString()
    files = [*mutations.of_bytes(whole, 200, 10), *mutations.of_bytes(whole[-4000:], 5, 11)]
    counts = outcomes(tmp_path / "a.onnx", files, load_onnx, read_signature)
    assert min(counts.values()) > 30


def test_tflite():
    from fitdiff_lab.assets.tflite import read_tflite
    from tests.support.flatbuffer import tiny_tflite

    whole = tiny_tflite()
    graph, side = read_tflite(whole)
    assert side == 8 and graph(torch.zeros(1, 3, 8, 8))[0].shape[1:] == (2, 8, 8)
    refused = 0
    for data in mutations.of_bytes(whole, 500, 12):
        try:
            read_tflite(data)
        except UserError:
            refused += 1
    assert refused > 100
