"""Everything about a picture of a head that is not the person: camera, light, expression, gaze."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from .render.camera import Camera
from .render.light import Light

N_EXPRESSION = 52


@dataclass
class Scene:
    """Camera, light and facial action of B pictures.

    expression: `[B, 52]` ARKit blendshape weights, 0..1
    gaze:       `[B, 2]` yaw and pitch of both eyes in radians (positive: to the subject's left, up)
    size:       (H, W) the camera was fitted at, pixels
    crop:       `[B, 2, 3]` affine from the photo's pixels to the scene's, or None where there was no photo
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
        """A neutral studio portrait, seen from `yaw`, `pitch` degrees."""
        return cls(
            Camera.orbit(torch.full((batch,), float(yaw)), torch.full((batch,), float(pitch))).to(device),
            Light.studio(batch).to(device),
            torch.zeros(batch, N_EXPRESSION, device=device),
            torch.zeros(batch, 2, device=device),
        )

    def to(self, device: torch.device | str) -> Scene:
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        return Scene(**{k: v.to(device) if hasattr(v, "to") else v for k, v in moved.items()})

    def detach(self) -> Scene:
        crop = None if self.crop is None else self.crop.detach()
        return replace(
            self,
            camera=self.camera.detach(),
            light=self.light.detach(),
            expression=self.expression.detach(),
            gaze=self.gaze.detach(),
            crop=crop,
        )
