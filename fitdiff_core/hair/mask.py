"""The hair mask, corrected by the photo's own colours: the segmenter is unsure of fringes and of long hair."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..filters import dilate, erode, gaussian_blur, reconstruct
from ..image import srgb_to_linear
from .colour import lab
from .photo import LOW, View

BROWS = -0.042  # metres inside the hairline; below it brows would be taken for hair
SKIN = (-0.095, -0.05)  # metres inside the hairline of the skin that is compared: the middle of the face
SAMPLES, NEAREST = 240, 5  # colours of hair, skin and background; those that count as a pixel's own
LIGHTNESS = 0.45  # weight of lightness: shading changes it
SURE = 3.0  # largest change of the log odds
OFF_HEAD = 1.6  # and the largest off the head, upwards: what lies behind short hair often has its colour
OVER = 0.008  # metres inside the hairline that is surely scalp
MARGIN = 5.0  # CIELAB by which background must be nearer there: the rim of hair is lit from behind
RIM = 5.0  # largest change of the log odds, downwards, off the head of short hair
FRINGES = 1.8  # log odds by which the segmenter undervalues hair over the forehead; on bare ones it says under .02
STEP = 1.6  # CIELAB by which a pixel is nearer to hair than to others for one unit of log odds
REACH = 0.035, 0.07  # metres from the mask's sure part that other hair may lie: on the head, and off it
LEAST = 40  # pixels of each kind; fewer tell nothing


@torch.no_grad()
def by_colour(view: View, mask: Tensor) -> Tensor:
    """The mask `[S, S]` 0..1 of a view with its log odds moved by colour: hair's against skin's and background's."""
    on = view.edge > -0.9
    hair = (erode(mask, 3) > 0.6) & view.valid & (view.metre[..., 1] > 0.0)
    face = view.valid & (view.face > 0.3)
    skin = face & (view.edge > SKIN[0]) & (view.edge < SKIN[1]) & (mask < 0.1)
    if min(int(hair.sum()), int(skin.sum())) < LEAST:
        return mask
    # short hair is known best over the scalp: its rim in the mask is often background
    over = hair & (view.edge > OVER)
    short = int(over.sum()) >= LEAST and int(((mask > 0.5) & view.valid & (view.metre[..., 1] < LOW)).sum()) < LEAST
    hair = over if short else hair
    rgb = srgb_to_linear(view.image).permute(1, 2, 0).numpy().astype(float)
    color = torch.from_numpy(lab(rgb)).float() * torch.tensor([LIGHTNESS, 1.0, 1.0])
    skin &= (color - color[skin].median(0).values).norm(dim=-1) < 9  # no lips, brows or eyes
    behind = view.valid & ~on & (mask < 0.03)
    if skin.sum() < LEAST:
        return mask
    to_hair, to_other = (_distance(color, color[known]) for known in (hair, skin))
    if behind.sum() > LEAST:
        to_other = torch.where(on, to_other, torch.minimum(to_other, _distance(color, color[behind])))
    forehead = face & (view.edge > BROWS) & (view.edge < 0.03)
    change = ((to_other - to_hair) / STEP).clamp(-SURE, SURE)
    if short:
        change = torch.where(on, change, ((to_other - to_hair + MARGIN) / STEP).clamp(-RIM, SURE))
    change = torch.where(on, change, change.clamp(max=OFF_HEAD))
    change = torch.where(forehead, change.clamp(min=-SURE / 2) + FRINGES, change)
    change = gaussian_blur(change[None, None], 0.7)[0, 0] * (forehead | (view.valid & ~on))
    changed = torch.sigmoid(torch.logit(mask.clamp(0.04, 0.96)) + change)
    near = (_near(changed > 0.5, hair & on, view, REACH[0]) & on) | (_near(changed > 0.5, hair, view, REACH[1]) & ~on)
    found = torch.where(near | (changed < mask), changed, mask) * view.valid
    # hair hangs together with the part of it on the head
    sure = (found > 0.5).float()[None, None]
    return found * ((reconstruct(sure * on, sure)[0, 0] > 0.5) | (found < 0.5))


def _distance(color: Tensor, known: Tensor) -> Tensor:
    """Distance `[S, S]` of each pixel's colour from the nearest colours of a sample `[N, 3]`."""
    pick = torch.from_numpy(np.random.default_rng(0).permutation(len(known))[:SAMPLES])
    apart = torch.cdist(color.reshape(-1, 3), known[pick])
    return apart.topk(min(NEAREST, len(pick)), dim=1, largest=False).values.mean(1).view(color.shape[:2])


def _near(found: Tensor, start: Tensor, view: View, reach: float) -> Tensor:
    """The part of `found` that hangs together with `start`, `[S, S]` bool, within `reach` metres."""
    pixel = float((view.metre[0, 1] - view.metre[0, 0]).norm())
    grown, most = start.float(), (found | start).float()
    for _ in range(max(1, round(reach / pixel))):
        grown = torch.minimum(dilate(grown, 3), most)
    return grown > 0.5
