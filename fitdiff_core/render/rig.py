"""Lights set up by hand: directional lights by angle and colour, uniform light, and sums of lights."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import UserError
from ..image import LUMINANCE, srgb_to_linear
from .light import Y00, Light, toward

NEUTRAL = 6500.0  # kelvin: this colour temperature is white
COOLEST, HOTTEST = 1700.0, 25000.0  # kelvin: the range of `planckian_xy`
XYZ_TO_RGB = (
    (3.2404542, -1.5371385, -0.4985314),
    (-0.9692660, 1.8760108, 0.0415560),
    (0.0556434, -0.2040259, 1.0572252),
)


def directional_light(azimuth: float, elevation: float, irradiance: Tensor | tuple[float, float, float]) -> Light:
    """One directional light.

    azimuth:    degrees to the subject's left, 0 is in front
    elevation:  degrees upwards
    irradiance: linear RGB on a surface that faces the light; pi gives a white surface radiance 1
    """
    angles = torch.tensor([azimuth, elevation], dtype=torch.float32).deg2rad()
    color = torch.as_tensor(irradiance, dtype=torch.float32).reshape(1, 1, 3)
    return Light(torch.zeros(1, 9, 3), toward(angles[0], angles[1])[None, None], color)


def uniform_light(radiance: Tensor | tuple[float, float, float]) -> Light:
    """The same radiance, linear RGB, from all directions."""
    sh = torch.zeros(1, 9, 3)
    sh[:, 0] = torch.as_tensor(radiance, dtype=torch.float32) / Y00
    empty = torch.zeros(1, 0, 3)
    return Light(sh, empty, empty)


def combine_lights(*lights: Light) -> Light:
    """The sum of lights of batch B or 1. It casts shadows if one of them does. Raises UserError for other batches."""
    batch = max(len(x) for x in lights)
    if any(len(x) not in (1, batch) for x in lights):
        raise UserError(
            f"Lights of {', '.join(str(len(x)) for x in lights)} pictures cannot be added; connect equal batches."
        )
    parts = [x.to(lights[0].sh).expand(batch) for x in lights]
    return Light(
        sum((x.sh for x in parts), torch.zeros_like(parts[0].sh)),
        torch.cat([x.direction for x in parts], 1),
        torch.cat([x.color for x in parts], 1),
        any(x.shadows for x in lights),
    )


def planckian_xy(kelvin: float) -> tuple[float, float]:
    """CIE 1931 chromaticity of a black body, by the cubic splines of Kim et al. 2002; error up to 0.001."""
    t = 1e3 / min(max(kelvin, COOLEST), HOTTEST)
    if kelvin <= 4000:
        x = -0.2661239 * t**3 - 0.2343589 * t**2 + 0.8776956 * t + 0.179910
    else:
        x = -3.0258469 * t**3 + 2.1070379 * t**2 + 0.2226347 * t + 0.240390
    if kelvin <= 2222:
        y = -1.1063814 * x**3 - 1.34811020 * x**2 + 2.18555832 * x - 0.20219683
    elif kelvin <= 4000:
        y = -0.9549476 * x**3 - 1.37418593 * x**2 + 2.09137015 * x - 0.16748867
    else:
        y = 3.0817580 * x**3 - 5.87338670 * x**2 + 3.75112997 * x - 0.37001483
    return x, y


def temperature_rgb(kelvin: float) -> Tensor:
    """Linear sRGB `[3]` of a black body, with luminance 1; 6500 K is white. Raises UserError for no positive number."""
    if not kelvin > 0 or not math.isfinite(kelvin):
        raise UserError(f"A colour temperature must be a positive number of kelvin, got {kelvin:g}.")
    color = _planckian_rgb(kelvin) / _planckian_rgb(NEUTRAL)
    return color / (color @ color.new_tensor(LUMINANCE))


def _planckian_rgb(kelvin: float) -> Tensor:
    x, y = planckian_xy(kelvin)
    xyz = torch.tensor([x / y, 1.0, (1 - x - y) / y], dtype=torch.float64)
    return (torch.tensor(XYZ_TO_RGB, dtype=torch.float64) @ xyz).clamp(min=0).float()


def hex_rgb(text: str) -> Tensor:
    """ "#rrggbb" or "#rgb" (sRGB) -> linear RGB `[3]`. Raises UserError for anything else."""
    digits = text.strip().removeprefix("#")
    if len(digits) == 3:
        digits = "".join(2 * c for c in digits)
    if len(digits) != 6 or any(c not in "0123456789abcdefABCDEF" for c in digits):
        raise UserError(f"'{text}' is not a colour; write it as #rrggbb, for example #ffd9b0.")
    return srgb_to_linear(torch.tensor([int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]))
