"""The headless workflows as prompts, and what comes out of a run."""

from __future__ import annotations

import io
import json
import struct

import numpy as np
from PIL import Image

from tests.support.paths import ROOT

WORKFLOWS = ROOT / "workflows" / "api"
GRAPHS = ROOT / "tests" / "graphs"  # not shipped: one random head, the smallest graph that makes one
STEPS = 3


def workflow(name: str, **changes: dict) -> dict:
    """The headless workflow with few steps, and `changes`: node class -> {input: value}."""
    shipped = WORKFLOWS / f"{name}.json"
    prompt = json.loads((shipped if shipped.exists() else GRAPHS / shipped.name).read_text())
    changes = {"Sampler": {"steps": STEPS}, **changes}
    for node in prompt.values():
        node["inputs"].update(changes.get(node["class_type"].removeprefix("FitDiff_"), {}))
    return prompt


def node_of(prompt: dict, kind: str) -> str:
    return next(k for k, v in prompt.items() if v["class_type"].removeprefix("FitDiff_") == kind)


def only(prompt: dict, *kinds: str) -> dict:
    """The prompt with all output nodes but those of `kinds` left out."""
    return {k: v for k, v in prompt.items() if v["class_type"] not in {"PreviewImage", "Preview3D", *kinds}}


def pictures(client, outputs: dict) -> dict[str, np.ndarray]:
    """Preview node id -> its picture as 0..1 floats."""
    found = {}
    for node, output in outputs.items():
        for file in output.get("images", []):
            found[node] = np.asarray(Image.open(io.BytesIO(client.view(file))).convert("RGB"), np.float32) / 255
    return found


def read_glb(data: bytes) -> dict:
    """The JSON chunk of a GLB, once its header and lengths prove right."""
    magic, version, length = struct.unpack_from("<4sII", data)
    size, kind = struct.unpack_from("<I4s", data, 12)
    assert (magic, version, length, kind) == (b"glTF", 2, len(data), b"JSON")
    return json.loads(data[20 : 20 + size])
