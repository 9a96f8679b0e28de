"""For graphs built on ComfyUI's own samplers: a GUIDER, SIGMAS and an empty LATENT of the right shape."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from ..fitdiff_core.errors import UserError
from ..fitdiff_core.model.samplers import SPACINGS, sigmas
from ..fitdiff_core.sampling import ConditionedDenoiser, check_faces
from . import host, types
from .guider import Guider as CoreGuider
from .sampling import DEFAULT, cfg_input, diffuse_preview, goal_inputs


class Guider(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            "Guider",
            "FitDiff Guider",
            description="The model as a GUIDER for ComfyUI's SamplerCustomAdvanced: any sampler, schedule and noise "
            "drive it, "
            "identity and guidance included.",
            inputs=[
                types.Model.Input("model", tooltip="From FitDiff Load Model."),
                cfg_input(),
                *goal_inputs(),
            ],
            outputs=[io.Guider.Output("guider", display_name="guider")],
        )

    @classmethod
    @host.with_gradients
    def execute(cls, model, cfg, identity=None, guidance=None, variation=DEFAULT.variation):
        check_faces(identity, guidance)
        return io.NodeOutput(
            CoreGuider(ConditionedDenoiser(model, identity, cfg), guidance, variation, diffuse_preview(model))
        )


class Sigmas(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            "Sigmas",
            "FitDiff Sigmas",
            description="The noise levels of FitDiff's own sampler, for SamplerCustomAdvanced.",
            inputs=[
                io.Int.Input(
                    "steps", default=DEFAULT.steps, min=1, max=1000, tooltip="How many times the denoiser is asked."
                ),
                io.Combo.Input(
                    "spacing",
                    options=list(SPACINGS),
                    default="logsnr",
                    tooltip="logsnr: even in log sigma. karras: even in its seventh root (EDM). guided: most steps "
                    "where a photo acts. FitDiff Sampler takes guided with a photo, logsnr without.",
                ),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    tooltip="Below 1 only the last part of a longer schedule: varies the latent that goes in "
                    "instead of "
                    "starting from noise.",
                ),
            ],
            outputs=[io.Sigmas.Output("sigmas", display_name="sigmas")],
        )

    @classmethod
    @host.with_gradients
    def execute(cls, steps, spacing, denoise):
        return io.NodeOutput(sigmas(round(steps / denoise), spacing=spacing)[-(steps + 1) :])


class EmptyLatent(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            "EmptyLatent",
            "FitDiff Empty Latent",
            description="An empty latent of this model's shape, where sampling from noise starts.",
            inputs=[
                types.Model.Input("model", tooltip="The model that will sample."),
                io.Int.Input("batch", default=1, min=1, max=64, tooltip="How many heads."),
            ],
            outputs=[io.Latent.Output("latent", display_name="latent")],
        )

    @classmethod
    @host.with_gradients
    def execute(cls, model, batch):
        return io.NodeOutput({"samples": torch.zeros(batch, *model.latent_shape)})


class FittedScene(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            "FittedScene",
            "FitDiff Fitted Scene (camera, light, expression)",
            description="The photo's camera, light and expression as the guidance refined them during the sampling. "
            "Its light "
            "is the light estimated from the photo.",
            inputs=[
                io.Guider.Input("guider", tooltip="From FitDiff Guider."),
                io.Latent.Input("latent", tooltip="What SamplerCustomAdvanced made with that guider."),
            ],
            outputs=[types.Scene.Output("scene", display_name="scene")],
        )

    @classmethod
    def execute(cls, guider, latent):
        if not isinstance(guider, CoreGuider):
            raise UserError("This guider belongs to another model; connect the one of FitDiff Guider.")
        return io.NodeOutput(guider.scene_of(latent["samples"]))
