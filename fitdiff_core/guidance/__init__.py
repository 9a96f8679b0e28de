"""From photo to scene, and from scene to a pull on the sampling: crop, fit, light, losses, guided denoiser."""

from .crop import FaceCrop, crop_face
from .fit import FitPrior, fit_landmarks, fit_scene
from .guided import GuidedDenoiser
from .light import LightPrior, fit_light
from .objective import Guidance, GuidanceWeights, PhotoObjective
from .prepare import prepare_guidance, visible_mask
from .several import as_guidances, describe_stranger, strangers

__all__ = [
    "FaceCrop", "FitPrior", "Guidance", "GuidanceWeights", "GuidedDenoiser", "LightPrior", "PhotoObjective",
    "as_guidances", "crop_face", "describe_stranger", "fit_landmarks", "fit_light", "fit_scene", "prepare_guidance", "strangers",
    "visible_mask",
]
