"""From a photo to its scene: face crop, camera, expression, gaze, light, and what of the face is visible."""

from .crop import FaceCrop, crop_face
from .landmarks import FitPrior, fit_landmarks, fit_scene
from .sh_light import LightPrior, fit_light

__all__ = ["FaceCrop", "FitPrior", "LightPrior", "crop_face", "fit_landmarks", "fit_light", "fit_scene"]
