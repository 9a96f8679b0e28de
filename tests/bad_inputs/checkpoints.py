"""Rows of the command line: checkpoints and recogniser packs, named in the settings."""

from __future__ import annotations

import functools
import json
import math
import struct

from fitdiff_core.model.checkpoint import DEFAULT

from .files import config, forbidden, little_memory, nobody
from .table import Case

scarce = functools.partial(little_memory, 1000)


def shipped() -> tuple[dict, int]:
    """Header of the shipped checkpoint, and the bytes of its tensors."""
    with DEFAULT.open("rb") as f:
        length = struct.unpack("<Q", f.read(8))[0]
        return json.loads(f.read(length)), DEFAULT.stat().st_size - 8 - length


def checkpoint(change=lambda header: None, more: int = 0, tail: bytes = b"", text: bytes | None = None):
    """The shipped checkpoint's header after `change`, then zeros; `more` bytes too many, the last ones being `tail`."""

    def make(folder):
        header, size = shipped()
        change(header)
        raw = json.dumps(header).encode() if text is None else text
        path = folder / "odd.safetensors"
        with path.open("wb") as f:
            f.write(struct.pack("<Q", len(raw)) + raw)
            f.truncate(8 + len(raw) + size + more)  # a hole: no disk is used
            f.seek(-len(tail), 2)
            f.write(tail)
        return config(checkpoint=str(path))(folder)

    return make


def file(data: bytes, name="odd.safetensors"):
    def make(folder):
        (folder / name).write_bytes(data)
        return config(checkpoint=str(folder / name))(folder)

    return make


def metadata(**values):
    return lambda header: header["__metadata__"].update(values)


def architecture(part, **values):
    def change(header):
        described = json.loads(header["__metadata__"]["architecture"])
        described[part].update(values)
        header["__metadata__"]["architecture"] = json.dumps(described)

    return change


def first(header):
    """The entry of a tensor that is no vector."""
    return next(v for k, v in header.items() if k != "__metadata__" and len(v["shape"]) > 1)


def rename(header):
    name = next(k for k in header if k != "__metadata__")
    header[name + "_"] = header.pop(name)


def overlap(header):
    """Two tensors of one size at one place; the file's size still fits."""
    tensors = [v for k, v in header.items() if k != "__metadata__"]
    last = max(v["data_offsets"][1] for v in tensors)
    sizes = {}
    for v in tensors:
        if v["data_offsets"][1] == last:
            continue
        if (size := v["data_offsets"][1] - v["data_offsets"][0]) in sizes:
            v["data_offsets"] = sizes[size]["data_offsets"]
            return
        sizes[size] = v


def gigantic(header):
    """A tensor of 256 GB, which nobody should try to allocate; the file is as large as it says, being a hole."""
    end = max(v["data_offsets"][1] for k, v in header.items() if k != "__metadata__")
    header["extra"] = {"dtype": "F32", "shape": [1 << 36], "data_offsets": [end, end + (1 << 38)]}


def unreadable(folder):
    forbidden(folder / "odd.png")
    (folder / "odd.png").rename(folder / "odd.safetensors")
    return config(checkpoint=str(folder / "odd.safetensors"))(folder)


CASES = [
    Case("Checkpoints", what, "exit 2", says, make)
    for what, says, make in [
        (
            "a missing file",
            "No FitDiff weights at",
            lambda folder: config(checkpoint=str(folder / "nowhere.safetensors"))(folder),
        ),
        ("a folder", "No FitDiff weights at", lambda folder: config(checkpoint=str(folder))(folder)),
        ("zero bytes", "is not a whole safetensors file", file(b"")),
        (
            "a pickle (.ckpt)",
            "is a pickle; those can run code and are never loaded",
            file(b"PK\x03\x04" + bytes(99), "odd.ckpt"),
        ),
        (
            "a Git LFS pointer",
            "is a Git LFS pointer, not the weights",
            file(b"version https://git-lfs.github.com/spec/v1\n"),
        ),
        ("cut short", "is cut short or padded", checkpoint(more=-1000)),
        ("padded", "is cut short or padded", checkpoint(more=1000)),
        ("a header of 8 MB", "is not a whole safetensors file", checkpoint(text=b"{" + b" " * (8 << 20) + b"}")),
        (
            "metadata of 3 MB",
            "is not a FitDiff checkpoint",
            checkpoint(text=json.dumps({"__metadata__": {"x": "y" * (3 << 20)}}).encode()),
        ),
        ("a header that is not JSON", "its header is not JSON", checkpoint(text=b"{" * 99)),
        ("a header of 100000 brackets", "its header is not JSON", checkpoint(text=b"[" * 100000)),
        ("another model's file", "is not a FitDiff checkpoint", checkpoint(lambda h: h.pop("__metadata__"))),
        (
            "of a later format",
            "is not a FitDiff checkpoint (format 'fitdiff-1' expected)",
            checkpoint(metadata(format="fitdiff-2")),
        ),
        ("metadata that is a number", "its header is not JSON", checkpoint(metadata(architecture=3))),
        ("no recogniser named", "does not name the recogniser", checkpoint(metadata(recognizer=None))),
        ("a tensor by another name", "lacks 1 tensors", checkpoint(rename)),
        ("a tensor of another shape", "makes no sense", checkpoint(lambda h: first(h).update(shape=[1, 2, 3]))),
        (
            "a tensor with an axis too many",
            "has misshapen 1 tensors",
            checkpoint(lambda h: first(h).update(shape=[*first(h)["shape"], 1])),
        ),
        (
            "a tensor stored as BF16",
            "stored as BF16, not as F16 or F32",
            checkpoint(lambda h: first(h).update(dtype="BF16")),
        ),
        (
            "a tensor that begins before the file",
            "makes no sense",
            checkpoint(lambda h: first(h).update(data_offsets=[-4, 8])),
        ),
        ("two tensors at one place", "cannot be read", checkpoint(overlap)),
        (
            "an unknown field of the architecture",
            "describes an architecture this version does not know",
            checkpoint(architecture("denoiser", depth=3)),
        ),
        ("latents of two sizes", "of different latents", checkpoint(architecture("autoencoder", size=256))),
        ("NaN among the weights", "holds NaN or infinite values", checkpoint(tail=b"\x00\x7e")),
        ("for another atlas", "was trained for atlas 'b9'", checkpoint(metadata(atlas_version="b9"))),
    ]
]
CASES += [
    Case("Checkpoints", f"{what}, with 1 GB of memory left", "exit 2", says, make, scarce)
    for what, says, make in [
        ("a header of 2^60 bytes", "is not a whole safetensors file", file(struct.pack("<Q", 1 << 60) + b"{}" * 99)),
        ("a further tensor of 256 GB", "has unknown 1 tensors", checkpoint(gigantic, more=1 << 38)),
        (
            "a layer of 2^30 channels",
            "describes an architecture this version does not know",
            checkpoint(architecture("denoiser", widths=[64, 128, 1 << 30])),
        ),
    ]
]
CASES.append(Case("Checkpoints", "a file that may not be read", "exit 2", "check its permissions", unreadable, nobody))


# --- recogniser packs ------------------------------------------------------------------------------------------------


def network(name="w600k.onnx", **changes):
    """An ArcFace network as `tests/test_onnx.py` builds them. nan: in its last weights; side: of its crop, px."""

    def make(folder):
        import onnx

        from tests.support.onnx_networks import iresnet

        proto = iresnet(**{k: v for k, v in changes.items() if k == "dim"})
        if changes.get("nan"):
            weights = next(t for t in proto.graph.initializer if t.name == "fb")
            weights.raw_data = struct.pack("<f", math.nan) * (len(weights.raw_data) // 4)
        if side := changes.get("side"):
            for dim in proto.graph.input[0].type.tensor_type.shape.dim[2:]:
                dim.dim_value = side
        onnx.save(proto, folder / name)
        return config(recognizer=str(folder / name))(folder)

    return make


def pack(**files):
    """A folder that holds these `.onnx` files."""

    def make(folder):
        (folder / "buffalo").mkdir()
        for name, data in files.items():
            (folder / "buffalo" / f"{name}.onnx").write_bytes(data)
        return config(recognizer=str(folder / "buffalo"))(folder)

    return make


def onnx_file(data: bytes):
    def make(folder):
        (folder / "odd.onnx").write_bytes(data)
        return config(recognizer=str(folder / "odd.onnx"))(folder)

    return make


CASES.append(
    Case(
        "Recogniser packs",
        "a crop of 100000 px, with 1 GB of memory left",
        "exit 2",
        "not a square RGB image",
        network(side=100000),
        scarce,
    )
)
CASES += [
    Case("Recogniser packs", what, "exit 2", says, make)
    for what, says, make in [
        (
            "a missing .onnx file",
            "No such ONNX file",
            lambda folder: config(recognizer=str(folder / "gone.onnx"))(folder),
        ),
        ("text renamed .onnx", "is not a whole ONNX file", onnx_file(b"hello " * 99)),
        ("zero bytes", "is not a whole ONNX file", onnx_file(b"")),
        ("a Git LFS pointer", "is not a whole ONNX file", onnx_file(b"version https://git-lfs.github.com/spec/v1\n")),
        ("an empty folder", "holds no .onnx file", pack()),
        (
            "a folder without a recognition network",
            "is a whole face recognition network",
            pack(det_10g=b"x" * 99, genderage=b""),
        ),
        ("an embedding of 16 numbers", "does not give one embedding per face", network(dim=16)),
        ("weights of NaN", "it answers with NaN or infinite values", network(nan=True)),
        ("a name that no pack has", "No recogniser 'nobody'", config(recognizer="nobody")),
    ]
]
