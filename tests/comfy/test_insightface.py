"""Other packs' insightface loaders in a graph, as with IPAdapter, InstantID and face analysis packs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fitdiff_core.face import load_detector
from tests.host import server
from tests.host.client import Client
from tests.support.insightface_pack import write_pack
from tests.support.paths import SAMPLE_NAME
from tests.support.prompt_nodes import guide

pytest.importorskip("onnx")
insightface = pytest.importorskip("insightface")
pytestmark = [pytest.mark.comfy, pytest.mark.timeout(300)]
TYPES = ["INSIGHTFACE", "FACEANALYSIS", "FACE_ANALYSIS", "ANALYSIS_MODELS"]


@pytest.fixture(scope="module")
def running(tmp_path_factory, photo):
    """A ComfyUI of its own, whose foreign pack may import this environment's insightface."""
    if not server.installed():
        pytest.skip("the ComfyUI test host is not installed: run `make host`")
    base = tmp_path_factory.mktemp("comfy_insightface")
    face = load_detector().detect(photo[0])[0]
    write_pack(base / "models" / "insightface", face.points5.numpy() - 0.5)
    packages = str(Path(insightface.__file__).parents[1])
    os.environ["FITDIFF_TEST_PACKAGES"] = packages
    try:
        with server.Server(base) as comfy:
            yield comfy
    finally:
        del os.environ["FITDIFF_TEST_PACKAGES"]


def graph(slot: int, modules: str = "all") -> dict:
    """Load Photo and another pack's loader into Encode Identity."""
    return {
        "1": {"class_type": "FitDiff_LoadPhoto", "inputs": {"image": SAMPLE_NAME}},
        "2": {"class_type": "TestInsightFaceLoader", "inputs": {"pack": "offline", "modules": modules}},
        "3": {
            "class_type": "FitDiff_EncodeIdentity",
            "inputs": {"image": ["1", 0], "recognizer": ["2", slot], "face": 0},
        },
        "4": {"class_type": "PreviewImage", "inputs": {"images": ["3", 1]}},
    }


def test_identity_and_guidance_from_other_packs_loaders(running):
    client = Client(running.url)
    for slot, name in enumerate(TYPES):
        run = client.run(graph(slot))
        assert run.end == "execution_success", f"{name}: {run.error}"
        assert run.outputs["4"]["images"], name
    assert "insightface 2." in running.log()

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

    guidance = guide("1", "2")
    guidance["inputs"]["recognizer"] = ["2", 1]
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
