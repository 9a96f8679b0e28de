"""From a photo to its scene: face crop, camera, expression, gaze, light, and where the skin is visible."""

from .crop import FaceCrop, crop_face
from .landmarks import FitPrior, fit_landmarks, fit_scene
from .photo import FittedPhoto, fit_photo
from .sh_light import LightPrior, fit_light

__all__ = [
    "FaceCrop",
    "FitPrior",
    "FittedPhoto",
    "LightPrior",
    "crop_face",
    "fit_landmarks",
    "fit_light",
    "fit_photo",
    "fit_scene",
]
