"""A smile in a picture: how much of the opening between the lips is teeth, and how bright they are.

Teeth are brighter than what lies behind them, and less red than the skin of the same face. The face mesh draws the
opening of a smiling mouth 1 to 3 mm too high, so the share of the teeth is too small by about a quarter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ..face.mesh_points import MOUTH_LEFT, MOUTH_RIGHT
from ..image import LUMINANCE, srgb_to_linear

# points of the inner lips from the subject's right corner to the left, one above the other
UPPER = (191, 80, 81, 82, 13, 312, 311, 310, 415)
LOWER = (95, 88, 178, 87, 14, 317, 402, 318, 324)
CORNERS = (78, 308)
CHEEKS = (50, 280, 205, 425, 36, 266, 101, 330)  # points whose surroundings tell the colour of the skin
BRIGHT, PALE = 0.3, 0.04  # of the skin's luminance; log of red over green below the skin's
SMILE = 0.12  # share of the opening that teeth must fill to count as seen


@dataclass(frozen=True)
class Teeth:
    """Teeth as a picture shows them.

    share: of the opening between the lips that they fill, 0..1
    colour: `[3]` linear, over that of the skin, median
    dark: share of the opening below a quarter of the skin's luminance
    """

    share: float
    colour: Tensor
    dark: float

    @property
    def brightness(self) -> float:
        """Luminance over that of the skin."""
        return float((self.colour * self.colour.new_tensor(LUMINANCE)).sum())


def skin_colour(linear: Tensor, mesh: Tensor) -> Tensor:
    """Median linear colour `[3]` of the cheeks. linear: `[3, H, W]`. mesh: `[468, 2]` px."""
    height, width = linear.shape[1:]
    reach = max(2, round(float((mesh[MOUTH_LEFT] - mesh[MOUTH_RIGHT]).norm()) / 16))
    patches = []
    for x, y in mesh[list(CHEEKS)].round().long().tolist():
        if reach <= x < width - reach and reach <= y < height - reach:
            patches.append(linear[:, y - reach : y + reach, x - reach : x + reach].reshape(3, -1))
    return torch.cat(patches, 1).median(1).values if patches else linear.flatten(1).median(1).values


def opening(mesh: Tensor, size: tuple[int, int]) -> Tensor:
    """Mask `[H, W]` bool of the opening between the lips of a mesh `[468, 2]` px."""
    ring = (CORNERS[0], *UPPER, CORNERS[1], *LOWER[::-1])
    picture = Image.new("L", size[::-1])
    ImageDraw.Draw(picture).polygon([(float(x), float(y)) for x, y in mesh[list(ring)]], fill=255)
    return torch.from_numpy(np.array(picture) > 0)


def teeth_mask(linear: Tensor, skin: Tensor) -> Tensor:
    """Pixels `[H, W]` bool that have the colour of teeth. linear: `[3, H, W]`. skin: `[3]`."""
    weights = linear.new_tensor(LUMINANCE)
    bright = torch.einsum("chw,c->hw", linear, weights) / (skin @ weights).clamp(min=1e-4)
    red = (linear[0].clamp(min=1e-4) / linear[1].clamp(min=1e-4)).log() - (skin[0] / skin[1].clamp(min=1e-4)).log()
    return (bright > BRIGHT) & (red < -PALE)


@torch.no_grad()
def see_teeth(image: Tensor, mesh: Tensor) -> Teeth | None:
    """The teeth of a picture `[3, H, W]` sRGB with the mesh `[468, 2]` px of its face; None where lips are shut."""
    mesh = mesh[:, :2].float().cpu()
    linear = srgb_to_linear(image.float().cpu())
    inside = opening(mesh, (image.shape[1], image.shape[2]))
    if int(inside.sum()) < 12:
        return None
    skin = skin_colour(linear, mesh)
    teeth = teeth_mask(linear, skin) & inside
    weights = linear.new_tensor(LUMINANCE)
    dark = torch.einsum("chw,c->hw", linear, weights)[inside] < 0.25 * (skin @ weights)
    share = float(teeth.sum()) / float(inside.sum())
    colour = linear[:, teeth].median(1).values / skin.clamp(min=1e-4) if teeth.any() else torch.zeros(3)
    return Teeth(share, colour, float(dark.float().mean()))
