"""The part of a picture of a head that is not the person: camera, light, expression, gaze."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from .batching import entry, repeat
from .errors import UserError
from .render.camera import Camera
from .render.light import Light

N_EXPRESSION = 52

Part = TypeVar("Part", Camera, Light, Tensor)


class _PartFunction(Protocol):
    """A function of a camera, a light or a tensor that returns the same type."""

    def __call__(self, part: Part, /) -> Part: ...


@dataclass
class Scene:
    """Camera, light and facial action of B pictures. A part of batch 1 serves all pictures.

    camera:     B or 1 cameras
    light:      B or 1 illuminations
    expression: `[B, 52]` ARKit blendshape weights, 0..1
    gaze:       `[B, 2]` yaw and pitch of both eyes in radians (positive: to the subject's left, up)
    size:       (H, W) pixels of the image that the camera was fitted to
    crop:       `[B, 2, 3]` affine map from photo pixels to scene pixels, or None where there is no photo
    """

    camera: Camera
    light: Light
    expression: Tensor
    gaze: Tensor
    size: tuple[int, int] = (256, 256)
    crop: Tensor | None = None

    @classmethod
    def portrait(
        cls, batch: int = 1, device: torch.device | str = "cpu", yaw: float = 0.0, pitch: float = 0.0
    ) -> Scene:
        """A neutral studio portrait. yaw, pitch: of the camera in degrees, see `Camera.orbit`."""
        return cls(
            Camera.orbit(torch.full((batch,), float(yaw)), torch.full((batch,), float(pitch))).to(device),
            Light.studio(batch).to(device),
            torch.zeros(batch, N_EXPRESSION, device=device),
            torch.zeros(batch, 2, device=device),
        )

    @classmethod
    def cat(cls, scenes: Sequence[Scene]) -> Scene:
        """The pictures of all scenes, one scene after the other. `size` is the first one's.

        Within a scene all parts must have the same batch. `crop` is None unless every scene has one.
        """
        crops = [s.crop for s in scenes if s.crop is not None]
        return cls(
            Camera.cat([s.camera for s in scenes]),
            Light.cat([s.light for s in scenes]),
            torch.cat([s.expression for s in scenes]),
            torch.cat([s.gaze for s in scenes]),
            scenes[0].size,
            torch.cat(crops) if len(crops) == len(scenes) else None,
        )

    def photo_crop(self) -> Tensor:
        """`crop`. Raises UserError where it is None."""
        if self.crop is None:
            raise UserError(
                "This scene was not fitted to a photo; use the scene of a guided sampler, not a portrait or turntable."
            )
        return self.crop

    def __len__(self) -> int:
        """The number of pictures: the largest batch among camera, light, expression and gaze."""
        return max(len(part) for part in (self.camera, self.light, self.expression, self.gaze))

    def __getitem__(self, i: int) -> Scene:
        """The scene of picture i, batch axis kept. Raises IndexError outside the batch."""
        i = range(len(self))[i]

        def pick(part: Part) -> Part:
            k = 0 if len(part) == 1 else i
            return entry(part, k) if isinstance(part, Tensor) else part[k]

        return self._map(pick)

    def expand(self, batch: int) -> Scene:
        """Parts of batch 1 copied `batch` times; parts of that batch stay. Raises RuntimeError for other parts."""

        def repeated(part: Part) -> Part:
            return repeat(part, batch) if isinstance(part, Tensor) else part.map(lambda x: repeat(x, batch))

        return self._map(repeated)

    def to(self, device: torch.device | str) -> Scene:
        return self._map(lambda part: part.to(device))

    def detach(self) -> Scene:
        return self._map(lambda part: part.detach())

    def _map(self, f: _PartFunction) -> Scene:
        """`f` of camera, light and each tensor."""
        return replace(
            self,
            camera=f(self.camera),
            light=f(self.light),
            expression=f(self.expression),
            gaze=f(self.gaze),
            crop=None if self.crop is None else f(self.crop),
        )
