"""Reverse diffusion: noise becomes the latent of a head, step by step."""

from __future__ import annotations

from comfy_api.latest import io

from ..fitdiff_core import pipeline
from ..fitdiff_core.image import linear_to_srgb
from ..fitdiff_core.model.denoiser import unpack_latent
from ..fitdiff_core.model.samplers import SAMPLERS
from . import host, types

DEFAULT = pipeline.SampleSettings()


def cfg_input():
    return io.Float.Input(
        "cfg",
        default=DEFAULT.cfg_scale,
        min=0.0,
        max=10.0,
        step=0.1,
        round=0.01,
        tooltip="Classifier-free guidance: how strictly the identity is followed. 1 is plain conditioning.",
    )


def seed_input():
    return io.Int.Input(
        "seed",
        default=0,
        min=0,
        max=0xFFFFFFFFFFFFFFFF,
        control_after_generate=True,
        tooltip="The same seed gives the same head. Entry i of a batch takes seed + i.",
    )


def steps_input():
    return io.Int.Input(
        "steps",
        default=DEFAULT.steps,
        min=1,
        max=1000,
        tooltip="With a photo, more steps make the head a little more alike. The paper takes 50 with ddim.",
    )


def goal_inputs() -> list:
    """Who is sampled, and how closely."""
    return [
        types.Identity.Input(
            "identity", optional=True, tooltip="Who it is. Left out, a new person is sampled (unconditional)."
        ),
        types.Guidance.Input(
            "guidance", optional=True, tooltip="Pulls every step towards a photo. Left out, the prior alone decides."
        ),
        io.Float.Input(
            "variation",
            default=DEFAULT.variation,
            min=0.0,
            max=1.0,
            step=0.05,
            round=0.01,
            optional=True,
            tooltip="How much of what the identity leaves open is drawn by the seed. 0: its likeliest person. 1: a "
            "full draw, as "
            "in the paper. Fine detail of the skin is always drawn; so is all of a new person.",
        ),
    ]


def diffuse_preview(model):
    """Denoised latent `[B, C + 1, h, w]` -> the first head's diffuse albedo by the cheap decoder, sRGB `[3, 256,
    256]`."""

    def preview(denoised):
        texture, _ = unpack_latent(denoised[:1].detach().float(), model.head.n_identity)
        return linear_to_srgb(model.autoencoder.decode(texture, size=256)[0, :3].clamp(0, 1))

    return preview


class Sampler(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            "Sampler",
            "FitDiff Sampler",
            description="Samples shape and reflectance together. With an identity: that person. With guidance: "
            "matched to "
            "the photo as well. With neither: a new person.",
            search_aliases=["face avatar sampler", "random identity"],
            inputs=[
                types.Model.Input("model", tooltip="From FitDiff Load Model."),
                seed_input(),
                steps_input(),
                cfg_input(),
                io.Int.Input(
                    "batch",
                    default=1,
                    min=1,
                    max=64,
                    tooltip="How many heads to sample. With a batch of identities: 1, and "
                    "they share one noise, or as many as there are.",
                ),
                io.Combo.Input(
                    "sampler",
                    options=list(SAMPLERS),
                    default=DEFAULT.sampler,
                    tooltip="ddim as in the paper; dpmpp_2m (DPM-Solver++ 2M) needs fewer steps.",
                ),
                *goal_inputs(),
            ],
            outputs=[
                io.Latent.Output(
                    "latent", display_name="latent", tooltip="Texture latent, and the shape vector in its last plane."
                ),
                types.Scene.Output(
                    "scene",
                    display_name="scene",
                    tooltip="Camera, light and expression of the photo, or a studio portrait.",
                ),
            ],
        )

    @classmethod
    @host.with_gradients
    def execute(
        cls, model, seed, steps, cfg, batch, sampler, identity=None, guidance=None, variation=DEFAULT.variation
    ):
        latent, scene = pipeline.sample(
            model,
            identity,
            guidance,
            seed=seed,
            steps=steps,
            cfg_scale=cfg,
            batch=batch,
            sampler=sampler,
            callback=host.Progress(steps, diffuse_preview(model)),
            variation=variation,
        )
        return io.NodeOutput({"samples": latent.cpu()}, scene)
