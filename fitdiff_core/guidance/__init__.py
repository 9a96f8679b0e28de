"""Guided sampling: the target, the losses through the differentiable renderer, and the denoiser that follows them."""

from .guided_denoiser import GuidedDenoiser
from .multi_photo import as_guidances, describe_outlier, identity_outliers
from .objective import Guidance, PhotoObjective
from .settings import GuidanceSettings, GuidanceWeights
from .target import PhotoTarget

__all__ = [
    "Guidance",
    "GuidanceSettings",
    "GuidanceWeights",
    "GuidedDenoiser",
    "PhotoObjective",
    "PhotoTarget",
    "as_guidances",
    "describe_outlier",
    "identity_outliers",
]
