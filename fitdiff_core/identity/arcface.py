"""ArcFace recognisers (Deng et al. 2019) from an `.onnx` file, for instance of an insightface pack; differentiable.

No such file is shipped, because insightface's packs are licensed for non-commercial research only. The user provides
it.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UserError
from ..face.mesh_points import five_points
from ..graph.interpreter import Graph
from ..graph.onnx import load_onnx, read_signature
from ..graph.protobuf import DAMAGE
from .recognizer import Features, Recognizer

# insightface's reference points in its crop of 112 px: eyes, nose tip, mouth corners, image left first. OpenCV has the
# origin at the first pixel's centre, this project at its corner; `template` adds the half pixel.
TEMPLATE_112 = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
N_ACTIVATIONS = 3
MAX_CROP = 512  # px; recognition networks take 112 to 224


def template(size: int) -> Tensor:
    """Alignment points `[5, 2]` in a crop of `size` px, as insightface's norm_crop; multiples of 128 have a margin."""
    points = torch.tensor(TEMPLATE_112) + 0.5
    if size % 112 == 0:
        return points * (size / 112)
    return (points + torch.tensor([8.0, 0.0])) * (size / 128)


def input_range(graph: Graph) -> tuple[float, float]:
    """(mean, scale): the network's input is (255 x - mean) / scale for an image x in 0..1.

    Graphs converted from MXNet normalise in their first nodes; others expect -1..1.
    """
    first = {node.op for node in graph.nodes[:8]}
    own = {"Sub", "Mul"} <= first or {"Sub", "Div"} <= first
    return (0.0, 1.0) if own else (127.5, 127.5)


def pick_activations(graph: Graph, size: int) -> list[str]:
    """Names of three activation layers, finest first: the last residual sum at each of the three coarsest resolutions.

    For a ResNet at 112 px these are 28 x 28, 14 x 14 and 7 x 7. A resolution without a residual sum gives its last map.
    size: side of the crop in pixels
    """
    last: dict[int, str] = {}
    kinds = {node.outputs[0]: node.op for node in graph.nodes}
    for name, shape in graph.shapes(torch.zeros(1, 3, size, size)).items():
        if len(shape) == 4 and shape[2] == shape[3] and 4 <= shape[2] <= size // 3:
            if kinds[name] == "Add" or kinds.get(last.get(shape[2], "")) != "Add":
                last[shape[2]] = name
    return [last[n] for n in sorted(last, reverse=True)[-N_ACTIVATIONS:]]


class ArcFaceRecognizer(Recognizer):
    """A recognition network as a Recognizer. Two people have a mean cosine of about 0, so `similarity` is the cosine.

    graph: network from an image to one embedding
    name: of the file
    size: side of the crop in pixels, default 112
    Raises UserError if the network's output is not one finite embedding per face.
    """

    same_threshold = 1.2  # cosine 0.28, insightface's threshold for one person
    impostor_cosine = 0.0

    def __init__(self, graph: Graph, name: str, size: int = 112):
        super().__init__()
        self.graph, self.name, self.crop_size = graph.train(False), name, size
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
    """The recogniser of an `.onnx` file. Raises UserError if it is missing, damaged, or not a recognition network."""
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
