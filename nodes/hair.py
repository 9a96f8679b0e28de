"""Hair for the head."""

from __future__ import annotations

from comfy_api.latest import io

from ..fitdiff_core import pipeline
from ..fitdiff_core.errors import UserError
from ..fitdiff_core.hair.artist import PARTINGS
from ..fitdiff_core.hair.colour import COLOURS
from ..fitdiff_core.hair.presets import PRESETS
from . import host, types

STYLES = ("auto", "none", *PRESETS)
COLOUR_CHOICES = ("style", *COLOURS, "dyed")


class Hair(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        def factor(name, high, tooltip):
            return io.Float.Input(name, default=1.0, min=0.1, max=high, step=0.05, tooltip=tooltip)

        return host.schema(
            "Hair",
            "FitDiff Hair",
            description="Grows hair on the head: as in the photo, or in a style by name. Render, Turntable, Render "
            "Passes and Export Mesh draw it. The maps stay as they are.",
            inputs=[
                types.Avatar.Input("avatar", tooltip="The head; of a batch, each gets hair."),
                io.Combo.Input(
                    "style",
                    options=list(STYLES),
                    default="auto",
                    tooltip="auto: as in the photo, which needs scene and image; without them what suits the face, by "
                    "the seed. none takes the hair off.",
                ),
                factor("length", 3.0, "Times the length of the style."),
                factor("volume", 3.0, "Times the height of the hair over the scalp."),
                io.Float.Input(
                    "curl", default=0.0, min=-1.0, max=1.0, step=0.05, tooltip="-1 straightens, 1 makes ringlets."
                ),
                io.Combo.Input(
                    "parting",
                    options=list(PARTINGS),
                    default="style",
                    tooltip="On which side the hair is parted, as the person would say.",
                ),
                io.Combo.Input(
                    "colour",
                    options=list(COLOUR_CHOICES),
                    default="style",
                    tooltip="style: as the style or the photo has it. dyed: the colour below.",
                ),
                io.String.Input("dye", default="#b03060", tooltip="The colour of dyed hair, like #b03060."),
                io.Float.Input(
                    "grey",
                    default=-1.0,
                    min=-1.0,
                    max=1.0,
                    step=0.05,
                    tooltip="Share of white strands; -1 keeps that of the style.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFF,
                    tooltip="Other strands, and another style without a photo.",
                ),
                types.Scene.Input("scene", optional=True, tooltip="For auto: from the guided FitDiff Sampler."),
                io.Image.Input("image", optional=True, tooltip="For auto: the photo that the guidance was given."),
            ],
            outputs=[
                types.Avatar.Output("haired", display_name="avatar"),
                io.String.Output("notes", display_name="notes", tooltip="What there is to say about the hair."),
            ],
        )

    @classmethod
    @host.with_gradients
    def execute(cls, avatar, style, length, volume, curl, parting, colour, dye, grey, seed, scene=None, image=None):
        if style == "auto" and (scene is None) != (image is None):
            raise UserError("Hair as in the photo needs both the scene and the image; connect both, or choose a style.")
        photo = None if image is None else host.image_in(image[:1])
        changes = {
            "length": length,
            "volume": volume,
            "curl": curl,
            "parting": parting,
            "colour": dye if colour == "dyed" else colour,
            "grey": grey,
        }
        haired, notes = pipeline.add_hair(avatar, style, scene, photo, seed, **changes)
        return io.NodeOutput(haired, "\n".join(notes))
