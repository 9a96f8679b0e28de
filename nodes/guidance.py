"""What pulls the sampling towards photos: losses through the differentiable renderer."""

from __future__ import annotations

import logging
from dataclasses import fields
from types import SimpleNamespace

import torch
from comfy_api.latest import io

from ..fitdiff_core import guidance as core
from ..fitdiff_core import pipeline
from ..fitdiff_core.head import load_head
from . import host, types
from .identity import as_recognizer

# the library's own defaults, so that graph and command line agree
WEIGHTS = {f.name: f.default for f in fields(core.GuidanceWeights)}
WINDOW = next(f.default for f in fields(core.Guidance) if f.name == "sigma_window")


def weight(name: str, tooltip: str):
    return io.Float.Input(
        name, default=WEIGHTS[name], min=0.0, max=10.0, step=0.05, tooltip=f"{tooltip} 0 turns it off."
    )


def sigma(name: str, default: float, tooltip: str):
    return io.Float.Input(name, default=default, min=0.0, max=1000.0, step=0.01, round=0.001, tooltip=tooltip)


class Guidance(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            "Guidance",
            "FitDiff Guidance",
            description="Fits camera, light and expression to the photo. While sampling, each step then renders the head in "
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
                sigma("sigma_start", WINDOW[0], "Noise level at which the guidance sets in."),
                sigma("sigma_end", WINDOW[1], "Noise level below which the guidance rests."),
                types.face_input(),
                *types.given_face_inputs(),
                types.photo_mask_input("One for each image, or one for all."),
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
        )

    @classmethod
    def validate_inputs(cls, sigma_start, sigma_end):
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
    ):
        head = host.load_once(lambda: load_head(device=host.device()), "head", None)
        weights = core.GuidanceWeights(identity, perceptual, photometric, landmark)
        photos, recognizer = host.image_in(image), as_recognizer(recognizer)
        faces = pipeline.find_faces(photos, recognizer, face, face_landmarks, bboxes)
        # all that the fit needs of a model is its head, and every checkpoint shares the built-in one
        found = pipeline.prepare_photos(
            photos,
            SimpleNamespace(head=head),
            recognizer,
            weights,
            (sigma_start, sigma_end),
            face,
            faces,
            host.masks_in(mask, len(photos)),
        )
        visible = [core.visible_mask(g, photos.shape[-2:])[:, 0].float().cpu() for g in found]
        return io.NodeOutput(together(found), torch.cat(visible))


def together(photos) -> tuple[core.Guidance, ...]:
    """What a FITDIFF_GUIDANCE holds, with a line in the log for each photo that seems to show somebody else."""
    for photo, other, share in core.strangers(photos):
        names = f"guidance photo {photo + 1} of {len(photos)}", f"photo {other + 1}"
        logging.warning("FitDiff: %s", core.describe_stranger(*names, share))
    return core.as_guidances(photos)


class CombineGuidance(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            "CombineGuidance",
            "FitDiff Combine Guidance",
            description="Photos of one person guide together: one head is fitted to all of them, each with a camera, light and "
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
        )

    @classmethod
    @host.with_gradients
    def execute(cls, guidance_1, guidance_2):
        return io.NodeOutput(together([*core.as_guidances(guidance_1), *core.as_guidances(guidance_2)]))
