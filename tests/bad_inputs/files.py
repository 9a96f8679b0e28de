"""Rows of the command line: photos, numbers, settings, output folders."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
from pathlib import Path
from unittest import mock

import pytest
from PIL import Image

from tests.support.paths import SAMPLE

from .table import Case


def sample() -> Image.Image:
    with Image.open(SAMPLE) as im:
        return im.convert("RGB")


@contextlib.contextmanager
def nobody():
    """Without root's right to read and write everything."""
    if os.name != "posix":
        pytest.skip("needs the file modes of POSIX")
    if os.geteuid():
        yield
        return
    os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


@contextlib.contextmanager
def full_disk():
    with mock.patch("pathlib.Path.write_bytes", side_effect=OSError(28, "No space left on device")):
        yield


@contextlib.contextmanager
def little_memory(megabytes: int = 400):
    """A real limit on this process: allocations beyond it fail.

    The limit is of addresses, and each new thread takes 128 MB of them for its heap, used or not.
    """
    if not Path("/proc/self/statm").exists():
        pytest.skip("needs /proc")
    import resource

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + megabytes * 2**20, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


# --- photos ----------------------------------------------------------------------------------------------------------


def photo(name, draw):
    """draw(path) makes the file `name`."""

    def make(folder):
        draw(folder / name)
        return [folder / name]

    return make


def content(data: bytes):
    return lambda path: path.write_bytes(data)


def saved(change, **options):
    return lambda path: change(sample()).save(path, **options)


def rotated(path, mode="RGB"):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn 90 degrees clockwise to view
    sample().resize((512, 400)).rotate(90, expand=True).convert(mode).save(path, exif=exif)


def two_faces(path):
    im = sample()
    both = Image.new("RGB", (2 * im.width, im.height))
    both.paste(im, (0, 0))
    both.paste(im.resize((im.width * 2 // 3, im.height * 2 // 3)), (im.width, 0))
    both.save(path)


def animated(path):
    blank = Image.new("RGB", sample().size, (90, 120, 60))
    sample().save(path, save_all=True, append_images=[blank, blank], duration=100)


def sixteen_bit(path):
    import numpy as np

    Image.fromarray(np.asarray(sample().convert("L")).astype(np.uint16) * 257).save(path)


def float_nan(path):
    import numpy as np

    Image.fromarray(np.full((64, 64), np.nan, np.float32)).save(path)


def heic(path):
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64))


@contextlib.contextmanager
def without_pillow_heif():
    """As where pillow-heif is not installed. Other modules that are imported meanwhile stay."""
    installed = sys.modules.pop("pillow_heif", None)
    sys.modules["pillow_heif"] = None
    try:
        yield
    finally:
        del sys.modules["pillow_heif"]
        if installed:
            sys.modules["pillow_heif"] = installed


def bomb(path):
    """A PNG header that promises 60000 x 60000 pixels."""
    import struct
    import zlib

    header = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    end = b"IEND"
    chunks = [header, b"IDAT" + zlib.compress(b"\0" * 99), end]
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    )


def forbidden(path):
    sample().save(path)
    path.chmod(0)


def at_index(which, draw):
    def make(folder):
        return [*photo("faces.png", draw)(folder), *config(which=which)(folder)]

    return make


JPEG = SAMPLE.read_bytes()
# with a photo whose answer is "works": the same person is found in it as in the sample
PHOTOS = [
    ("a missing file", "exit 2", "No such photo", lambda folder: [folder / "missing.jpg"]),
    ("a folder", "exit 2", "No such photo", lambda folder: [folder]),
    ("an empty name", "exit 2", "No such photo", lambda folder: [""]),
    ("zero bytes", "exit 2", "Cannot read", photo("a.jpg", content(b""))),
    ("text renamed .jpg", "exit 2", "Save it again as JPEG or PNG", photo("a.jpg", content(b"hello " * 99))),
    ("a JPEG cut short", "exit 2", "Cannot read", photo("a.jpg", content(JPEG[: len(JPEG) // 2]))),
    ("a photo of 20 x 300 px", "exit 2", "is only 20x300 px", photo("a.png", saved(lambda im: im.resize((20, 300))))),
    (
        "a PNG of 13000 x 12000 px",
        "exit 2",
        "too large; scale it down to 2048 px",
        photo("a.png", lambda path: Image.new("1", (13000, 12000)).save(path, compress_level=1)),
    ),
    (
        "no face",
        "exit 2",
        "No face was found",
        photo("a.png", lambda path: Image.new("RGB", (320, 240), (90, 120, 60)).save(path)),
    ),
    (
        "face 3 of one",
        "exit 2",
        "There is no face number 3: only one face was found",
        at_index(3, saved(lambda im: im)),
    ),
    ("face 5 of two", "exit 2", "There is no face number 5: 2 faces were found", at_index(5, two_faces)),
    (
        "`--face left-to-right:4` of two",
        "exit 2",
        "There is no face number 4: 2 faces were found. Use an index from 0 to 1, from left to right",
        lambda folder: [*photo("faces.png", two_faces)(folder), "--face", "left-to-right:4"],
    ),
    ("`--skin-relief 4`", "exit 2", "--skin-relief must be from 0 to 3", lambda folder: [SAMPLE, "--skin-relief", "4"]),
    ("`--face smiling`", "exit 2", "Give 'largest' or an index", lambda folder: [SAMPLE, "--face", "smiling"]),
    ('face "second"', "exit 2", "Give 'largest' or an index", at_index("second", two_faces)),
    ("a TIFF with NaN", "exit 2", "holds NaN or infinite values", photo("a.tiff", float_nan)),
    ("HEIC", "exit 2", "is a HEIC photo. To read it, install pillow-heif", photo("a.heic", heic)),
    ("HEIC called .jpg", "exit 2", "or export it as JPEG", photo("a.jpg", heic)),
    (
        "a broken colour profile",
        "works",
        "a warning; read as sRGB",
        photo("a.png", saved(lambda im: im, icc_profile=b"broken")),
    ),
    ("greyscale", "works", "the same person", photo("a.png", saved(lambda im: im.convert("L")))),
    ("RGBA", "works", "the same person", photo("a.png", saved(lambda im: im.convert("RGBA")))),
    ("16-bit greyscale", "works", "the same person", photo("a.png", sixteen_bit)),
    ("CMYK JPEG", "works", "the same person", photo("a.jpg", saved(lambda im: im.convert("CMYK"), quality=95))),
    ("a palette of 64 colours", "works", "the same person", photo("a.png", saved(lambda im: im.quantize(64)))),
    ("turned by EXIF", "works", "the same person", photo("a.jpg", rotated)),
    ("a grey TIFF turned by EXIF", "works", "the same person", photo("a.tiff", lambda path: rotated(path, "L"))),
    ("an animated GIF", "works", "the first picture", photo("a.gif", animated)),
    (
        "a JPEG of 12000 x 12000 px",
        "works",
        "read at a fraction of its size",
        photo("a.jpg", saved(lambda im: im.convert("L").resize((12000, 12000), Image.Resampling.NEAREST), quality=50)),
    ),
    ("419 x 311 px", "works", "the same person", photo("a.png", saved(lambda im: im.crop((0, 0, 419, 311))))),
    ("a name in another script, with blanks", "works", "the same person", photo("脸 ö.png", saved(lambda im: im))),
]
CASES = [Case("Photos", what, outcome, says, make, without_pillow_heif) for what, outcome, says, make in PHOTOS]
CASES.append(
    Case(
        "Photos",
        "a PNG that promises 60000 x 60000 px, with 1 GB of memory left",
        "exit 2",
        "too large; scale it down",
        photo("a.png", bomb),
        functools.partial(little_memory, 1000),
    )
)
CASES.append(
    Case("Photos", "a file that may not be read", "exit 2", "check its permissions", photo("a.png", forbidden), nobody)
)


def with_mask(draw, *more):
    """The sample with a mask that draw makes."""

    def make(folder):
        draw(folder / "mask.png")
        return [SAMPLE, *(x for path in (folder / "mask.png", *more) for x in ("--mask", path))]

    return make


def grey(value, side=512):
    return lambda path: Image.new("L", (side, side), value).save(path)


CASES += [
    Case("Masks", what, "exit 2", says, make)
    for what, says, make in [
        ("of another size than the photo", "The mask is 100x100 pixels, the photo 512x512", with_mask(grey(255, 100))),
        ("the wrong way round", "The mask hides the face: it must be white", with_mask(grey(0))),
        ("two for one photo", "one for each: 2 masks, 1 photos", with_mask(grey(255), SAMPLE)),
        ("no photo", "one for each: 1 masks, 0 photos", lambda folder: ["--mask", SAMPLE]),
        ("text renamed .png", "Cannot read", with_mask(content(b"hello " * 99))),
    ]
]


# --- numbers and settings --------------------------------------------------------------------------------------------


def config(**settings):
    return raw_config(json.dumps(settings).encode())


def raw_config(text: bytes):
    def make(folder):
        (folder / "config.json").write_bytes(text)
        return ["--config", folder / "config.json"]

    return make


def plain(*args):
    return lambda folder: list(args)


def add(group, rows):
    CASES.extend(Case(group, what, "exit 2", says, make) for what, says, make in rows)


add(
    "Numbers and choices",
    [
        ("`--steps 0`", "steps must be a whole number from 1 to 8192", plain("--steps", "0")),
        ("`--steps -3`", "steps must be a whole number", plain("--steps", "-3")),
        ("`--steps 1000000`", "steps must be a whole number", plain("--steps", "1000000")),
        ("`--steps many`", "invalid int value: 'many'", plain("--steps", "many")),
        ("`--seed -1`", "--seed must not be negative", plain("--seed", "-1")),
        ("`--seed 1.5`", "invalid int value: '1.5'", plain("--seed", "1.5")),
        ("`--device warp9`", "try --device cpu", plain("--device", "warp9")),
        ("`--device meta`", "try --device cpu", plain("--device", "meta")),
        ("`--format glb,stl`", "Unknown format 'stl'", plain("--format", "glb,stl")),
        ("`--format ''`", "Unknown format ''", plain("--format", "")),
        ("`--unit centimetres` with a GLB", "metres by definition", plain("--unit", "centimetres")),
        ("`--map-bits 12`", "invalid choice: 12", plain("--map-bits", "12")),
        ("an unknown flag", "unrecognized arguments", plain("--colour")),
    ],
)
add(
    "Settings (`--config`)",
    [
        ("a missing file", "Cannot read the config", plain("--config", "missing.json")),
        ("not JSON", "Cannot read the config", raw_config(b"{")),
        ("bytes that are no text", "Cannot read the config", raw_config(b"\xff\xfe\x00{")),
        ("100000 brackets", "Cannot read the config", raw_config(b"[" * 100000)),
        ("a list", "must hold one JSON object", raw_config(b"[1]")),
        ("an unknown key", "Unknown setting", config(colour=1)),
        ("`texture_size: 0`", "texture_size must be a whole number", config(texture_size=0)),
        ("`texture_size: 100000`", "texture_size must be a whole number", config(texture_size=100000)),
        ("`render_size: true`", "render_size must be a whole number", config(render_size=True)),
        ('`steps: "50"`', "steps must be a whole number", config(steps="50")),
        ("`cfg_scale: NaN`", "cfg_scale must be a number", raw_config(b'{"cfg_scale": NaN}')),
        ("`cfg_scale: 1e999`", "cfg_scale must be a number", raw_config(b'{"cfg_scale": 1e999}')),
        ('`cfg_scale: "high"`', "cfg_scale must be a number", config(cfg_scale="high")),
        ('`sampler: "magic"`', "Unknown sampler 'magic'", config(sampler="magic")),
        ("`sampler: 3`", "sampler must be text", config(sampler=3)),
        ("`checkpoint: 5`", "checkpoint must be text", config(checkpoint=5)),
        ("`recognizer: []`", "recognizer must be text", config(recognizer=[])),
        ("`weights: [1, 2]`", "weights must be an object", config(weights=[1, 2])),
        ("an unknown weight", "Unknown guidance weight", lambda f: [SAMPLE, *config(weights={"charm": 1})(f)]),
        (
            "a negative weight",
            "must be a number of at least 0",
            lambda f: [SAMPLE, *config(weights={"identity": -1})(f)],
        ),
        (
            "a weight of NaN",
            "must be a number of at least 0",
            lambda f: [SAMPLE, *raw_config(b'{"weights": {"identity": NaN}}')(f)],
        ),
        ("`sigma_window: [3]`", "sigma_window must be two numbers", config(sigma_window=[3])),
        (
            "`sigma_window: [0.1, 3]`",
            "from a larger to a smaller noise level",
            lambda f: [SAMPLE, *config(sigma_window=[0.1, 3])(f)],
        ),
    ],
)


# --- output folders --------------------------------------------------------------------------------------------------


def below_a_file(folder):
    (folder / "file").write_text("x")
    return ["--out", folder / "file" / "out"]


def a_file(folder):
    (folder / "file").write_text("x")
    return ["--out", folder / "file"]


add(
    "Output folder (`--out`)",
    [
        ("a file", "is not a folder with write permission", a_file),
        ("below a file", "is not a folder with write permission", below_a_file),
    ],
)
CASES += [
    Case(
        "Output folder (`--out`)",
        "without write permission",
        "exit 2",
        "is not a folder with write permission",
        plain("--out", "/etc/fitdiff"),
        nobody,
    ),
    Case("Output folder (`--out`)", "on a full disk", "exit 2", "check free space", plain("--steps", "1"), full_disk),
    Case(
        "Output folder (`--out`)",
        "`texture_size: 8192` with 400 MB of memory left",
        "exit 2",
        "out of memory; lower texture_size",
        lambda folder: ["--steps", "1", *config(texture_size=8192)(folder)],
        little_memory,
    ),
]
