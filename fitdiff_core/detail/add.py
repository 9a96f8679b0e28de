"""Photo detail, step by step: unwrap the photo, remove the light, mirror to the hidden side, inpaint, blend."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..avatar import Avatar
from ..contrast import ContrastLimits
from ..errors import UserError
from ..filters import dilate, normalized_convolution
from ..fitting.regions import lip_area, regions
from ..head import HeadModel
from ..maps import ALBEDO_EPSILON, TextureMaps
from ..model.checkpoint import FitDiffModel
from ..model.denoiser import Condition
from ..progress import report
from ..scene import Scene
from .blend import multiband
from .delight import anchor, delight
from .hair_mask import find_hair, remove_hair
from .inpainting import inpaint
from .shine import without_shine
from .teeth import match_teeth
from .tints import lip_tone, skin_tint
from .unwrapping import USED, Unwrapped, unwrap

FEATURES = ("brows", "eyelids", "lips")
BROAD = 0.08  # width of the Gaussian over the skin around a place that tells how dark it may be, of the UV side
MIRROR = 0.6  # share of the detail of a seen cheek that the hidden one gets


@dataclass
class PhotoDetail:
    """avatar: the head with the photo's detail; weight `[1, 1, S, S]`: the share of each texel that came from the
    photo."""

    avatar: Avatar
    weight: Tensor


@torch.no_grad()
def photo_detail(
    model: FitDiffModel | None,
    avatar: Avatar,
    scene: Scene,
    photo: Tensor,
    mask: Tensor | None = None,
    strength: float = 1.0,
    texture_size: int | None = None,
    condition: Condition | None = None,
    seed: int = 0,
    mirror: float = MIRROR,
) -> PhotoDetail:
    """Add the photo's fine detail to the maps of one head.

    model: autoencoder and denoiser for the hidden parts; None leaves them as they are
    avatar: one head. scene: of its photo
    photo: `[1, 3, H, W]` sRGB
    mask: `[1, 1, H, W]`, 1 where the photo may be used; None finds hair, hands and glasses in the photo
    strength: 0 (the avatar as it is) to 1 (all of the detail)
    texture_size: texels a side of the maps; None keeps the avatar's
    condition: the identity, for the hidden parts
    mirror: share of one side's detail that the hidden other side gets

    Teeth get the photo's shade. Shape, eyes, mouth, scalp and neck stay as they are. Raises UserError for a batch, a
    scene without a photo, sizes that do not fit, or a strength outside 0..1.
    """
    if not math.isfinite(strength) or not 0 <= strength <= 1:
        raise UserError(f"The strength of the photo detail must be from 0 to 1, not {strength}.")
    size = texture_size or avatar.maps.size[0]
    if strength == 0:
        # the requested size still applies
        maps = avatar.maps if avatar.maps.size == (size, size) else avatar.maps.resize(size)
        return PhotoDetail(replace(avatar, maps=maps), photo.new_zeros(1, 1, size, size))
    maps = avatar.maps.resize(size)
    seen = unwrap(avatar, scene, photo, mask, size)
    report(1, 6)
    albedo, weight = delight(seen, maps, scene)
    report(2, 6)
    like, own_edges = symmetric(seen.geometry.position), features(avatar.head, size).to(weight)
    lips, skin = lip_area(avatar.head, size).to(weight), plain_skin(avatar.head, size).to(weight)
    tint = skin_tint(albedo, maps.diffuse, weight * skin)
    tinted = add_log(maps, tint * all_skin(avatar.head, size).to(weight))
    weight, shown, clean = without_hair(avatar, seen, albedo, weight, tinted, like)
    clean = add_log(clean, lip_tone(albedo, clean.diffuse, weight, lips, skin))
    kept = anchor(albedo, clean.diffuse, weight, own_edges)
    detailed = add_log(clean, kept)
    report(3, 6)

    # the hidden side gets the detail of the seen one, as far as the face is symmetric
    other = weight.flip(3) * (1 - weight) * like * mirror
    echoed = TextureMaps.from_stack(multiband(add_log(clean, kept.flip(3)).stack(), clean.stack(), other))
    merged = TextureMaps.from_stack(multiband(detailed.stack(), echoed.stack(), weight))
    report(4, 6)
    if model is not None:
        filled = inpaint(model, merged, torch.maximum(shown, other), avatar.shape, condition, seed=seed).resize(size)
        report(5, 6)
        # eyes, mouth and hair stay as sampled: they are no skin that the photo could have shown
        paint = fillable(avatar.head, size).to(weight) * (1 - shown)
        merged = TextureMaps.from_stack(multiband(filled.stack(), merged.stack(), paint))
    broad = normalized_convolution((clean.diffuse + ALBEDO_EPSILON).log(), skin, BROAD * size)
    limits = ContrastLimits.of(avatar.head, size, seen.beard, seen.hidden, weight)
    within = limits.impose(merged.diffuse, limits.around(broad, clean.diffuse))
    merged = replace(merged, diffuse=without_shine(within, skin))
    merged = match_teeth(replace(avatar, maps=merged), scene, photo).maps
    stack = torch.lerp(maps.stack(), merged.stack(), strength)
    return PhotoDetail(replace(avatar, maps=TextureMaps.from_stack(stack)), weight * strength)


def without_hair(
    avatar: Avatar, seen: Unwrapped, albedo: Tensor, weight: Tensor, maps: TextureMaps, like: Tensor
) -> tuple[Tensor, Tensor, TextureMaps]:
    """Exclude hair over the skin, which belongs neither to the photo's detail nor to the albedo.

    Returns the weight and `seen.shown` without it, and maps with a guess of the skin below the hair.
    """
    size = maps.size[0]
    skin = plain_skin(avatar.head, size).to(weight)
    upper = above_nose(avatar.head, seen.geometry.position, size)
    # ears and neck count as a source of hair, since long hair covers the sides
    rim, face = (regions(avatar.head, names, size).to(weight) for names in (("scalp", "ears", "neck"), ("face",)))
    hair = find_hair(maps.diffuse, skin, torch.ones_like(skin), upper, rim, face)
    hair = torch.maximum(hair, find_hair(albedo, skin, weight, upper, rim, face))
    # brows and lids are removed only where the other side can replace them
    given = (hair.flip(3) < 0.02) * like
    gone = hair * (1 - features(avatar.head, size).to(weight) * (1 - given))
    return weight * (1 - hair), seen.shown * (1 - gone), remove_hair(maps, gone, face, like)


def add_log(maps: TextureMaps, ratio: Tensor) -> TextureMaps:
    """The maps with their diffuse albedo multiplied by exp(ratio), ratio `[1, 3, S, S]`."""
    diffuse = ((maps.diffuse + ALBEDO_EPSILON) * ratio.exp() - ALBEDO_EPSILON).clamp(0, 1)
    return TextureMaps(diffuse, maps.specular, maps.normal)


def features(head: HeadModel, size: int) -> Tensor:
    """Brows, lids and lips, `[1, 1, size, size]`."""
    return regions(head, FEATURES, size)


def all_skin(head: HeadModel, size: int) -> Tensor:
    """Skin with its features, without eyes, the mouth's inside and the scalp, `[1, 1, size, size]`."""
    skin = regions(head, (*USED, "ears", "neck"), size)
    return skin * (1 - regions(head, ("mouth_interior", "eyes", "scalp"), size))


def fillable(head: HeadModel, size: int) -> Tensor:
    """Skin that a photo could have shown, `[1, 1, size, size]`."""
    skin = regions(head, ("face", "nose", "ears"), size)
    return skin * (1 - regions(head, ("scalp", "mouth_interior", "eyes"), size))


def plain_skin(head: HeadModel, size: int) -> Tensor:
    """Skin of the face at a distance from brows, lids, lips and hairline, `[1, 1, size, size]`."""
    near = regions(head, (*FEATURES, "mouth_interior", "eyes"), size)
    reach = round(0.012 * size)
    near = dilate(near, 2 * reach + 1)
    return regions(head, ("face",), size) * (1 - near) * (1 - regions(head, ("scalp", "ears", "neck"), size))


def above_nose(head: HeadModel, position: Tensor, size: int) -> Tensor:
    """1 above the lower third of the nose, 0 below, `[1, 1, S, S]`. position: of the texels, `[1, 3, S, S]` metres."""
    nose = regions(head, ("nose",), size).to(position) > 0.5
    if not nose.any():
        return torch.ones_like(position[:, :1])
    height = position[:, 1:2]
    return ((height - height[nose].quantile(0.33)) / 0.01).clamp(0, 1)


def symmetric(position: Tensor) -> Tensor:
    """1 where the texel mirrored in UV lies mirrored on the head, `[1, 1, S, S]`. position: `[1, 3, S, S]` metres."""
    x, y = position[:, :1], position[:, 1:2]
    error = torch.maximum((x + x.flip(3)).abs(), (y - y.flip(3)).abs())
    return (1.5 - error / 0.006).clamp(0, 1) * (x != 0)
