"""The checkpoint: autoencoder and denoiser in one safetensors file, fp16, with their description in the metadata.

Before any weight is read, the file's header is compared with the architecture that its metadata describes: names,
shapes, types, sizes. A mismatch raises a UserError that says what to do. Missing weights are an error; they are never
initialised.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from ..errors import UserError
from ..files import write_atomic
from ..head import HeadModel, load_head
from .autoencoder import AutoencoderConfig, MapAutoencoder
from .denoiser import Denoiser, DenoiserConfig

FORMAT = "fitdiff-1"
DEFAULT = Path(__file__).parents[1] / "assets" / "fitdiff.safetensors"
MAX_HEADER = 4 << 20  # bytes; the shipped file has about 60 kB
WIDTHS = {"F16": 2, "F32": 4}  # bytes per value of the types that can be read
MAX_WIDTH = 4096  # largest allowed value of a config field

Config = TypeVar("Config", AutoencoderConfig, DenoiserConfig)


@dataclass
class FitDiffModel:
    """The networks and the head that sampling needs.

    head: linear head model
    autoencoder: maps <-> texture latent
    denoiser: with the linear prior and the shape encoder
    recognizer: name of the recogniser whose features condition the denoiser
    metadata: path, id, atlas_version and training of the file
    """

    head: HeadModel
    autoencoder: MapAutoencoder
    denoiser: Denoiser
    recognizer: str
    metadata: dict

    @property
    def device(self) -> torch.device:
        return self.denoiser.embedding_mean.device

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Shape of one latent: (C + 1, h, w)."""
        return self.denoiser.latent_shape

    @property
    def id(self) -> str:
        """Short fingerprint of the weights file."""
        return self.metadata["id"]

    def to(self, device: torch.device | str) -> FitDiffModel:
        """Move all modules to `device`, in place; returns self."""
        for module in (self.head, self.autoencoder, self.denoiser):
            module.to(device)
        return self


def save_model(
    path: str | os.PathLike,
    autoencoder: MapAutoencoder,
    denoiser: Denoiser,
    *,
    recognizer: str,
    atlas_version: str,
    training: dict | None = None,
) -> Path:
    """Write a checkpoint in fp16, atomically; returns its path.

    path: file to write
    autoencoder, denoiser: trained networks
    recognizer: name of the recogniser whose features condition the denoiser
    atlas_version: of the head that the maps belong to
    training: run settings and metrics, stored as JSON in the metadata; default empty
    Raises UserError if a weight is not finite in fp16 or the file cannot be written.
    """
    tensors = {}
    for prefix, module in (("autoencoder", autoencoder), ("denoiser", denoiser)):
        for name, value in module.state_dict().items():
            half = value.detach().cpu().to(torch.float16).contiguous()
            if not torch.isfinite(half).all():
                raise UserError(f"{prefix}.{name} is not finite in fp16; this training run has diverged.")
            tensors[f"{prefix}.{name}"] = half
    metadata = {
        "format": FORMAT,
        "architecture": json.dumps({"autoencoder": asdict(autoencoder.config), "denoiser": asdict(denoiser.config)}),
        "recognizer": recognizer,
        "atlas_version": atlas_version,
        "training": json.dumps(training or {}),
    }
    return write_atomic(path, save(tensors, metadata))


def load_model(
    path: str | os.PathLike | None = None, device: torch.device | str = "cpu", head: HeadModel | None = None
) -> FitDiffModel:
    """Read a checkpoint: evaluation mode, float32, without gradients.

    path: safetensors file; None for the shipped one
    device: where to put the networks; default "cpu"
    head: head model; None for `load_head()`
    Raises UserError if the file is missing, damaged, no FitDiff checkpoint, or made for another head or atlas.
    """
    path = Path(path) if path is not None else DEFAULT
    if not path.is_file():
        raise UserError(
            f"No FitDiff weights at {path}. The shipped ones are {DEFAULT}: install the pack again, or give "
            "the path of a checkpoint."
        )
    metadata, described = read_header(path)
    autoencoder, denoiser = _architecture(path, metadata)
    modules = nn.ModuleDict({"autoencoder": autoencoder, "denoiser": denoiser})
    _compare(path, described, {k: tuple(v.shape) for k, v in modules.state_dict().items()})
    head = head if head is not None else load_head()
    if metadata.get("atlas_version") != head.atlas_version:
        raise UserError(
            f"{path.name} was trained for atlas '{metadata.get('atlas_version')}', the head has "
            f"'{head.atlas_version}'. Use the checkpoint and the head of one release."
        )
    if denoiser.config.shape != head.n_identity:
        raise UserError(
            f"{path.name} samples {denoiser.config.shape} shape coefficients, the head has "
            f"{head.n_identity}. Use the checkpoint and the head of one release."
        )
    try:
        raw = path.read_bytes()
        tensors = load(raw)
    except (OSError, SafetensorError) as e:  # for instance tensors that overlap
        raise UserError(f"{path.name} cannot be read ({e}). Download it again.") from e
    for name, value in tensors.items():
        if not torch.isfinite(value).all():
            raise UserError(f"{path.name} is damaged: {name} holds NaN or infinite values. Download it again.")
    modules.load_state_dict({k: v.float() for k, v in tensors.items()}, assign=True)
    modules.train(False).requires_grad_(False)
    info = {
        "path": str(path),
        "id": hashlib.sha256(raw).hexdigest()[:12],
        "atlas_version": metadata["atlas_version"],
        "training": _json(path, metadata.get("training", "{}")),
    }
    # on a CPU convolutions are faster with channels last
    for module in (autoencoder, denoiser):
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's annotations lack it
    return FitDiffModel(head, autoencoder, denoiser, metadata["recognizer"], info).to(device)


def read_header(path: Path) -> tuple[dict[str, str], dict[str, dict]]:
    """(metadata, {name: {dtype, shape, data_offsets}}) of a safetensors file, checked against the file's size.

    Raises UserError if the header is damaged or of another format.
    """
    size = path.stat().st_size
    try:
        file = path.open("rb")
    except OSError as e:
        raise UserError(f"{path} cannot be read ({e.strerror}); check its permissions.") from e
    with file as f:
        start = f.read(8)
        if start[:2] == b"PK" or start[:1] == b"\x80":
            raise UserError(
                f"{path.name} is a pickle; those can run code and are never loaded. Use a .safetensors file."
            )
        if start == b"version ":
            raise UserError(f"{path.name} is a Git LFS pointer, not the weights; run `git lfs pull`.")
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else -1
        if not 2 <= length <= min(MAX_HEADER, size - 8):
            raise UserError(
                f"{path.name} is not a whole safetensors file (header of {length} bytes in {size}). Download it again."
            )
        header = _json(path, f.read(length))
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise UserError(
            f"{path.name} is not a FitDiff checkpoint (format '{FORMAT}' expected). Give FitDiff's own "
            "weights, not another model's."
        )
    end = 0
    for name, entry in header.items():
        end = max(end, _check_entry(path, name, entry))
    if end != size - 8 - length:
        raise UserError(
            f"{path.name} is cut short or padded: {size} bytes where {end + 8 + length} were described. "
            "Download it again."
        )
    return metadata, header


def _check_entry(path: Path, name: str, entry: dict) -> int:
    """End offset in bytes of one tensor. Raises UserError if its type, shape and offsets disagree."""
    try:
        if entry["dtype"] not in WIDTHS:
            raise ValueError(f"stored as {entry['dtype']}, not as {' or '.join(WIDTHS)}")
        width = WIDTHS[entry["dtype"]]
        shape, (begin, end) = entry["shape"], entry["data_offsets"]
        whole = all(isinstance(v, int) and 0 <= v < 1 << 40 for v in [*shape, begin, end])
        if not whole or end - begin != width * math.prod(shape):
            raise ValueError("shape and size disagree")
        return end
    except (KeyError, TypeError, ValueError) as e:
        raise UserError(
            f"{path.name} is damaged: the entry of {name} makes no sense ({e!r}). Download it again."
        ) from e


def _json(path: Path, text: str | bytes) -> dict:
    """A JSON object of the header. Raises UserError if it is none."""
    try:
        value = json.loads(text)
    except (ValueError, TypeError, RecursionError) as e:
        raise UserError(f"{path.name} is damaged: its header is not JSON ({e}). Download it again.") from e
    if not isinstance(value, dict):
        raise UserError(f"{path.name} is damaged: its header is not a table. Download it again.")
    return value


def config_from(kind: type[Config], values: dict) -> Config:
    """A config dataclass from JSON. Raises ValueError for unknown or missing fields, wrong types or ranges."""
    default = asdict(kind())
    if values.keys() != default.keys():
        raise ValueError(f"fields {sorted(values.keys() ^ default.keys())} are unknown or missing")
    out: dict[str, Any] = {}
    for name, value in values.items():
        numbers = value if isinstance(value, (list, tuple)) else [value]
        wanted = len(default[name]) if isinstance(default[name], tuple) else 1
        if len(numbers) != wanted or any(type(v) is not int or not 0 < v <= MAX_WIDTH for v in numbers):
            raise ValueError(f"{name} = {value}")
        out[name] = tuple(numbers) if isinstance(default[name], tuple) else numbers[0]
    return kind(**out)


def _architecture(path: Path, metadata: dict[str, str]) -> tuple[MapAutoencoder, Denoiser]:
    """Both networks as the metadata describes them, on the meta device (shapes without memory)."""
    described = _json(path, metadata.get("architecture", "null"))
    if not isinstance(metadata.get("recognizer"), str):
        raise UserError(f"{path.name} does not name the recogniser it was trained with; it cannot be used.")
    try:
        with torch.device("meta"):
            autoencoder = MapAutoencoder(config_from(AutoencoderConfig, described["autoencoder"]))
            denoiser = Denoiser(config_from(DenoiserConfig, described["denoiser"]))
    except (KeyError, AttributeError, TypeError, ValueError, RuntimeError, ZeroDivisionError) as e:
        raise UserError(
            f"{path.name} describes an architecture this version does not know ({e}). Update the pack, or "
            "use its own weights."
        ) from e
    a, d = autoencoder.config, denoiser.config
    if (a.latent, autoencoder.latent_size) != (d.latent, d.size):
        raise UserError(f"{path.name} pairs an autoencoder and a denoiser of different latents; it cannot be used.")
    return autoencoder, denoiser


def _compare(path: Path, described: dict[str, dict], expected: dict[str, tuple[int, ...]]) -> None:
    """Raises UserError unless the header has exactly the expected tensor names and shapes."""
    missing, extra = sorted(expected.keys() - described.keys()), sorted(described.keys() - expected.keys())
    wrong = sorted(k for k in expected.keys() & described.keys() if tuple(described[k]["shape"]) != expected[k])
    for what, names in (("lacks", missing), ("has unknown", extra), ("has misshapen", wrong)):
        if names:
            raise UserError(
                f"{path.name} {what} {len(names)} tensors ({names[0]}, ...): it is damaged or of another "
                "version. Use the weights of this release."
            )
