"""The interface of a face recogniser: a differentiable function from an aligned crop to embedding and activations.

`dlib` and `arcface` implement it. They differ in the points that align the crop, in the network, and in the scale of
distances.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..face.align import similarity_transform, warp


class Features(NamedTuple):
    """Output of a recogniser.

    embedding: `[B, D]`, unit length
    activations: activation layers, `[B, C, h, w]` each, finest first
    """

    embedding: Tensor
    activations: tuple[Tensor, ...]


class Recognizer(nn.Module):
    """Base class of face recognisers. Weights are frozen; gradients flow to the crop.

    name: stored in reports and identities; identities of two recognisers cannot be mixed
    dim: D, length of the embedding
    crop_size: S, side of the square crop in pixels
    same_threshold: two photos with a smaller `distance` show one person
    impostor_cosine: mean cosine of the embeddings of two different people; `similarity` is 0 there
    template: `[P, 2]`, positions of the P alignment points in the crop, pixels
    """

    name: str
    dim: int
    crop_size: int
    same_threshold: float
    impostor_cosine: float = 0.0
    template: Tensor

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.template.device

    def alignment_points(self, mesh: Tensor) -> Tensor:
        """Face mesh `[B, 468, 2+]` -> alignment points `[B, P, 2]`, both in image pixels."""
        raise NotImplementedError

    def matrix(self, mesh: Tensor) -> Tensor:
        """Face mesh `[B, 468, 2+]` in image pixels -> similarity transform `[B, 2, 3]` from image to crop pixels."""
        return similarity_transform(self.alignment_points(mesh.detach().to(self.template)), self.template)

    def crop(self, image: Tensor, matrix: Tensor) -> Tensor:
        """Image `[B, 3, H, W]`, sRGB 0..1 -> aligned crop `[B, 3, S, S]`; black outside, differentiable."""
        return warp(image, matrix, self.crop_size)

    def forward(self, crop: Tensor) -> Features:
        """Aligned crop `[B, 3, S, S]`, sRGB 0..1 -> Features. Differentiable with respect to the crop."""
        raise NotImplementedError

    def distance(self, e1: Tensor, e2: Tensor) -> Tensor:
        """Euclidean distance `[B]` of unit embeddings `[B, D]`, 0..2; one person if below `same_threshold`."""
        return (e1 - e2).square().sum(-1).clamp(min=1e-12).sqrt()

    def similarity(self, e1: Tensor, e2: Tensor) -> Tensor:
        """Similarity `[B]` of unit embeddings `[B, D]`: 1 for the same picture, 0 for two people on average.

        (cos - c0) / (1 - c0), where c0 is `impostor_cosine`. It may be negative. ArcFace has c0 = 0: the plain cosine.
        """
        cosine = (e1 * e2).sum(-1)
        return (cosine - self.impostor_cosine) / (1 - self.impostor_cosine)
