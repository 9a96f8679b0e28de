"""The photo detail node in a real ComfyUI."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.workflows import pictures, workflow

pytestmark = [pytest.mark.comfy, pytest.mark.timeout(400)]


def graph(**detail) -> dict:
    """The photo workflow up to the decoded head, and the node behind it: maps as they were, and with detail."""
    prompt = {k: v for k, v in workflow("photo_to_avatar").items() if int(k) < 8}
    inputs = {"model": ["2", 0], "avatar": ["7", 0], "scene": ["6", 1], "image": ["1", 0], "strength": 1.0, **detail}
    render = {
        "camera": "scene",
        "yaw": 0.0,
        "pitch": 0.0,
        "distance": 0.8,
        "fov": 20.0,
        "light": "scene",
        "light_yaw": 0.0,
        "width": 256,
        "height": 256,
        "scene": ["6", 1],
    }
    return prompt | {
        "d": {"class_type": "FitDiff_PhotoDetail", "inputs": inputs},
        "m": {"class_type": "MaskToImage", "inputs": {"mask": ["d", 1]}},
        "share": {"class_type": "PreviewImage", "inputs": {"images": ["m", 0]}},
        "r0": {"class_type": "FitDiff_Render", "inputs": {"avatar": ["7", 0], **render}},
        "r1": {"class_type": "FitDiff_Render", "inputs": {"avatar": ["d", 0], **render}},
        "without": {"class_type": "PreviewImage", "inputs": {"images": ["r0", 0]}},
        "with": {"class_type": "PreviewImage", "inputs": {"images": ["r1", 0]}},
    }


def test_the_photo_s_detail_arrives(client):
    run = client.run(graph(identity=["4", 0]), timeout=360)
    assert run.end == "execution_success", run.error
    seen = pictures(client, run.outputs)
    assert seen["share"].shape == (512, 512, 3) and seen["share"].max() > 0.95 and seen["share"][0, 0].max() == 0
    assert np.abs(seen["with"] - seen["without"]).mean() > 0.003


def test_strength_0_is_pure_fitdiff(client):
    run = client.run(graph(strength=0.0), timeout=360)
    assert run.end == "execution_success", run.error
    seen = pictures(client, run.outputs)
    assert np.array_equal(seen["with"], seen["without"]) and seen["share"].max() == 0


def test_guidance_says_what_it_uses_and_photo_detail_takes_it(client):
    plain = client.run(graph(), timeout=360)
    prompt = graph(mask=["5", 1])
    prompt |= {
        "v": {"class_type": "MaskToImage", "inputs": {"mask": ["5", 1]}},
        "visible": {"class_type": "PreviewImage", "inputs": {"images": ["v", 0]}},
    }
    same = client.run(prompt, timeout=360)
    assert plain.end == same.end == "execution_success", plain.error + same.error
    before, after = pictures(client, plain.outputs), pictures(client, same.outputs)
    assert after["visible"].shape == (512, 512, 3) and after["visible"].max() == 1
    assert (
        np.abs(before["share"] - after["share"]).mean() < 0.05
    )  # the same hair, found for the photo and for the fitted head


@pytest.mark.parametrize(
    "change, says",
    [
        ({"mask": ["t", 0]}, "The mask is 64x48 pixels"),
        ({"scene": ["t", 2]}, "not fitted to a photo"),
    ],
)
def test_what_does_not_fit_is_said(client, change, says):
    prompt = graph(**change)
    extra = {
        "mask": {"class_type": "SolidMask", "inputs": {"value": 1.0, "width": 64, "height": 48}},
        "scene": {
            "class_type": "FitDiff_Turntable",
            "inputs": {
                "avatar": ["7", 0],
                "spin": "head",
                "frames": 1,
                "start": 0.0,
                "end": 0.0,
                "yaw": 0.0,
                "pitch": 0.0,
                "distance": 0.9,
                "fov": 20.0,
                "light": "side",
                "width": 64,
                "height": 64,
                "scene": ["6", 1],
            },
        },
    }
    run = client.run(prompt | {"t": extra[next(iter(change))]}, timeout=360)
    assert run.end == "execution_error" and says in str(run.error)
