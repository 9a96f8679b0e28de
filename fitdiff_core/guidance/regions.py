"""Which parts of the head may explain which pixels of the photo, and which pixels something hides."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..image import srgb_to_linear
from .crop import CHIN, FOREHEAD
from .light import MEAN_SKIN, fit_light, irradiance_basis

# how much each region counts in the photometric loss; what is not named does not (scalp: hair; neck: collars)
PHOTOMETRIC = {"face": 1.0, "nose": 1.0, "lips": 1.0, "brows": 1.0, "eyelids": 1.0, "ears": 0.3, "eyes": 0.5}
SUBNASALE = 2  # MediaPipe face mesh index
DARK, STRANGE = 1.1, 0.75  # log ratios: a third as bright as lit skin; of another colour
FEATURES = ("lips", "brows", "eyelids", "mouth_interior", "eyes")
NOT_SKIN = (*FEATURES, "scalp")


@torch.no_grad()
def region_weights(head, size: int = 256) -> Tensor:
    """`[1, 4, size, size]` in UV image orientation: the photometric weight; plain skin (for the light); features (brows,
    eyes, lips), which are dark or of another colour without being hidden; and the inside of the mouth: the head has no
    teeth, so nothing is to be learned there."""
    names = set(head.region_names)
    region = {n: torch.as_tensor(head.region(n, size)).float() for n in {*PHOTOMETRIC, *NOT_SKIN} & names}
    like = next(iter(region.values()))
    photometric, hidden = torch.zeros_like(like), torch.zeros_like(like)
    for name, weight in PHOTOMETRIC.items():
        if name in region:
            photometric = torch.maximum(photometric, region[name] * weight)
    for name in NOT_SKIN:
        if name in region:
            hidden = torch.maximum(hidden, region[name])
    features = torch.stack([v for n, v in region.items() if n in FEATURES] or [torch.zeros_like(like)]).amax(0)
    mouth = region.get("mouth_interior", torch.zeros_like(like))
    return torch.stack([photometric * (1 - mouth), region["face"] * (1 - hidden), features, mouth])[None].to(head.uv.device)


@torch.no_grad()
def occlusion(
    photo: Tensor, skin: Tensor, features: Tensor, normal: Tensor, valid: Tensor, mesh: Tensor
) -> tuple[Tensor, Tensor]:
    """Hair, hands and glasses over the skin, from one robust light fit with one skin colour.

    photo `[1, 3, S, S]` sRGB, skin, features and valid `[1, 1, S, S]`, normal `[1, 3, S, S]`, mesh `[1, 468, 2]` px -> light
    `[1, 9, 3]` for MEAN_SKIN, visible `[1, 1, S, S]` 0..1 (1 where nothing is known against it).
    """
    colour = torch.tensor(MEAN_SKIN).to(photo)[None, :, None, None]
    sh, _ = fit_light(photo, colour.expand_as(photo), normal, skin * valid, stride=2)
    expected = colour * (irradiance_basis(normal.permute(0, 2, 3, 1)) @ sh[:, None]).permute(0, 3, 1, 2)
    ratio = ((srgb_to_linear(photo) + 0.02) / (expected.clamp(min=0) + 0.02)).log()
    tint = ratio - ratio.mean(1, keepdim=True)
    # dark is a fringe, a strand or a frame; below the nose it may be a beard, which belongs to the face
    dark = (-ratio.mean(1, keepdim=True) - DARK).div(0.3).clamp(0, 1) * above_nose(mesh, photo.shape[-1])
    strange = (tint.norm(dim=1, keepdim=True) - STRANGE).div(0.3).clamp(0, 1)
    known = (skin * valid > 0.05).to(photo)
    # only areas count: spots and wrinkles of a few pixels are the skin's own
    around = F.avg_pool2d(known, 9, 1, 4)
    area = F.avg_pool2d(torch.maximum(dark, strange) * known, 9, 1, 4) / around.clamp(min=0.1)
    hidden = (area - 0.4).div(0.3).clamp(0, 1) * (around > 0.25)
    near = F.max_pool2d((features > 0.1).to(photo), 17, 1, 8)  # the fit may be off by some pixels
    return sh, (1 - F.max_pool2d(hidden, 5, 1, 2) * (1 - near)) * valid


def above_nose(mesh: Tensor, size: int) -> Tensor:
    """`[1, 1, size, size]`: 1 above the base of the nose along the face's own axis, fading to 0 below."""
    up = F.normalize(mesh[0, FOREHEAD] - mesh[0, CHIN], dim=0)
    t = torch.arange(size, device=mesh.device) + 0.5
    y, x = torch.meshgrid(t, t, indexing="ij")
    height = (torch.stack([x, y], -1).to(mesh) - mesh[0, SUBNASALE]) @ up
    return (height / (0.03 * size)).clamp(0, 1)[None, None]
