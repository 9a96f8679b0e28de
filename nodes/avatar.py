"""Nodes that decode a latent into an avatar and replace its maps."""

from __future__ import annotations

from comfy_api.latest import io

from ..fitdiff_core import pipeline
from ..fitdiff_core.avatar import replace_maps
from ..fitdiff_core.errors import UserError
from ..fitdiff_core.export.textures import map_batch_images
from ..fitdiff_core.image import to_image
from . import host, types


class DecodeUV(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            "DecodeUV",
            "FitDiff Decode UV",
            description="Decodes a latent into an avatar: facial shape and the reflectance maps of its skin, "
            "teeth and eyes.",
            inputs=[
                types.Model.Input("model", tooltip="The model that the latent was sampled with."),
                io.Latent.Input("latent", tooltip="From FitDiff Sampler."),
            ],
            outputs=[
                types.Avatar.Output("avatar", display_name="avatar"),
                io.Image.Output("diffuse", display_name="diffuse", tooltip="Diffuse albedo in UV, free of light."),
                io.Image.Output(
                    "specular",
                    display_name="specular",
                    tooltip="Specular albedo in UV; linear 0.5 is a reflectance of 4 %.",
                ),
                io.Image.Output(
                    "normal", display_name="normal", tooltip="Tangent-space normals in UV, green points up."
                ),
            ],
        )

    @classmethod
    @host.with_gradients
    def execute(cls, model, latent):
        samples = latent.get("samples") if isinstance(latent, dict) else None
        if samples is None:
            raise UserError("The latent holds no samples; connect the output of FitDiff Sampler.")
        avatar = pipeline.decode(model, samples.clone())
        return io.NodeOutput(avatar, *map(to_image, map_batch_images(avatar.maps).values()))


class ReplaceMaps(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            "ReplaceMaps",
            "FitDiff Replace Maps",
            description="Swaps maps of an avatar for your own: upscaled, painted over, or made by another model.",
            inputs=[
                types.Avatar.Input("avatar", tooltip="The avatar to change; the one connected stays as it is."),
                io.Image.Input(
                    "diffuse", optional=True, tooltip="New diffuse albedo, in the avatar's UV layout; any size."
                ),
                io.Image.Input("specular", optional=True, tooltip="New specular albedo, in the avatar's UV layout."),
                io.Image.Input("normal", optional=True, tooltip="New tangent-space normals, green pointing up."),
            ],
            outputs=[types.Avatar.Output("changed", display_name="avatar")],
        )

    @classmethod
    @host.with_gradients
    def execute(cls, avatar, diffuse=None, specular=None, normal=None):
        given = {"diffuse": diffuse, "specular": specular, "normal": normal}
        images = {k: host.image_in(v) for k, v in given.items() if v is not None}
        return io.NodeOutput(replace_maps(avatar, images))
