"""What an artist changes about a style: length, volume, curl, parting, colour."""

from __future__ import annotations

from ..errors import UserError
from .colour import COLOURS
from .style import HairStyle

PARTINGS = {"style": None, "left": 0.03, "middle": 0.0, "right": -0.03}
TOP_OF_EAR = 0.02  # metres; the hem of loose hair scales about it


def adjust(
    style: HairStyle,
    length: float = 1.0,
    volume: float = 1.0,
    curl: float = 0.0,
    parting: str = "style",
    colour: str = "style",
    grey: float = -1.0,
    seed: int | None = None,
) -> HairStyle:
    """A style with other values.

    length, volume: factors. curl: -1 straightens, 1 makes ringlets. parting: one of PARTINGS, of the subject
    colour: "style", a name of COLOURS, or a hex colour like "#8040ff" for dyed hair
    grey: share of white strands 0..1; -1 keeps the style's. seed: None keeps the style's
    Raises UserError for an unknown parting or colour.
    """
    if parting not in PARTINGS:
        raise UserError(f"Unknown parting '{parting}'; choose one of {', '.join(PARTINGS)}.")
    changes: dict = {name: getattr(style, name) * length for name in ("top", "sides", "back", "fringe")}
    if style.hem > -1:
        changes["hem"] = max(TOP_OF_EAR + (style.hem - TOP_OF_EAR) * length, -0.45)
    if length > 1:  # the opening of the photo's hair would cut what is grown longer
        changes |= {"opening": (), "limit": ()}
    changes["volume"] = style.volume * volume
    if curl < 0:
        changes |= {"wave": style.wave * (1 + curl), "curl": style.curl * (1 + curl)}
    elif curl > 0:
        changes |= {"wave": style.wave + 0.004 * min(curl, 0.5), "curl": style.curl + 0.012 * max(curl - 0.3, 0)}
        if style.wave + style.curl == 0:
            changes["wavelength"] = 0.1 - 0.055 * curl
        if curl > 0.6 and style.strand == "straight":
            changes["strand"] = "curly"
    if PARTINGS[parting] is not None:
        changes["part"] = PARTINGS[parting]
    if seed is not None:
        changes["seed"] = seed
    return recolour(style.with_(**changes), colour, grey)


def recolour(style: HairStyle, colour: str = "style", grey: float = -1.0) -> HairStyle:
    """A style in another colour; arguments and errors as `adjust`."""
    if colour.startswith("#"):
        style = style.with_(dye=_hex(colour), grey=0.0)
    elif colour in COLOURS:
        melanin, redness = COLOURS[colour]
        style = style.with_(melanin=melanin, redness=redness, dye=None)
    elif colour != "style":
        raise UserError(
            f"Unknown hair colour '{colour}'; choose one of {', '.join(COLOURS)}, or a colour like #8040ff."
        )
    return style if grey < 0 else style.with_(grey=grey)


def _hex(text: str) -> tuple[float, float, float]:
    """Linear RGB of "#rrggbb"."""
    try:
        value = int(text[1:], 16)
    except ValueError:
        value = -1
    if len(text) != 7 or value < 0:
        raise UserError(f"'{text}' is no colour; write it like #8040ff.")
    channels = [(value >> shift & 255) / 255 for shift in (16, 8, 0)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return red, green, blue
