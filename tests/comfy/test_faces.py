"""Core's face landmarks and boxes in a graph: a newer host has the nodes, this one only takes what they would give."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fitdiff_core.face import load_detector
from fitdiff_core.image import load_photo
from tests.support.core_faces import core_box, core_landmarks
from tests.support.paths import SAMPLE
from tests.support.workflows import only, pictures, workflow

pytestmark = [pytest.mark.comfy, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def face():
    return load_detector().detect(load_photo(SAMPLE)[0])[0]


def given(**what) -> dict:
    """The stand-in for core's node: landmarks and boxes as JSON."""
    lists = {"default": lambda v: v.tolist() if isinstance(v, np.ndarray) else sorted(v)}
    return {"class_type": "TestGivenFaces", "inputs": {k: json.dumps(v, **lists) for k, v in what.items()}}


def encode(node: dict, **links) -> dict:
    prompt = workflow("photo_to_avatar")
    prompt["4"]["inputs"].update(links)
    return {k: prompt[k] for k in ("1", "2", "3", "4", "12") if k in prompt} | {"20": node}


def test_the_given_mesh_is_what_is_cropped(client, face):
    plain = client.run({k: v for k, v in encode({}).items() if k != "20"})
    same = client.run(encode(given(landmarks=core_landmarks([[face]], 512, 512), boxes=None), face_landmarks=["20", 0]))
    face.mesh[:, :2] += 40
    moved = client.run(
        encode(given(landmarks=core_landmarks([[face]], 512, 512), boxes=None), face_landmarks=["20", 0])
    )
    face.mesh[:, :2] -= 40
    assert plain.end == same.end == moved.end == "execution_success", plain.error + same.error + moved.error
    a, b, c = (pictures(client, run.outputs)["12"] for run in (plain, same, moved))
    assert np.abs(a - b).mean() < 0.01 and np.abs(a - c).mean() > 0.05


def test_a_box_reaches_identity_and_guidance(client, face):
    prompt = workflow("photo_to_avatar")
    prompt["20"] = given(landmarks=core_landmarks([[face]], 512, 512), boxes=[[core_box(face)]])
    for node in prompt.values():
        if node["class_type"] in ("FitDiff_EncodeIdentity", "FitDiff_Guidance"):
            node["inputs"].update(face_landmarks=["20", 0], bboxes=["20", 1])
    run = client.run(only(prompt) | {k: v for k, v in prompt.items() if v["class_type"] == "PreviewImage"})
    assert run.end == "execution_success", run.error


def test_a_mistake_is_said(client):
    run = client.run(encode(given(landmarks=None, boxes={"x": 5, "y": 5, "width": 20, "height": 20}), bboxes=["20", 1]))
    assert run.end == "execution_error" and "no face in the box of 20 x 20 pixels at 5, 5" in run.error
    run = client.run(encode(given(landmarks=[1, 2], boxes=None), face_landmarks=["20", 0]))
    assert run.end == "execution_error" and "connect that node's face_landmarks" in run.error
