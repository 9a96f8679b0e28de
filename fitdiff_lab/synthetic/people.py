"""Attributes of the synthetic people, drawn jointly, so that skin tone, hair and eyes usually match.

The distributions are chosen to cover real photos, not to copy a census: skin tones from L* 25 to 75, ages from 18 to
80, both sexes, and enough exceptions (dyed hair, make-up, shaved heads) for the network to know them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np

HAIR = {  # linear sRGB
    "black": (0.009, 0.007, 0.006),
    "dark brown": (0.026, 0.015, 0.010),
    "brown": (0.065, 0.036, 0.021),
    "light brown": (0.13, 0.078, 0.044),
    "red": (0.19, 0.062, 0.022),
    "blond": (0.33, 0.215, 0.105),
    "pale blond": (0.52, 0.41, 0.26),
}
GREY = (0.40, 0.372, 0.335)
IRIS = {
    "dark brown": (0.022, 0.010, 0.005),
    "brown": (0.055, 0.025, 0.010),
    "hazel": (0.085, 0.050, 0.018),
    "green": (0.070, 0.075, 0.038),
    "grey": (0.100, 0.115, 0.125),
    "blue": (0.070, 0.115, 0.175),
}


@dataclass
class _Origin:
    """One group of attributes that often occur together.

    share: of the people. lightness: mean and deviation of CIE L*. hair, iris: odds of the colours. freckles: share of
    people with freckles. beard, brow: factors on their growth. yellow: factor on the yellow absorber of the skin.
    """

    share: float
    lightness: tuple[float, float]
    hair: dict[str, float]
    iris: dict[str, float]
    freckles: float
    beard: float
    brow: float
    yellow: float
    ancestry: tuple[float, float, float]  # mean shares: african, asian, caucasian


_ORIGINS = (
    _Origin(
        share=0.27,
        lightness=(66, 3.8),
        hair={"dark brown": 0.25, "brown": 0.3, "light brown": 0.2, "red": 0.07, "blond": 0.14, "pale blond": 0.04},
        iris={"blue": 0.4, "grey": 0.13, "green": 0.14, "hazel": 0.13, "brown": 0.2},
        freckles=0.30,
        beard=1.0,
        brow=0.85,
        yellow=1.0,
        ancestry=(0.01, 0.02, 0.97),
    ),
    _Origin(
        share=0.22,
        lightness=(60, 4.5),
        hair={"black": 0.3, "dark brown": 0.5, "brown": 0.2},
        iris={"dark brown": 0.3, "brown": 0.5, "hazel": 0.12, "green": 0.08},
        freckles=0.07,
        beard=1.35,
        brow=1.25,
        yellow=2.0,
        ancestry=(0.06, 0.14, 0.80),
    ),
    _Origin(
        share=0.14,
        lightness=(50, 6.5),
        hair={"black": 0.8, "dark brown": 0.2},
        iris={"dark brown": 0.7, "brown": 0.3},
        freckles=0.02,
        beard=1.2,
        brow=1.25,
        yellow=2.5,
        ancestry=(0.15, 0.25, 0.60),
    ),
    _Origin(
        share=0.17,
        lightness=(63, 4.5),
        hair={"black": 0.75, "dark brown": 0.25},
        iris={"dark brown": 0.8, "brown": 0.2},
        freckles=0.06,
        beard=0.45,
        brow=0.85,
        yellow=3.0,
        ancestry=(0.01, 0.96, 0.03),
    ),
    _Origin(
        share=0.20,
        lightness=(38, 7.5),
        hair={"black": 0.92, "dark brown": 0.08},
        iris={"dark brown": 0.9, "brown": 0.1},
        freckles=0.02,
        beard=0.9,
        brow=1.0,
        yellow=1.2,
        ancestry=(0.90, 0.02, 0.08),
    ),
)


@dataclass
class SkinAttributes:
    """A person, as `SkinGenerator` draws it.

    Amounts are 0..1 unless a unit is given. Colours are linear sRGB triples.
    """

    age: float = 35.0  # years
    feminine: float = 0.5
    lightness: float = 60.0  # CIE L* of the cheek's ground colour
    blood: float = 0.02  # volume fraction of the dermis
    thickness: float = 0.006  # epidermis, cm
    oxygen: float = 0.85
    eumelanin: float = 0.74
    yellow: float = 1.0  # 1/cm
    tint: tuple = (1.0, 1.0, 1.0)  # colour factor beyond the model of skin optics
    contrast: float = 1.0  # of the tone pattern between regions
    flush: float = 0.4
    mottle: float = 0.3
    freckles: float = 0.0
    moles: int = 3
    sun_spots: int = 0
    blemishes: int = 0
    circles: float = 0.3  # dark under the eyes
    wrinkles: float = 0.3
    pores: float = 0.4
    oil: float = 0.4
    lip_blood: float = 0.5
    lip_dark: float = 0.3
    lip_edge: float = 0.6  # how sharp the vermilion border is
    lipstick: float = 0.0
    lipstick_colour: tuple = (0.4, 0.05, 0.06)
    gloss: float = 0.2
    blush: float = 0.0
    blush_colour: tuple = (0.5, 0.15, 0.15)
    foundation: float = 0.0
    eye_shadow: float = 0.0
    eye_shadow_colour: tuple = (0.1, 0.06, 0.05)
    eye_liner: float = 0.0
    lashes: float = 0.4
    brow_density: float = 0.6
    brow_thickness: float = 7.0  # mm
    brow_height: float = 0.0  # mm
    brow_arch: float = 0.0  # mm, at two thirds of its length
    brow_tilt: float = 0.0  # mm, outer end against inner
    brow_length: float = 1.0
    brow_inner: float = 0.0  # mm, towards the other brow
    brow_join: float = 0.0  # hair between the brows
    brow_drawn: float = 0.0  # pencil
    brow_colour: tuple = HAIR["brown"]
    hair: str = "short"  # bald, shaved, short, medium, long
    hair_colour: tuple = HAIR["brown"]
    hairline: float = 0.0  # mm up
    recede: float = 0.0  # mm at the temples
    fringe: float = 0.0
    thinning: float = 0.0
    stubble: float = 0.0
    moustache: float = 0.0
    chin_beard: float = 0.0
    jaw_beard: float = 0.0
    beard_colour: tuple = HAIR["brown"]
    iris_colour: tuple = IRIS["brown"]
    iris_pattern: float = 0.5
    pupil: float = 1.0  # relative radius
    sclera_red: float = 0.2
    sclera_yellow: float = 0.2
    weight: float = 0.5  # 0 thin, 1 heavy
    african: float = 1 / 3  # shares of ancestry, 1 in sum: of the head's shape only
    asian: float = 1 / 3
    caucasian: float = 1 / 3
    extra: dict = field(default_factory=dict)

    def numbers(self) -> dict[str, float]:
        """The numeric attributes by name. A shard keeps them beside the maps."""
        return {f.name: float(v) for f in fields(self) if isinstance(v := getattr(self, f.name), (int, float))}


def _pick(rng: np.random.Generator, odds: dict[str, float]) -> str:
    p = np.array(list(odds.values()))
    return str(rng.choice(list(odds), p=p / p.sum()))


def _mix(a, b, t: float) -> tuple:
    return tuple(float(x * (1 - t) + y * t) for x, y in zip(a, b, strict=True))


def _vary(rng: np.random.Generator, colour, amount: float) -> tuple:
    """Change the brightness at random by `amount`, and the hue from red to blue by a third of it (log-normal)."""
    gain = np.exp(amount * rng.standard_normal() + 0.33 * amount * rng.standard_normal() * np.array([0.5, 0.05, -0.55]))
    return tuple(float(v) for v in np.clip(np.array(colour) * gain, 0.002, 0.9))


def random_attributes(rng: np.random.Generator) -> SkinAttributes:
    """The attributes of a random person."""
    origin = _ORIGINS[rng.choice(len(_ORIGINS), p=[o.share for o in _ORIGINS])]
    age = float(18 + 62 * rng.beta(1.2, 1.7))
    female = rng.random() < 0.5
    a = SkinAttributes(
        age=age, feminine=float(np.clip((0.85 if female else 0.15) + 0.12 * rng.standard_normal(), 0, 1))
    )
    if rng.random() < 0.12:  # any skin tone with any hair and eyes
        a.lightness = float(rng.uniform(27, 73))
    else:
        a.lightness = float(np.clip(rng.normal(*origin.lightness) + (1.0 if female else -0.7), 25, 75))
    old = float(np.clip((age - 25) / 50, 0, 1.1))
    _skin(a, rng, origin, old)
    _hair_and_eyes(a, rng, origin, old, female)
    _beard(a, rng, origin, female)
    _make_up(a, rng, female)
    # drawn last, so that the draws above do not depend on them
    a.weight = float(np.clip(0.45 + 0.08 * old + 0.2 * rng.standard_normal(), 0, 1))
    a.african, a.asian, a.caucasian = (float(v) for v in rng.dirichlet(10 * np.array(origin.ancestry) + 0.15))
    return a


def random_person(seed: int) -> SkinAttributes:
    """The attributes of the person with this seed."""
    return random_attributes(np.random.default_rng(seed))


def _skin(a: SkinAttributes, rng: np.random.Generator, origin: _Origin, old: float) -> None:
    pale = float(np.clip((a.lightness - 45) / 25, 0, 1))
    a.blood = float(np.clip(np.exp(rng.normal(np.log(0.020), 0.42)), 0.006, 0.075))
    a.thickness = float(np.clip(np.exp(rng.normal(np.log(0.0058), 0.28)), 0.003, 0.011))
    a.oxygen = float(np.clip(rng.normal(0.84, 0.09), 0.5, 0.97))
    a.eumelanin = float(np.clip(rng.normal(0.74, 0.13), 0.4, 0.97))
    a.yellow = float(np.clip(origin.yellow * rng.gamma(1.6, 0.75), 0, 9))
    a.tint = tuple(float(v) for v in np.exp([0.025, 0.02, 0.045] * rng.standard_normal(3)))
    a.contrast = float(np.exp(rng.normal(0, 0.3)))
    a.flush, a.mottle = float(rng.beta(1.8, 2.6)), float(rng.beta(2, 3))
    a.freckles = float(rng.beta(2, 2)) if rng.random() < origin.freckles else 0.0
    a.moles = int(rng.poisson(3.5))
    a.sun_spots = int(rng.poisson(max(0.0, age_over(a.age, 42) * 0.9 * rng.random())))
    a.blemishes = int(rng.poisson(3.5 * rng.random() ** 2 * (2.0 if a.age < 30 else 1.0) * 2))
    a.circles = float(np.clip(rng.beta(2, 2.6) + 0.15 * (1 - pale) + 0.1 * old, 0, 1))
    a.wrinkles = float(np.clip(old * rng.uniform(0.55, 1.25) + 0.06 * rng.random(), 0, 1.2))
    a.pores, a.oil = float(rng.beta(2, 2)), float(rng.beta(2, 2.2))
    a.lip_blood = float(rng.beta(2, 2) * (1 - 0.35 * old))
    a.lip_dark = float(np.clip(rng.beta(1.6, 3) + 0.25 * (1 - pale) * rng.random(), 0, 1))
    a.lip_edge = float(np.clip(rng.beta(3, 2) - 0.2 * old, 0.05, 1))
    a.gloss = float(rng.beta(1.5, 3))
    a.sclera_red, a.sclera_yellow = float(rng.beta(1.5, 4)), float(rng.beta(1.5, 3) + 0.15 * (1 - pale))


def age_over(age: float, limit: float) -> float:
    """Years past `limit`, at least 0."""
    return max(0.0, age - limit)


def _hair_and_eyes(a: SkinAttributes, rng: np.random.Generator, origin: _Origin, old: float, female: bool) -> None:
    natural = _vary(rng, HAIR[_pick(rng, origin.hair)], 0.3)
    grey = float(np.clip((a.age - 47) / 25 + 0.28 * rng.standard_normal(), 0, 1)) ** 1.3
    hair = _mix(natural, _vary(rng, GREY, 0.2), grey * 0.9)
    if female and rng.random() < 0.3:  # dyed; brows keep their own colour
        hair = _vary(rng, HAIR[_pick(rng, dict.fromkeys(HAIR, 1.0))], 0.3)
    a.hair_colour = hair
    styles = (
        {"bald": 0.02, "shaved": 0.05, "short": 0.23, "medium": 0.3, "long": 0.4}
        if female
        else {"bald": 0.07 + 0.1 * old, "shaved": 0.2, "short": 0.55, "medium": 0.12, "long": 0.06}
    )
    a.hair = _pick(rng, styles)
    a.hairline = float(4 * rng.standard_normal())
    if not female:
        a.hairline += float(9 * old * rng.random())
        a.recede = float(np.clip(rng.normal(6 + 16 * old, 8), 0, 40))
        a.thinning = float(np.clip(rng.normal(0.5 * old, 0.25), 0, 0.9)) if a.hair in ("short", "shaved") else 0.0
    a.fringe = float(rng.uniform(0.3, 1)) if a.hair in ("medium", "long") and rng.random() < 0.28 else 0.0
    a.brow_colour = _vary(rng, _mix(natural, GREY, 0.55 * grey), 0.3)
    a.brow_density = float(
        np.clip(rng.beta(4, 2.2) * origin.brow * (0.92 if female else 1.08) - 0.12 * old * rng.random(), 0.03, 1.15)
    )
    if rng.random() < 0.025:
        a.brow_density = 0.0
    a.brow_thickness = float(np.clip(rng.normal(6.4 if female else 8.6, 1.7) * origin.brow**0.4, 2.2, 14))
    a.brow_height, a.brow_arch = float(rng.normal(0, 1.7)), float(rng.normal(0.4 if female else -1.4, 1.5))
    a.brow_tilt, a.brow_length = (
        float(rng.normal(1.8 if female else 0.6, 1.7)),
        float(np.clip(rng.normal(1, 0.09), 0.7, 1.2)),
    )
    a.brow_inner = float(rng.normal(-2.0, 1.8))
    a.brow_join = float(rng.random()) * 0.6 if not female and rng.random() < 0.2 * origin.brow else 0.0
    a.iris_colour = _vary(rng, IRIS[_pick(rng, origin.iris)], 0.22)
    a.iris_pattern, a.pupil = float(rng.random()), float(np.clip(rng.normal(1.2, 0.25), 0.7, 1.9))
    a.lashes = float(np.clip(rng.beta(2, 2.2) + (0.25 if female else 0.05), 0, 1))


def _beard(a: SkinAttributes, rng: np.random.Generator, origin: _Origin, female: bool) -> None:
    if female:
        a.stubble = 0.0 if rng.random() < 0.95 else 0.1 * float(rng.random())
        return
    growth = float(np.clip(origin.beard * rng.normal(0.85, 0.25), 0.05, 1.5))
    a.stubble = float(np.clip(rng.beta(1.2, 2.0) * growth, 0, 1))
    style = _pick(rng, {"none": 0.46, "full": 0.24, "goatee": 0.12, "moustache": 0.1, "stubble": 0.08})
    dense = float(np.clip(rng.uniform(0.35, 1.15) * growth**0.5, 0, 1))
    if style == "full":
        a.moustache, a.chin_beard, a.jaw_beard = dense * rng.uniform(0.7, 1), dense, dense * rng.uniform(0.6, 1)
    elif style == "goatee":
        a.moustache, a.chin_beard = dense * rng.uniform(0.4, 1), dense
    elif style == "moustache":
        a.moustache = dense
    elif style == "stubble":
        a.stubble = float(np.clip(growth * rng.uniform(0.7, 1), 0, 1))
    redder = np.array([1.15, 0.95, 0.85]) if rng.random() < 0.3 else np.ones(3)
    a.beard_colour = tuple(float(v) for v in np.clip(np.array(_vary(rng, a.brow_colour, 0.25)) * redder, 0.004, 0.8))
    if a.age > 45 and rng.random() < 0.6:
        a.beard_colour = _mix(
            a.beard_colour, GREY, float(np.clip((a.age - 45) / 30 + 0.2 * rng.standard_normal(), 0, 0.95))
        )


def _make_up(a: SkinAttributes, rng: np.random.Generator, female: bool) -> None:
    if not female or rng.random() < 0.4:
        return
    level = float(rng.beta(1.6, 2.0))
    a.foundation = level * float(rng.random())
    if rng.random() < 0.65:
        a.lipstick = float(np.clip(rng.uniform(0.25, 1.0) * (0.4 + level), 0, 0.95))
        red, pink, nude, plum = (0.42, 0.025, 0.03), (0.55, 0.15, 0.19), (0.38, 0.15, 0.11), (0.13, 0.018, 0.03)
        colour = _vary(rng, (red, pink, nude, plum)[rng.choice(4, p=[0.3, 0.3, 0.28, 0.12])], 0.3)
        a.lipstick_colour = _mix((0.0, 0.0, 0.0), colour, float(np.clip(0.25 + a.lightness / 85, 0, 1)))
        a.gloss, a.lip_edge = float(np.clip(a.gloss + 0.3 * rng.random(), 0, 1)), float(np.clip(a.lip_edge + 0.3, 0, 1))
    if rng.random() < 0.5:
        a.eye_shadow = float(rng.uniform(0.15, 0.75) * (0.3 + level))
        brown, smoke, rose, blue, gold = (
            (0.12, 0.06, 0.04),
            (0.03, 0.028, 0.03),
            (0.3, 0.11, 0.13),
            (0.08, 0.11, 0.2),
            (0.4, 0.27, 0.13),
        )
        a.eye_shadow_colour = _vary(
            rng, (brown, smoke, rose, blue, gold)[rng.choice(5, p=[0.4, 0.25, 0.17, 0.06, 0.12])], 0.3
        )
    if rng.random() < 0.65:
        a.eye_liner = float(rng.uniform(0.2, 1.0))
    if rng.random() < 0.5:
        a.blush, a.blush_colour = float(rng.uniform(0.1, 0.5) * (0.4 + level)), _vary(rng, (0.5, 0.17, 0.15), 0.2)
    a.lashes = float(np.clip(a.lashes + 0.5 * level, 0, 1.2))
    if rng.random() < 0.35:
        a.brow_drawn = float(rng.uniform(0.2, 0.8))
        a.brow_thickness = float(np.clip(a.brow_thickness * rng.uniform(0.6, 1.0), 2.2, 12))
