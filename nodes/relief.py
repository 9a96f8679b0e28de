"""Pores and fine lines of the skin."""

from __future__ import annotations

from comfy_api.latest import io

from ..fitdiff_core import pipeline
from ..fitdiff_core.detail.mesostructure import STRONGEST
from ..fitdiff_core.export.textures import map_batch_images
from ..fitdiff_core.image import to_image
from . import host, types

SIZES = ("keep", "512", "1024", "2048")


class SkinRelief(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            "SkinRelief",
            "FitDiff Skin Relief",
            description="Adds pores, fine furrows and the lines of the lips to the normal and specular maps, for "
            "pictures up close. The diffuse map stays as it is.",
            search_aliases=["skin pores", "mesostructure", "skin detail"],
            inputs=[
                types.Avatar.Input("avatar", tooltip="The head; of a batch, each gets its own relief."),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=STRONGEST,
                    step=0.05,
                    tooltip="Factor of all depths: 0 leaves the maps as they are, 0.5 suits children, 1.5 aged skin.",
                ),
                io.Combo.Input(
                    "texture_size",
                    options=list(SIZES),
                    default="keep",
                    tooltip="Pixels a side of the maps. 512 shows the coarse part, 1024 the pores, 2048 fine lines.",
                ),
                io.Int.Input(
                    "seed", default=0, min=0, max=0xFFFFFFFF, tooltip="Other pores. Entry i of a batch takes seed + i."
                ),
            ],
            outputs=[
                types.Avatar.Output("relieved", display_name="avatar"),
                io.Image.Output(
                    "normal", display_name="normal", tooltip="Tangent-space normals in UV, green points up."
                ),
                io.Image.Output("specular", display_name="specular", tooltip="Specular albedo in UV."),
            ],
        )

    @classmethod
    @host.with_gradients
    def execute(cls, avatar, strength, texture_size, seed):
        size = None if texture_size == "keep" else int(texture_size)
        found = pipeline.add_skin_relief(avatar, strength, seed, size)
        images = map_batch_images(found.maps)
        return io.NodeOutput(found, to_image(images["normal"]), to_image(images["specular"]))
