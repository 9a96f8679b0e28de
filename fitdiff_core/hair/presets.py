"""Named styles, as hairdressers and groom artists call them."""

from __future__ import annotations

from .style import HairStyle

_LONG = HairStyle(
    top=0.5, sides=0.5, back=0.5, hem=-0.26, part=0.0, volume=0.016, lift=0.3, gravity=0.8, over_ears=True, clump=0.35,
    frizz=0.1, front=0.5, sideburns=0.0, melanin=0.68,
)  # fmt: skip
_TIED = HairStyle(
    flow="tied", tie="ponytail", top=0.3, sides=0.3, back=0.28, volume=0.007, frizz=0.15, sideburns=0.0, melanin=0.7
)
_SHORT = HairStyle(
    top=0.07,
    sides=0.022,
    back=0.022,
    volume=0.018,
    side_volume=0.4,
    lift=0.55,
    gravity=0.3,
    fade=0.5,
    clump=0.4,
    frizz=0.18,
)

PRESETS: dict[str, HairStyle] = {
    # cropped
    "bald": HairStyle(top=0, sides=0, back=0),
    "shaved": HairStyle(flow="forward", top=0.002, sides=0.002, back=0.002, volume=0.002),
    "buzz_cut": HairStyle(flow="forward", top=0.005, sides=0.005, back=0.005, volume=0.003),
    "receding_buzz": HairStyle(
        flow="forward", top=0.005, sides=0.005, back=0.005, volume=0.003, recession=0.022, hairline=0.008
    ),
    # short
    "crew_cut": _SHORT.with_(flow="up", top=0.022, sides=0.009, back=0.009, volume=0.01, sweep=0.5, lift=0.7, frizz=0.3),
    "side_part": _SHORT.with_(top=0.085, sides=0.026, back=0.026, part=0.03, part_end=-0.05, sweep=0.15, volume=0.02),
    "ivy_league": _SHORT.with_(
        top=0.05, sides=0.014, back=0.014, part=0.034, part_end=-0.06, sweep=0.3, volume=0.016, fade=0.7, melanin=0.6
    ),
    "quiff": _SHORT.with_(flow="back", top=0.085, sides=0.014, back=0.014, volume=0.036, lift=0.95, gravity=0.1, fade=0.6),
    "french_crop": _SHORT.with_(
        flow="forward", top=0.045, sides=0.008, back=0.008, fringe=0.035, fringe_sweep=0.1, volume=0.012, fade=0.7
    ),
    "slicked_back": _SHORT.with_(
        flow="back", top=0.12, sides=0.06, back=0.05, volume=0.017, lift=0.45, gravity=0.15, fade=0.3, frizz=0.05, clump=0.5
    ),
    "pixie": _SHORT.with_(
        top=0.085, sides=0.045, back=0.035, part=0.03, fringe=0.06, fringe_sweep=-0.9, volume=0.02, side_volume=0.6, fade=0.3,
        sideburns=0.3, melanin=0.45,
    ),
    "messy": _SHORT.with_(
        flow="forward", top=0.075, sides=0.045, back=0.04, fringe=0.055, fringe_sweep=0.5, volume=0.026, side_volume=0.7,
        lift=0.75, frizz=0.8, fade=0.2, wave=0.003, wavelength=0.05, melanin=0.72,
    ),
    "balding": _SHORT.with_(
        flow="back", top=0.03, sides=0.022, back=0.022, crown=0.75, volume=0.01, side_volume=0.8, frizz=0.2, grey=0.5
    ),
    "thinning": _SHORT.with_(
        flow="back", top=0.06, sides=0.024, back=0.024, recession=0.02, hairline=0.008, density=0.45, volume=0.01, grey=0.35
    ),
    # medium and long, straight
    "bob": _LONG.with_(hem=-0.095, part=0.015, volume=0.02, lift=0.35, frizz=0.07, clump=0.3),
    "bob_with_fringe": _LONG.with_(
        hem=-0.08, part=0.0, volume=0.02, fringe=0.07, fringe_sweep=0.0, frizz=0.05, clump=0.25, melanin=0.9
    ),
    "lob": _LONG.with_(hem=-0.15, part=0.028, volume=0.02, frizz=0.12, wave=0.003, wavelength=0.12, melanin=0.3, roots=0.5),
    "long_straight": _LONG,
    "long_fringe": _LONG.with_(fringe=0.075, fringe_sweep=0.25, melanin=0.9, redness=0.05),
    "long_wavy": _LONG.with_(
        hem=-0.25, part=0.022, volume=0.024, wave=0.009, wavelength=0.105, clump=0.5, frizz=0.25, melanin=0.5
    ),
    "shag": _LONG.with_(
        hem=-0.13, top=0.2, sides=0.22, back=0.26, part=0.01, fringe=0.07, volume=0.026, wave=0.005, wavelength=0.07,
        frizz=0.6, clump=0.6,
    ),
    "long_back": _LONG.with_(flow="back", hem=-0.2, volume=0.018, lift=0.5, frizz=0.15, over_ears=False, front=0.1),
    # curls and coils
    "short_curls": HairStyle(
        flow="out", strand="curly", top=0.05, sides=0.028, back=0.028, volume=0.03, lift=0.9, gravity=0.3, curl=0.006,
        wavelength=0.026, clump=0.3, frizz=0.5, fade=0.3, melanin=0.85,
    ),
    "curly_bob": HairStyle(
        flow="out", strand="curly", top=0.12, sides=0.12, back=0.12, volume=0.045, lift=0.8, gravity=0.75, curl=0.007,
        wavelength=0.032, clump=0.4, frizz=0.45, over_ears=True, sideburns=0.0, melanin=0.8,
    ),
    "long_curly": _LONG.with_(
        strand="curly", hem=-0.2, volume=0.034, lift=0.6, curl=0.009, wavelength=0.05, clump=0.55, frizz=0.5, melanin=0.72,
        redness=0.5,
    ),
    "afro": HairStyle(
        flow="out", strand="coily", top=0.06, sides=0.052, back=0.052, volume=0.05, lift=1.0, gravity=0.0, clump=0.0,
        frizz=0.35, melanin=0.95, redness=0.05, over_ears=True, sideburns=0.3,
    ),
    "short_afro": HairStyle(
        flow="out", strand="coily", top=0.024, sides=0.015, back=0.015, volume=0.02, lift=1.0, gravity=0.0, clump=0.0,
        frizz=0.35, fade=0.3, melanin=0.95, redness=0.05,
    ),
    "locs": HairStyle(
        flow="part", strand="loc", top=0.25, sides=0.25, back=0.25, part=0.0, volume=0.014, lift=0.45, gravity=0.75, hem=-0.17,
        over_ears=True, clump=0, frizz=0.5, melanin=0.93, sideburns=0.0,
    ),
    "box_braids": HairStyle(
        flow="part", strand="braid", top=0.45, sides=0.45, back=0.45, part=0.0, volume=0.014, lift=0.35, gravity=0.85,
        hem=-0.25, over_ears=True, clump=0, frizz=0.2, front=0.5, melanin=0.94, sideburns=0.0,
    ),
    # tied
    "ponytail": _TIED,
    "high_ponytail": _TIED.with_(tie="high_ponytail", back=0.34, melanin=0.3),
    "low_bun": _TIED.with_(tie="bun", volume=0.008),
    "top_knot": _TIED.with_(tie="top_knot", melanin=0.85),
    "pigtails": _TIED.with_(tie="pigtails", back=0.22, part=0.0, melanin=0.55, redness=0.8),
    "braid": _TIED.with_(tie="braid", back=0.3, melanin=0.42),
    "half_up": _LONG.with_(tie="half_up", hem=-0.2, back=0.22, volume=0.012, melanin=0.6),
    "afro_puff": HairStyle(
        flow="tied", tie="top_knot", strand="coily", top=0.1, sides=0.1, back=0.5, volume=0.006, frizz=0.2, melanin=0.95,
        redness=0.05, sideburns=0.0,
    ),
}  # fmt: skip
