"""Inputs that several nodes share, and the check of combo inputs."""

from __future__ import annotations

from comfy_api.latest import io

from ..fitdiff_core.render.backdrop import BACKDROPS
from ..fitdiff_core.render.tone import TONES


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


def check_choices(**choices) -> bool | str:
    """name=(value, options) for each input: True, or a message about the first value that is not an option."""
    for name, (value, options) in choices.items():
        if value is not None and value not in options:
            return f"Unknown {name} '{value}'; choose one of {', '.join(options)}."
    return True
