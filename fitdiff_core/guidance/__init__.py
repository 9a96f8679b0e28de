"""Guided sampling: a photo's goal, losses through the renderer, and the denoiser that they pull on."""

from .guided_denoiser import GuidedDenoiser
from .multi_photo import as_guidances, describe_stranger, strangers
from .objective import Guidance, GuidanceWeights, PhotoObjective
from .target import prepare_guidance, visible_mask

__all__ = [
    "Guidance",
    "GuidanceWeights",
    "GuidedDenoiser",
    "PhotoObjective",
    "as_guidances",
    "describe_stranger",
    "prepare_guidance",
    "strangers",
    "visible_mask",
]
