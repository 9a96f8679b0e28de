"""Rows of the nodes: images, latents, identities, maps, scenes and lights that other nodes might hand over."""

from __future__ import annotations

import math
import struct

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


def spoil(way: str, source: str, slot: int = 0) -> dict:
    return {"class_type": "TestSpoil", "inputs": {"value": [source, slot], "way": way}}


def prompt(**nodes):
    return lambda folder: nodes


def image(way):
    """The photo spoilt, then encoded."""
    return prompt(
        photo=LOAD,
        odd=spoil(f"image: {way}", "photo"),
        recognizer=RECOGNIZER,
        person=node(ENCODE, image=["odd", 0]),
        out=show("person", 1),
    )


def guided(way):
    return prompt(
        photo=LOAD,
        odd=spoil(f"image: {way}", "photo"),
        recognizer=RECOGNIZER,
        guidance=guide("odd"),
        **HEAD | {"latent": node(SAMPLER, guidance=["guidance", 0])},
        out=show("avatar", 1),
    )


def identity(way, batch=1):
    return prompt(
        **PHOTO,
        odd=spoil(f"identity: {way}", "person"),
        **HEAD | {"latent": node(SAMPLER, identity=["odd", 0], batch=batch)},
        out=show("avatar", 1),
    )


def latent(way):
    return prompt(
        **HEAD | {"avatar": node(DECODE, latent=["odd", 0])},
        odd=spoil(f"latent: {way}", "latent"),
        out=show("avatar", 1),
    )


def replaced(image: dict, name="diffuse", heads=1, way=None):
    """A map replaced by the photo as it is, or spoilt, or by another picture."""
    change = {
        "class_type": "FitDiff_ReplaceMaps",
        "inputs": {"avatar": ["avatar", 0], name: ["odd" if way else "image", 0]},
    }
    nodes = HEAD | {
        "latent": node(SAMPLER, batch=heads),
        "image": image,
        "changed": change,
        "picture": node(RENDER, avatar=["changed", 0]),
        "out": show("picture"),
    }
    return prompt(**nodes, **({"odd": spoil(way, "image")} if way else {}))


def blank(width, height, batch=1):
    return {
        "class_type": "EmptyImage",
        "inputs": {"width": width, "height": height, "batch_size": batch, "color": 0x808080},
    }


def avatar(way, target=EXPORT, **inputs):
    nodes = HEAD | {"odd": spoil(f"avatar: {way}", "avatar"), "end": node(target, avatar=["odd", 0], **inputs)}
    return prompt(**nodes, **({} if target is EXPORT else {"out": show("end")}))


def pictures(heads=1, scenes=None, lights=None, lamp=None, **inputs):
    """A render of some heads, with the sampler's scene or a light repeated."""
    nodes = HEAD | {"latent": node(SAMPLER, batch=heads), "picture": node(RENDER, **inputs), "out": show("picture")}
    if scenes:
        nodes |= {"odd": spoil(f"{scenes} of it", "latent", 1)}
        nodes["picture"] = node(RENDER, camera="scene", light="scene", scene=["odd", 0])
    if lamp:
        nodes |= {"lamp": lamp, "picture": node(RENDER, lighting=["lamp", 0])}
    if lights:
        nodes |= {"odd": spoil(f"{lights} of it", "lamp"), "picture": node(RENDER, lighting=["odd", 0])}
    return prompt(**nodes)


def lamp(**inputs):
    return {
        "class_type": "FitDiff_DirectionalLight",
        "inputs": {
            "azimuth": 40.0,
            "elevation": 30.0,
            "intensity": 2.0,
            "temperature": 6500.0,
            "color": "#ffffff",
            "ambient": 0.2,
            **inputs,
        },
    }


def environment(source, way=None, encoding="sRGB", **inputs):
    light = {
        "class_type": "FitDiff_EnvironmentLight",
        "inputs": {
            "image": ["odd" if way else "image", 0],
            "intensity": 1.0,
            "rotation": 0.0,
            "sources": 1,
            "encoding": encoding,
            **inputs,
        },
    }
    nodes = HEAD | {
        "image": source,
        "lamp": light,
        "picture": node(RENDER, lighting=["lamp", 0]),
        "out": show("picture"),
    }
    return prompt(**nodes, **({"odd": spoil(way, "image")} if way else {}))


def panorama(name: str, data: bytes | None):
    """A file in ComfyUI's input folder (`folder`), loaded as a panorama."""

    def make(folder):
        if data is not None:
            (folder / name).write_bytes(data)
        return {"file": {"class_type": "FitDiff_LoadEnvironment", "inputs": {"file": name}}, "out": show("file")}

    return make


def hdr(width, height, pixels: bytes) -> bytes:
    return f"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y {height} +X {width}\n".encode() + pixels


CASES = []


def add(group, *rows):
    CASES.extend(Case(group, what, outcome, says, make) for what, outcome, says, make in rows)


add(
    "Images",
    ("an empty batch", "stops", "The image batch is empty", image("empty batch")),
    ("a picture without pixels", "stops", "The image batch is empty", image("no pixels")),
    ("NaN in it", "stops", "The image holds NaN or infinite values", image("NaN")),
    ("[H, W, C] in place of [B, H, W, C]", "stops", "not [B,H,W,C]", image("without batch")),
    ("7 channels", "stops", "The image has 7 channels", image("7 channels")),
    ("5 x 5 pixels", "stops", "No face was found", image("5 x 5")),
    ("1 channel", "works", "grey", image("1 channel")),
    ("4 channels", "works", "over white", image("4 channels")),
    ("values beyond 0..1", "works", "clipped", image("beyond 0..1")),
    ("float16", "works", "", image("float16")),
    ("float64", "works", "", image("float64")),
    ("bytes 0..255", "works", "", image("bytes")),
    ("419 x 311 pixels", "works", "", image("odd size")),
    ("an empty batch for the guidance", "stops", "The image batch is empty", guided("empty batch")),
    ("NaN for the guidance", "stops", "The image holds NaN or infinite values", guided("NaN")),
)
add(
    "Identities",
    ("NaN in it", "stops", "The identity holds NaN or infinite values", identity("NaN")),
    ("features of half the length", "stops", "The identity has features of sizes", identity("half as long")),
    ("of no one", "stops", "The identity is empty", identity("empty")),
    ("of two, for three heads", "stops", "2 identities and a batch of 3; set batch to 1", identity("two", 3)),
    ("of two, for one noise", "works", "", identity("two")),
    ("of two, for two heads", "works", "", identity("two", 2)),
    (
        "of another recogniser than the checkpoint's",
        "stops",
        "This checkpoint was trained with the recogniser",
        identity("another recogniser"),
    ),
)
add(
    "Latents",
    ("NaN in it", "stops", "The latent holds NaN or infinite values", latent("NaN")),
    ("a table without samples", "stops", "The latent holds no samples", latent("no samples")),
    ("of two axes", "stops", "This latent is", latent("flat")),
    ("of half the size", "stops", "This latent is", latent("half the size")),
    (
        "another model's",
        "stops",
        "Connect a latent made by the FitDiff sampler",
        prompt(
            model=MODEL,
            latent={"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 512, "batch_size": 1}},
            avatar=DECODE,
            out=show("avatar", 1),
        ),
    ),
)
add(
    "Maps for Replace Maps",
    ("512 x 256 pixels", "stops", "it must be square", replaced(blank(512, 256))),
    ("NaN in it", "stops", "The image holds NaN or infinite values", replaced(blank(64, 64), way="image: NaN")),
    ("1 channel", "works", "grey", replaced(blank(64, 64), way="image: 1 channel")),
    ("1 x 1 pixel", "works", "", replaced(blank(1, 1))),
    ("three pictures for two heads", "stops", "connect batches of equal size", replaced(blank(64, 64, 3), heads=2)),
    ("flat grey as normals", "works", "", replaced(blank(64, 64), "normal")),
)
add(
    "Avatars",
    ("a shape of NaN, exported", "stops", "The head's shape holds NaN or infinite values", avatar("NaN shape")),
    *(
        (
            f"a shape of NaN, exported as {name}",
            "stops",
            "The head's shape holds NaN or infinite values",
            avatar("NaN shape", format=name),
        )
        for name in ("obj", "ply", "usdz")
    ),
    ("maps of NaN, exported", "stops", "The texture maps hold NaN or infinite values", avatar("NaN maps")),
    (
        "maps of NaN, exported as obj",
        "stops",
        "The texture maps hold NaN or infinite values",
        avatar("NaN maps", format="obj"),
    ),
    (
        "maps of NaN, with skin relief",
        "stops",
        "The texture maps hold NaN or infinite values",
        prompt(
            **HEAD,
            odd=spoil("avatar: NaN maps", "avatar"),
            end={"class_type": "FitDiff_SkinRelief", "inputs": {"avatar": ["odd", 0]}},
            out=show("end", 1),
        ),
    ),
    ("a shape of NaN, rendered", "stops", "The head's shape holds NaN or infinite values", avatar("NaN shape", RENDER)),
)
add(
    "Previews",
    *(
        (
            f"a {name} file into Preview 3D",
            "stops",
            f"Preview 3D cannot show a {name} file",
            prompt(
                **HEAD,
                end=node(EXPORT, format=name),
                out={"class_type": "Preview3D", "inputs": {"model_file": ["end", 0]}},
            ),
        )
        for name in ("ply", "usdz")
    ),
)
add(
    "Scenes and lights",
    ("six scenes for two heads", "stops", "These do not fit together", pictures(2, scenes="three")),
    ("three scenes for one head", "works", "three pictures", pictures(1, scenes="three")),
    ("three lights for two heads", "stops", "These do not fit together", pictures(2, lamp=lamp(), lights="three")),
    (
        "the photo's expression without a scene",
        "stops",
        "connect that output of FitDiff Sampler",
        prompt(**HEAD, end=node(EXPORT, expression="photo")),
    ),
    ("a colour `red`", "stops", "'red' is not a colour", pictures(lamp=lamp(color="red"))),
    ("an intensity of NaN", "stops", "intensity is nan; give a finite number", pictures(lamp=lamp(intensity=math.nan))),
    ("a panorama with NaN", "stops", "not an RGB image with finite values", environment(blank(64, 32), "image: NaN")),
    ("a grey panorama", "stops", "not an RGB image with finite values", environment(blank(64, 32), "image: 1 channel")),
    ("a panorama of 2 x 3 pixels", "stops", "a panorama [B,3,H,W] of 4 px or more", environment(LOAD, "image: 3 x 2")),
    (
        "a panorama with an encoding of `gamma`",
        "refused",
        "Value not in list: encoding: 'gamma' not in",
        environment(blank(64, 32), encoding="gamma"),
    ),
)
add(
    "Panorama files",
    ("a missing one", "refused", "No panorama 'gone.hdr' in the input folder", panorama("gone.hdr", None)),
    ("a file outside the input folder", "refused", "No panorama '../server.log'", panorama("../server.log", None)),
    ("an absolute path", "refused", "No panorama '/etc/hostname'", panorama("/etc/hostname", None)),
    ("text renamed .hdr", "stops", "is not a Radiance picture", panorama("text.hdr", b"hello " * 9)),
    ("zero bytes", "stops", "is not a Radiance picture", panorama("empty.hdr", b"")),
    ("cut short", "stops", "the file is cut off", panorama("cut.hdr", hdr(64, 32, bytes(4000)))),
    ("a size of 999999 x 999999", "stops", "scale it down", panorama("huge.hdr", hdr(999999, 999999, bytes(99)))),
    (
        "a run of pixels that is too long",
        "stops",
        "a run of pixels cannot be right",
        panorama("run.hdr", hdr(64, 1, b"\2\2" + struct.pack(">H", 64) + b"\xff\x01" * 9)),
    ),
    ("text renamed .exr", "stops", "exr", panorama("text.exr", b"hello " * 9)),
)
