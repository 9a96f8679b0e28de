"""Rows of the nodes: numbers, choices and file names in a prompt, and prompts of older versions of the pack."""

from __future__ import annotations

import math

from tests.support.prompt_nodes import (
    DECODE,
    ENCODE,
    EXPORT,
    HEAD,
    LOAD,
    MODEL,
    PHOTO,
    RECOGNIZER,
    RENDER,
    SAMPLER,
    guide,
    node,
    show,
)

from .table import Case
from .values import prompt, spoil

CASES = []


def add(group, *rows):
    CASES.extend(Case(group, what, outcome, says, make) for what, outcome, says, make in rows)


def sampler(**inputs):
    return prompt(**HEAD | {"latent": node(SAMPLER, **inputs)}, out=show("avatar", 1))


def render(**inputs):
    return prompt(**HEAD, picture=node(RENDER, **inputs), out=show("picture"))


def export(**inputs):
    return prompt(**HEAD, end=node(EXPORT, **inputs))


def custom(**inputs):
    """Our sigmas in core's sampler."""
    return prompt(
        model=MODEL,
        sigmas={"class_type": "FitDiff_Sigmas", "inputs": {"steps": 2, "spacing": "logsnr", "denoise": 1.0, **inputs}},
        guider={"class_type": "FitDiff_Guider", "inputs": {"model": ["model", 0], "cfg": 1.0}},
        noise={"class_type": "RandomNoise", "inputs": {"noise_seed": 1}},
        kind={"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}},
        start={"class_type": "FitDiff_EmptyLatent", "inputs": {"model": ["model", 0], "batch": 1}},
        latent={
            "class_type": "SamplerCustomAdvanced",
            "inputs": {
                "noise": ["noise", 0],
                "guider": ["guider", 0],
                "sampler": ["kind", 0],
                "sigmas": ["sigmas", 0],
                "latent_image": ["start", 0],
            },
        },
        avatar=DECODE,
        out=show("avatar", 1),
    )


FACES = {"class_type": "FitDiff_FindFaces", "inputs": {"image": ["photo", 0], "face": 0, "order": "largest"}}


def faces(**inputs):
    return prompt(photo=LOAD, faces=node(FACES, **inputs))


def guidance(others=None, **inputs):
    return prompt(
        **PHOTO,
        **(others or {}),
        guidance=guide(**inputs),
        **HEAD | {"latent": node(SAMPLER, guidance=["guidance", 0])},
        out=show("avatar", 1),
    )


OLD_CAMERA = (
    '{"position": {"x": 0, "y": 2.5, "z": 10}, "target": {"x": 0, "y": 2.5, "z": 0}, "zoom": 1, '
    '"cameraType": "perspective"}'
)


def masked(width, height, value, batch=1):
    """Guidance with a mask of one grey."""
    plain = {"class_type": "SolidMask", "inputs": {"value": value, "width": width, "height": height}}
    picture = {"class_type": "MaskToImage", "inputs": {"mask": ["plain", 0]}}
    several = {"class_type": "RepeatImageBatch", "inputs": {"image": ["picture", 0], "amount": batch}}
    again = {"class_type": "ImageToMask", "inputs": {"image": ["several", 0], "channel": "red"}}
    return guidance({"plain": plain, "picture": picture, "several": several, "again": again}, mask=["again", 0])


def mask(**inputs):
    return prompt(
        mask={"class_type": "FitDiff_RegionMasks", "inputs": {"region": "face", "size": 64, "feather": 8.0, **inputs}},
        picture={"class_type": "MaskToImage", "inputs": {"mask": ["mask", 0]}},
        out=show("picture"),
    )


add(
    "Masks",
    (
        "the mask of **Load Image**, of an image without one",
        "stops",
        "The mask hides the face: it must be white",
        masked(64, 64, 0.0),  # what Load Image gives then
    ),
    (
        "64 x 48 px for a photo of 512 x 512",
        "stops",
        "The mask is 64x48 pixels, the photo 512x512",
        masked(64, 48, 1.0),
    ),
    ("black where the photo may be used", "stops", "The mask hides the face: it must be white", masked(512, 512, 0.0)),
    ("three for one photo", "stops", "There are 3 masks for 1 images", masked(512, 512, 1.0, 3)),
    ("all white", "works", "nothing is hidden", masked(512, 512, 1.0)),
    ("of half the photo's size", "works", "it is scaled to the photo", masked(256, 256, 1.0)),
)
add(
    "Numbers",
    ("0 steps", "refused", "smaller than min", sampler(steps=0)),
    ("-1 steps", "refused", "smaller than min", sampler(steps=-1)),
    ("1000000 steps", "refused", "bigger than max", sampler(steps=1000000)),
    ('`"many"` steps', "refused", "many", sampler(steps="many")),
    ("a cfg of NaN", "stops", "cfg is nan; give a finite number", sampler(cfg=math.nan)),
    ("a cfg of infinity", "refused", "bigger than max", sampler(cfg=math.inf)),
    ("a batch of 0", "refused", "smaller than min", sampler(batch=0)),
    ("a batch of 100000", "refused", "bigger than max", sampler(batch=100000)),
    ("a seed of -1", "refused", "smaller than min", sampler(seed=-1)),
    ("a seed of 2^64 - 1", "works", "", sampler(seed=2**64 - 1)),
    ("a picture 0 pixels wide", "refused", "smaller than min", render(width=0)),
    ("a picture 100000 pixels wide", "refused", "bigger than max", render(width=100000)),
    ("a picture of 72 x 200 pixels", "works", "", render(width=72, height=200)),
    ("a yaw of NaN", "stops", "yaw is nan; give a finite number", render(yaw=math.nan)),
    ("a camera at 0 metres", "refused", "smaller than min", render(distance=0.0)),
    ("a mask with a feather of NaN", "stops", "feather is nan; give a finite number", mask(feather=math.nan)),
    ("maps of 100000 pixels", "refused", "bigger than max", export(texture_size=100000)),
    ("a denoise of NaN", "stops", "denoise is nan; give a finite number", custom(denoise=math.nan)),
    (
        "a sigma window the wrong way round",
        "refused",
        "must be larger than sigma_end",
        guidance(sigma_start=0.1, sigma_end=3.0),
    ),
    ("a guidance weight of -1", "refused", "smaller than min", guidance(identity=-1.0)),
    ("a guidance weight of NaN", "stops", "identity is nan; give a finite number", guidance(identity=math.nan)),
    ("face 7 of one", "stops", "There is no face number 7", guidance(face=7)),
    ("face 7 of one, in Find Faces", "stops", "There is no face number 7", faces(face=7)),
    (
        "faces of another photo",
        "stops",
        "The faces were found in another image",
        prompt(
            **PHOTO | {"person": node(ENCODE, faces=["faces", 0])},
            other=spoil("image: odd size", "photo"),
            faces=node(FACES, image=["other", 0]),
            out=show("person", 1),
        ),
    ),
)
add(
    "Choices",
    (
        "order `prettiest`",
        "refused",
        "Value not in list: order: 'prettiest' not in",
        faces(order="prettiest"),
    ),
    (
        "a photo that is not there",
        "refused",
        "There is no photo 'gone.jpg'",
        prompt(photo=node(LOAD, image="gone.jpg"), out=show("photo")),
    ),
    (
        "a photo outside the input folder",
        "refused",
        "There is no photo",
        prompt(photo=node(LOAD, image="../a.jpg"), out=show("photo")),
    ),
    ("sampler `magic`", "refused", "Value not in list: sampler: 'magic' not in", sampler(sampler="magic")),
    ("light `disco`", "refused", "Value not in list: light: 'disco' not in", render(light="disco")),
    ("camera `selfie`", "refused", "Value not in list: camera: 'selfie' not in", render(camera="selfie")),
    ("region `hat`", "refused", "Value not in list: region: 'hat' not in", mask(region="hat")),
    ("format `stl`", "refused", "Value not in list: format: 'stl' not in", export(format="stl")),
    ("an OBJ in inches", "refused", "Value not in list: unit: 'inches' not in", export(format="obj", unit="inches")),
    (
        "format `stl` from a link",
        "stops",
        "Unknown format 'stl'; choose one of glb, ",
        prompt(
            **HEAD,
            choice={"class_type": "TestChoice", "inputs": {"choice": "stl"}},
            end=node(EXPORT, format=["choice", 0]),
        ),
    ),
    ("a GLB in centimetres", "stops", "metres by definition", export(unit="centimetres")),
    (
        "a checkpoint that is not there",
        "refused",
        "There is no 'gone.safetensors' in models/fitdiff",
        prompt(**HEAD | {"model": node(MODEL, checkpoint="gone.safetensors")}, out=show("avatar", 1)),
    ),
    (
        "a checkpoint outside the models folder",
        "refused",
        "There is no '../../server.log' in models/fitdiff",
        prompt(**HEAD | {"model": node(MODEL, checkpoint="../../server.log")}, out=show("avatar", 1)),
    ),
    (
        "a recogniser that is not there",
        "refused",
        "There is no insightface pack 'gone'",
        prompt(**PHOTO | {"recognizer": node(RECOGNIZER, recognizer="gone")}, out=show("person", 1)),
    ),
    (
        "a recogniser outside the models folder",
        "refused",
        "There is no insightface pack '../..'",
        prompt(**PHOTO | {"recognizer": node(RECOGNIZER, recognizer="../..")}, out=show("person", 1)),
    ),
)
add(
    "Cameras of 3D nodes",
    (
        "a camera without a position",
        "stops",
        "This is no camera of the 3D viewer",
        prompt(
            **HEAD,
            camera={"class_type": "TestCamera", "inputs": {"info": "{}"}},
            picture=node(RENDER, camera_info=["camera", 0]),
            out=show("picture"),
        ),
    ),
    (
        "picture 3 of a scene with one",
        "stops",
        "There is no picture 3",
        prompt(
            **HEAD,
            camera={"class_type": "FitDiff_SceneCamera", "inputs": {"scene": ["latent", 1], "picture": 3}},
            picture=node(RENDER, camera_info=["camera", 0]),
            out=show("picture"),
        ),
    ),
    (
        "one as core's viewer of 2025 gives it",
        "works",
        "its scale of 5 units is taken back",
        prompt(
            **HEAD,
            camera={"class_type": "TestCamera", "inputs": {"info": OLD_CAMERA}},
            picture=node(RENDER, camera_info=["camera", 0]),
            out=show("picture"),
        ),
    ),
)
OUT, RELATIVE = "leads out of the output folder", "give a plain one such as fitdiff/avatar"
add(
    "File names",
    ("an empty one", "refused", "The file name prefix is empty", export(filename_prefix="")),
    ("blanks", "refused", "The file name prefix is empty", export(filename_prefix="  ")),
    ("a folder alone, `fitdiff/`", "refused", "The file name prefix is empty", export(filename_prefix="fitdiff/")),
    ("`../escape`", "refused", OUT, export(filename_prefix="../escape")),
    ("`a/../../escape`", "refused", OUT, export(filename_prefix="a/../../escape")),
    ("`a\\..\\..\\escape`", "refused", OUT, export(filename_prefix="a\\..\\..\\escape")),
    (
        "`.. /escape`, which Windows takes for `../escape`",
        "refused",
        RELATIVE,
        export(filename_prefix="a/.. /.. /escape"),
    ),
    ("`/etc/escape`", "refused", OUT, export(filename_prefix="/etc/escape")),
    ("`C:\\escape`", "refused", OUT, export(filename_prefix="C:\\escape")),
    ("`C:escape`", "refused", OUT, export(filename_prefix="C:escape")),
    ("`\\\\server\\share\\escape`", "refused", OUT, export(filename_prefix="\\\\server\\share\\escape")),
    ("`~/escape`", "refused", OUT, export(filename_prefix="~/escape")),
    ("`con/head`, reserved on Windows", "refused", RELATIVE, export(filename_prefix="con/head")),
    ("`LPT1.txt`, reserved on Windows", "refused", RELATIVE, export(filename_prefix="LPT1.txt")),
    ("`a<b>`, impossible on Windows", "refused", RELATIVE, export(filename_prefix="a<b>")),
    ("`head.`, impossible on Windows", "refused", RELATIVE, export(filename_prefix="head.")),
    ("`head:b`, impossible on Windows", "refused", RELATIVE, export(filename_prefix="head:b")),
    ("`%date:yyyy`, a token without an end", "refused", RELATIVE, export(filename_prefix="odd/%date:yyyy")),
    (
        "a token whose value leads out of the folder",
        "stops",
        OUT,
        export(filename_prefix="%date:../..%/escape"),
    ),
    (
        "`%date:yyyy-MM-dd%` and `%FitDiff_Sampler.seed%`",
        "works",
        "the date and the seed",
        export(filename_prefix="odd/%date:yyyy-MM-dd%_%FitDiff_Sampler.seed%"),
    ),
    ("300 letters", "refused", "is too long (300 bytes in one name)", export(filename_prefix="x" * 300)),
    ("a NUL character", "refused", "holds control characters", export(filename_prefix="a\0b")),
    ("half a UTF-16 pair", "refused", "holds control characters", export(filename_prefix="a\ud800")),
    ("`odd\\windows\\head`", "works", "the folders odd/windows", export(filename_prefix="odd\\windows\\head")),
    ("`odd/脸 ö 🙂`", "works", "", export(filename_prefix="odd/脸 ö 🙂")),
    ("`odd/two  words`, as obj", "works", "", export(filename_prefix="odd/two  words", format="obj")),
)
add(
    "Graphs of older versions, or made by hand",
    (
        "Export Mesh with the first version's inputs alone",
        "works",
        "the others take their defaults",
        export(blendshapes=None),
    ),
    ("the first version's format `glb, green flipped`", "works", "", export(format="glb, green flipped")),
    ("numbers as text", "works", "", sampler(steps="1", cfg="1.0", seed="7")),
    ("a fraction for a whole number", "works", "rounded down", sampler(steps=1.9)),
    ("an input that no version has", "works", "passed over", sampler(colour="blue")),
    ("an input without a default left out", "refused", "Required input is missing: model", sampler(model=None)),
    ("an input with a default left out", "works", "the default", sampler(seed=None)),
    (
        "an input that is nothing",
        "refused",
        "steps",
        lambda folder: {
            **HEAD,
            "latent": {"class_type": "FitDiff_Sampler", "inputs": {**SAMPLER["inputs"], "steps": None}},
            "out": show("avatar", 1),
        },
    ),
    ("a list in place of a number", "refused", "must be a length-2 list", sampler(steps=[1, 2, 3])),
    (
        "a picture in place of a model",
        "refused",
        "IMAGE",
        prompt(**HEAD | {"photo": LOAD, "model": LOAD}, out=show("avatar", 1)),
    ),
    (
        "a link to a node that is not there",
        "refused",
        "'gone'",
        prompt(**HEAD | {"avatar": node(DECODE, latent=["gone", 0])}, out=show("avatar", 1)),
    ),
    (
        "a node that no version has",
        "refused",
        "FitDiff_Hat",
        prompt(hat={"class_type": "FitDiff_Hat", "inputs": {}}, out=show("hat")),
    ),
)
