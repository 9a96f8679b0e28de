"""Face recognition as a differentiable function: mesh -> crop -> embedding and activations.

`Recognizer` is what the rest of FitDiff knows; the built-in one is dlib's network (see `resnet.py`), `arcface.py` has the
other kind. The two differ in the five points that place the crop, in the network, and in what a distance means.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..face.align import similarity_transform, warp
from ..face.mesh_points import EYE_LEFT, EYE_RIGHT, SUBNASALE
from ..graph.weights import load_resnet_state
from .dlib import DlibResNet


class Features(NamedTuple):
    """What a recogniser says of a crop. embedding: `[B, D]` unit length; activations: tuple of `[B, C, h, w]`, finest first."""

    embedding: Tensor
    activations: tuple[Tensor, ...]


class Recognizer(nn.Module):
    """Base class. Frozen; gradients flow to the crop only.

    name: written into reports and identities, which recognisers do not share
    dim: D, length of the embedding
    crop_size: S, side of the square crop in pixels
    same_threshold: two photos with a `distance` below are taken for one person
    stranger_cosine: mean cosine between embeddings of two different people, the zero of `similarity`
    """

    name: str
    dim: int
    crop_size: int
    same_threshold: float
    stranger_cosine: float = 0.0
    template: Tensor  # [P, 2] where the P alignment points lie in the crop, pixels

    @property
    def device(self) -> torch.device:
        return self.template.device

    def alignment_points(self, mesh: Tensor) -> Tensor:
        """`[B, 468, 2+]` mesh in image pixels -> `[B, P, 2]`."""
        raise NotImplementedError

    def matrix(self, mesh: Tensor) -> Tensor:
        """`mesh [B, 468, 2+]` (image px) -> `[B, 2, 3]` similarity from image px to crop px."""
        return similarity_transform(self.alignment_points(mesh.detach().to(self.template)), self.template)

    def crop(self, image: Tensor, matrix: Tensor) -> Tensor:
        """`image [B, 3, H, W]` sRGB 0..1 -> aligned `[B, 3, S, S]`; antialiased, black outside, differentiable."""
        return warp(image, matrix, self.crop_size)

    def forward(self, crop: Tensor) -> Features:
        """`crop [B, 3, S, S]` sRGB 0..1 -> Features. Differentiable with respect to the crop."""
        raise NotImplementedError

    def distance(self, e1: Tensor, e2: Tensor) -> Tensor:
        """Euclidean distance of unit embeddings `[B, D]` -> `[B]`, 0..2; below `same_threshold`: one person."""
        return (e1 - e2).square().sum(-1).clamp(min=1e-12).sqrt()

    def similarity(self, e1: Tensor, e2: Tensor) -> Tensor:
        """Likeness `[B]` on one scale for every recogniser: 1 = the same picture, 0 = what strangers score on average.

        The cosine, stretched so that strangers' mean cosine becomes 0: (cos - c0) / (1 - c0). For ArcFace c0 = 0, so it
        is the cosine itself. Negative values are less alike than chance.
        """
        cosine = (e1 * e2).sum(-1)
        return (cosine - self.stranger_cosine) / (1 - self.stranger_cosine)


class DlibRecognizer(Recognizer):
    """The built-in recogniser: 150 px crop, 128 dimensions, activations after residual blocks 3, 7 and 10.

    Activations: `[B, 32, 35, 35]`, `[B, 64, 17, 17]`, `[B, 128, 8, 8]`, each after its ReLU.
    """

    name = "dlib_resnet_v1"
    dim = 128
    crop_size = 150
    activation_blocks = (3, 7, 10)
    # dlib calibrated its threshold on raw embeddings, whose length is 1.43 +- 0.07 on photos; ours have length 1, so the
    # distance is scaled by that length and dlib's figures hold: same person 0.35, strangers 0.85 on average
    same_threshold = 0.6
    typical_norm = 1.43
    stranger_cosine = 0.825

    # eye corners and the point under the nose in dlib's 5-point face chip (image_processing/frontal_face_detector.h), as a
    # share of the chip without its border: left eye outer, inner, right eye outer, inner, subnasale
    CHIP = (
        (0.8595674595992, 0.2134981538014),
        (0.6460604764104, 0.2289674387677),
        (0.1205750620789, 0.2137274526848),
        (0.3340850613712, 0.2290642403242),
        (0.4901123135679, 0.6277975316475),
    )
    MESH_POINTS = (*EYE_LEFT[:2], *EYE_RIGHT[:2], SUBNASALE)  # the same five in MediaPipe's mesh
    BORDER = 0.25

    def __init__(self, network: DlibResNet):
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        template = (torch.tensor(self.CHIP) + self.BORDER) / (1 + 2 * self.BORDER) * self.crop_size
        self.register_buffer("template", template, persistent=False)

    def alignment_points(self, mesh: Tensor) -> Tensor:
        return mesh[:, list(self.MESH_POINTS), :2]

    def distance(self, e1: Tensor, e2: Tensor) -> Tensor:
        """On the scale of dlib's raw embeddings, `[B]`: below 0.6 one person."""
        return self.typical_norm * super().distance(e1, e2)

    def raw(self, crop: Tensor) -> Tensor:
        """`[B, 128]` as dlib gives it, not normalised: for comparison with dlib itself."""
        return self.network(crop)[0]

    def forward(self, crop: Tensor) -> Features:
        embedding, blocks = self.network(crop)
        return Features(F.normalize(embedding, dim=-1), tuple(blocks[i - 1] for i in self.activation_blocks))


def load_builtin(path: str | os.PathLike | None = None, device: torch.device | str = "cpu") -> DlibRecognizer:
    """dlib's network from `assets/identity.safetensors`. Raises UserError if that is missing or damaged."""
    network = DlibResNet()
    network.load_state_dict(load_resnet_state(path))
    return DlibRecognizer(network).to(device)
