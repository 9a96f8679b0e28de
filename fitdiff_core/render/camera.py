"""Pinhole cameras, differentiable with respect to all parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ..batching import entry

NEAR = 0.1  # of the distance between camera and world origin


@dataclass
class Camera:
    """B cameras: `x_cam = R(rotation) x + translation`, looking down -z with y up, metres.

    focal:       `[B]` cot(fov_y / 2)
    rotation:    `[B, 3]` axis times angle, radians
    translation: `[B, 3]` metres
    """

    focal: Tensor
    rotation: Tensor
    translation: Tensor

    @classmethod
    def cat(cls, cameras: Sequence[Camera]) -> Camera:
        """Batches of cameras as one batch."""
        return cls(*(torch.cat([getattr(c, f.name) for c in cameras]) for f in fields(cls)))

    @classmethod
    def orbit(
        cls,
        yaw_deg: float | Tensor = 0.0,
        pitch_deg: float | Tensor = 0.0,
        distance_m: float | Tensor = 0.8,
        fov_deg: float | Tensor = 20.0,
        target: tuple[float, float, float] | Tensor = (0.0, 0.0, 0.02),
    ) -> Camera:
        """A camera that looks at a point. All arguments are numbers or tensors `[B]`.

        yaw_deg:    degrees, positive to the subject's left (+x)
        pitch_deg:  degrees, positive upwards
        distance_m: metres from the camera to `target`
        fov_deg:    vertical field of view, degrees
        target:     `(x, y, z)` or `[B, 3]`, metres
        """
        values = [torch.as_tensor(v) for v in (yaw_deg, pitch_deg, distance_m, fov_deg, target)]
        given = [v for v in values if v.ndim or v.dtype == torch.float64]
        dtype = next((v.dtype for v in given if v.is_floating_point()), torch.float32)
        device = next((v.device for v in values if v.device.type != "cpu"), torch.device("cpu"))
        *values, target = (v.to(device, dtype) for v in values)
        batch = max([v.numel() for v in values] + ([target.shape[0]] if target.ndim == 2 else []))
        yaw, pitch, distance, fov = (v.reshape(-1).expand(batch) for v in values)
        rotation = _look(torch.deg2rad(yaw), torch.deg2rad(pitch))
        back = torch.stack([torch.zeros_like(distance), torch.zeros_like(distance), -distance], -1)
        seen = torch.einsum("bij,bj->bi", rotation_matrix(rotation), target.expand(batch, 3))
        return cls(1 / torch.tan(torch.deg2rad(fov) / 2), rotation, back - seen)

    def matrix(self) -> Tensor:
        """`[B, 3, 3]` world -> camera rotation."""
        return rotation_matrix(self.rotation)

    def view(self, points: Tensor) -> Tensor:
        """World `[B, N, 3]` -> camera space `[B, N, 3]` (in front of the camera z < 0)."""
        return points @ self.matrix().mT + self.translation[:, None]

    def clip(self, points: Tensor, aspect: float = 1.0) -> Tensor:
        """World `[B, N, 3]` -> clip space `[B, N, 4]`; aspect is width / height.

        The near plane lies at 0.1 of the camera's distance from the origin. There is no far plane. So a step in z/w
        is the same share of the distance for every camera.
        """
        x, y, z = self.view(points).unbind(-1)
        near = NEAR * self.translation.detach().norm(dim=-1, keepdim=True).clamp(min=1e-3)
        focal = self.focal[:, None]
        return torch.stack([x * (focal / aspect), y * focal, -z - 2 * near, -z], -1)

    def project(self, points: Tensor, size: tuple[int, int]) -> Tensor:
        """World `[B, N, 3]` -> pixels `[B, N, 2]` of an image of `size` (H, W): x right, y down from the corner."""
        height, width = size
        x, y, z = self.view(points).unbind(-1)
        scale = self.focal[:, None] / -z * (height / 2)
        return torch.stack([x * scale + width / 2, height / 2 - y * scale], -1)

    def position(self) -> Tensor:
        """Positions of the cameras, world `[B, 3]`."""
        return -torch.einsum("bji,bj->bi", self.matrix(), self.translation)

    def rays(self, size: tuple[int, int]) -> Tensor:
        """Unit world directions from the camera through the pixel centres, `[B, H, W, 3]`, row 0 at the BOTTOM."""
        height, width = size
        focal = self.focal[:, None, None]
        row = torch.arange(height, dtype=focal.dtype, device=focal.device)
        column = torch.arange(width, dtype=focal.dtype, device=focal.device)
        y = ((row + 0.5) * (2 / height) - 1)[:, None] / focal
        x = ((column + 0.5) * (2 / width) - 1) * (width / height) / focal
        rays = torch.stack(torch.broadcast_tensors(x, y, -torch.ones_like(focal)), -1)
        return torch.nn.functional.normalize(torch.einsum("bhwi,bij->bhwj", rays, self.matrix()), dim=-1)

    def map(self, f: Callable[[Tensor], Tensor]) -> Camera:
        """`f` of each tensor."""
        return Camera(f(self.focal), f(self.rotation), f(self.translation))

    def __len__(self) -> int:
        return self.focal.shape[0]

    def __getitem__(self, i: int) -> Camera:
        """The camera of one batch entry, batch axis kept."""
        return self.map(lambda x: entry(x, i))

    def expand(self, batch: int) -> Camera:
        """One camera for a whole batch."""
        return self.map(lambda x: x.expand(batch, *x.shape[1:]))

    def to(self, *args, **kwargs) -> Camera:
        return self.map(lambda x: x.to(*args, **kwargs))

    def detach(self) -> Camera:
        return self.map(Tensor.detach)


def rotation_matrix(axis_angle: Tensor) -> Tensor:
    """Rodrigues' formula, `[..., 3]` -> `[..., 3, 3]`; exact and differentiable at zero."""
    square = (axis_angle**2).sum(-1)
    small = square < 1e-6
    angle = torch.where(small, 1.0, square).sqrt()
    sine = torch.where(small, 1 - square / 6 + square**2 / 120, torch.sin(angle) / angle)
    cosine = torch.where(small, 0.5 - square / 24 + square**2 / 720, (1 - torch.cos(angle)) / angle**2)
    x, y, z = axis_angle.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    eye = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    return eye + sine[..., None, None] * cross + cosine[..., None, None] * (cross @ cross)


def _look(yaw: Tensor, pitch: Tensor) -> Tensor:
    """Axis-angle of `Rx(pitch) Ry(-yaw)`, computed by quaternions, which are stable at half a turn."""
    cy, sy, cp, sp = torch.cos(yaw / 2), -torch.sin(yaw / 2), torch.cos(pitch / 2), torch.sin(pitch / 2)
    w, vector = cp * cy, torch.stack([sp * cy, cp * sy, sp * sy], -1)
    square = (vector**2).sum(-1)
    small = square < 1e-12
    length = torch.where(small, 1.0, square).sqrt()
    return vector * torch.where(small, 2 / w, 2 * torch.atan2(length, w) / length)[..., None]
