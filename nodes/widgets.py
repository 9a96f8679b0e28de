"""Inputs that several nodes share."""

from __future__ import annotations

from comfy_api.latest import io

from ..fitdiff_core.render.backdrop import BACKDROPS
from ..fitdiff_core.render.tone import TONES
from ..fitdiff_core.save_prefix import bad_template


def angle(name: str, tooltip: str, limit: float = 180.0, default: float = 0.0):
    return io.Float.Input(
        name, default=default, min=-limit, max=limit, step=1.0, display_mode=io.NumberDisplay.slider, tooltip=tooltip
    )


def lens_inputs() -> list:
    return [
        io.Float.Input("distance", default=0.8, min=0.2, max=20.0, step=0.05, tooltip="Orbit: metres from the head."),
        io.Float.Input(
            "fov", default=20.0, min=2.0, max=100.0, step=1.0, tooltip="Orbit: vertical field of view, degrees."
        ),
    ]


def size_inputs() -> list:
    return [io.Int.Input(n, default=512, min=64, max=4096, step=8, tooltip="Pixels.") for n in ("width", "height")]


def photo_detail_input(name: str, tooltip: str):
    return io.Float.Input(name, default=1.0, min=0.0, max=1.0, step=0.05, tooltip=tooltip)


def prefix_input(default: str):
    return io.String.Input(
        "filename_prefix",
        default=default,
        tooltip="Folder and name below output/; a number is added. %date:yyyy-MM-dd%, %year%, %Node.widget% and the "
        "like are filled in, as in Save Image.",
    )


def check_prefix(prefix: str | None) -> bool | str:
    """For `validate_inputs`: True, or what is wrong. None: the prompt leaves it out, or a link gives it.

    A node whose `validate_inputs` takes this alone says so once: ComfyUI repeats a problem for each argument there.
    """
    return True if prefix is None else bad_template(prefix) or True


def finish_inputs() -> list:
    """What is behind the head, and how bright light is shown. The last inputs of a node."""
    return [
        io.Combo.Input(
            "backdrop",
            options=list(BACKDROPS),
            default=BACKDROPS[0],
            tooltip="What is behind the head. studio: a dark wall with the head's soft shadow.",
        ),
        io.Combo.Input(
            "tone",
            options=list(TONES),
            default=TONES[0],
            tooltip="film: bright light rises softly to white. plain: it is clipped; colours can be measured.",
        ),
    ]
