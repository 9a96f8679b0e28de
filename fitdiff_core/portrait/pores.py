"""Fine relief of skin that only highlights show: without it, a close-up looks like wax."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

TILE = 512  # texels of the tile
REPEATS = 9  # of the tile over the atlas' width, which spans about 0.2 m of skin
BANDS = ((0.55, 1.0), (0.28, 0.7))  # wavelengths in mm, and their share of the slopes
SPAN = 200.0 / REPEATS  # mm that a tile spans
SLOPE = 0.13  # root mean square of the slopes
FADE = (0.00015, 0.00038)  # metres of a pixel at which all of it is seen, and none


@lru_cache(maxsize=1)
@torch.inference_mode(False)
def tile() -> Tensor:
    """Slopes `[1, 2, TILE, TILE]` of a relief that repeats without a seam: bands of noise, pits deeper than bumps."""
    noise = torch.randn(TILE, TILE, generator=torch.Generator().manual_seed(5))
    across = torch.fft.fftfreq(TILE) * TILE
    wave = SPAN / (across[:, None].square() + across[None].square()).sqrt().clamp(min=0.5)  # mm
    height = torch.zeros(TILE, TILE)
    for length, share in BANDS:
        band = torch.exp(-(((wave.log() - torch.tensor(length).log()) / 0.32) ** 2))
        part = torch.fft.ifft2(torch.fft.fft2(noise) * band).real
        part = part / part.std()
        height = height + share * length * torch.where(part < 0, 1.5 * part, 0.6 * part)
    slopes = torch.stack([torch.roll(height, -1, 1) - height, height - torch.roll(height, -1, 0)])
    return (slopes / slopes.std() * SLOPE)[None]


def shown(pixel: float) -> float:
    """Share of the relief that pixels of `pixel` metres show."""
    x = min(max((FADE[1] - pixel) / (FADE[1] - FADE[0]), 0.0), 1.0)
    return x * x * (3 - 2 * x)


def porous(normal: Tensor, tangent: Tensor, uv: Tensor, strength: float) -> Tensor:
    """Normals `[N, 3]` with the relief. tangent: `[N, 4]`; uv: `[N, 2]` in the atlas; strength: 0..1."""
    at = (uv * REPEATS) % 1.0
    # a border of one texel, so that lookups run on across the seam
    wide = F.pad(tile().to(normal), (1, 1, 1, 1), mode="circular")
    place = (at * TILE + 1) / (TILE + 2) * 2 - 1
    grid = torch.stack([place[:, 0], -place[:, 1]], 1)[None, None]
    slope = F.grid_sample(wide, grid, align_corners=False)[0, :, 0].T * strength
    along = F.normalize(tangent[:, :3], dim=1, eps=1e-8)
    up = torch.linalg.cross(normal, along) * tangent[:, 3:].sign()
    return F.normalize(normal - slope[:, :1] * along - slope[:, 1:] * up, dim=1)
