"""The first run: a fresh ComfyUI with an empty input folder, the short workflow; and which face of a photo is meant."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tests.support.paths import SAMPLE, SAMPLE_NAME
from tests.support.prompt_nodes import DECODE, ENCODE, LOAD, MODEL, RECOGNIZER, RENDER, SAMPLER, guide, node, show
from tests.support.workflows import node_of, pictures, read_glb, workflow

pytestmark = [pytest.mark.comfy, pytest.mark.timeout(400)]
GUIDE = guide()
FIND = {"class_type": "FitDiff_FindFaces", "inputs": {"image": ["photo", 0], "face": 0, "order": "left-to-right"}}


@pytest.fixture(scope="module")
def two_faces(comfy):
    """A photo of two people in the input folder: the sample, and the sample mirrored and smaller at its right."""
    with Image.open(SAMPLE) as im:
        both = Image.new("RGB", (820, 512), (90, 100, 110))
        both.paste(im, (0, 0))
        both.paste(im.transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((300, 300)), (516, 100))
    both.save(comfy.base / "input" / "two.png")
    return {"class_type": "FitDiff_LoadPhoto", "inputs": {"image": "two.png"}}


def test_the_short_workflow_gives_a_glb(client):
    prompt = workflow("photo_to_head", PhotoToHead={"steps": 2, "photo_detail": 0.5})
    run = client.run(prompt, timeout=360)
    assert run.end == "execution_success", run.error
    head = node_of(prompt, "PhotoToHead")
    gltf = read_glb(client.view(run.outputs[head]["3d"][0]))
    assert sum("targets" in p for m in gltf["meshes"] for p in m["primitives"]) and len(gltf["images"]) >= 2
    picture = pictures(client, run.outputs)[node_of(prompt, "PreviewImage")]
    assert picture.shape == (512, 4 * 512, 3)
    photo, same, _, dramatic = (x[180:400, 160:350] for x in np.split(picture, 4, axis=1))  # the face
    assert np.abs(photo - same).mean() < np.abs(photo - dramatic).mean()
    assert run.progress(head)[-1] == (2, 2) or len(run.progress(head)) > 2


def test_the_short_workflow_is_the_single_nodes_in_one(client):
    """The same seed and settings give the same maps."""
    prompt = workflow("photo_to_avatar", Sampler={"steps": 2})
    prompt["20"] = {
        "class_type": "FitDiff_PhotoToHead",
        "inputs": {"image": ["1", 0], "seed": 0, "steps": 2, "photo_detail": 0.0, "face": 0, "filename_prefix": "a/b"},
    }
    prompt["21"] = show("20", 2)
    keep = ("1", "2", "3", "4", "5", "6", "7", "13", "20", "21")
    run = client.run({k: prompt[k] for k in keep}, timeout=360)
    assert run.end == "execution_success", run.error
    seen = pictures(client, run.outputs)
    assert np.array_equal(seen["13"], seen["21"])


def test_a_missing_photo_is_refused_before_the_run(client):
    from tests.host.client import Rejected

    for name in ("gone.png", "../secret.png"):
        with pytest.raises(Rejected, match="There is no photo"):
            client.queue({"1": node(LOAD, image=name), "2": show("1")})
    assert client.queue({"1": node(LOAD, image=SAMPLE_NAME), "2": show("1")})


def test_faces_are_numbered_and_chosen_once(client, two_faces):
    prompt = {
        "photo": two_faces,
        "recognizer": RECOGNIZER,
        "faces": node(FIND, face=1),
        "person": node(ENCODE, faces=["faces", 0]),
        "crop": show("person", 1),
        "first": ENCODE,
        "other": show("first", 1),
    }
    run = client.run(prompt, timeout=200)
    assert run.end == "execution_success", run.error
    shown = run.outputs["faces"]["images"][0]
    picture = np.asarray(Image.open(io.BytesIO(client.view(shown))).convert("RGB"), np.float32)
    green = (np.abs(picture - (40, 220, 90)).max(-1) < 3).nonzero()[1]
    yellow = (np.abs(picture - (250, 210, 60)).max(-1) < 3).nonzero()[1]
    assert green.min() > 512 > yellow.max(), "the right one is chosen"
    seen = pictures(client, run.outputs)
    assert np.abs(seen["crop"] - seen["other"]).mean() > 0.02


def test_different_faces_of_one_photo_are_an_error(client, two_faces):
    graph = {
        "photo": two_faces,
        "recognizer": RECOGNIZER,
        "person": ENCODE,
        "fit": node(GUIDE, face=1),
        "model": MODEL,
        "latent": node(SAMPLER, identity=["person", 0], guidance=["fit", 0]),
        "avatar": DECODE,
        "out": show("avatar", 1),
    }
    run = client.run(graph, timeout=200)
    assert run.end == "execution_error" and "take different faces of the same photo" in run.error
    guider = {"class_type": "FitDiff_Guider", "inputs": {"model": ["model", 0], "cfg": 1.5}}
    core = {
        "guider": node(guider, identity=["person", 0], guidance=["fit", 0]),
        "noise": {"class_type": "DisableNoise", "inputs": {}},
        "sampler": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}},
        "sigmas": {"class_type": "FitDiff_Sigmas", "inputs": {"steps": 1, "spacing": "logsnr", "denoise": 1.0}},
        "empty": {"class_type": "FitDiff_EmptyLatent", "inputs": {"model": ["model", 0], "batch": 1}},
    }
    custom = {k: [k, 0] for k in ("guider", "noise", "sampler", "sigmas")} | {"latent_image": ["empty", 0]}
    graph |= core | {"latent": {"class_type": "SamplerCustomAdvanced", "inputs": custom}}
    run = client.run(graph, timeout=200)
    assert run.end == "execution_error" and "take different faces of the same photo" in run.error


def test_two_people_in_a_batch_are_named_on_the_nodes(client, comfy):
    """The second person is invented, rendered from the front, and joins the photo in a batch."""
    render = node(RENDER, width=512, height=512)
    batch = {"class_type": "ImageBatch", "inputs": {"image1": ["photo", 0], "image2": ["stranger", 0]}}
    prompt = {
        "photo": LOAD,
        "recognizer": RECOGNIZER,
        "model": MODEL,
        "latent": node(SAMPLER, steps=8, seed=11),
        "avatar": DECODE,
        "stranger": render,
        "batch": batch,
        "person": node(ENCODE, image=["batch", 0]),
        "crop": show("person", 1),
        "fit": node(GUIDE, image=["batch", 0]),
        "mask": {"class_type": "MaskToImage", "inputs": {"mask": ["fit", 1]}},
        "out": show("mask"),
    }
    run = client.run(prompt, timeout=300)
    assert run.end == "execution_success", run.error
    assert "Photo 2 of 2 may show somebody else than photo 1" in run.outputs["person"]["text"][0]
    assert "guidance photo 2 of 2 may show somebody else than photo 1" in run.outputs["fit"]["text"][0]
