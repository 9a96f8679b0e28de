"""Other packs' insightface objects, made by the real insightface 2.x from a pack that the test exports: no download."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fitdiff_core import pipeline
from fitdiff_core.errors import UserError
from fitdiff_core.face import load_detector
from fitdiff_core.identity import list_packs, load_recognizer

from .insightface_pack import SIZE, write_pack

pytest.importorskip("onnx")
insightface = pytest.importorskip("insightface")
app = pytest.importorskip("insightface.app")
SAMPLE = Path(__file__).resolve().parents[1] / "samples" / "eileen_collins.jpg"
CPU = {"providers": ["CPUExecutionProvider"]}


@pytest.fixture(scope="module")
def face(photo):
    return load_detector().detect(photo[0])[0]


@pytest.fixture(scope="module")
def root(tmp_path_factory, face):
    """models/insightface with one pack."""
    root = tmp_path_factory.mktemp("insightface")
    write_pack(root, face.points5.numpy() - 0.5)  # OpenCV counts from the first pixel's centre
    return root


@pytest.fixture(scope="module")
def analysis(root):
    """As IPAdapter's and InstantID's loaders make it."""
    made = app.FaceAnalysis(name="offline", root=str(root), **CPU)
    made.prepare(ctx_id=-1, det_size=(SIZE, SIZE))
    return made


def test_it_is_insightface_2_and_needs_no_network(root, monkeypatch):
    assert insightface.__version__.split(".")[0] == "2"

    def refuse(*args, **kw):
        raise AssertionError("a network call")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    made = app.FaceAnalysis(name="offline", root=str(root), **CPU)
    assert set(made.models) == {"detection", "recognition"}
    assert load_recognizer(made).name == "w_offline"


def test_same_identity_as_insightface_gives(analysis, photo):
    """Its own detection, crop and embedding of the photo, against ours with its recognition network."""
    bgr = (photo[0] * 255).round().byte().permute(1, 2, 0).numpy()[..., ::-1].copy()
    (theirs,) = analysis.get(bgr)
    recognizer = load_recognizer(analysis)
    identity = pipeline.encode(photo, recognizer)
    want = torch.from_numpy(np.array(theirs.normed_embedding))
    assert identity.recognizer == "w_offline" and identity.embedding.shape == (1, 64)
    assert float(identity.embedding[0] @ want) > 0.98
    stranger = pipeline.encode(photo.flip(3), recognizer)
    assert float(identity.embedding[0] @ want) > float(stranger.embedding[0] @ want) + 0.01


def test_its_models_and_wrappers_are_understood_too(analysis):
    assert load_recognizer(analysis.models["recognition"]).name == "w_offline"
    assert list(load_recognizer(SimpleNamespace(models=analysis.models)).activation_names)


def test_an_analysis_that_only_detects_is_refused(root):
    made = app.FaceAnalysis(name="offline", root=str(root), allowed_modules=["detection"], **CPU)
    with pytest.raises(UserError, match=r"it holds \['detection'\]"):
        load_recognizer(made)


def test_a_file_that_was_moved_away_is_named(root, analysis):
    file = Path(analysis.models["recognition"].model_file)
    hidden = file.rename(file.with_suffix(".away"))
    try:
        with pytest.raises(UserError, match="No such ONNX file: .*w_offline"):
            load_recognizer(analysis)
    finally:
        hidden.rename(file)


def test_the_pack_is_listed_and_the_checkpoint_refuses_to_be_conditioned_by_it(root, photo):
    assert list_packs(root) == ["built-in", "offline"]
    identity = pipeline.encode(photo, load_recognizer("offline", folders=[root]))
    with pytest.raises(
        UserError, match="trained with the recogniser 'dlib_resnet_v1', the identity comes from 'w_offline'"
    ):
        pipeline.sample(pipeline.load_model(), identity, steps=1)


# --- in a graph, as with IPAdapter, InstantID and face analysis packs --------------------------------------------------

TYPES = ["INSIGHTFACE", "FACEANALYSIS", "FACE_ANALYSIS", "ANALYSIS_MODELS"]


@pytest.fixture(scope="module")
def server(tmp_path_factory, face):
    """A ComfyUI of its own, whose foreign pack may import this environment's insightface."""
    from tests.host import server

    if not server.installed():
        pytest.skip("the ComfyUI test host is not installed: run `make host`")
    base = tmp_path_factory.mktemp("comfy_insightface")
    write_pack(base / "models" / "insightface", face.points5.numpy() - 0.5)
    packages = str(Path(insightface.__file__).parents[1])
    os.environ["FITDIFF_TEST_PACKAGES"] = packages
    try:
        with server.Server(base) as running:
            yield running
    finally:
        del os.environ["FITDIFF_TEST_PACKAGES"]


def graph(slot: int, modules: str = "all") -> dict:
    """LoadImage and another pack's loader into Encode Identity."""
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": SAMPLE.name}},
        "2": {"class_type": "TestInsightFaceLoader", "inputs": {"pack": "offline", "modules": modules}},
        "3": {
            "class_type": "FitDiff_EncodeIdentity",
            "inputs": {"image": ["1", 0], "recognizer": ["2", slot], "face": 0},
        },
        "4": {"class_type": "PreviewImage", "inputs": {"images": ["3", 1]}},
    }


@pytest.mark.comfy
@pytest.mark.timeout(300)
def test_identity_and_guidance_from_other_packs_loaders(server):
    from tests.host.client import Client

    client = Client(server.url)
    for slot, name in enumerate(TYPES):
        run = client.run(graph(slot))
        assert run.end == "execution_success", f"{name}: {run.error}"
        assert run.outputs["4"]["images"], name
    assert "insightface 2." in server.log()

    only_detects = client.run(graph(0, "detection"))
    assert only_detects.end == "execution_error" and "it holds ['detection']" in only_detects.error

    model = {"class_type": "FitDiff_LoadModel", "inputs": {"checkpoint": "built-in"}}
    sampler = {"model": ["5", 0], "seed": 1, "steps": 2, "cfg": 1.0, "batch": 1, "sampler": "dpmpp_2m"}
    end = {
        "7": {"class_type": "FitDiff_DecodeUV", "inputs": {"model": ["5", 0], "latent": ["6", 0]}},
        "8": {"class_type": "PreviewImage", "inputs": {"images": ["7", 1]}},
    }
    conditioned = (
        graph(0)
        | end
        | {"5": model, "6": {"class_type": "FitDiff_Sampler", "inputs": {**sampler, "identity": ["3", 0]}}}
    )
    run = client.run(conditioned)
    assert run.end == "execution_error"
    assert "trained with the recogniser 'dlib_resnet_v1', the identity comes from 'w_offline'" in run.error

    guidance = {
        "class_type": "FitDiff_Guidance",
        "inputs": {
            "image": ["1", 0],
            "recognizer": ["2", 1],
            "identity": 1.0,
            "perceptual": 0.5,
            "photometric": 1.0,
            "landmark": 0.5,
            "sigma_start": 20.0,
            "sigma_end": 0.03,
            "face": 0,
        },
    }
    guided = (
        graph(1)
        | end
        | {
            "5": model,
            "9": guidance,
            "6": {"class_type": "FitDiff_Sampler", "inputs": {**sampler, "guidance": ["9", 0]}},
        }
    )
    run = client.run(guided)
    assert run.end == "execution_success", run.error
