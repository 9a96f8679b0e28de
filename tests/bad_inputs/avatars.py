"""Rows of the command line and of the nodes: avatar files, lights, expressions, the stage's settings."""

from __future__ import annotations

from safetensors.torch import save
from torch import zeros

from tests.support.paths import SAMPLE

from .graphs import prompt
from .table import Case
from .values import HEAD, RENDER, node


def file(data: bytes, *more):
    def make(folder):
        path = folder / "head.avatar.safetensors"
        path.write_bytes(data)
        return [path, *more]

    return make


CLI = [
    Case("Avatar files and lights", what, "exit 2", says, make)
    for what, says, make in [
        ("a missing file", "No avatar file", lambda folder: [folder / "gone.safetensors"]),
        ("text renamed .safetensors", "this is no safetensors file", file(b"hello " * 99)),
        ("zero bytes", "this is no safetensors file", file(b"")),
        ("weights of another model", "this is no avatar file", file(save({"w": zeros(2)}))),
        ("an avatar file and a photo", "An avatar file stands alone", file(b"", SAMPLE)),
        ("`--light moon`", "Unknown --light moon; choose one of studio", lambda folder: ["--light", "moon"]),
    ]
]


def expression(**inputs):
    return {"class_type": "FitDiff_Expression", "inputs": inputs}


def staged(settings: str):
    stage = {"class_type": "FitDiff_Stage", "inputs": {"avatar": ["avatar", 0], "settings": settings}}
    return prompt(**HEAD, stage=stage)


def posed(**inputs):
    return prompt(**HEAD, face=expression(**inputs), out=node(RENDER, scene=["face", 0]), see=show("out"))


def show(of: str, slot: int = 0) -> dict:
    return {"class_type": "PreviewImage", "inputs": {"images": [of, slot]}}


NODES = [
    Case("Avatars, expressions, stage", what, outcome, says, make)
    for what, outcome, says, make in [
        ("weights that are no JSON", "stops", "The weights are not JSON", posed(weights="{jaw")),
        ("a shape that ARKit lacks", "stops", "There is no shape 'grin'", posed(weights='{"grin": 1}')),
        ("a weight of 2", "stops", "must be a number from 0 to 1", posed(weights='{"jawOpen": 2}')),
        ("an expression by another name", "refused", "preset: 'glee' not in", posed(preset="glee")),
        ("settings that are no JSON", "stops", "The stage's settings cannot be read", staged("{")),
        ("settings of another version", "stops", "no table of version 1", staged('{"v": 9}')),
        (
            "the scene's light without a scene",
            "stops",
            "connect the scene, or choose another environment",
            staged('{"v": 1, "light": {"environment": "scene"}}'),
        ),
        (
            "an avatar file that is not there",
            "refused",
            "No avatar 'gone.avatar.safetensors'",
            prompt(
                file={"class_type": "FitDiff_LoadAvatar", "inputs": {"file": "gone.avatar.safetensors"}},
                out=node(RENDER, avatar=["file", 0]),
                see=show("out"),
            ),
        ),
    ]
]
