"""Choice of the recogniser: built-in, an ArcFace `.onnx` file, an insightface pack, or an object of another node pack.

An insightface pack is a folder of `.onnx` files; one of them is the recognition network. The package insightface is not
needed and never imported.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError
from ..graph.onnx import read_signature
from .arcface import load_arcface
from .dlib import load_builtin
from .recognizer import Recognizer

BUILT_IN = "built-in"
TREE = """Expected file tree (as insightface, ReActor, InstantID and PuLID use it):
  models/insightface/models/
    buffalo_l/
      w600k_r50.onnx      <- the recognition network, the one file needed here
      det_10g.onnx, ...   (other files of the pack may be there)"""


def is_recognition(path: Path) -> bool:
    """Whether an `.onnx` file maps one square crop of 112 to 160 px to one embedding.

    The other networks of a pack do not: landmarks and detectors take 192 px or more, age and gender 96 px, and the face
    swapper has a second input.
    """
    try:
        signature = read_signature(path)
    except UserError:
        return False
    if len(signature.inputs) != 1 or len(signature.outputs) != 1:
        return False
    image, embedding = next(iter(signature.inputs.values())), next(iter(signature.outputs.values()))
    side = image[2] if len(image) == 4 else -1
    return side in (0, *range(112, 161, 16)) and (not embedding or embedding[-1] == 0 or embedding[-1] >= 64)


def onnx_files(folder: Path) -> list[Path]:
    """The `.onnx` files of a pack's folder, and of a folder of the same name in it (antelopev2's archive has one)."""
    return sorted(folder.glob("*.onnx")) + sorted(folder.glob(f"{folder.name}/*.onnx"))


def recognition_file(folder: str | os.PathLike) -> Path:
    """The recognition `.onnx` in a pack's folder. Raises UserError with the expected file tree if there is none."""
    folder = Path(folder)
    found = onnx_files(folder)
    for path in found:
        if is_recognition(path):
            return path
    if not folder.is_dir():
        what = f"There is no pack folder {folder}"
    elif found:
        what = f"None of {', '.join(p.name for p in found)} in {folder} is a whole face recognition network"
    else:
        what = f"{folder} holds no .onnx file"
    raise UserError(f"{what}; put the pack there or use the built-in recogniser.\n{TREE}")


def list_packs(*folders: str | os.PathLike) -> list[str]:
    """Names for `load_recognizer`: "built-in", then the packs in `folders` (e.g. `models/insightface`), sorted."""
    names = {p.name for root in _roots(folders) for p in root.iterdir() if p.is_dir() and onnx_files(p)}
    return [BUILT_IN, *sorted(names)]


def _roots(folders: Sequence[str | os.PathLike]) -> list[Path]:
    """Folders that hold packs: insightface uses `<root>/models`; a user may also give that folder itself."""
    return [p for f in folders for p in (Path(f) / "models", Path(f)) if p.is_dir()]


@torch.inference_mode(False)  # gradients flow through the network later, which inference tensors do not allow
def load_recognizer(
    source: str | os.PathLike | Any = BUILT_IN,
    device: torch.device | str = "cpu",
    folders: Sequence[str | os.PathLike] = (),
) -> Recognizer:
    """A frozen recogniser.

    source: "built-in" (default); path of a recognition `.onnx` or of a pack's folder; name of a pack in `folders`; a
        `Recognizer`; or another node pack's object that holds insightface's FaceAnalysis
    device: default "cpu"
    folders: where packs are searched, e.g. `models/insightface`; default none
    Raises UserError if the recogniser is missing or not usable; the message says which files were expected.
    """
    if isinstance(source, Recognizer):
        return source.to(device)
    if not isinstance(source, (str, os.PathLike)):
        return load_arcface(face_analysis_file(source), device)
    if str(source) == BUILT_IN:
        return load_builtin(device=device)
    path = Path(source)
    if path.suffix.lower() == ".onnx":
        return load_arcface(path, device)
    for candidate in (path, *(root / path for root in _roots(folders))):
        if candidate.is_dir():
            return load_arcface(recognition_file(candidate), device)
    places = ", ".join(str(f) for f in folders) or "no folder was given"
    raise UserError(f"No recogniser {str(source)!r} (searched: {places}); choose 'built-in' or install a pack.\n{TREE}")


def face_analysis_file(analysis: Any) -> Path:
    """Path of the recognition `.onnx` of an insightface FaceAnalysis or of one of its models.

    analysis: recognised by its attributes `models` or `model_file`, because insightface is not imported
    Raises UserError for another object.
    """
    models = getattr(analysis, "models", None)
    model = models.get("recognition") if isinstance(models, dict) else analysis
    file = getattr(model, "model_file", None)
    if not isinstance(file, (str, os.PathLike)):
        has = f"it holds {sorted(models)}" if isinstance(models, dict) else f"it is a {type(analysis).__name__}"
        raise UserError(
            f"This object gives no face recognition network ({has}); connect an insightface FaceAnalysis whose pack "
            f"has one, or use FitDiff's own recogniser loader.\n{TREE}"
        )
    return Path(file)
