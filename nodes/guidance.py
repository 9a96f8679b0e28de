"""What pulls the sampling towards photos: losses through the differentiable renderer."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from ..fitdiff_core import guidance as core
from ..fitdiff_core import pipeline
from ..fitdiff_core.progress import part
from . import host, types
from .faces import faces_in
from .identity import as_recognizer

DEFAULT = core.GuidanceSettings()


def weight(name: str, tooltip: str):
    return io.Float.Input(
        name, default=getattr(DEFAULT.weights, name), min=0.0, max=10.0, step=0.05, tooltip=f"{tooltip} 0 turns it off."
    )


def sigma(name: str, default: float, tooltip: str):
    return io.Float.Input(name, default=default, min=0.0, max=1000.0, step=0.01, round=0.001, tooltip=tooltip)


class Guidance(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            "Guidance",
            "FitDiff Guidance",
            search_aliases=["match photo", "fit face", "likeness"],
            description="Fits camera, light and expression to the photo. While sampling, each step then renders the "
            "head in "
            "that scene, compares it with the photo and moves the latent by the gradient.",
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip="The photo to match. A batch is taken as photos of one person, and all are matched.",
                ),
                types.recognizer_input("Recognition network that compares the render with the photo."),
                weight("identity", "Same person: distance of the embeddings."),
                weight("perceptual", "Same features: distance of the activation layers."),
                weight("photometric", "Same colours: distance of the pixels."),
                weight("landmark", "Same shape: distance of the facial landmarks."),
                sigma("sigma_start", DEFAULT.sigma_window[0], "Noise level at which the guidance sets in."),
                sigma("sigma_end", DEFAULT.sigma_window[1], "Noise level below which the guidance rests."),
                types.face_input(),
                *types.given_face_inputs(),
                types.photo_mask_input("One for each image, or one for all."),
                types.faces_input(),
            ],
            outputs=[
                types.Guidance.Output("guidance", display_name="guidance"),
                io.Mask.Output(
                    "visible",
                    display_name="mask",
                    tooltip="What is used of each photo (white): where no hair or hand was found. "
                    "Mend it and put it back, or give it to FitDiff Photo Detail.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, sigma_start=None, sigma_end=None):
        if None in (sigma_start, sigma_end) or sigma_start > sigma_end:
            return True
        return (
            f"sigma_start ({sigma_start:g}) must be larger than sigma_end ({sigma_end:g}): noise falls while sampling."
        )

    @classmethod
    @host.with_gradients
    def execute(
        cls,
        image,
        recognizer,
        identity,
        perceptual,
        photometric,
        landmark,
        sigma_start,
        sigma_end,
        face,
        face_landmarks=None,
        bboxes=None,
        mask=None,
        faces=None,
    ):
        weights = core.GuidanceWeights(identity, perceptual, photometric, landmark)
        settings = core.GuidanceSettings(weights, (sigma_start, sigma_end))
        photos, recognizer = host.image_in(image), as_recognizer(recognizer)
        with part(0, 3):
            chosen = faces_in(photos, face, face_landmarks, bboxes, faces)
        with part(1, 3):
            fitted = pipeline.fit_photos(photos, host.head(), chosen, host.masks_for(mask, photos))
        with part(2, 3):
            found = pipeline.prepare_guidance(fitted, recognizer, settings)
        height, width = photos.shape[-2:]
        visible = [photo.visible_mask((height, width))[:, 0].float().cpu() for photo in fitted]
        return io.NodeOutput(core.as_guidances(found), torch.cat(visible), ui=host.say(cls, warning_lines(found)))


def warning_lines(photos) -> list[str]:
    """What hides much of the face in each photo of a guidance, and which photos seem to show another person."""
    photos = core.as_guidances(photos)
    hidden = [line for i, g in enumerate(photos) for line in g.target.photo.describe_hidden(f"photo {i + 1}")]
    return hidden + [
        core.describe_outlier(f"guidance photo {i + 1} of {len(photos)}", f"photo {k + 1}", share)
        for i, k, share in core.identity_outliers(photos)
    ]


class CombineGuidance(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            "CombineGuidance",
            "FitDiff Combine Guidance",
            description="Photos of one person guide together: one head is fitted to all of them, each with a "
            "camera, light and "
            "expression of its own. Chain it for more than two.",
            search_aliases=["several photos", "multiple views"],
            inputs=[
                types.Guidance.Input(
                    "guidance_1",
                    tooltip="From FitDiff Guidance, or combined already. Its first photo gives skin tone and scene.",
                ),
                types.Guidance.Input(
                    "guidance_2", tooltip="Of other photos of the same person; any size, weights of its own."
                ),
            ],
            outputs=[types.Guidance.Output("guidance", display_name="guidance")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @host.with_gradients
    def execute(cls, guidance_1, guidance_2):
        found = core.as_guidances([*core.as_guidances(guidance_1), *core.as_guidances(guidance_2)])
        return io.NodeOutput(found, ui=host.say(cls, warning_lines(found)))
