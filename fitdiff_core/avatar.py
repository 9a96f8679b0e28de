"""A finished head: who it is (shape), what it is made of (maps), and the model that turns both into a mesh."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .batching import entry
from .errors import UserError
from .head import HeadModel
from .maps import TextureMaps
from .scene import Scene


@dataclass
class Avatar:
    """B heads. shape: `[B, K]` whitened identity coefficients of `head`."""

    head: HeadModel
    shape: Tensor
    maps: TextureMaps

    def __len__(self) -> int:
        return self.shape.shape[0]

    def __getitem__(self, i: int) -> Avatar:
        """The head of one batch entry, batch axis kept."""
        return Avatar(self.head, entry(self.shape, i), self.maps[i])

    def vertices(self, scene: Scene | None = None) -> Tensor:
        """`[B, V, 3]` metres; neutral, or with the scene's expression and gaze. Raises UserError for a shape of NaN."""
        if not torch.isfinite(self.shape).all():
            raise UserError("The head's shape holds NaN or infinite values; sample it again.")
        if scene is None:
            return self.head(self.shape)
        n = len(self)
        return self.head(self.shape, scene.expression.expand(n, -1), scene.gaze.expand(n, -1))
