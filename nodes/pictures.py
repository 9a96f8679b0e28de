"""Rendered pictures as IMAGE and MASK."""

from __future__ import annotations

import torch

from ..fitdiff_core import pipeline
from ..fitdiff_core.image import to_image
from ..fitdiff_core.pictures import count_pictures, each_picture
from ..fitdiff_core.progress import part


def render_each(avatar, scene, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Every picture of heads and scenes (see `each_picture`) -> IMAGE and MASK, with progress."""
    images, masks, count = [], [], count_pictures(avatar, scene)
    for i, (head, one) in enumerate(each_picture(avatar, scene)):
        with part(i, count):
            image, mask = pipeline.render_avatar(head, one, size)
            images.append(to_image(image))
            masks.append(mask_out(mask))
    return torch.cat(images), torch.cat(masks)


def mask_out(mask: torch.Tensor) -> torch.Tensor:
    """`[B, 1, H, W]` -> MASK `[B, H, W]`, clipped to 0..1, on the CPU."""
    return mask[:, 0].detach().clamp(0, 1).float().cpu()
