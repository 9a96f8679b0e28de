"""The file of the built-in face networks: `assets/identity.safetensors`, made by `fitdiff_lab.assets.face_networks`.

Tensors are named `<network>/<constant>` and stored in float16. The metadata entry `plan` (JSON) has the input size
and the nodes of each network that is a `Graph`. dlib's network is a torch module (`identity.dlib`) and needs no plan.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import UserError
from .interpreter import Graph, Node

ASSET = Path(__file__).resolve().parent.parent / "assets" / "identity.safetensors"
FORMAT = "fitdiff-identity-1"
RESNET = "dlib_resnet"


def save_networks(
    path: str | os.PathLike, graphs: dict[str, tuple[Graph, int]], resnet: dict[str, Tensor], credits: dict
):
    """Write the face networks in float16.

    path: file to write
    graphs: name -> (network, side of its input in pixels)
    resnet: state dict of `identity.dlib.DlibResNet`
    credits: sources and licences, stored in the metadata
    """
    tensors = {f"{RESNET}/{k}": v for k, v in resnet.items()}
    plan = {}
    for name, (graph, size) in graphs.items():
        tensors |= {f"{name}/{k}": v for k, v in graph.constants.items()}
        nodes = [[n.op, n.inputs, n.outputs, n.attributes] for n in graph.nodes]
        plan[name] = {"size": size, "input": graph.input, "outputs": graph.outputs, "nodes": nodes}
    tensors = {k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in tensors.items()}
    metadata = {"format": FORMAT, "plan": json.dumps(plan, separators=(",", ":")), "credits": json.dumps(credits)}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, str(path), metadata)


def _open(path: str | os.PathLike | None, resnet: bool) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors of the ResNet, or of all others, and the metadata. Raises UserError for a missing or damaged file."""
    path = Path(path or ASSET)
    repair = "Reinstall FitDiff, or rebuild the file with: python -m fitdiff_lab.assets.face_networks"
    if not path.is_file():
        raise UserError(f"The built-in face networks are missing: no file {path}. {repair}")
    try:
        with safe_open(str(path), "pt") as f:
            metadata = f.metadata() or {}
            names = [name for name in f.keys() if name.startswith(RESNET + "/") == resnet]  # noqa: SIM118 (no dict)
            tensors = {name: f.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as e:
        raise UserError(
            f"{path} is damaged ({e}); perhaps it is a Git LFS pointer or a broken download. {repair}"
        ) from e
    if metadata.get("format") != FORMAT:
        raise UserError(
            f"{path} is not a file of FitDiff's face networks (format {metadata.get('format')!r}). {repair}"
        )
    for key, value in tensors.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise UserError(f"{path} is damaged: {key} holds values that are not finite. {repair}")
    return tensors, metadata


def load_graphs(path: str | os.PathLike | None = None) -> dict[str, tuple[Graph, int]]:
    """Name -> (network, side of its square input in pixels). Raises UserError for a missing or damaged file.

    path: None for the shipped file
    """
    tensors, metadata = _open(path, resnet=False)
    graphs = {}
    for name, p in json.loads(metadata["plan"]).items():
        nodes = [Node(op, tuple(i), tuple(o), a) for op, i, o, a in p["nodes"]]
        constants = {k.split("/", 1)[1]: v for k, v in tensors.items() if k.startswith(name + "/")}
        graphs[name] = Graph(nodes, constants, p["input"], p["outputs"]).train(False), int(p["size"])
    return graphs


def load_resnet_state(path: str | os.PathLike | None = None) -> dict[str, Tensor]:
    """State dict of `identity.dlib.DlibResNet`, float32. Raises UserError for a missing or damaged file."""
    tensors, _ = _open(path, resnet=True)
    return {k.split("/", 1)[1]: v.float() for k, v in tensors.items()}
