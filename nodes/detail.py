"""The photo's own detail, where it shows the skin well."""

from __future__ import annotations

from comfy_api.latest import io

from ..fitdiff_core import pipeline
from . import host, types
from .widgets import photo_detail_input


class PhotoDetail(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            "PhotoDetail",
            "FitDiff Photo Detail",
            description="Puts the photo's own detail into the maps where the photo shows the skin well: unwraps it, "
            "divides "
            "out the fitted light, and lets the diffusion model fill what is hidden. Left out, the head is pure "
            "FitDiff.",
            inputs=[
                types.Model.Input("model", tooltip="From FitDiff Load Model: it fills what the photo does not show."),
                types.Avatar.Input("avatar", tooltip="One head, from FitDiff Decode UV; it stays as it is."),
                types.Scene.Input("scene", tooltip="From the guided FitDiff Sampler that made the head."),
                io.Image.Input(
                    "image", tooltip="The photo that the guidance was given, at full size; of a batch, the first."
                ),
                photo_detail_input("strength", "0 leaves the head as it is, 1 takes all of the detail."),
                types.photo_mask_input(),
                types.Identity.Input("identity", optional=True, tooltip="Who it is: for the parts that are filled."),
            ],
            outputs=[
                types.Avatar.Output("detailed", display_name="avatar"),
                io.Mask.Output(
                    "share", display_name="mask", tooltip="In UV: how much of each texel came from the photo."
                ),
            ],
        )

    @classmethod
    @host.with_gradients
    def execute(cls, model, avatar, scene, image, strength, mask=None, identity=None):
        photo = host.image_in(image[:1])
        masks = host.masks_for(mask if mask is None or mask.ndim != 3 else mask[:1], photo)
        found = pipeline.add_photo_detail(
            model, avatar, scene, photo, masks[0] if masks else None, strength, identity=identity
        )
        return io.NodeOutput(found.avatar, found.weight[:, 0].float().cpu())
