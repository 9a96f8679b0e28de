"""The parameters of a hair style."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any

from ..errors import UserError

FLOWS = ("part", "back", "forward", "up", "out", "tied")
STRANDS = ("straight", "curly", "coily", "loc", "braid")
TIES = ("none", "ponytail", "high_ponytail", "bun", "top_knot", "pigtails", "braid", "half_up")
OUTLINE = 24  # directions of an outline
OPENING = 72  # directions of an opening
FAR = 0.5  # metres; an opening in whose direction no hair ends
RANGES = {
    "hairline": (-0.02, 0.05),
    "recession": (0.0, 0.05),
    "crown": (0.0, 1.0),
    "density": (0.1, 1.5),
    "top": (0.0, 0.7),
    "sides": (0.0, 0.7),
    "back": (0.0, 0.7),
    "fringe": (0.0, 0.15),
    "fringe_sweep": (-1.0, 1.0),
    "sideburns": (0.0, 1.0),
    "fade": (0.0, 1.0),
    "hem": (-1.0, 0.1),
    "part": (-0.06, 0.06),
    "part_end": (-0.12, 0.06),
    "sweep": (-1.5, 1.5),
    "volume": (0.0, 0.12),
    "side_volume": (0.0, 3.0),
    "lift": (0.0, 1.0),
    "gravity": (0.0, 1.5),
    "front": (0.0, 1.0),
    "curtain": (0.0, 0.12),
    "wave": (0.0, 0.02),
    "curl": (0.0, 0.02),
    "wavelength": (0.01, 0.2),
    "clump": (0.0, 1.0),
    "frizz": (0.0, 1.0),
    "melanin": (0.0, 1.0),
    "redness": (0.0, 1.0),
    "grey": (0.0, 1.0),
    "roots": (0.0, 1.0),
    "streaks": (0.0, 3.0),
}


@dataclass(frozen=True)
class HairStyle:
    """A style is these numbers and a seed; `hair.grow` makes the geometry. Lengths are in metres on the mean head.

    flow: where the hair is combed: one of FLOWS. "out" stands off the head (afro, curls)
    strand: one of STRANDS; what a card shows. "loc" and "braid" are tubes
    tie: one of TIES; other than "none" needs the flow "tied" or, for "half_up", any
    hairline: how far the hairline lies above the natural one. recession: the same at the temples only
    crown: share of the top of the head that is bald. density: of the cards, 1 is full hair
    top, sides, back: lengths. fringe: length of hair combed over the forehead, 0 is none; fringe_sweep: to the left +
    sideburns: 0 they end at the top of the ear, 1 at its middle
    fade: 0..1, sides and back become shorter towards the edge
    hem: height y of the cut of loose hair below the ear's middle (0); -1 leaves the lengths as they are
    part: x of the parting, to the subject's left +. part_end: z where it ends. sweep: combed forward + or back -
    volume: height of the hair over the scalp; side_volume: its factor at the sides
    lift: 0 the roots lie flat, 1 they stand. gravity: pull on hair that has left the head
    over_ears: hair lies over the ears, or else behind them
    front: share of long side hair that falls before the shoulder. curtain: half width of the face that stays free
    wave, curl: amplitude of flat waves, radius of curls; wavelength: of both. clump: 0..1, strands gather to locks
    frizz: 0..1, disorder
    melanin, redness: 0..1, as in Blender's Principled Hair BSDF. grey: share of white strands. roots: their darkness
    streaks: contrast between bright and dark strands, 1 is usual
    dye: linear RGB of dyed hair in place of melanin, or None
    outline: OUTLINE numbers, log of how much farther the hair reaches in each direction (`outline.py`), or empty
    limit: OUTLINE numbers, metres from the head's centre beyond which no hair hangs in each direction, or empty
    opening: OPENING numbers, metres from the middle of the face at which hair before the ears ends, or empty
    seed: of all random draws
    """

    flow: str = "part"
    strand: str = "straight"
    tie: str = "none"
    hairline: float = 0.0
    recession: float = 0.0
    crown: float = 0.0
    density: float = 1.0
    top: float = 0.08
    sides: float = 0.03
    back: float = 0.03
    fringe: float = 0.0
    fringe_sweep: float = 0.3
    sideburns: float = 0.5
    fade: float = 0.0
    hem: float = -1.0
    part: float = 0.025
    part_end: float = -0.03
    sweep: float = 0.1
    volume: float = 0.012
    side_volume: float = 1.0
    lift: float = 0.4
    gravity: float = 0.5
    over_ears: bool = False
    front: float = 0.3
    curtain: float = 0.056
    wave: float = 0.0
    curl: float = 0.0
    wavelength: float = 0.05
    clump: float = 0.45
    frizz: float = 0.2
    melanin: float = 0.85
    redness: float = 0.2
    grey: float = 0.0
    roots: float = 0.4
    streaks: float = 1.0
    dye: tuple[float, float, float] | None = None
    seed: int = 0
    outline: tuple[float, ...] = ()
    opening: tuple[float, ...] = ()
    limit: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name, options in (("flow", FLOWS), ("strand", STRANDS), ("tie", TIES)):
            if getattr(self, name) not in options:
                raise UserError(f"Unknown {name} '{getattr(self, name)}'; choose one of {', '.join(options)}.")
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and low <= value <= high):
                raise UserError(f"The hair's {name} must be from {low} to {high} (got {value}).")
        if len(self.outline) not in (0, OUTLINE) or not all(abs(x) <= 2 for x in self.outline):
            raise UserError(f"The hair's outline must be {OUTLINE} numbers from -2 to 2, or empty.")
        if len(self.limit) not in (0, OUTLINE) or not all(0 <= x <= FAR for x in self.limit):
            raise UserError(f"The hair's limit must be {OUTLINE} numbers from 0 to {FAR} metres, or empty.")
        if len(self.opening) not in (0, OPENING) or not all(0 <= x <= FAR for x in self.opening):
            raise UserError(f"The hair's opening must be {OPENING} numbers from 0 to {FAR} metres, or empty.")

    @property
    def long(self) -> bool:
        """Whether the hair hangs below the ears."""
        return self.tie == "half_up" or (self.tie == "none" and self.flow != "out" and min(self.top, self.sides) > 0.1)

    @property
    def bald(self) -> bool:
        """Whether nothing grows."""
        return max(self.top, self.sides, self.back) <= 0 and self.tie == "none"

    def with_(self, **changes: Any) -> HairStyle:
        """A copy with other values; numbers are clipped to their RANGES."""
        known = {f.name for f in fields(self)}
        clipped: dict[str, Any] = {}
        for name, value in changes.items():
            if name not in known:
                raise UserError(f"A hair style has no '{name}'.")
            if name in RANGES:
                low, high = RANGES[name]
                value = min(max(float(value), low), high)
            clipped[name] = value
        return replace(self, **clipped)
