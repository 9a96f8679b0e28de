"""The colour of hair from its pigments."""

from __future__ import annotations

import math

import numpy as np

# Absorption of eumelanin and pheomelanin, and the albedo of a fibre (Chiang et al. 2016, "A practical and controllable
# hair and fur model for production path tracing")
EUMELANIN, PHEOMELANIN = np.array([0.419, 0.697, 1.37]), np.array([0.187, 0.4, 1.05])
SCATTER = np.array([3.45, 3.6, 3.75])  # fits the diffuse colour of hair on a head rather than that of one fibre
FLOOR = 0.006  # black hair is not perfectly black
WARM = np.array([1.06, 0.97, 0.86])  # light that has passed several fibres
RED_IS_RARE = 1.0  # CIELAB that all redness must gain over none
WHITE = np.array([0.55, 0.54, 0.52])

# name: (melanin, redness)
COLOURS = {
    "black": (0.95, 0.0),
    "dark brown": (0.78, 0.12),
    "brown": (0.62, 0.2),
    "light brown": (0.42, 0.25),
    "dark blond": (0.3, 0.25),
    "blond": (0.18, 0.25),
    "platinum": (0.06, 0.1),
    "auburn": (0.68, 0.65),
    "red": (0.55, 0.92),
    "ginger": (0.36, 0.95),
}


def pigment_colour(melanin: float, redness: float) -> np.ndarray:
    """Linear RGB `[3]` of hair.

    melanin: 0..1; redness: 0..1, the share of pheomelanin. Both as in Blender's Principled Hair BSDF.
    """
    amount = -math.log(max(1 - melanin, 1e-4))
    absorbed = amount * ((1 - redness) * EUMELANIN + redness * PHEOMELANIN)
    return FLOOR * WARM + (0.62 - FLOOR) * WARM * np.exp(-SCATTER * np.sqrt(absorbed))


def lab(rgb: np.ndarray) -> np.ndarray:
    """Linear sRGB `[..., 3]` -> CIELAB, D65."""
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = np.maximum(rgb, 1e-6) @ matrix.T / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


def nearest_pigment(rgb: np.ndarray, grey: float = 0.0) -> tuple[float, float, float]:
    """(melanin, redness, distance in CIELAB) of the natural hair that comes closest to a mean colour, linear RGB `[3]`.

    grey: share of white strands in the mean
    """
    grid = [(m, r) for m in np.linspace(0.02, 0.99, 50) for r in np.linspace(0, 1, 11)]
    colours = np.stack([pigment_colour(m, r) for m, r in grid]) * (1 - grey) + WHITE * grey
    distance = np.linalg.norm(lab(colours) - lab(np.asarray(rgb)), axis=1)
    best = int((distance + RED_IS_RARE * np.array([r for _, r in grid])).argmin())
    return float(grid[best][0]), float(grid[best][1]), float(distance[best])
