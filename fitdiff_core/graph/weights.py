"""The file of the built-in face networks: `assets/identity.safetensors`, made by `fitdiff_lab.assets.face_networks`.

Tensors are named `<network>/<constant>` and stored in float16. The metadata entry `plan` (JSON) has the input size
and the nodes of each network that is a `Graph`. dlib's network is a torch module (`identity.dlib`) and needs no plan.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import UserError
from ..metadata import DAMAGE, check_fields, is_count, is_text, json_table, list_of
from .interpreter import Graph, Node

ASSET = Path(__file__).resolve().parent.parent / "assets" / "identity.safetensors"
FORMAT = "fitdiff-identity-1"
RESNET = "dlib_resnet"
REPAIR = "Reinstall FitDiff, or rebuild the file with: python -m fitdiff_lab.assets.face_networks"


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
    if not path.is_file():
        raise UserError(f"The built-in face networks are missing: no file {path}. {REPAIR}")
    try:
        with safe_open(str(path), "pt") as f:
            metadata = f.metadata() or {}
            names = [name for name in f.keys() if name.startswith(RESNET + "/") == resnet]  # noqa: SIM118 (no dict)
            tensors = {name: f.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as e:
        raise UserError(
            f"{path} is damaged ({e}); perhaps it is a Git LFS pointer or a broken download. {REPAIR}"
        ) from e
    if metadata.get("format") != FORMAT:
        raise UserError(
            f"{path} is not a file of FitDiff's face networks (format {metadata.get('format')!r}). {REPAIR}"
        )
    for key, value in tensors.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise UserError(f"{path} is damaged: {key} holds values that are not finite. {REPAIR}")
    return tensors, metadata


def load_graphs(path: str | os.PathLike | None = None) -> dict[str, tuple[Graph, int]]:
    """Name -> (network, side of its square input in pixels). Raises UserError for a missing or damaged file.

    path: None for the shipped file
    """
    tensors, metadata = _open(path, resnet=False)
    try:
        return {name: _network(name, p, tensors) for name, p in json_table(metadata["plan"]).items()}
    except UserError:  # a subclass of ValueError, but no damage
        raise
    except DAMAGE as e:
        raise UserError(f"{path or ASSET} is damaged ({type(e).__name__}: {e}). {REPAIR}") from e


def _network(name: str, plan: dict, tensors: dict[str, Tensor]) -> tuple[Graph, int]:
    """One network of the plan and the side of its input. Raises one of `DAMAGE` if the plan makes no sense."""
    check_fields(plan, PLAN)
    nodes = [Node(op, tuple(i), tuple(o), a) for op, i, o, a in plan["nodes"]]
    constants = {k.split("/", 1)[1]: v for k, v in tensors.items() if k.startswith(name + "/")}
    known = {plan["input"], "", *constants}
    for node in nodes:
        if not set(node.inputs) <= known or not node.outputs:
            raise ValueError(f"{name}: {node.op} reads what nothing writes")
        known |= set(node.outputs)
    if not set(plan["outputs"]) <= known:
        raise ValueError(f"{name}: nothing writes its outputs")
    return Graph(nodes, constants, plan["input"], plan["outputs"]).train(False), plan["size"]


def _is_node(value: Any) -> bool:
    """[operator, inputs, outputs, attributes]"""
    if not isinstance(value, list) or len(value) != 4:
        return False
    op, inputs, outputs, attributes = value
    return is_text(op) and list_of(is_text)(inputs) and list_of(is_text)(outputs) and isinstance(attributes, dict)


PLAN = {"size": is_count, "input": is_text, "outputs": list_of(is_text), "nodes": list_of(_is_node)}


def load_resnet_state(path: str | os.PathLike | None = None) -> dict[str, Tensor]:
    """State dict of `identity.dlib.DlibResNet`, float32. Raises UserError for a missing or damaged file."""
    tensors, _ = _open(path, resnet=True)
    return {k.split("/", 1)[1]: v.float() for k, v in tensors.items()}
