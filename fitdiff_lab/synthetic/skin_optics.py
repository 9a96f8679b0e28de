"""Skin optics: the colour of skin from melanin in the epidermis and blood in the dermis.

Two layers in Kubelka-Munk theory, as in Donner & Jensen, "A Spectral BSSRDF for Shading Human Skin" (EGSR 2006). The
table of colours by melanin and blood is as in Jimenez et al., "A Practical Appearance Model for Dynamic Facial Color"
(2010). Haemoglobin: S. Prahl's molar extinction (omlc.org). Colour matching: Wyman, Sloan & Shirley (JCGT 2013).
Measured skin varies more in a* and b* than melanin and blood explain. So the thickness of the epidermis, oxygenation,
the type of melanin, and a yellow absorber of the dermis (carotene and bilirubin, peak near 455 nm) vary between people
too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from fitdiff_core.image import LUMINANCE

MELANIN_RANGE = (0.0008, 0.55)  # volume fraction of the epidermis
BLOOD_RANGE = (0.0008, 0.35)  # volume fraction of the dermis
TABLE_SIZE = 40

# 400..700 nm in steps of 10, molar extinction in 1/(cm M)
_OXY = (
    266232, 466840, 480360, 246072, 102580, 62816, 44480, 33209, 26629, 23684, 20933, 20035, 24202, 39957, 53236, 43016,
    32613, 44496, 50104, 14401, 3200, 1506, 942, 610, 442, 368, 319.6, 294, 277.6, 276, 290,
)  # fmt: skip
_DEOXY = (
    223296, 303956, 407560, 528600, 413280, 103292, 23389, 16156, 14550, 16684, 20862, 25774, 31590, 39036, 46592,
    53412, 53788, 45072, 37020, 28324, 14677, 9444, 6510, 5149, 4345, 3750, 3227, 2795, 2408, 2052, 1794,
)  # fmt: skip
_D65 = (
    82.75, 91.49, 93.43, 86.68, 104.87, 117.01, 117.81, 114.86, 115.92, 108.81, 109.35, 107.80, 104.79, 107.69, 104.41,
    104.05, 100.0, 96.33, 95.79, 88.69, 90.01, 89.60, 87.70, 83.29, 83.70, 80.03, 80.21, 82.28, 78.28, 69.72, 71.61,
)  # fmt: skip
_XYZ_TO_RGB = (
    (3.2404542, -1.5371385, -0.4985314),
    (-0.9692660, 1.8760108, 0.0415560),
    (0.0556434, -0.2040259, 1.0572252),
)


@dataclass(frozen=True)
class SkinOptics:
    """Properties of the skin that vary between people, besides melanin and blood."""

    thickness: float = 0.006  # epidermis, cm
    oxygen: float = 0.85  # share of oxygenated haemoglobin
    eumelanin: float = 0.74  # the rest is pheomelanin (redder)
    yellow: float = 0.0  # carotene/bilirubin absorption at its peak, 1/cm
    scatter: float = 1.0  # reduced scattering relative to Donner & Jensen's


@lru_cache(maxsize=1)
def _spectra() -> dict[str, Tensor]:
    lam = torch.arange(400.0, 701.0, 10.0)

    def lobe(scale: float, mean: float, left: float, right: float) -> Tensor:
        width = torch.where(lam < mean, left, right)
        return scale * torch.exp(-0.5 * ((lam - mean) / width) ** 2)

    x = lobe(1.056, 599.8, 37.9, 31.0) + lobe(0.362, 442.0, 16.0, 26.7) + lobe(-0.065, 501.1, 20.4, 26.2)
    y = lobe(0.821, 568.8, 46.9, 40.5) + lobe(0.286, 530.9, 16.3, 31.1)
    z = lobe(1.217, 437.0, 11.8, 36.0) + lobe(0.681, 459.0, 26.0, 13.8)
    weights = torch.stack([x, y, z]) * torch.tensor(_D65)
    return {
        "to_rgb": torch.tensor(_XYZ_TO_RGB) @ (weights / weights[1].sum()),  # [3, 31]
        "eumelanin": 6.6e11 * lam**-3.33,
        "pheomelanin": 2.9e15 * lam**-4.75,
        "base": 0.244 + 85.3 * torch.exp(-(lam - 154) / 66.2),
        "scatter": (14.74 * lam**-0.22 + 2.2e11 * lam**-4) * 10,
        "oxy": torch.tensor(_OXY) * (2.303 * 150 / 64500),  # whole blood: 150 g/l, 64,500 g/mol
        "deoxy": torch.tensor(_DEOXY) * (2.303 * 150 / 64500),
        "yellow": torch.exp(-0.5 * ((lam - 455) / 32) ** 2),
    }


def skin_colour(melanin: Tensor, blood: Tensor, optics: SkinOptics) -> Tensor:
    """Linear sRGB albedo `[..., 3]` under D65, without surface reflection. melanin, blood: volume fractions `[...]`."""
    s = _spectra()
    melanin, blood = melanin[..., None], blood[..., None]
    melanin_absorption = optics.eumelanin * s["eumelanin"] + (1 - optics.eumelanin) * s["pheomelanin"]
    absorb_1 = melanin * melanin_absorption + (1 - melanin) * s["base"]
    absorb_2 = blood * (optics.oxygen * s["oxy"] + (1 - optics.oxygen) * s["deoxy"]) + (1 - blood) * s["base"]
    absorb_2 = absorb_2 + optics.yellow * s["yellow"]
    scatter = 0.75 * s["scatter"] * optics.scatter  # Kubelka-Munk S = 3/4 mu_s', K = 2 mu_a
    a = 1 + 2 * absorb_1 / scatter
    b = (a * a - 1).sqrt()
    x = (b * scatter * optics.thickness).clamp(max=40)
    bottom = a * torch.sinh(x) + b * torch.cosh(x)
    reflect_1, transmit_1 = torch.sinh(x) / bottom, b / bottom
    q = 2 * absorb_2 / scatter
    reflect_2 = 1 + q - (q * q + 2 * q).sqrt()
    r = reflect_1 + transmit_1**2 * reflect_2 / (1 - reflect_1 * reflect_2)
    inside, outside = 0.42, 0.03  # Saunderson correction at n = 1.4
    r = (1 - outside) * (1 - inside) * r / (1 - inside * r)
    return (r @ s["to_rgb"].T).clamp(0, 1)


def colour_table(optics: SkinOptics, size: int = TABLE_SIZE) -> Tensor:
    """Linear sRGB `[3, size, size]`: rows are melanin, columns are blood, both at logarithmic steps."""
    t = torch.linspace(0, 1, size)

    def spaced(low: float, high: float) -> Tensor:
        return low * (high / low) ** t

    melanin, blood = torch.meshgrid(spaced(*MELANIN_RANGE), spaced(*BLOOD_RANGE), indexing="ij")
    return skin_colour(melanin, blood, optics).permute(2, 0, 1)


def sample_table(table: Tensor, log_melanin: Tensor, log_blood: Tensor) -> Tensor:
    """Sample a `colour_table` bilinearly, clamped at its edges: linear albedo `[3, H, W]`.

    log_melanin, log_blood: natural logarithms `[H, W]` of the volume fractions.
    """

    def position(x: Tensor, low: float, high: float) -> Tensor:
        return (x - math.log(low)) * (2 / math.log(high / low)) - 1

    grid = torch.stack([position(log_blood, *BLOOD_RANGE), position(log_melanin, *MELANIN_RANGE)], -1)
    return F.grid_sample(table[None], grid[None], padding_mode="border", align_corners=True)[0]


def lightness(rgb: Tensor) -> Tensor:
    """CIE L* `[...]` of linear sRGB `[..., 3]`."""
    y = (rgb * torch.tensor(LUMINANCE)).sum(-1)
    return torch.where(y > 0.008856, 116 * y.clamp(min=1e-6) ** (1 / 3) - 16, 903.3 * y)


def melanin_for(table: Tensor, lightness_wanted: float, blood: float) -> float:
    """The melanin fraction at which skin has the wanted CIE L*, clamped to the table. blood: volume fraction."""
    logs = torch.linspace(math.log(MELANIN_RANGE[0]), math.log(MELANIN_RANGE[1]), 128)
    values = lightness(sample_table(table, logs[None], torch.full((1, 128), math.log(blood)))[:, 0].T)
    i = int((values > lightness_wanted).sum().clamp(1, 127))  # L* falls as melanin rises
    high, low = float(values[i - 1]), float(values[i])
    t = min(max((high - lightness_wanted) / max(high - low, 1e-6), 0.0), 1.0)
    return math.exp(float(logs[i - 1]) + t * float(logs[i] - logs[i - 1]))


def to_lab(rgb: Tensor) -> Tensor:
    """CIELAB `[..., 3]` (D65) of linear sRGB `[..., 3]`."""
    xyz = rgb @ torch.linalg.inv(torch.tensor(_XYZ_TO_RGB)).T / torch.tensor([0.95047, 1.0, 1.08883])
    f = torch.where(xyz > 0.008856, xyz.clamp(min=1e-6) ** (1 / 3), 7.787 * xyz + 16 / 116)
    return torch.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


def from_lab(lab: Tensor) -> Tensor:
    """Linear sRGB `[..., 3]`, not clamped, of CIELAB `[..., 3]` (D65)."""
    y = (lab[..., 0] + 16) / 116
    f = torch.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], -1)
    xyz = torch.where(f > 0.206893, f**3, (f - 16 / 116) / 7.787) * torch.tensor([0.95047, 1.0, 1.08883])
    return xyz @ torch.tensor(_XYZ_TO_RGB).T


def plausible(rgb: Tensor) -> Tensor:
    """Limit hue and chroma of a ground colour `[3]`, linear sRGB, to the range of measured skin.

    In CIELAB facial redness is much the same for all groups and groups differ in L* and b* (Xiao et al.,
    "Characterising the variations in ethnic skin colours", Skin Research and Technology 2017); chroma is largest for
    skin of middling lightness and falls towards both ends of the L*-C* curve (Wang et al., "Measuring Human Skin
    Colour", CIC 2015, and later comparisons of skin groups). The limits are chosen wide around those trends. Without
    them, random optics give skin that is too white (hue below 45 degrees) or too orange (dark, chroma above 20).
    """
    light, a, b = to_lab(rgb).double().tolist()
    hue, chroma = math.degrees(math.atan2(b, a)), math.hypot(a, b)
    middle = math.exp(-0.5 * ((light - 53) / 17) ** 2)
    hue = _eased(hue, 47.0 + 3.0 * (light > 62), 69.0)
    chroma = _eased(chroma, 5.0 + 10.0 * middle, 10.0 + 15.0 * middle)
    turn = math.radians(hue)
    return from_lab(torch.tensor([light, chroma * math.cos(turn), chroma * math.sin(turn)])).clamp(0.002, 0.95)


def _eased(x: float, low: float, high: float) -> float:
    """Soft limit: `x` is unchanged well inside `low`..`high`; near a limit it follows a tanh that does not pass it."""
    knee = 0.3 * (high - low)
    if x > high - knee:
        return high - knee + knee * math.tanh((x - high + knee) / knee)
    if x < low + knee:
        return low + knee - knee * math.tanh((low + knee - x) / knee)
    return x
