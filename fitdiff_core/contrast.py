"""How far places of an albedo may be from the skin around them; what is beyond is light that was taken for colour.

Shadows of eye sockets and lips and gleams on lids can be black and white in a photo with hard contrast. Skin cannot:
lips and lids are seldom darker than a third of the skin around them. Brows and beards may be.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .filters import gaussian_blur
from .fitting.regions import regions
from .head import HeadModel
from .maps import ALBEDO_EPSILON

# region: how much darker it may be than the skin around it, log; later ones count where regions overlap
DARKEST = {"face": 0.7, "nose": 0.8, "lips": 1.0, "eyelids": 1.0, "brows": 1.9}
BEARD, FREE, KNOWN = 1.9, 2.5, 2.2  # where a beard is; in mouth, eyes and hair; above this there is no limit
BRIGHTEST, GLEAM = 0.35, 0.6  # how much lighter than the skin around it a place may be, log; a single texel
SHADOW, BESIDE = 0.1, 0.035  # limit beside hidden skin, and how far that reaches, of the UV side
WIDTH = 0.011  # of the Gaussian below which detail is left alone (moles, lashes), of the UV side


@torch.no_grad()
def darkest(head: HeadModel, size: int, beard: Tensor | None = None, hidden: Tensor | None = None) -> Tensor:
    """Log steps by which each texel may be darker than the skin around it, `[1, 1, size, size]`.

    beard: `[1, 1, h, w]`, probability of a beard
    hidden: `[1, 1, h, w]`, what is hidden in the photo; the dark skin beside hair is its shadow or its edge
    """
    limit = torch.full((1, 1, size, size), FREE)
    for name, most in DARKEST.items():
        limit = torch.where(regions(head, (name,), size) > 0.3, most, limit)
    if beard is not None:
        near = F.interpolate(beard.float().cpu(), (size, size), mode="bilinear", align_corners=False)
        limit = torch.maximum(limit, BEARD * near.clamp(0, 1))
    if hidden is not None:
        plain = regions(head, ("face", "nose"), size) * (1 - regions(head, ("brows", "eyelids", "lips"), size))
        near = F.interpolate(hidden.float().cpu(), (size, size), mode="area")
        near = (2 * gaussian_blur(near, BESIDE * size)).clamp(0, 1) * plain
        limit = torch.lerp(limit, limit.clamp(max=SHADOW), near)
    free = regions(head, ("scalp", "mouth_interior", "eyes", "ears", "neck"), size) > 0.3
    return gaussian_blur_edges(torch.where(free, FREE, limit), WIDTH * size)


def gaussian_blur_edges(x: Tensor, sigma: float) -> Tensor:
    """`gaussian_blur`, where what lies beyond the border does not count."""
    return gaussian_blur(x, sigma) / gaussian_blur(torch.ones_like(x[:, :1]), sigma)


def limited(diffuse: Tensor, around: Tensor, dark: Tensor) -> Tensor:
    """A linear albedo `[B, 3, S, S]` within its limits; differentiable. Steps up to the limit stay as they are.

    around: log albedo of the skin around each texel, `[B, 3, S, S]`. dark: of `darkest`, at the same size. The tint may
    differ by half as much.
    """
    step = gaussian_blur_edges((diffuse + ALBEDO_EPSILON).log() - around, WIDTH * diffuse.shape[-1])
    light = step.mean(1, keepdim=True)
    tint = step - light
    change = soft(light, torch.where(light > 0, BRIGHTEST, dark)) - light + soft(tint, dark / 2) - tint
    gain = torch.where(dark > KNOWN, 0.0, change).exp()
    # gleams are small, so their lightness counts without the blur
    bright = ((diffuse + ALBEDO_EPSILON).log() - around).mean(1, keepdim=True) + gain.log().mean(1, keepdim=True)
    gleam = torch.where(dark > KNOWN, 0.0, soft(bright.clamp(min=0), GLEAM) - bright.clamp(min=0))
    return ((diffuse + ALBEDO_EPSILON) * gain * gleam.exp() - ALBEDO_EPSILON).clamp(min=0)


def soft(x: Tensor, limit: Tensor | float) -> Tensor:
    """x up to its limit, then ever less, never beyond 1.3 times the limit."""
    over = (x.abs() - limit).clamp(min=0)
    room = 0.3 * torch.as_tensor(limit).to(x)
    return torch.where(over > 0, x.sign() * (limit + room * (over / room).tanh()), x)
