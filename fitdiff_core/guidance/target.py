"""Everything about the photo that sampling needs to know, computed once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ..autograd import without_inference_mode
from ..errors import UserError
from ..fitting.crop import check_mask, check_shown, crop_face, crop_image, uncrop
from ..fitting.gbuffer import Surface
from ..fitting.key_light import Sun, find_sun
from ..fitting.landmarks import FitPrior, fit_scene
from ..fitting.landmarks import landmark_weights as _landmark_weights
from ..fitting.occlusion import occlusion
from ..fitting.regions import region_weights
from ..fitting.sh_light import MEAN_SKIN, fit_light, light_pixels
from ..render import Light
from ..scene import Scene
from .objective import Guidance, GuidanceWeights

if TYPE_CHECKING:
    from ..face import Face

CROP_SIZE = 256


def prepare_guidance(
    photo: Tensor,
    head,
    recognizer,
    detector,
    weights: GuidanceWeights | None = None,
    which: str | int = "largest",
    size: int = CROP_SIZE,
    prior: FitPrior | None = None,
    face: Face | None = None,
    mask: Tensor | None = None,
) -> Guidance:
    """Photo `[1, 3, H, W]` sRGB -> Guidance: face, crop, fitted scene, light, occlusion and recogniser features.

    which: "largest" or the index of the face. face: the face itself, if it is known; then the detector does not look.
    mask: `[1, 1, H, W]`, 1 where the photo may be used; None: where the face is not hidden (found in the photo).
    Raises UserError for several photos, no face, a mask of another size, or one that hides the face.
    """
    from ..face import select_face

    if photo.ndim != 4 or photo.shape[0] != 1 or photo.shape[1] != 3:
        raise UserError(f"Guidance needs one photo, not a batch of {tuple(photo.shape)}; pick one image of the batch.")
    if mask is not None:
        check_mask(mask, photo)
    with torch.inference_mode(False), torch.no_grad():
        photo, head, recognizer, detector = without_inference_mode((photo, head, recognizer, detector))
        face = without_inference_mode(face or select_face(detector.detect(photo[0]), which))
        crop = crop_face(photo, face.mesh, size)
        scene, shape = fit_scene(photo, face, head, size, prior, crop)
        mesh = crop.points(face.mesh)[None, :, :2].to(photo)
        regions = region_weights(head).to(photo)
        vertices = head(shape, scene.expression, scene.gaze)
        surface = Surface.seen(vertices, head, scene, scene.size)
        usable = crop.mask
        if mask is not None:
            usable = (
                usable
                * crop_image(without_inference_mode(mask).expand(-1, 3, -1, -1).to(photo), crop.matrix, size).image[
                    :, :1
                ]
            )
            skin = surface.look_up(regions)[:, 1:2] * surface.facing * crop.mask
            check_shown((skin * usable).sum() / skin.sum().clamp(min=1))
        light, visible = occlusion(crop.image, usable, mesh, surface, head, regions)
        visible = visible if mask is None else usable
        sun, light = strong_lamp(crop.image, visible, vertices, head, scene, regions, light)
        scene = replace(scene, light=light)
        matrix = recognizer.matrix(mesh).to(photo)
        features = recognizer(recognizer.crop(crop.image, matrix))
        return Guidance(
            crop.image,
            visible,
            scene,
            shape,
            mesh,
            _landmark_weights(head, "mesh", mesh),
            recognizer,
            matrix,
            features.embedding,
            tuple(features.activations),
            regions,
            weights or GuidanceWeights(),
            sun=sun,
        )


def strong_lamp(
    photo: Tensor, visible: Tensor, vertices: Tensor, head, scene: Scene, regions: Tensor, light: Light
) -> tuple[Sun | None, Light]:
    """A lamp that casts shadows, and the light with it; light: what explains the photo without one."""
    half = tuple(n // 2 for n in scene.size)
    surface = Surface.seen(vertices, head, scene, half)
    photo, visible = (F.interpolate(x, half, mode="area") for x in (photo, visible))
    weight = surface.look_up(regions)[:, 1:2] * surface.facing * visible
    colour = torch.tensor(MEAN_SKIN).to(photo)[None, :, None, None] * surface.exposure
    (pixels,) = light_pixels(photo, colour, surface.normal, weight, stride=2)
    sun = find_sun(pixels, vertices, surface, 2)
    if sun is None:
        return None, light
    arrives = surface.carry(sun.arrives)
    return sun, fit_light(photo, colour, surface.normal, weight, stride=2, sun=sun.direction, arrives=arrives)[0]


def visible_mask(guidance: Guidance, size: tuple[int, int]) -> Tensor:
    """`[1, 1, H, W]` in the pixels of the guidance's photo: 1 where it may be used, 0 where something hides the face."""
    return uncrop(guidance.mask, guidance.scene.crop, size)
