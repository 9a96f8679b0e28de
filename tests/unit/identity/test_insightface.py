"""Other packs' insightface objects, made by the real insightface 2.x from a pack that the test exports: no download."""

from __future__ import annotations

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
from tests.support.insightface_pack import SIZE, write_pack

pytest.importorskip("onnx")
insightface = pytest.importorskip("insightface")
app = pytest.importorskip("insightface.app")
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
