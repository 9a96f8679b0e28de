"""Nodes for painting maps: masks of atlas regions, and a template of the layout."""

from __future__ import annotations

from comfy_api.latest import io

from ..fitdiff_core.head import load_head
from ..fitdiff_core.head.uv_template import REGIONS, region_mask, template
from ..fitdiff_core.image import to_image
from . import host


def head():
    return host.load_once(lambda: load_head(device=host.device()), "head", None)


def atlas_size(default: int):
    return io.Int.Input(
        "size", default=default, min=64, max=8192, step=64, tooltip="Pixels a side; maps are 512 unless replaced."
    )


class RegionMasks(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            "RegionMasks",
            "FitDiff Region Mask",
            description="A mask of one region of the UV atlas: where to tint lips, age skin, or sample anew.",
            inputs=[
                io.Combo.Input("region", options=list(REGIONS), default="face", tooltip="all: whatever the mesh uses."),
                atlas_size(512),
                io.Float.Input(
                    "feather",
                    default=8.0,
                    min=0.0,
                    max=512.0,
                    step=1.0,
                    tooltip="Width of the soft edge, pixels; 0 for none.",
                ),
            ],
            outputs=[io.Mask.Output("mask", display_name="mask")],
        )

    @classmethod
    @host.with_gradients
    def execute(cls, region, size, feather):
        return io.NodeOutput(region_mask(head(), region, size, feather)[None].float().cpu())


class UVTemplate(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            "UVTemplate",
            "FitDiff UV Template",
            description="The atlas layout to paint over: mesh, region outlines and names on mid-grey. R and L are the "
            "subject's right and left.",
            inputs=[
                atlas_size(1024),
                io.Boolean.Input("names", default=True, tooltip="Write the regions' names."),
            ],
            outputs=[io.Image.Output("image", display_name="image")],
        )

    @classmethod
    @host.with_gradients
    def execute(cls, size, names):
        return io.NodeOutput(to_image(template(head(), size, names)))
