"""What guidance compares a render with: a fitted photo, and the features that a recogniser sees in it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..autograd import without_inference_mode
from ..fitting import FittedPhoto
from ..identity import Recognizer


@dataclass(frozen=True)
class PhotoTarget:
    """A fitted photo as the target of guidance.

    photo: crop, visible skin, scene, landmarks
    recognizer: the network that compares render and photo
    matrix: `[1, 2, 3]` affine, crop pixels -> pixels of the recogniser's aligned crop
    embedding: `[1, D]`. activations: `[1, C, h, w]` each; the photo's features
    """

    photo: FittedPhoto
    recognizer: Recognizer
    matrix: Tensor
    embedding: Tensor
    activations: tuple[Tensor, ...]

    @classmethod
    @torch.inference_mode(False)
    @torch.no_grad()
    def of(cls, photo: FittedPhoto, recognizer: Recognizer) -> PhotoTarget:
        """The target of a fitted photo, as `recognizer` sees it."""
        recognizer = without_inference_mode(recognizer)
        matrix = recognizer.matrix(photo.mesh).to(photo.image)
        features = recognizer(recognizer.crop(photo.image, matrix))
        return cls(photo, recognizer, matrix, features.embedding, tuple(features.activations))

    @torch.no_grad()
    def similarity(self, image: Tensor) -> float:
        """Likeness of a render to the photo: 1 for the same picture, 0 for a stranger (`Recognizer.similarity`).

        image: `[B, 3, h, w]` sRGB, square, from the scene's camera. The figure is optimistic: guidance optimised for
        this recogniser.
        """
        image = F.interpolate(image, self.photo.size, mode="bilinear", antialias=True, align_corners=False)
        crop = self.recognizer.crop(image, self.matrix.expand(len(image), -1, -1))
        return float(self.recognizer.similarity(self.recognizer(crop).embedding, self.embedding).mean())
