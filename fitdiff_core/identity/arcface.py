"""ArcFace-family recognisers from an `.onnx` file (Deng et al. 2019; insightface's packs), differentiable.

The user brings the file: insightface's own packs are for non-commercial research, so none is shipped.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UserError
from ..face.detect import five_points
from ..graph.interpreter import Graph
from ..graph.onnx import load_onnx, read_signature
from ..graph.protobuf import DAMAGE
from .recognizer import Features, Recognizer

# insightface's reference points in its 112 px crop: eyes, nose tip, mouth corners, image left first. OpenCV puts the origin
# at the first pixel's centre, this project at its corner, hence the half pixel.
TEMPLATE_112 = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
N_ACTIVATIONS = 3
MAX_CROP = 512  # px; recognition networks take 112 to 224


def template(size: int) -> Tensor:
    """`[5, 2]` px: insightface's norm_crop for a crop of `size`; multiples of 128 have the wider frame."""
    points = torch.tensor(TEMPLATE_112) + 0.5
    if size % 112 == 0:
        return points * (size / 112)
    return (points + torch.tensor([8.0, 0.0])) * (size / 128)


def input_range(graph: Graph) -> tuple[float, float]:
    """(mean, scale) so that the network gets `(255 x - mean) / scale`.

    Graphs converted from MXNet subtract and scale by themselves in their first nodes; others expect -1..1.
    """
    first = {node.op for node in graph.nodes[:8]}
    own = {"Sub", "Mul"} <= first or {"Sub", "Div"} <= first
    return (0.0, 1.0) if own else (127.5, 127.5)


def pick_activations(graph: Graph, size: int) -> list[str]:
    """Names of three feature maps, finest first: the last residual sum at each of the three coarsest resolutions.

    For a ResNet at 112 px these are 28 x 28, 14 x 14 and 7 x 7. Without residual sums, the last map at a resolution.
    """
    last: dict[int, str] = {}
    kinds = {node.outputs[0]: node.op for node in graph.nodes}
    for name, shape in graph.shapes(torch.zeros(1, 3, size, size)).items():
        if len(shape) == 4 and shape[2] == shape[3] and 4 <= shape[2] <= size // 3:
            if kinds[name] == "Add" or kinds.get(last.get(shape[2])) != "Add":
                last[shape[2]] = name
    return [last[n] for n in sorted(last, reverse=True)[-N_ACTIVATIONS:]]


class ArcFaceRecognizer(Recognizer):
    """A recognition `.onnx` as a Recognizer. Strangers' cosine is about 0, so `similarity` is the cosine itself."""

    same_threshold = 1.2  # cosine 0.28, insightface's own rule of thumb for one person
    stranger_cosine = 0.0

    def __init__(self, graph: Graph, name: str, size: int = 112):
        super().__init__()
        self.graph, self.name, self.crop_size = graph.eval(), name, size
        self.activation_names = pick_activations(graph, size)
        with torch.no_grad():
            probe = graph(torch.zeros(1, 3, size, size))
        if len(probe) != 1 or probe[0].ndim != 2 or probe[0].shape[1] < 32:
            shapes = [tuple(p.shape) for p in probe]
            raise UserError(
                f"{name} does not give one embedding per face but {shapes}; choose the pack's recognition model."
            )
        if not torch.isfinite(probe[0]).all():
            raise UserError(f"{name} is damaged: it answers with NaN or infinite values; download it again.")
        self.dim = probe[0].shape[1]
        self.mean, self.scale = input_range(graph)
        self.register_buffer("template", template(size), persistent=False)

    def alignment_points(self, mesh: Tensor) -> Tensor:
        return five_points(mesh)

    def forward(self, crop: Tensor) -> Features:
        x = (crop * 255 - self.mean) / self.scale
        embedding, *activations = self.graph.run(x, [*self.graph.outputs, *self.activation_names])
        return Features(F.normalize(embedding, dim=-1), tuple(activations))


def load_arcface(path: str | os.PathLike, device: torch.device | str = "cpu") -> ArcFaceRecognizer:
    """A recognition `.onnx`. Raises UserError if it is missing, damaged, or not a recognition network."""
    path = Path(path)
    graph = load_onnx(path)
    shape = next(iter(read_signature(path).inputs.values()))
    size = shape[2] if len(shape) == 4 and shape[2] else 112
    if len(shape) == 4 and (shape[1] not in (0, 3) or shape[2] != shape[3] or not 0 <= shape[2] <= MAX_CROP):
        raise UserError(
            f"{path.name} takes input {shape}, not a square RGB image; choose the pack's recognition model."
        )
    try:
        return ArcFaceRecognizer(graph, path.stem, size).to(device)
    except UserError:
        raise
    except (RuntimeError, *DAMAGE) as e:
        raise UserError(f"{path.name} does not run ({type(e).__name__}: {e}); download or export it again.") from e
