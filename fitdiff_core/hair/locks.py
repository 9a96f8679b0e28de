"""Strands gather to locks, wave, curl and become untidy."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from .body import Body
from .growth import SKIN, Strands, unit
from .style import HairStyle

ALONE, COMPANY = 0.007, 3.0  # half the metres round a point of a strand with fewer points of others: it runs alone
HIGH = 0.03  # metres of volume
ALONG, CROWN = 0.013, 0.07  # metres beside the parting, and height over which a strand may run along it
TIDY = 0.4  # frizz; untidier hair keeps its strays
REACH = 0.02  # metres between strands of one lock


def gather(strands: Strands, style: HairStyle, rng: np.random.Generator) -> Strands:
    """Pull strands towards the middle of their lock, the more the nearer to the tip."""
    n = len(strands)
    count = max(n // 14, 1)
    if style.clump <= 0 or n < 40:
        return strands
    guide = rng.choice(n, count, replace=False)
    mean, length = strands.roots.mean, strands.length
    apart = ((mean[:, None] - mean[None, guide]) ** 2).sum(-1)
    apart = apart + 0.02 * (length[:, None] - length[None, guide]) ** 2
    if style.flow == "part":
        sides = np.sign(mean[:, 0] - style.part)
        apart = apart + 0.01 * (sides[:, None] != sides[None, guide])
    of = guide[apart.argmin(1)]
    k = strands.points.shape[1]
    t = np.linspace(0, 1, k)[None, :, None] ** 1.4
    far = np.linalg.norm(strands.points[of] - strands.points, axis=-1).max(1)
    pull = style.clump * rng.uniform(0.35, 1, n) * np.clip(2 - far / REACH, 0, 1)
    if style.flow == "part" and style.volume > HIGH:  # a lock that stands over the parting would show as a loop
        pull = pull * np.clip(np.abs(mean[:, 0] - style.part) / 0.02, 0.1, 1)
    aside = rng.normal(0, 0.002, (n, 1, 3))
    points = strands.points + pull[:, None, None] * t * (strands.points[of] + aside - strands.points)
    return Strands(points, strands.out, strands.roots, strands.layer, of)


def bend(strands: Strands, style: HairStyle, body: Body, rng: np.random.Generator) -> Strands:
    """Add waves, curls and disorder."""
    points, n = strands.points, len(strands)
    arc = np.concatenate([np.zeros((n, 1)), np.linalg.norm(np.diff(points, axis=1), axis=-1).cumsum(1)], 1)
    amount = max(style.wave, style.curl)
    if amount > 0:
        along = unit(np.gradient(points, axis=1))
        across = unit(np.cross(along, strands.out))
        up = np.cross(across, along)
        # neighbours wave together
        turn = np.arctan2(strands.roots.mean[:, 0], strands.roots.mean[:, 2])
        shift, loose = rng.uniform(0, 6.28, 3), 0.25 if style.wave >= style.curl else 1.6
        phase = (
            1.6 * np.sin(2 * turn + shift[0]) + 1.2 * np.sin(5 * turn + shift[1]) + 9 * strands.roots.mean[:, 1] / 0.1
        )
        phase = phase + loose * rng.normal(0, 1, n)[strands.lock] + rng.normal(0, 0.3, n)
        pitch = style.wavelength * (1 + 0.12 * loose * rng.uniform(-1, 1, n)[strands.lock])
        angle = arc / pitch[:, None] * 2 * np.pi + phase[:, None]
        size = np.clip(arc / (0.12 if style.long else 0.05), 0, 1) ** 1.3 * rng.uniform(0.7, 1.25, (n, 1))
        flat = 0.2 if style.curl < style.wave else 0.9
        swing = np.sin(angle) - np.sin(phase)[:, None] * np.exp(-arc / 0.02)
        points = points + (size * amount)[..., None] * (
            swing[..., None] * across + flat * np.cos(angle)[..., None] * up
        )
    loose = style.frizz * 0.03 * np.minimum(arc, 0.12)
    points = points + loose[..., None] * _slow_noise(rng, points.shape)
    points[:, 0] = strands.points[:, 0]
    points[:, 1:] = body.push_out(points[:, 1:], SKIN)
    return Strands(points, body(points)[1], strands.roots, strands.layer, strands.lock)


def without_strays(strands: Strands, style: HairStyle) -> Strands:
    """Smooth hair without the strands that run alone: they would show as loops over the parting and as wires."""
    if style.frizz > TIDY or style.strand != "straight" or len(strands) < 200:
        return strands
    n, k, _ = strands.points.shape
    low = strands.points.min((0, 1))
    at = np.floor((strands.points - low) / ALONE).astype(int)
    size = at.max((0, 1)) + 1
    index = np.ravel_multi_index(at.reshape(-1, 3).T, size)
    grid = torch.from_numpy(np.bincount(index, minlength=int(size.prod())).reshape(size)).float()
    near = F.avg_pool3d(grid[None, None], 3, 1, 1, count_include_pad=True)[0, 0] * 27
    around = near.reshape(-1).numpy()[index].reshape(n, k)
    own = np.minimum(3 * ALONE / np.maximum(strands.length / (k - 1), 1e-4), k)[:, None]  # its own points there
    alone = (around < own + COMPANY)[:, k // 6 : -max(k // 5, 1)]
    keep = alone.sum(1) < 2
    if style.flow == "part" and style.volume > HIGH / 2:  # and those that run along the parting, over both of its sides
        aside = np.abs(strands.points[:, : k // 2 + 1, 0] - style.part).max(1)
        keep &= (aside > ALONG) | (strands.points[:, 0, 1] < CROWN) | (strands.roots.edge < ALONG)
    return strands.select(keep)


def _slow_noise(rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    """Noise `[N, K, 3]` that turns only once or twice along a strand."""
    n, k, _ = shape
    t = np.linspace(0, 1, k)[None, :, None]
    waves = rng.normal(0, 1, (2, n, 1, 3)), rng.uniform(0, 6.28, (2, n, 1, 3))
    return waves[0][0] * np.sin(3 * t + waves[1][0]) + 0.5 * waves[0][1] * np.sin(8 * t + waves[1][1])
