"""Suitable hair for a head of which there is no photo, or whose hair the photo hides."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from ..image import LUMINANCE
from .colour import WHITE, lab, nearest_pigment, pigment_colour
from .presets import PRESETS
from .style import HairStyle
from .underlay import SIZE, scalp_area

if TYPE_CHECKING:
    from ..avatar import Avatar

NATURAL = 2.0  # CIELAB distance from natural hair up to which a colour is given as melanin
DYED = 10.0  # CIELAB distance from natural hair from which a colour is that of a dye
SHINES = 0.4  # share of the brightness of neutral, neither dark nor light hair that is highlights
SURELY = 0.25  # share of the natural colour in one that is near it: the light of a photo is not known exactly
NEUTRAL = np.array([0.57, 0.53, 0.49])  # hue of hair that looks grey or bluish
BLUISH = 22.0  # CIELAB chroma below which blue hair is not dyed
DARKEST = 0.3  # of the mean brightness of grey hair: dark strands among the white ones
BALD = 9.0  # CIELAB distance of the painted scalp from the skin below which the head is bald
WOMEN = (
    "long_straight",
    "long_wavy",
    "bob",
    "lob",
    "ponytail",
    "low_bun",
    "pixie",
    "bob_with_fringe",
    "half_up",
    "long_fringe",
    "shag",
)
MEN = ("side_part", "ivy_league", "crew_cut", "quiff", "french_crop", "slicked_back", "messy", "buzz_cut")
WOMEN_COILS = ("afro", "box_braids", "long_curly", "curly_bob", "low_bun", "afro_puff", "locs")
MEN_COILS = ("short_afro", "buzz_cut", "short_afro", "afro", "locs", "short_curls")


class Painted(NamedTuple):
    """What the maps of one head say of its hair.

    colour: linear RGB of the painted scalp, or of the brows where nothing is painted; skin: of the face
    bald: nothing is painted; crown: the top alone is bare
    """

    colour: np.ndarray
    skin: np.ndarray
    bald: bool
    crown: bool


@torch.no_grad()
def painted_hair(avatar: Avatar) -> Painted:
    """Read the painted scalp of one head."""
    scalp, face = (x[0, 0] > 0.9 for x in scalp_area(avatar.head))
    own = avatar.head.region("scalp", SIZE).cpu() > 0.6
    albedo = avatar.maps.resize(SIZE).diffuse[0].cpu()
    middle = lambda mask: albedo[:, mask].median(1).values.numpy().astype(float)  # noqa: E731
    points, _ = avatar.head.uv_positions(avatar.head(avatar.head.mean.new_zeros(1, avatar.head.n_identity)), SIZE)
    y, z = points[0, 1].cpu(), points[0, 2].cpu()
    top, rim = own & scalp & (y > 0.085) & (z > -0.06), own & scalp & (y < 0.06) & (y > 0.0) & (z < -0.02)
    skin, above, around = middle(face), middle(top), middle(rim)
    apart = lambda a: float(np.linalg.norm(lab(a) - lab(skin)))  # noqa: E731
    bald = apart(around) < BALD
    if bald:
        brows = albedo[:, avatar.head.region("brows", SIZE).cpu() > 0.7]
        dark = brows[:, brows.mean(0) <= brows.mean(0).quantile(0.35)]
        around = dark.median(1).values.numpy().astype(float)
    return Painted(around, skin, bald, apart(above) < BALD and not bald)


def suitable_style(avatar: Avatar, seed: int = 0) -> HairStyle:
    """A style for one head by chance: its colour from the painted scalp, its kind by face and skin.

    Deterministic: the head's shape and `seed` decide, so a person has the same hair alone and in a batch.
    """
    seed = zlib.crc32((avatar.shape[0].detach().cpu().float() * 100).round().int().numpy().tobytes(), seed)
    rng = np.random.default_rng(seed)
    painted = painted_hair(avatar)
    feminine, african = (_share(avatar, name) for name in ("feminine", "african"))
    dark = np.clip((58 - lab(painted.skin)[0]) / 15, 0, 1)
    coils = rng.random() < dark * np.clip(0.35 + african, 0, 0.95)
    if painted.bald and feminine < 0.75:
        return PRESETS["shaved"].with_(seed=seed, **pigment(painted.colour))
    if painted.crown and feminine < 0.75:
        return PRESETS["balding"].with_(seed=seed, **pigment(painted.colour))
    names = (WOMEN_COILS if coils else WOMEN) if rng.random() < 2 * feminine - 0.5 else (MEN_COILS if coils else MEN)
    style = PRESETS[names[rng.integers(len(names))]]
    vary = {k: getattr(style, k) * rng.uniform(0.85, 1.2) for k in ("top", "sides", "back", "volume")}
    if style.flow == "part" and rng.random() < 0.5:
        vary["part"] = -style.part
    return style.with_(seed=seed, **vary, **pigment(painted.colour))


def pigment(colour: np.ndarray) -> dict[str, float | tuple | None]:
    """Melanin, redness and grey of hair whose mean colour is linear RGB `[3]`; dye where no pigment comes near."""
    lightness, a, b = lab(colour)
    # black hair in bright light is neutral as well, so only light hair is grey
    # the scalp shines through white hair, which makes it redder but not more yellow
    chroma = np.hypot(0.4 * a, b)
    grey = float(np.clip((lightness - 46) / 24, 0, 1) * np.clip(1 - (chroma - 6) / 12, 0, 1))
    bright = float(np.dot(LUMINANCE, colour))
    if b < 0 and np.hypot(a, b) < BLUISH:  # of the sky, which shows on black and on white hair
        colour = bright * NEUTRAL / np.dot(LUMINANCE, NEUTRAL)
    elif a < 0 and np.hypot(a, b) < BLUISH:  # nor is natural hair green
        colour = colour * [1, min(1.0, 0.515 * (colour[0] + colour[2]) / colour[1]), 1]
    # no pigment of middling lightness is neutral: such hair is dark and shines
    lit = np.clip((lightness - 24) / 8, 0, 1) * np.clip((50 - lightness) / 8, 0, 1) * np.clip((10 - chroma) / 4, 0, 1)
    base = np.clip(colour * (1 - SHINES * lit), 0.004, 1)
    if grey > 0.05:  # what is left for the strands that are not white, in the hue of the mean
        left = (bright - 0.8 * grey * np.dot(LUMINANCE, WHITE)) / (1 - 0.8 * grey)
        base = base * max(left / bright, DARKEST)
    melanin, redness, away = nearest_pigment(base)
    # between the photo's colour, whose light is not known exactly, and that of natural hair
    between = base * (pigment_colour(melanin, redness) / base) ** SURELY if away < DYED else base
    dye = tuple(float(c) for c in between) if away > NATURAL else None
    return {"melanin": melanin, "redness": redness, "grey": grey, "dye": dye}


def feminine_share(avatar: Avatar) -> float:
    """How feminine the shape of one head is, 0..1."""
    return _share(avatar, "feminine")


def _share(avatar: Avatar, name: str) -> float:
    """How far one head's shape lies along a direction of `HeadModel.attribute_names`, 0..1; 0.5 where there is none."""
    names = avatar.head.attribute_names
    if name not in names:
        return 0.5
    direction = avatar.head.attribute_directions[names.index(name)].cpu()
    along = float((avatar.shape[0].detach().cpu() * direction).sum() / direction.square().sum())
    return float(np.clip(along + 0.5 * (name == "feminine"), 0, 1))
