"""What guidance pulls on: identity, perceptual, photometric and landmark distances between render and photo.

Each returns `[B]` and is scaled so that about 1 is the distance of a stranger, or of an unguided sample, from the
photo; so weights are comparable. Identity and perceptual follow the paper's G (distances of face-recognition
embeddings and activation layers); the photometric and landmark scales are ours.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..fitting.sh_light import CLIPPED

PHOTOMETRIC_SCALE = 0.08  # mean sRGB difference of an unguided sample
LANDMARK_SCALE = 0.012  # of the picture's side: 3 px of 256


def identity_loss(distance: Tensor, threshold: float) -> Tensor:
    """Square of the recogniser's distance `[B]`, 1 at its same-person threshold."""
    return (distance / threshold).square()


def perceptual_loss(activations: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """Mean over layers of |a - b|^2 / |b - mean b|^2: 1 is as far as the layer's average answer."""
    total = activations[0].new_zeros(())
    for a, b in zip(activations, targets, strict=True):
        spread = (b - b.mean((2, 3), keepdim=True)).square().mean((1, 2, 3)).clamp(min=1e-8)
        total = total + (a - b).square().mean((1, 2, 3)) / spread
    return total / len(activations)


def photometric_loss(image: Tensor, photo: Tensor, weight: Tensor, levels: int = 3, epsilon: float = 0.02) -> Tensor:
    """Charbonnier distance of sRGB pictures `[B, 3, H, W]` under weight `[B, 1, H, W]`, averaged over a pyramid.

    The coarse levels pull where texture is still misaligned. Clipped highlights of the photo bound nothing from above.
    """
    image = torch.where(photo >= CLIPPED, torch.minimum(image, photo), image)
    difference = (image - photo) * weight
    total = image.new_zeros(())
    for level in range(levels):
        if level:
            difference, weight = F.avg_pool2d(difference, 2), F.avg_pool2d(weight, 2)
        d = (difference.square().mean(1, keepdim=True) + epsilon**2).sqrt() - epsilon
        total = total + d.sum((1, 2, 3)) / weight.sum((1, 2, 3)).clamp(min=1e-3)
    return total / (levels * PHOTOMETRIC_SCALE)


def landmark_loss(points: Tensor, target: Tensor, weights: Tensor, size: int) -> Tensor:
    """Projected landmarks `[B, N, 2]` against `[B or 1, N, 2]` px, weights `[N]`; Cauchy, 1 at about 3 px of 256."""
    s = (points - target).square().sum(2) / (LANDMARK_SCALE * size) ** 2
    return (torch.log1p(s / 4) * 4 * weights).sum(1) / weights.sum()
