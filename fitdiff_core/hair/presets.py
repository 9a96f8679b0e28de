"""Named styles, as hairdressers and groom artists call them."""

from __future__ import annotations

from .style import HairStyle

PRESETS: dict[str, HairStyle] = {
    "bald": HairStyle(top=0, sides=0, back=0),
    "buzz_cut": HairStyle(flow="forward", top=0.005, sides=0.004, back=0.004, volume=0.003, melanin=0.85),
    "side_part": HairStyle(
        top=0.085, sides=0.028, back=0.028, part=0.03, part_end=-0.05, sweep=0.2, volume=0.02, side_volume=0.45, lift=0.55,
        gravity=0.3, fade=0.5, clump=0.4, frizz=0.15,
    ),
    "bob": HairStyle(
        top=0.4, sides=0.4, back=0.4, hem=-0.095, part=0.015, volume=0.02, side_volume=1.0, lift=0.35, gravity=0.8,
        over_ears=True, clump=0.3, frizz=0.08, melanin=0.7,
    ),
    "long_straight": HairStyle(
        top=0.5, sides=0.5, back=0.5, hem=-0.27, part=0.0, volume=0.016, lift=0.3, gravity=0.8, over_ears=True, clump=0.35,
        frizz=0.1, front=0.5, melanin=0.6,
    ),
    "long_wavy": HairStyle(
        top=0.5, sides=0.5, back=0.5, hem=-0.25, part=0.02, volume=0.022, lift=0.35, gravity=0.75, over_ears=True,
        wave=0.007, wavelength=0.075, clump=0.55, frizz=0.2, front=0.5, melanin=0.5,
    ),
    "curly": HairStyle(
        flow="out", strand="curly", top=0.075, sides=0.06, back=0.06, volume=0.04, lift=1.0, gravity=0.35, curl=0.005,
        wavelength=0.025, clump=0.3, frizz=0.5, over_ears=True, melanin=0.8,
    ),
    "afro": HairStyle(
        flow="out", strand="coily", top=0.06, sides=0.05, back=0.05, volume=0.05, lift=1.0, gravity=0.0, clump=0.0,
        frizz=0.35, melanin=0.95, redness=0.05, over_ears=True,
    ),
    "slicked_back": HairStyle(
        flow="back", top=0.11, sides=0.06, back=0.05, volume=0.016, side_volume=0.4, lift=0.5, gravity=0.2, clump=0.5,
        frizz=0.06, fade=0.3,
    ),
    "ponytail": HairStyle(flow="tied", tie="ponytail", top=0.3, sides=0.3, back=0.28, volume=0.006, frizz=0.15, melanin=0.65),
    "bun": HairStyle(flow="tied", tie="bun", top=0.3, sides=0.3, back=0.3, volume=0.006, frizz=0.15, melanin=0.75),
    "locs": HairStyle(
        flow="part", strand="loc", top=0.25, sides=0.25, back=0.25, part=0.0, volume=0.014, lift=0.4, gravity=0.8, hem=-0.18,
        over_ears=True, clump=0, frizz=0.35, melanin=0.93,
    ),
    "box_braids": HairStyle(
        flow="part", strand="braid", top=0.45, sides=0.45, back=0.45, part=0.0, volume=0.014, lift=0.3, gravity=0.9,
        hem=-0.27, over_ears=True, clump=0, frizz=0.12, front=0.5, melanin=0.94,
    ),
}  # fmt: skip
