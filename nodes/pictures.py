"""Rendered pictures as IMAGE and MASK."""

from __future__ import annotations

import torch

from ..fitdiff_core import pipeline
from ..fitdiff_core.image import to_image
from ..fitdiff_core.pictures import count_pictures, each_picture
from ..fitdiff_core.progress import part
from ..fitdiff_core.render.backdrop import BACKDROPS
from ..fitdiff_core.render.tone import TONES
from ..fitdiff_core.render.viewer_camera import camera_from_viewer


def render_each(
    avatar, scene, size: tuple[int, int], backdrop: str = BACKDROPS[0], tone: str = TONES[0]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Every picture of heads and scenes (see `each_picture`) -> IMAGE and MASK, with progress."""
    images, masks, count = [], [], count_pictures(avatar, scene)
    for i, (head, one) in enumerate(each_picture(avatar, scene)):
        with part(i, count):
            image, mask = pipeline.photograph(head, one, size, backdrop=backdrop, tone=tone)
            images.append(to_image(image))
            masks.append(mask_out(mask))
    return torch.cat(images), torch.cat(masks)


def viewer_camera(avatar, info):
    """camera_info of core's 3D nodes, which show the avatar's neutral GLB -> a camera on the avatar's device."""
    vertices = avatar[0].vertices()[0].detach()
    return camera_from_viewer(info, (vertices.amin(0), vertices.amax(0))).to(vertices.device)


def mask_out(mask: torch.Tensor) -> torch.Tensor:
    """`[B, 1, H, W]` -> MASK `[B, H, W]`, clipped to 0..1, on the CPU."""
    return mask[:, 0].detach().clamp(0, 1).float().cpu()
