"""Which head, camera and light belong to which picture of a batch."""

from __future__ import annotations

from dataclasses import replace

import torch

from ..fitdiff_core import pipeline
from ..fitdiff_core.errors import UserError
from ..fitdiff_core.image import to_image
from ..fitdiff_core.scene import Scene
from . import host


def pick(batch, i: int):
    """Entry i, batch axis kept; a batch of one serves every i."""
    return batch if len(batch) == 1 else batch[i : i + 1] if torch.is_tensor(batch) else batch[i]


def count_pictures(avatar, scene: Scene) -> int:
    """How many pictures heads, cameras, lights and expressions make together; each is of one, or of all of them."""
    given = {
        "heads": len(avatar),
        "cameras": len(scene.camera),
        "lights": len(scene.light),
        "expressions": len(scene.expression),
    }
    count = max(given.values())
    if any(n not in (1, count) for n in given.values()):
        raise UserError(
            f"These do not fit together: {', '.join(f'{n} {name}' for name, n in given.items())}. Connect those of one "
            "sampler, or one head or one scene for all."
        )
    return count


def scene_at(scene: Scene, i: int) -> Scene:
    """Picture i of a scene whose parts are of one picture or of all."""
    return replace(
        scene,
        camera=pick(scene.camera, i),
        light=pick(scene.light, i),
        expression=pick(scene.expression, i),
        gaze=pick(scene.gaze, i),
        crop=None,
    )


def render_each(avatar, scene: Scene, count: int, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """`count` pictures, head i (or the one head) in picture i of the scene -> IMAGE and MASK, with progress."""
    images, masks, progress = [], [], host.Progress(count)
    for i in range(count):
        image, mask = pipeline.render_avatar(pick_head(avatar, i), scene_at(scene, i), size)
        images.append(to_image(image))
        masks.append(mask[:, 0].detach().clamp(0, 1).float().cpu())
        progress(i, count)
    return torch.cat(images), torch.cat(masks)


def pick_head(avatar, i: int):
    return avatar if len(avatar) == 1 else avatar[i]
