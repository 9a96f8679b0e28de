"""Rows of the command line and of the nodes: avatar files, lights, expressions, the stage's settings."""

from __future__ import annotations

from PIL import Image
from safetensors.torch import save
from torch import zeros

from fitdiff_core.avatar_file import save_avatar
from tests.support.paths import PERFORMANCE_NAME, SAMPLE
from tests.support.plain_avatar import plain_avatar

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


def drive(name: str | None = None, *flags, change=None):
    """`fitdiff drive` with a good avatar file, and a film by this name or a folder of two grey frames."""

    def make(folder):
        path = save_avatar(folder / "head.avatar.safetensors", plain_avatar())
        if change is not None:
            path.write_bytes(change(path.read_bytes()))
        frames = folder / "frames"
        frames.mkdir()
        for i in range(2):
            Image.new("RGB", (96, 96), (120, 120, 120)).save(frames / f"{i}.png")
        return ["drive", path, folder / name if name else frames, *flags]

    return make


def older(data: bytes) -> bytes:
    """The file as another atlas version's; of the same length, because a header names its own."""
    version = plain_avatar().head.atlas_version.encode()
    start = data.index(b"atlas_version") + len(b"atlas_version")
    at = data.index(version, start)
    return data[:at] + b"0" * len(version) + data[at + len(version) :]


CLI += [
    Case("`fitdiff drive`", what, "exit 2", says, make)
    for what, says, make in [
        ("no face in any frame", "No face was found in any of 2 frames", drive()),
        ("no such video", "No such video", drive("gone.mp4")),
        ("an avatar of another version", "Use the release that wrote it", drive(change=older)),
        ("a photo in place of the avatar", "this is no safetensors file", lambda folder: ["drive", SAMPLE, folder]),
        ("`--strength 3`", "--strength must be from 0 to 2", drive(None, "--strength", "3")),
        ("`--fps 0`", "from 1 to 240 frames a second", drive(None, "--fps", "0")),
        ("`--face 2.5`", "Which face?", drive(None, "--face", "2.5")),
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


def driven(**inputs):
    return prompt(**HEAD, **inputs)


BLANK = {"class_type": "EmptyImage", "inputs": {"width": 96, "height": 96, "batch_size": 2, "color": 0}}
TWO = {"class_type": "FitDiff_MotionFromVideo", "inputs": {"image": ["talk", 0]}}
TALK = {"class_type": "FitDiff_LoadPhoto", "inputs": {"image": PERFORMANCE_NAME}}

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
            "a video without a face",
            "stops",
            "No face was found in any of 2 frames",
            driven(
                blank=BLANK,
                motion={"class_type": "FitDiff_MotionFromVideo", "inputs": {"image": ["blank", 0]}},
                out=node(RENDER, scene=["motion", 0]),
                see=show("out"),
            ),
        ),
        (
            "a motion on a scene of many pictures",
            "stops",
            "connect one of a single picture",
            driven(
                talk=TALK,
                motion=TWO,
                again={
                    "class_type": "FitDiff_MotionFromVideo",
                    "inputs": {"image": ["talk", 0], "scene": ["motion", 0]},
                },
                out=node(RENDER, scene=["again", 0]),
                see=show("out"),
            ),
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
