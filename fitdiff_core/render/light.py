"""Distant light: an environment in spherical harmonics up to band 2, and directional lights.

`sh` holds radiance. `color` of a directional light holds the irradiance on a surface that faces it. A white Lambert
surface (albedo 1) has radiance 1 under uniform radiance 1, and also where it faces a directional light of colour pi.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..batching import entry
from ..errors import UserError
from ..image import LUMINANCE

SH_BANDS = (0, 1, 1, 1, 2, 2, 2, 2, 2)
# the clamped cosine in spherical harmonics, by coefficient (Ramamoorthi & Hanrahan 2001)
COSINE = (math.pi, *[2 * math.pi / 3] * 3, *[math.pi / 4] * 5)
Y00 = 0.5 / math.sqrt(math.pi)

# name: (ambient sky, ambient ground, [(yaw, pitch, irradiance)]); degrees, yaw to the subject's left, linear RGB
PRESETS = {
    "studio": ((0.38, 0.38, 0.40), (0.22, 0.21, 0.20), [(38, 32, (2.15, 2.09, 2.00)), (-55, 12, (0.50, 0.52, 0.56))]),
    "ambient": ((0.85, 0.85, 0.85), (0.85, 0.85, 0.85), []),
    "front": ((0.35, 0.35, 0.35), (0.30, 0.30, 0.30), [(0, 8, (1.9, 1.9, 1.9))]),
    "side": ((0.16, 0.17, 0.20), (0.12, 0.11, 0.10), [(80, 12, (3.1, 2.9, 2.6))]),
    "rim": (
        (0.12, 0.13, 0.16),
        (0.08, 0.08, 0.08),
        [(158, 30, (4.6, 4.4, 4.1)), (-155, 24, (3.6, 3.9, 4.6)), (25, 20, (0.7, 0.7, 0.7))],
    ),
    "outdoor": ((0.55, 0.66, 0.90), (0.22, 0.20, 0.16), [(-35, 55, (2.9, 2.6, 2.1))]),
    "sunset": ((0.24, 0.27, 0.42), (0.16, 0.12, 0.11), [(68, 9, (3.6, 1.9, 0.85))]),
    "dramatic": ((0.11, 0.12, 0.15), (0.07, 0.07, 0.08), [(58, 24, (3.7, 3.3, 2.8)), (-142, 26, (3.2, 3.6, 4.4))]),
    "below": ((0.10, 0.11, 0.14), (0.20, 0.20, 0.20), [(10, -42, (2.2, 2.0, 1.7))]),
}


def sh_basis(direction: Tensor) -> Tensor:
    """Real spherical harmonics up to band 2 of unit vectors `[..., 3]` -> `[..., 9]`, orthonormal over the sphere."""
    x, y, z = direction.unbind(-1)
    return torch.stack(
        [
            torch.full_like(x, 0.282094791773878),
            0.488602511902920 * y,
            0.488602511902920 * z,
            0.488602511902920 * x,
            1.092548430592079 * x * y,
            1.092548430592079 * y * z,
            0.315391565252520 * (3 * z * z - 1),
            1.092548430592079 * x * z,
            0.546274215296040 * (x * x - y * y),
        ],
        -1,
    )


@dataclass
class Light:
    """B illuminations.

    sh:        `[B, 9, 3]` radiance of the environment, linear RGB
    direction: `[B, L, 3]` unit vectors towards the directional lights (L may be 0)
    color:     `[B, L, 3]` their irradiance, linear RGB
    shadows:   whether the head casts shadows in the directional lights; True for a photo's light fitted with its
               shadows
    """

    sh: Tensor
    direction: Tensor
    color: Tensor
    shadows: bool = False

    @classmethod
    def preset(cls, name: str, batch: int = 1) -> Light:
        """One of `PRESETS`. A face of average skin is well exposed in it. Raises UserError for an unknown name."""
        if name not in PRESETS:
            raise UserError(f"Unknown light {name!r}; choose one of {', '.join(PRESETS)}.")
        above, below, lamps = PRESETS[name]
        sky, ground = torch.tensor(above), torch.tensor(below)
        sh = torch.zeros(9, 3)
        sh[0] = (sky + ground) / 2 / Y00
        # the linear ramp whose irradiance, seen from above and below, is that of the two half spheres
        sh[1] = (sky - ground) / 2 / 0.488602511902920 * 0.75
        direction = torch.tensor([[a, b] for a, b, _ in lamps]).float().reshape(-1, 2).deg2rad()
        color = torch.tensor([c for *_, c in lamps]).reshape(-1, 3)
        light = cls(sh[None], toward(direction[:, 0], direction[:, 1])[None], color[None])
        return light.expand(batch).map(torch.clone)

    @classmethod
    def cat(cls, lights: Sequence[Light]) -> Light:
        """Batches of lights as one batch. Lights with fewer directional lights are filled up with black ones."""
        lamps = max(x.direction.shape[1] for x in lights)

        def filled(x: Tensor, value: tuple[float, float, float]) -> Tensor:
            return torch.cat([x, x.new_tensor(value).expand(len(x), lamps - x.shape[1], 3)], 1)

        return cls(
            torch.cat([x.sh for x in lights]),
            torch.cat([filled(x.direction, (0, 1, 0)) for x in lights]),
            torch.cat([filled(x.color, (0, 0, 0)) for x in lights]),
            any(x.shadows for x in lights),
        )

    @classmethod
    def studio(cls, batch: int = 1) -> Light:
        """A key light from the subject's upper left, a weak fill, soft surroundings."""
        return cls.preset("studio", batch)

    @classmethod
    def ambient(cls, batch: int = 1) -> Light:
        """The same radiance from everywhere: shows the albedo."""
        return cls.preset("ambient", batch)

    @classmethod
    def from_environment(cls, environment: Tensor, lights: int = 1) -> Light:
        """Fit spherical harmonics and directional lights to panoramas.

        environment: `[B, 3, H, W]` linear radiance, equirectangular, row 0 is up. The centre is the direction that
                     the face looks to (+z); right of it lies the subject's right (-x).
        lights:      how many of the brightest sources become directional lights. Their energy is taken out of the
                     harmonics.

        Raises UserError for another shape and for values that are not finite.
        """
        if environment.ndim != 4 or environment.shape[1] != 3 or min(environment.shape[2:]) < 4:
            raise UserError(
                f"An environment must be a panorama [B,3,H,W] of 4 px or more, got {tuple(environment.shape)}."
            )
        if not torch.isfinite(environment).all():
            raise UserError("The environment holds NaN or infinite values; save it again.")
        height = min(environment.shape[2], 128)  # order 2 needs no more
        environment = F.interpolate(environment, (height, 2 * height), mode="area").clamp(min=0)
        direction, solid = panorama_directions(height, environment)
        radiance = environment.flatten(2).mT  # [B, N, 3]
        found = []
        for _ in range(lights):
            toward_light, energy, radiance = _take_brightest(radiance, direction, solid, (height, 2 * height))
            found.append((toward_light, energy))
        sh = (sh_basis(direction) * solid[:, None]).T @ radiance
        empty = sh.new_zeros(sh.shape[0], 0, 3)
        return cls(
            sh,
            torch.stack([d for d, _ in found], 1) if found else empty,
            torch.stack([c for _, c in found], 1) if found else empty,
        )

    def rotated(self, yaw_deg: float | Tensor) -> Light:
        """The light turned about the vertical axis. Positive degrees turn a frontal light to the subject's left."""
        yaw = torch.deg2rad(torch.as_tensor(yaw_deg, dtype=self.sh.dtype, device=self.sh.device)).reshape(-1)
        sine, cosine, zero, one = torch.sin(yaw), torch.cos(yaw), torch.zeros_like(yaw), torch.ones_like(yaw)
        turn = torch.stack([cosine, zero, sine, zero, one, zero, -sine, zero, cosine], -1).unflatten(-1, (3, 3))
        return self.turned(turn)

    def turned(self, rotation: Tensor) -> Light:
        """The light turned by rotations `[3, 3]` or `[B, 3, 3]`: a lamp in direction d moves to `rotation @ d`."""
        turn = rotation.to(self.sh).reshape(-1, 3, 3)
        # the values at enough points determine a function of bands 0 to 2: rotate the points, solve for coefficients
        points = _points()
        solve = torch.linalg.pinv(sh_basis(points)).to(turn)
        points = points.to(turn)
        sh = solve @ (sh_basis(points @ turn) @ self.sh)
        return Light(sh, self.direction @ turn.mT, self.color.expand(sh.shape[0], -1, -1), self.shadows)

    def scaled(self, exposure: float | Tensor) -> Light:
        """All light times `exposure` (a number or `[B]`)."""
        if isinstance(exposure, Tensor) and exposure.ndim:
            exposure = exposure.reshape(-1, 1, 1)
        return Light(self.sh * exposure, self.direction, self.color * exposure, self.shadows)

    def radiance(self, direction: Tensor) -> Tensor:
        """Environment radiance from unit directions `[B, N, 3]` -> `[B, N, 3]`, without the directional lights."""
        return sh_basis(direction) @ self.sh

    def irradiance(self, normal: Tensor) -> Tensor:
        """Environment irradiance / pi on unit normals `[B, N, 3]`: radiance `[B, N, 3]` of a white Lambert surface."""
        return sh_basis(normal) @ (self.sh * (self.sh.new_tensor(COSINE) / math.pi)[:, None])

    def map(self, f: Callable[[Tensor], Tensor]) -> Light:
        """`f` of each tensor."""
        return Light(f(self.sh), f(self.direction), f(self.color), self.shadows)

    def __len__(self) -> int:
        return self.sh.shape[0]

    def __getitem__(self, i: int) -> Light:
        """The light of one batch entry, batch axis kept."""
        return self.map(lambda x: entry(x, i))

    def expand(self, batch: int) -> Light:
        """One light for a whole batch."""
        return self.map(lambda x: x.expand(batch, -1, -1))

    def to(self, *args, **kwargs) -> Light:
        return self.map(lambda x: x.to(*args, **kwargs))

    def detach(self) -> Light:
        return self.map(Tensor.detach)


def toward(yaw: Tensor, pitch: Tensor) -> Tensor:
    """Radians -> unit vectors `[..., 3]`; (0, 0) is +z, yaw turns to +x, pitch rises."""
    return torch.stack([torch.sin(yaw) * torch.cos(pitch), torch.sin(pitch), torch.cos(yaw) * torch.cos(pitch)], -1)


def _points() -> Tensor:
    """26 well-spread unit vectors, float64: the neighbours of a cube's centre."""
    axis = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis, axis)
    return F.normalize(grid[grid.abs().sum(-1) > 0], dim=-1)


def panorama_directions(height: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Directions `[N, 3]` and solid angles `[N]` (sum 4 pi) of the pixels of a `height` x 2*`height` panorama."""
    rows = torch.arange(height, dtype=like.dtype, device=like.device)
    columns = torch.arange(2 * height, dtype=like.dtype, device=like.device)
    pitch = (0.5 - (rows + 0.5) / height) * math.pi
    yaw = (0.5 - (columns + 0.5) / (2 * height)) * (2 * math.pi)
    pitch, yaw = torch.meshgrid(pitch, yaw, indexing="ij")
    solid = torch.cos(pitch).flatten()
    return toward(yaw.flatten(), pitch.flatten()), solid * (4 * math.pi / solid.sum())


def _take_brightest(
    radiance: Tensor, direction: Tensor, solid: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Split the brightest 20-degree cap off panoramas `[B, N, 3]`: direction, irradiance `[B, 3]`, remainder."""
    luminance = radiance.detach() @ radiance.new_tensor(LUMINANCE)
    n_batch, (height, width) = len(radiance), size
    power = (luminance * solid).view(n_batch, 1, height, width)
    coarse = F.adaptive_avg_pool2d(power, (min(height, 12), min(width, 24)))
    coarse = F.interpolate(coarse, (height, width), mode="nearest").flatten(1)
    peak = direction[(coarse + 1e-6 * power.flatten(1)).argmax(1)]
    base = luminance.median(1, keepdim=True).values
    for _ in range(3):  # mean shift to the centre of what is brighter than the surroundings
        cap = (direction @ peak.T).T > math.cos(math.radians(20))
        weight = (luminance - base).clamp(min=0) ** 2 * solid * cap
        mean = weight @ direction
        peak = torch.where(mean.norm(dim=1, keepdim=True) > 1e-12, F.normalize(mean, dim=1, eps=1e-12), peak)
    cap = ((direction @ peak.T).T > math.cos(math.radians(20)))[..., None]
    floor = radiance.detach().median(1, keepdim=True).values
    excess = torch.where(cap, (radiance - floor).clamp(min=0), 0.0)
    return peak, torch.einsum("bnc,n->bc", excess, solid), radiance - excess
