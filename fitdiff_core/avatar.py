"""A finished head: identity shape, texture maps, and the head model that makes a mesh of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .batching import entry
from .errors import UserError
from .hair.style import HairStyle
from .head import HeadModel
from .head.whole import WholeHead, whole_head
from .maps import MAP_NAMES, TextureMaps, decode_map, resize_map
from .scene import Scene


@dataclass
class Avatar:
    """B heads.

    head:  the model of all of them
    shape: `[B, K]` whitened identity coefficients of `head`
    maps:  of batch B
    hair:  the style of each head, None for a head without hair; or None for no hair at all
    """

    head: HeadModel
    shape: Tensor
    maps: TextureMaps
    hair: tuple[HairStyle | None, ...] | None = None

    def __len__(self) -> int:
        return self.shape.shape[0]

    def __getitem__(self, i: int) -> Avatar:
        """The head of one batch entry, batch axis kept."""
        hair = None if self.hair is None else (self.hair[i],)
        return Avatar(self.head, entry(self.shape, i), self.maps[i], hair)

    def vertices(self, scene: Scene | None = None) -> Tensor:
        """Vertices `[B, V, 3]` in metres, posed by the scene's expression and gaze; None leaves them neutral.

        Raises UserError for a shape with NaN or infinite values.
        """
        self._check()
        if scene is None:
            return self.head(self.shape)
        n = len(self)
        return self.head(self.shape, scene.expression.expand(n, -1), scene.gaze.expand(n, -1))

    def posed(self, scene: Scene) -> Tensor:
        """Vertices `[B, W, 3]` of the whole head (`head.whole`): for pictures and files, not for fits.

        Those of `vertices` come first, with lids that shut and lips that keep to each other.
        """
        self._check()
        n = len(self)
        return self.whole.vertices(self.shape, scene.expression.expand(n, -1), scene.gaze.expand(n, -1))

    @property
    def whole(self) -> WholeHead:
        """The head model with inner mouth, wet lines and a closed neck; its vertices are those of `posed`."""
        return whole_head(self.head)

    def _check(self) -> None:
        if not torch.isfinite(self.shape).all():
            raise UserError("The head's shape holds NaN or infinite values; sample it again.")

    def with_hair(self, *styles: HairStyle | None) -> Avatar:
        """The same heads with other hair. styles: one for all heads, or one for each. Raises UserError otherwise."""
        if len(styles) not in (1, len(self)):
            raise UserError(f"{len(styles)} hair styles for {len(self)} heads; give one for all or one for each.")
        return replace(self, hair=styles if len(styles) == len(self) else styles * len(self))


def replace_maps(avatar: Avatar, pictures: Mapping[str, Tensor]) -> Avatar:
    """A new avatar with other maps in place of its own.

    pictures: by map name (MAP_NAMES), `[B, 3, S, S]` in 0..1, encoded as `decode_map` expects.

    All maps take the largest size among the given and the kept ones. One picture serves every head of a batch, one head
    every picture. Raises UserError for pictures that are not square or batches that do not fit.
    """
    batch = max([len(avatar), *(len(x) for x in pictures.values())])
    for name, x in pictures.items():
        if x.shape[-1] != x.shape[-2]:
            raise UserError(
                f"The {name} map is {x.shape[-1]}x{x.shape[-2]} pixels; it must be square, in the avatar's UV layout."
            )
    for name, n in {"avatar": len(avatar), **{k: len(x) for k, x in pictures.items()}}.items():
        if n not in (1, batch):
            raise UserError(
                f"{name} holds a batch of {n}, another input one of {batch}; connect batches of equal size or of 1."
            )
    size = max([*avatar.maps.size, *(x.shape[-1] for x in pictures.values())])
    planes = []
    for name in MAP_NAMES:
        if name in pictures:
            plane = decode_map(name, pictures[name]).to(avatar.shape.device)
        else:
            plane = getattr(avatar.maps, name)
        # resized one by one, because they may come in three sizes
        planes.append(resize_map(plane.expand(batch, -1, -1, -1), (size, size)))
    hair = avatar.hair if avatar.hair is None or len(avatar) == batch else avatar.hair * batch
    return Avatar(avatar.head, avatar.shape.expand(batch, -1), TextureMaps.from_stack(torch.cat(planes, 1)), hair)
