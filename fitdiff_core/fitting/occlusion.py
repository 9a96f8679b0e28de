"""What hides the skin in the photo: hair, hands, glasses.

Told by colour alone: a pixel is compared with skin of one colour under one smooth light, fitted to the photo. What is far
off in darkness or tint is hidden. What is only somewhat off is hidden where it hangs together with hair (hysteresis, Canny
1986) and ends sharply, which a second lamp's colour does not.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..face.mesh_points import CHIN, FOREHEAD, NOSE_TIP, SUBNASALE
from ..filters import gaussian_blur
from ..image import srgb_to_linear
from ..render import Light
from .gbuffer import Surface
from .regions import hair_regions
from .sh_light import MEAN_SKIN, fit_light, irradiance_basis

MIDDLE = 0.1  # of the crop's side, around the tip of the nose
# log ratios to lit skin. Far off: a third as bright; of another colour
DARK, STRANGE = 1.1, 0.75
# somewhat off: darker and tinted a little, or tinted; where a beard may be only the last
DIM, DIM_TINT, TINT, BEARD_TINT = 0.6, 0.12, 0.35, 0.55
SHARP = 0.3  # least step of the log ratio across hair's edge


@torch.no_grad()
def occlusion(
    photo: Tensor, valid: Tensor, mesh: Tensor, surface: Surface, head, regions: Tensor
) -> tuple[Light, Tensor]:
    """Light and visible skin of a photo whose head is already fitted.

    photo `[1, 3, S, S]` sRGB, valid `[1, 1, S, S]` 0 where the photo ends, mesh `[1, 468, 2]` px, surface: of the fitted head
    at that size, regions: of `region_weights` -> light for MEAN_SKIN, visible `[1, 1, S, S]` 0..1 (1 where nothing
    is known against it).
    """
    _, skin, features, _ = (surface.look_up(regions) * surface.facing).split(1, 1)
    scalp, face = (surface.look_up(hair_regions(head).to(photo)) * surface.mask).split(1, 1)
    light, ratio = skin_ratio(photo, skin * valid, surface.normal)
    upper = above_nose(mesh, photo.shape[-1])
    hidden = far_off(ratio, skin * valid, features, upper)
    hair = hanging_together(ratio, face * valid, scalp * valid, features, upper, hidden)
    hidden = torch.maximum(hidden, hair)
    return light, (1 - torch.maximum(hidden, pockets(hidden, face * valid, mesh) * upper)) * valid


def skin_ratio(photo: Tensor, skin: Tensor, normal: Tensor) -> tuple[Light, Tensor]:
    """One robust light fit with one skin colour -> light for MEAN_SKIN, log of photo over lit skin `[1, 3, S, S]`."""
    colour = torch.tensor(MEAN_SKIN).to(photo)[None, :, None, None]
    light, _ = fit_light(photo, colour.expand_as(photo), normal, skin, stride=2)
    expected = colour * (irradiance_basis(normal.permute(0, 2, 3, 1)) @ light.sh[:, None]).permute(0, 3, 1, 2)
    return light, ((srgb_to_linear(photo) + 0.02) / (expected.clamp(min=0) + 0.02)).log()


def darkness_and_tint(ratio: Tensor) -> tuple[Tensor, Tensor]:
    """`[1, 1, S, S]` each: how much darker than lit skin in the mean of the channels, and how far off in colour."""
    level = ratio.mean(1, keepdim=True)
    return -level, (ratio - level).norm(dim=1, keepdim=True)


def far_off(ratio: Tensor, skin: Tensor, features: Tensor, upper: Tensor) -> Tensor:
    """`[1, 1, S, S]` 0..1: plain skin covered by something much darker or of another colour."""
    dark, tint = darkness_and_tint(ratio)
    # dark is a fringe, a strand or a frame; below the nose it may be a beard, which belongs to the face
    found = torch.maximum((dark - DARK).div(0.3).clamp(0, 1) * upper, (tint - STRANGE).div(0.3).clamp(0, 1))
    known = (skin > 0.05).to(ratio)
    # only areas count: spots and wrinkles of a few pixels are the skin's own
    area = (area_mean(found, known, 9) - 0.4).div(0.3).clamp(0, 1) * (F.avg_pool2d(known, 9, 1, 4) > 0.25)
    return F.max_pool2d(area, 5, 1, 2) * (1 - near(features))


def hanging_together(
    ratio: Tensor, face: Tensor, scalp: Tensor, features: Tensor, upper: Tensor, hidden: Tensor
) -> Tensor:
    """`[1, 1, S, S]` 0 or 1: hair that comes down over the face `[1, 1, S, S]`, also over brows, from the scalp or from what is
    `hidden` for sure."""
    dark, tint = darkness_and_tint(ratio)
    weak = torch.minimum((dark - DIM).div(0.2), (tint - DIM_TINT).div(0.1))
    weak = torch.maximum(weak, (tint - TINT).div(0.15)).clamp(0, 1) * upper
    weak = torch.maximum(weak, (tint - BEARD_TINT).div(0.15).clamp(0, 1))
    covered, known = (face > 0.05).to(ratio), (face + scalp > 0.05).to(ratio)
    hair = (known * (area_mean(weak, known, 5) > 0.5)).to(ratio)
    seed = ((scalp > 0.3) | (hidden > 0.5)).to(ratio)
    sure = ((dark * upper > DARK) | (tint > STRANGE)).to(ratio)
    hair = reconstruct(seed * hair, hair)
    for _ in range(4):  # a part that goes may have held others
        kept = torch.maximum(sure, (edge_step(ratio, hair * covered, covered * (1 - near(features))) > SHARP).to(ratio))
        rest = reconstruct(seed * hair * kept, hair * kept)
        if torch.equal(rest, hair):
            break
        hair = rest
    return F.max_pool2d(hair, 9, 1, 4) * covered  # single strands and a shadow lie beyond


def pockets(hidden: Tensor, face: Tensor, mesh: Tensor) -> Tensor:
    """`[1, 1, S, S]` 0 or 1: what hair cuts off from the middle of the face `[1, 1, S, S]`, as bright as skin or not, is hair."""
    size = face.shape[-1]
    covered = (face > 0.05).to(face)
    seen = covered * (hidden < 0.5)
    t = torch.arange(size, device=face.device) + 0.5
    near_nose = (t[:, None] - mesh[0, NOSE_TIP, 1]).hypot(t[None] - mesh[0, NOSE_TIP, 0]) < MIDDLE * size
    if not (seen * near_nose).any():
        return torch.zeros_like(face)
    return covered - reconstruct(seen * near_nose, seen) - covered * (hidden >= 0.5)


def edge_step(ratio: Tensor, inside: Tensor, known: Tensor) -> Tensor:
    """`[1, 1, S, S]`: how far `ratio [1, 3, S, S]` jumps across the nearest edges of inside `[1, 1, S, S]` with the rest of
    known; 0 where there is none."""
    one, other = inside * known, (1 - inside) * known
    step = (area_mean(ratio, one, 7) - area_mean(ratio, other, 7)).norm(dim=1, keepdim=True)
    edge = ((F.avg_pool2d(one, 7, 1, 3) > 0.25) & (F.avg_pool2d(other, 7, 1, 3) > 0.25)).to(ratio)
    size = ratio.shape[-1]
    # near edges decide; the middle of wide hair asks farther ones
    both = torch.cat([edge * step, edge], 1)
    total, weight = (gaussian_blur(both, size / 32) + 0.05 * gaussian_blur(both, size / 11)).split(1, 1)
    return total / (weight + 1e-5)


def area_mean(x: Tensor, known: Tensor, side: int) -> Tensor:
    """Mean of x `[1, C, S, S]` over what is known `[1, 1, S, S]` in a square of `side` px, less where little is."""
    share = F.avg_pool2d(known, side, 1, side // 2)
    return F.avg_pool2d(x * known, side, 1, side // 2) / share.clamp(min=0.1)


def reconstruct(seed: Tensor, mask: Tensor) -> Tensor:
    """What of mask hangs together with seed (morphological reconstruction, Vincent 1993), `[1, 1, h, w]` 0..1 both; seed at
    most as large as mask."""
    reached = seed
    for _ in range(mask.shape[-2] * mask.shape[-1]):
        grown = torch.minimum(F.max_pool2d(reached, 3, 1, 1), mask)
        if torch.equal(grown, reached):
            break
        reached = grown
    return reached


def near(features: Tensor) -> Tensor:
    """Brows, eyes and lips and some pixels around them, by which the fit may be off."""
    return F.max_pool2d((features > 0.1).to(features), 17, 1, 8)


def above_nose(mesh: Tensor, size: int) -> Tensor:
    """`[1, 1, size, size]`: 1 above the base of the nose along the face's own axis, fading to 0 below."""
    up = F.normalize(mesh[0, FOREHEAD] - mesh[0, CHIN], dim=0)
    t = torch.arange(size, device=mesh.device) + 0.5
    y, x = torch.meshgrid(t, t, indexing="ij")
    height = (torch.stack([x, y], -1).to(mesh) - mesh[0, SUBNASALE]) @ up
    return (height / (0.03 * size)).clamp(0, 1)[None, None]
