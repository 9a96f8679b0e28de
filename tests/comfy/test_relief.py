"""The skin relief node in a real ComfyUI."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.workflows import pictures, workflow

pytestmark = [pytest.mark.comfy, pytest.mark.timeout(400)]


def test_relief_changes_the_normals_and_the_size(client):
    prompt = {k: v for k, v in workflow("random_cast").items() if v["class_type"] in ("FitDiff_LoadModel",)}
    model = next(iter(prompt))
    prompt |= {
        "s": {"class_type": "FitDiff_Sampler", "inputs": {"model": [model, 0], "steps": 2}},
        "d": {"class_type": "FitDiff_DecodeUV", "inputs": {"model": [model, 0], "latent": ["s", 0]}},
        "r": {"class_type": "FitDiff_SkinRelief", "inputs": {"avatar": ["d", 0], "texture_size": "1024"}},
        "n": {"class_type": "FitDiff_SkinRelief", "inputs": {"avatar": ["d", 0], "strength": 0.0}},
        "relief": {"class_type": "PreviewImage", "inputs": {"images": ["r", 1]}},
        "none": {"class_type": "PreviewImage", "inputs": {"images": ["n", 1]}},
        "before": {"class_type": "PreviewImage", "inputs": {"images": ["d", 3]}},
    }
    run = client.run(prompt, timeout=360)
    assert run.end == "execution_success", run.error
    seen = pictures(client, run.outputs)
    assert seen["relief"].shape == (1024, 1024, 3) and np.array_equal(seen["none"], seen["before"])
    assert np.abs(seen["relief"][::2, ::2] - seen["before"]).mean() > 0.001
