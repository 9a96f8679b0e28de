"""Single strands of hair over the face: thin dark lines that start at the hair.

A line is darker than the skin on both of its sides. Its direction is that of the least curvature (eigenvectors of the
Hessian, Frangi et al. 1998). Wrinkles and folds are lines too, but shallower, and strands begin where other hair is.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..filters import dilate, gaussian_blur_replicate, reconstruct
from ..image import LUMINANCE, srgb_to_linear

WIDTHS = (1.0, 1.6, 2.5)  # standard deviations of the lines that are looked for, pixels of a crop of 256
FAINT, DEEP = 0.16, 0.4  # log steps from the line to both sides: of what a strand may fade to, and of a sure one
GAP = 3  # pixels by which a line may be broken
BEARD = 0.3  # probability of a beard from which lines belong to it
ACROSS = 10  # pixels that a strand is followed over a feature
TIP = 10  # pixels along the line from the hair, up to which only what is deep counts


def line_depth(image: Tensor) -> Tensor:
    """How much darker a thin line is than what lies on both of its sides, log, `[1, 1, S, S]`, 0 off lines.

    image: `[1, 3, S, S]` sRGB
    """
    weights = torch.tensor(LUMINANCE).to(image)[None, :, None, None]
    light = ((srgb_to_linear(image) * weights).sum(1, keepdim=True) + 0.01).log()
    size = image.shape[-1]
    t = (torch.arange(size, device=image.device) + 0.5) / size * 2 - 1
    place = torch.stack(torch.meshgrid(t, t, indexing="xy"), -1)[None].to(image)
    found = torch.zeros_like(light)
    for width in WIDTHS:
        width = width * size / 256
        smooth = gaussian_blur_replicate(light, 0.6 * width)
        curved = gaussian_blur_replicate(light, width)
        gy, gx = torch.gradient(curved, dim=(2, 3))
        (yy, yx), (_, xx) = torch.gradient(gy, dim=(2, 3)), torch.gradient(gx, dim=(2, 3))
        angle = 0.5 * torch.atan2(2 * yx, xx - yy)  # of the strongest curvature, across the line
        across = torch.cat([angle.cos(), angle.sin()], 1).permute(0, 2, 3, 1)
        spread = ((xx - yy).square() + 4 * yx.square()).sqrt()
        strongest, least = (xx + yy + spread) / 2, (xx + yy - spread) / 2
        sides = [
            F.grid_sample(
                smooth, place + sign * across * (5 * width / size), padding_mode="border", align_corners=False
            )
            for sign in (-1, 1)
        ]
        depth = torch.minimum(*sides) - smooth
        found = torch.maximum(found, depth.clamp(min=0) * (strongest > 3 * least.abs()))
    return found


def strands(image: Tensor, hair: Tensor, features: Tensor, beard: Tensor) -> Tensor:
    """Strands that run from the hair over the face, `[1, 1, S, S]` 0 or 1, with a margin.

    image: `[1, 3, S, S]` sRGB. All others `[1, 1, S, S]` 0..1:
    hair: where hair is, on the head and beside it. features: brows, lids, lips, nostrils, which are lines themselves
    beard: where a beard may be
    """
    depth = line_depth(image)
    free = (features < 0.1) & (beard < BEARD)
    line = ((depth > FAINT) & free).to(image)
    joined = dilate(line, GAP)
    near_hair = dilate((hair > 0.5).to(image), 9) * joined
    reached = near_hair
    for _ in range(TIP):
        reached = dilate(reached, 3) * joined
    # lines that go on, and that are deep somewhere away from the hair; tips near it
    far = reconstruct(reached, joined) - reached
    deep = (depth > DEEP).to(image)
    found = line * torch.maximum(reconstruct(reconstruct(far * deep, far), joined), reached * deep)
    # a strand that goes on over an eye or the lips
    lines = dilate((depth > FAINT).to(image), GAP)
    for _ in range(ACROSS):
        found = torch.maximum(found, dilate(found, 3) * lines * (features >= 0.1))
    return dilate(found, 7)
