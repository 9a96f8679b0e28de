"""Random head shapes of the synthetic people, given their attributes."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from .people import SkinAttributes, random_person

CLIP = 2.6  # largest coefficient
# largest share of the variance along any axis that the attributes may explain, so that groups of people overlap
EXPLAINED = 0.75


def random_shape(head, rng: np.random.Generator, attributes: SkinAttributes | None = None) -> Tensor:
    """Random identity coefficients `[1, K]` of a head that matches the attributes, clipped to -CLIP..CLIP.

    The mean is `head.attribute_directions` times the person's difference from the average person. The rest is normal
    noise with a covariance that makes the whole population N(0, I), which the diffusion model's prior assumes. Without
    attributes, or with a head file without directions, all coefficients are unit normal noise.
    """
    x = rng.standard_normal((1, head.n_identity))
    if attributes is not None and head.attribute_names:
        gain, basis, explained = attribute_model(head.attribute_directions.cpu().numpy(), head.attribute_names)
        x -= x @ basis * (1 - np.sqrt(1 - explained)) @ basis.T
        x += (attribute_values(attributes, head.attribute_names) - attribute_population(head.attribute_names)[0]) @ gain
    return torch.from_numpy(np.clip(x, -CLIP, CLIP)).float()


def attribute_model(directions: np.ndarray, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The linear model of `random_shape`.

    directions: `[A, K]` coefficients per unit of each attribute. names: of the attributes.
    Returns gain `[A, K]`, basis `[K, R]` and explained `[R]`. The attributes minus their average, times `gain`, are the
    mean of the coefficients; the covariance of these means in the population is basis diag(explained) basis^T. The
    directions are shortened along axes where this variance would be above EXPLAINED.
    """
    root = np.linalg.cholesky(attribute_population(names)[1] + 1e-9 * np.eye(len(names)))
    _, spread, axes = np.linalg.svd(root.T @ directions, full_matrices=False)
    keep = spread > 1e-3
    basis, variance = axes[keep].T, spread[keep] ** 2
    explained = np.minimum(variance, EXPLAINED)
    return directions @ basis * np.sqrt(explained / variance) @ basis.T, basis, explained


def attribute_values(a: SkinAttributes, names: tuple[str, ...]) -> np.ndarray:
    """Attributes `[A]` in the head file's units: an age of 25 years is 0, of 90 years is 1."""
    return np.array([(a.age - 25) / 65 if name == "age" else getattr(a, name) for name in names])


@lru_cache(maxsize=4)
def attribute_population(names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Mean `[A]` and covariance `[A, A]` of the attributes over 4,000 random people."""
    values = np.stack([attribute_values(random_person(seed), names) for seed in range(10**9, 10**9 + 4000)])
    return values.mean(0), np.cov(values.T)
