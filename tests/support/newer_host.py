"""A stand-in for a host newer than the one in `make host`.

It has the names of ComfyUI's `comfy_api/latest/_util/geometry_types.py` of 2026.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import MagicMock

import torch

from tests.support.paths import ROOT

PACK = "fitdiff_on_a_newer_host"


@dataclass
class MESH:
    vertices: torch.Tensor
    faces: torch.Tensor
    uvs: torch.Tensor | None = None
    vertex_colors: torch.Tensor | None = None
    texture: torch.Tensor | None = None
    metallic_roughness: torch.Tensor | None = None
    vertex_counts: torch.Tensor | None = None
    face_counts: torch.Tensor | None = None
    unlit: bool = False
    normals: torch.Tensor | None = None
    tangents: torch.Tensor | None = None
    normal_map: torch.Tensor | None = None
    occlusion_in_mr: bool = False
    material: dict | None = None
    emissive: torch.Tensor | None = None


@dataclass
class File3D:
    source: str
    file_format: str = ""


class NodeOutput:
    def __init__(self, *values, ui=None):
        self.values, self.ui = values, ui


class ModelPatcher:
    """Takes what core's takes; nothing is ever unloaded here."""

    def __init__(self, model, load_device, offload_device, size=0):
        self.model = model


@contextlib.contextmanager
def newer_host(monkeypatch, tmp_path):
    """The pack's `nodes.export` and `fitdiff_core`, as the stand-in host would import them."""
    hidden = types.SimpleNamespace(prompt=None, extra_pnginfo=None, unique_id="5")
    io = MagicMock(
        NodeOutput=NodeOutput,
        ComfyNode=type("ComfyNode", (), {"hidden": hidden}),
    )
    latest = MagicMock(
        io=io, ComfyExtension=type("ComfyExtension", (), {}), Types=types.SimpleNamespace(MESH=MESH, File3D=File3D)
    )
    folder_paths = MagicMock(
        get_output_directory=lambda: str(tmp_path),
        get_save_image_path=lambda prefix, folder, *size: (str(tmp_path), Path(prefix).name, 1, "", prefix),
    )
    fakes = {"comfy_api": MagicMock(latest=latest), "comfy_api.latest": latest, "folder_paths": folder_paths}
    fakes |= {name: MagicMock() for name in ("comfy.model_management", "comfy.utils")}
    patcher = types.SimpleNamespace(ModelPatcher=ModelPatcher)
    fakes |= {"comfy": MagicMock(model_patcher=patcher), "comfy.model_patcher": patcher}
    fakes["comfy.cli_args"] = MagicMock(args=types.SimpleNamespace(disable_metadata=False))
    for name, module in fakes.items():
        monkeypatch.setitem(sys.modules, name, module)
    for name, folder in (
        (PACK, ROOT),
        (f"{PACK}.nodes", ROOT / "nodes"),
    ):  # without the other nodes and what they import
        package = types.ModuleType(name)
        package.__path__ = [str(folder)]
        monkeypatch.setitem(sys.modules, name, package)
    yield importlib.import_module(f"{PACK}.nodes.export"), importlib.import_module(f"{PACK}.fitdiff_core.pipeline")
    for name in [n for n in sys.modules if n.startswith(PACK + ".") and n != f"{PACK}.nodes"]:
        del sys.modules[name]
