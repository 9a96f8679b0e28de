"""Batches of pictures: which head, camera, light and expression belong to which picture."""

from __future__ import annotations

from collections.abc import Iterator

from .avatar import Avatar
from .errors import UserError
from .scene import Scene


def count_pictures(avatar: Avatar, scene: Scene) -> int:
    """The number of pictures that heads, cameras, lights and expressions make together.

    Each of the four has one entry for each picture, or one entry for all. Raises UserError otherwise.
    """
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


def each_picture(avatar: Avatar, scene: Scene) -> Iterator[tuple[Avatar, Scene]]:
    """Head and scene of each picture, both of batch 1. Raises UserError as `count_pictures`."""
    for i in range(count_pictures(avatar, scene)):
        yield avatar[i if len(avatar) > 1 else 0], scene[i if len(scene) > 1 else 0]


def scenes_of_heads(avatar: Avatar, scene: Scene) -> list[Scene]:
    """The scene of each head of `avatar`, for expression and gaze. Raises UserError for another number of scenes."""
    n = len(avatar)
    if len(scene.expression) not in (1, n):
        raise UserError(
            f"The scene is of {len(scene.expression)} pictures, the avatar of {n} heads; connect those of one sampler."
        )
    scene = scene.to(avatar.shape.device)
    return [scene[i if len(scene) > 1 else 0] for i in range(n)]
