"""Nodes of prompts that several tests use. Links name the nodes by what they give: "photo", "model", "latent", ..."""

from __future__ import annotations

from tests.support.paths import SAMPLE_NAME

LOAD = {"class_type": "FitDiff_LoadPhoto", "inputs": {"image": SAMPLE_NAME}}
MODEL = {"class_type": "FitDiff_LoadModel", "inputs": {"checkpoint": "built-in"}}
RECOGNIZER = {"class_type": "FitDiff_LoadRecognizer", "inputs": {"recognizer": "built-in"}}
SAMPLER = {
    "class_type": "FitDiff_Sampler",
    "inputs": {"model": ["model", 0], "seed": 4, "steps": 1, "cfg": 1.0, "batch": 1, "sampler": "dpmpp_2m"},
}
DECODE = {"class_type": "FitDiff_DecodeUV", "inputs": {"model": ["model", 0], "latent": ["latent", 0]}}
RENDER = {
    "class_type": "FitDiff_Render",
    "inputs": {
        "avatar": ["avatar", 0],
        "camera": "orbit",
        "yaw": 0.0,
        "pitch": 0.0,
        "distance": 0.8,
        "fov": 20.0,
        "light": "studio",
        "light_yaw": 0.0,
        "width": 64,
        "height": 64,
    },
}
EXPORT = {
    "class_type": "FitDiff_ExportMesh",
    "inputs": {"avatar": ["avatar", 0], "filename_prefix": "odd/head", "format": "glb", "blendshapes": False},
}
ENCODE = {
    "class_type": "FitDiff_EncodeIdentity",
    "inputs": {"image": ["photo", 0], "recognizer": ["recognizer", 0], "face": 0},
}
HEAD = {"model": MODEL, "latent": SAMPLER, "avatar": DECODE}
PHOTO = {"photo": LOAD, "recognizer": RECOGNIZER, "person": ENCODE}


def node(base: dict, **inputs) -> dict:
    """A copy of a node with some inputs changed; None takes one away."""
    merged = {**base["inputs"], **inputs}
    return {"class_type": base["class_type"], "inputs": {k: v for k, v in merged.items() if v is not None}}


def show(source: str, slot: int = 0) -> dict:
    return {"class_type": "PreviewImage", "inputs": {"images": [source, slot]}}


def guide(image: str = "photo", recognizer: str = "recognizer", **inputs) -> dict:
    """FitDiff Guidance of the photo with its defaults, and the inputs that are given."""
    links = {"image": [image, 0], "recognizer": [recognizer, 0]}
    return {"class_type": "FitDiff_Guidance", "inputs": {**links, **inputs}}
