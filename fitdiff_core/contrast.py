"""How far places of an albedo may be from the skin around them; what is beyond is light that was taken for colour.

Shadows of eye sockets and lips and gleams on lids can be black and white in a photo with hard contrast. Skin cannot:
lips and lids are seldom darker than a third of the skin around them. Brows and beards may be. Plain skin is nearly
even in patches of some millimetres; what is darker or paler there, in a photo, is mostly shading.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .filters import gaussian_blur, normalized_convolution
from .fitting.regions import lip_area, regions
from .head import HeadModel
from .maps import ALBEDO_EPSILON

# region: log steps by which it may be darker and lighter than the skin around it, and differ in tint; later ones count
# where regions overlap
LIMITS = {
    "face": (0.45, 0.25, 0.1),
    "nose": (0.8, 0.35, 0.15),
    "lips": (0.9, 0.1, 0.5),
    "eyelids": (1.0, 0.35, 0.3),
    "brows": (1.9, 0.35, 0.95),
}
FOREHEAD = (0.06, 0.06, 0.03)  # nothing on it is darker in patches but a shadow of hair
BEARD = (1.9, 0.35, 0.95)
FREE, KNOWN = 2.5, 2.2  # in mouth, eyes and hair; limit of dark above which there is none
FINE = 0.2  # how much more a single texel may be lighter, log; and darker, more than twice the limit
SHADOW, BESIDE = 0.06, 0.035  # limit of dark beside hidden skin, and how far that reaches, of the UV side
WIDTH = 0.011  # of the Gaussian below which detail is left alone (moles, lashes), of the UV side


@dataclass(frozen=True)
class ContrastLimits:
    """steps: log steps by which each texel may be darker, and lighter, than the skin around it, and differ from it in
    tint, `[1, 3, S, S]`. lips: `[1, 1, S, S]`, without the inside of the mouth"""

    steps: Tensor
    lips: Tensor

    @staticmethod
    @torch.no_grad()
    def of(
        head: HeadModel,
        size: int,
        beard: Tensor | None = None,
        hidden: Tensor | None = None,
        like: Tensor | None = None,
    ) -> ContrastLimits:
        """Limits at a size of the maps.

        beard: `[1, 1, h, w]`, probability of a beard
        hidden: `[1, 1, h, w]`, what is hidden in the photo; the dark skin beside hair is its shadow or its edge
        like: a tensor that gives device and type; None for the CPU
        """
        limit = torch.full((1, 3, size, size), FREE)
        for name, most in LIMITS.items():
            limit = torch.where(regions(head, (name,), size) > 0.3, _planes(most), limit)
        plain = regions(head, ("face", "nose"), size) * (1 - regions(head, ("brows", "eyelids", "lips"), size))
        limit = torch.where(forehead(head, size) * plain > 0.5, _planes(FOREHEAD), limit)
        if beard is not None:
            near = F.interpolate(beard.float().cpu(), (size, size), mode="bilinear", align_corners=False)
            limit = torch.maximum(limit, _planes(BEARD) * near.clamp(0, 1))
        if hidden is not None:
            near = F.interpolate(hidden.float().cpu(), (size, size), mode="area")
            near = (2 * gaussian_blur(near, BESIDE * size)).clamp(0, 1) * plain
            limit = torch.cat([torch.lerp(limit[:, :1], limit[:, :1].clamp(max=SHADOW), near), limit[:, 1:]], 1)
        free = regions(head, ("scalp", "mouth_interior", "eyes", "ears", "neck"), size) > 0.3
        steps = gaussian_blur_edges(torch.where(free, FREE, limit), WIDTH * size)
        return ContrastLimits(*(x if like is None else x.to(like) for x in (steps, lip_area(head, size))))

    @torch.no_grad()
    def around(self, skin: Tensor, reference: Tensor) -> Tensor:
        """What the steps are counted from, log `[B, 3, S, S]`: the skin around, and on lips the reference's lips, since
        the light on a smile, and teeth that are taken for lips, make them pale.

        skin: log albedo of the skin around each texel, `[B, 3, h, w]`. reference: a linear albedo `[B, 3, h, w]`
        """
        size = self.lips.shape[-1]
        skin, reference = (
            F.interpolate(x, (size, size), mode="bilinear", align_corners=False) for x in (skin, reference)
        )
        own = normalized_convolution((reference + ALBEDO_EPSILON).log(), self.lips, WIDTH * size)
        return torch.lerp(skin, own, self.lips)

    def impose(self, diffuse: Tensor, around: Tensor) -> Tensor:
        """A linear albedo `[B, 3, S, S]` within the limits; differentiable. Steps up to the limit stay as they are."""
        dark, bright, most_tint = self.steps.split(1, 1)
        step = gaussian_blur_edges((diffuse + ALBEDO_EPSILON).log() - around, WIDTH * diffuse.shape[-1])
        light = step.mean(1, keepdim=True)
        tint = step - light
        change = soft(light, torch.where(light > 0, bright, dark)) - light + soft(tint, most_tint) - tint
        gain = torch.where(dark > KNOWN, 0.0, change).exp()
        # gleams and single hairs are small, so their lightness counts without the blur
        left = ((diffuse + ALBEDO_EPSILON).log() - around).mean(1, keepdim=True) + gain.log().mean(1, keepdim=True)
        fine = soft(left, torch.where(left > 0, bright + FINE, FINE + 2 * dark)) - left
        fine = torch.where(dark > KNOWN, 0.0, fine)
        return ((diffuse + ALBEDO_EPSILON) * gain * fine.exp() - ALBEDO_EPSILON).clamp(min=0)


def _planes(steps: tuple[float, float, float]) -> Tensor:
    return torch.tensor(steps).view(1, 3, 1, 1)


def forehead(head: HeadModel, size: int) -> Tensor:
    """1 above the brows, and beside them as far as their outer ends, `[1, 1, size, size]`."""
    brows = regions(head, ("brows",), size)[0, 0] > 0.3
    rows = torch.where(brows.any(0), brows.float().argmax(0), size)  # of the upper edge of the brows in each column
    if not brows.any():
        return torch.zeros(1, 1, size, size)
    columns = brows.any(0).nonzero()[:, 0]
    nearest = columns[(torch.arange(size)[:, None] - columns).abs().argmin(1)]
    return (torch.arange(size)[:, None] < rows[nearest]).float()[None, None]


def gaussian_blur_edges(x: Tensor, sigma: float) -> Tensor:
    """`gaussian_blur`, where what lies beyond the border does not count."""
    return gaussian_blur(x, sigma) / gaussian_blur(torch.ones_like(x[:, :1]), sigma)


def soft(x: Tensor, limit: Tensor | float) -> Tensor:
    """x up to its limit, then ever less, never beyond 1.3 times the limit."""
    over = (x.abs() - limit).clamp(min=0)
    room = 0.3 * torch.as_tensor(limit).to(x)
    return torch.where(over > 0, x.sign() * (limit + room * (over / room).tanh()), x)
