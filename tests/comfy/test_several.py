"""Guidance by several photos in a real ComfyUI: a batch, a combination, a stranger, a photo without a face."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.prompt_nodes import DECODE, LOAD, MODEL, RECOGNIZER, RENDER, SAMPLER, guide, node, show
from tests.support.workflows import pictures

pytestmark = [pytest.mark.comfy, pytest.mark.timeout(300)]
FIT = guide()
BATCH = {"class_type": "ImageBatch", "inputs": {"image1": ["photo", 0], "image2": ["flipped", 0]}}
FLIP = {"class_type": "ImageFlip", "inputs": {"image": ["photo", 0], "flip_method": "y-axis: horizontally"}}
COMBINE = {"class_type": "FitDiff_CombineGuidance", "inputs": {"guidance_1": ["one", 0], "guidance_2": ["two", 0]}}


def graph(guidance: str, **nodes) -> dict:
    """A head guided by the node of that name, and its diffuse map."""
    sampler = node(SAMPLER, steps=8, sampler="ddim", guidance=[guidance, 0])
    return {
        "photo": LOAD,
        "flipped": FLIP,
        "recognizer": RECOGNIZER,
        "model": MODEL,
        "latent": sampler,
        "avatar": DECODE,
        "out": show("avatar", 1),
        **nodes,
    }


def diffuse(client, prompt) -> np.ndarray:
    run = client.run(prompt, timeout=200)
    assert run.end == "execution_success", run.error
    return pictures(client, run.outputs)["out"]


def test_a_batch_guides_as_the_combination_does_and_not_as_its_first(client):
    one, two = FIT, node(FIT, image=["flipped", 0])
    combined = diffuse(client, graph("all", one=one, two=two, all=COMBINE))
    batch = diffuse(client, graph("fit", batch=BATCH, fit=node(FIT, image=["batch", 0])))
    alone = diffuse(client, graph("one", one=one))
    assert np.array_equal(combined, batch)
    assert np.abs(combined - alone).mean() > 0.001


def test_the_photo_without_a_face_is_named(client):
    blank = {"class_type": "EmptyImage", "inputs": {"width": 512, "height": 512, "batch_size": 1, "color": 0x6688AA}}
    batch = {"class_type": "ImageBatch", "inputs": {"image1": ["photo", 0], "image2": ["blank", 0]}}
    run = client.run(graph("fit", blank=blank, batch=batch, fit=node(FIT, image=["batch", 0])), timeout=200)
    assert run.end == "execution_error" and "Photo 2 of 2: No face" in str(run.error)


def test_a_stranger_is_named_in_the_log(client, comfy):
    """The second person is sampled, rendered and fitted like a photo."""
    render = node(RENDER, avatar=["other", 0], width=384, height=384)
    others = {"new": node(SAMPLER, steps=8, seed=11), "other": node(DECODE, latent=["new", 0]), "picture": render}
    before = len(comfy.log())
    diffuse(client, graph("all", one=FIT, two=node(FIT, image=["picture", 0]), all=COMBINE, **others))
    assert "guidance photo 2 of 2 may show somebody else than photo 1" in comfy.log()[before:]
