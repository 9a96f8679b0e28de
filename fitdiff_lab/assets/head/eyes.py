"""The eyeballs: spheres with a cornea. They are open at the back, where the lids hide the rim."""

from __future__ import annotations

import numpy as np

from .atlas import EYE_ANGLE, ISLAND_CENTRE, ISLAND_RADIUS

RINGS = np.array([0, 3.75, 7.5, 11, 14.5, 18, 21.5, 25, 29, 34, 39, 45, 51, 58, 65, 72, 80, 92, 105.0])
SECTORS = 36
DARKEST = 0.7  # least share of light
CORNEA_ANGLE, CORNEA_HEIGHT = 26.0, 0.045  # degrees from the axis; height as a share of the radius


def eyeball(radius: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One eyeball: vertices [m,3] about its centre with axis +z, triangles [t,3], uv [m,2] in the atlas island."""
    theta = np.radians(RINGS[1:])[:, None]
    phi = 2 * np.pi * np.arange(SECTORS)[None] / SECTORS
    bulge = 1 + CORNEA_HEIGHT * np.clip(1 - (np.degrees(theta) / CORNEA_ANGLE) ** 2, 0, 1) ** 1.5
    r = radius * bulge
    ring = np.stack([r * np.sin(theta) * np.cos(phi), r * np.sin(theta) * np.sin(phi), r * np.cos(theta) + 0 * phi], -1)
    vertices = np.concatenate([[[0, 0, radius * (1 + CORNEA_HEIGHT)]], ring.reshape(-1, 3)])
    # the last rings are never seen: they share the island's edge, with small steps so that no face has area zero
    share = np.minimum(RINGS[1:] / EYE_ANGLE, 1 + 0.02 * (RINGS[1:] - EYE_ANGLE) / 25)[:, None]
    disc = np.stack([share * np.cos(phi), share * np.sin(phi)], -1).reshape(-1, 2)
    uv = ISLAND_CENTRE + ISLAND_RADIUS * np.concatenate([np.zeros((1, 2)), disc])

    k, following = np.arange(SECTORS), (np.arange(SECTORS) + 1) % SECTORS
    triangles = [np.stack([np.zeros_like(k), 1 + k, 1 + following], 1)]
    for i in range(len(RINGS) - 2):
        a, b = 1 + i * SECTORS, 1 + (i + 1) * SECTORS
        triangles += [np.stack([a + k, b + k, b + following], 1), np.stack([a + k, b + following, a + following], 1)]
    return vertices, np.concatenate(triangles), uv


def even_out(light: np.ndarray) -> np.ndarray:
    """[m] light at each vertex of `eyeball`, made equal along each ring: that of the ring's bright parts.

    The dark parts are those that the lids cover at rest. They get light when the eye turns.
    """
    rings = np.quantile(light[1:].reshape(-1, SECTORS), 0.8, axis=1).clip(DARKEST, 1)
    return np.concatenate([light[:1], np.repeat(rings, SECTORS)])
