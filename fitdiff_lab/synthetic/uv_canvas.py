"""The UV canvas: the atlas with the position in space of each texel on the mean head, in millimetres.

All features of a skin are placed in 3-D, so that the unwrap does not stretch them. What depends on the head only is
computed once; a sample needs only a few passes over `size x size` floats.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fitdiff_core.filters import gaussian_blur_replicate
from fitdiff_core.head.teeth import patch_mask

EXTENT = 170.0  # half the side of the cube in which noise is defined, mm
_BANK = 8  # fields of each kind of fine noise; each person has a random mixture of them
_GRAINS = (1.1, 1.9, 3.4)  # wavelengths of the fine noise, mm
_LATTICE = 32  # points along each side of the periodic lattice behind the fine noise


def gaussian_blur(x: Tensor, sigma: float) -> Tensor:
    """Blur `[C, H, W]`. sigma: texels. The edge is repeated."""
    return gaussian_blur_replicate(x, sigma, max(1, int(2.5 * sigma + 0.5)))


class UVCanvas:
    """Geometry of the atlas on the mean head, and noise on its surface.

    head: a `HeadModel`. size: side of the atlas S, texels.

    Attributes (image orientation, row 0 is v = 1; millimetres, head space):
        position  `[3, S, S]`, extended beyond the edges of the charts
        valid     `[S, S]` bool, texels that a triangle covers, without the teeth
        scale     `[2, S, S]` length in mm of one texel step along x and y
        coarse    `[S, S]` length in mm of one texel step in the direction of the largest stretch
        drawn     `[S, S]` bool, texels that keep the painted colour: the charts and a margin for filtering
        landmarks `[68, 3]`
    """

    def __init__(self, head, size: int = 512):
        self.head, self.size = head, size
        vertices = head(torch.zeros(1, head.n_identity))
        position, covered = head.uv_positions(vertices, size)
        self.valid = covered & ~patch_mask(size)
        self.island = head.region("eyes", size) > 0.5
        self.skin = self.valid & ~self.island
        self.position = _extend(position[0] * 1000, self.skin)
        self.landmarks = head.landmarks(vertices, "68")[0] * 1000
        d = F.pad(self.position[None], (1, 1, 1, 1), mode="replicate")[0]
        self.step_x = (d[:, 1:-1, 2:] - d[:, 1:-1, :-2]) / 2
        self.step_y = (d[:, 2:, 1:-1] - d[:, :-2, 1:-1]) / 2
        self.scale = gaussian_blur(torch.stack([self.step_x.norm(dim=0), self.step_y.norm(dim=0)]), 1.5).clamp(
            0.15, 4.0
        )
        self.coarse = self._stretch()
        near = F.max_pool2d(self.valid[None, None].float(), 7, 1, 3)[0, 0] > 0
        self.drawn = self.valid | (near & ~self.island)
        self._coarse = self.position[:, 2::4, 2::4].reshape(3, -1).T.contiguous()
        self._coarse_ok = self.skin[2::4, 2::4].reshape(-1)
        self._grids = {n: self._grid(n) for n in (128, 256) if n <= size} | {size: self._grid(size)}
        self._resolved: dict[float | tuple[float, ...], Tensor] = {}
        rng = np.random.default_rng(20231204)
        self._bank = [self._fine_noise(rng, (w, w, w)) for w in _GRAINS]
        self._creases = self._fine_noise(rng, (1.5, 9.0, 9.0), 2.6)

    def _stretch(self) -> Tensor:
        """The larger singular value of the step matrix, the maximum within two texels."""
        aa, bb = self.step_x.square().sum(0), self.step_y.square().sum(0)
        ab = (self.step_x * self.step_y).sum(0)
        major = (0.5 * (aa + bb) + (0.25 * (aa - bb) ** 2 + ab**2).sqrt()).sqrt()
        return gaussian_blur(F.max_pool2d(major.clamp(max=20)[None], 5, 1, 2), 1.5)[0]

    def resolved(self, wavelength: float) -> Tensor:
        """How well the atlas resolves a wavelength in mm: `[S, S]`, 1 from 2.2 texels a wave, 0 below 1.4 texels.

        It prevents aliasing where a texel covers a large area.
        """
        if wavelength not in self._resolved:
            t = ((wavelength / self.coarse - 1.4) / 0.8).clamp(0, 1)
            self._resolved[wavelength] = t * t * (3 - 2 * t)
        return self._resolved[wavelength]

    def _faded(self, wavelengths: tuple[float, ...]) -> Tensor:
        if wavelengths not in self._resolved:
            self._resolved[wavelengths] = torch.stack([self.resolved(w) for w in wavelengths])
        return self._resolved[wavelengths]

    def _fine_noise(self, rng: np.random.Generator, wavelength, resolve: float | None = None) -> Tensor:
        """Smooth noise in space `[_BANK, S, S]`, about unit deviation where the atlas resolves it.

        wavelength: in mm along x, y, z. resolve: wavelength for the fading, default the first. The noise is periodic
        over `_LATTICE / 2` waves.
        """
        n = _LATTICE
        lattice = torch.from_numpy(rng.standard_normal((1, _BANK, n, n, n), dtype=np.float32))
        lattice = F.pad(lattice, (0, 1, 0, 1, 0, 1), mode="circular")
        step = torch.tensor(wavelength).view(3, 1, 1) / 2
        # rotated against the axes, so that the lattice's planes are not visible on a flat forehead
        turn = torch.linalg.qr(torch.tensor([[1.0, 0.4, -0.3], [-0.5, 1.0, 0.6], [0.2, -0.7, 1.0]]))[0]
        at = self.position if wavelength[0] != wavelength[1] else torch.einsum("ij,jhw->ihw", turn, self.position)
        grid = ((at / step) % n).permute(1, 2, 0)[None, None] * (2 / n) - 1
        x = F.grid_sample(lattice, grid, align_corners=True)[0, :, 0]
        x = x / x[:, self.skin].std(1).view(-1, 1, 1)
        return x * self.resolved(resolve or wavelength[0])

    def _grid(self, n: int) -> Tensor:
        p = (
            F.interpolate(self.position[None], (n, n), mode="bilinear", antialias=True)[0]
            if n != self.size
            else self.position
        )
        return (p.permute(1, 2, 0) / EXTENT)[None, None].contiguous()  # [1, 1, n, n, 3] in -1..1

    # -- places ----------------------------------------------------------------------------------------------------

    def to_texel(self, points: Tensor) -> Tensor:
        """Texel coordinates `[N, 2]` (x right, y down; centres are integers) of points `[N, 3]` mm near the skin."""
        distance = torch.cdist(points, self._coarse)
        distance[:, ~self._coarse_ok] = 1e6
        near = distance.argmin(1)
        side = self.size // 4
        x, y = (near % side) * 4.0 + 2, (near // side) * 4.0 + 2
        for _ in range(3):  # Gauss-Newton on the local tangent plane
            xi, yi = x.round().long().clamp(1, self.size - 2), y.round().long().clamp(1, self.size - 2)
            a, b = self.step_x[:, yi, xi], self.step_y[:, yi, xi]
            r = points.T - self.position[:, yi, xi]
            aa, bb, ab = (a * a).sum(0), (b * b).sum(0), (a * b).sum(0)
            ar, br = (a * r).sum(0), (b * r).sum(0)
            det = (aa * bb - ab * ab).clamp(min=1e-6)
            x = xi + ((bb * ar - ab * br) / det).clamp(-4, 4)
            y = yi + ((aa * br - ab * ar) / det).clamp(-4, 4)
        return torch.stack([x, y], 1)

    def bump(self, centre, radius) -> Tensor:
        """Gaussian of the distance in space, `[S, S]` 0..1.

        centre: `[3]` mm. radius: mm, one number or one for each axis.
        """
        centre = torch.as_tensor(centre, dtype=torch.float32).view(3, 1, 1)
        radius = torch.as_tensor(radius, dtype=torch.float32).expand(3).view(3, 1, 1)
        return torch.exp(-0.5 * (((self.position - centre) / radius) ** 2).sum(0))

    def bumps(self, centre, radius) -> Tensor:
        """Sum of `bump` at `centre` and at its mirror image."""
        c = [float(v) for v in centre]
        return self.bump(c, radius) + self.bump([-c[0], c[1], c[2]], radius)

    def distance_to(self, polyline: Tensor) -> Tensor:
        """Distance in mm `[S, S]` from each texel to a polyline `[N, 3]` in mm."""
        p = self.position.reshape(3, -1).T
        best = torch.full((p.shape[0],), 1e6)
        for a, b in zip(polyline[:-1], polyline[1:], strict=True):
            d = b - a
            t = ((p - a) @ d / (d @ d).clamp(min=1e-9)).clamp(0, 1)
            best = torch.minimum(best, (p - a - t[:, None] * d).norm(dim=1))
        return best.view(self.size, self.size)

    # -- noise -----------------------------------------------------------------------------------------------------

    def cloud(self, rng: np.random.Generator, wavelengths, size: int = 128) -> Tensor:
        """Smooth noise in space `[C, S, S]`, about unit deviation, one channel for each wavelength (mm).

        It fades where the atlas does not resolve it. size: side at which it is computed, texels.
        """
        out, size = [], min(size, self.size)
        for w in wavelengths:
            n = int(np.ceil(2 * EXTENT / w)) + 2
            lattice = torch.from_numpy(rng.standard_normal((1, 1, n, n, n), dtype=np.float32))
            scaled = self._grids[size] * (2 * EXTENT / w / (n - 1))
            out.append(F.grid_sample(lattice, scaled, align_corners=True, padding_mode="border")[0, 0, 0] * 1.8)
        x = torch.stack(out)[None]
        if size != self.size:
            x = F.interpolate(x, (self.size, self.size), mode="bilinear", align_corners=False)
        return x[0].mul_(self._faded(tuple(wavelengths)))

    def grain(self, rng: np.random.Generator, level: int) -> Tensor:
        """Fine noise in space `[S, S]`, about unit deviation. level: 0, 1, 2 for wavelengths of 1.1, 1.9 and 3.4 mm."""
        return _mixture(rng, self._bank[level])

    def creases(self, rng: np.random.Generator) -> Tensor:
        """Noise `[S, S]` like the creases of lips: fine across the face (1.5 mm) and long along the vertical."""
        return _mixture(rng, self._creases)

    def finish(self, x: Tensor, fill: Tensor) -> Tensor:
        """Replace texels outside the charts and their margin by `fill` (broadcast)."""
        return torch.where(self.drawn, x, fill)


def _extend(position: Tensor, known: Tensor) -> Tensor:
    """Extend `[3, S, S]` to texels that are not `known`, ring by ring; each is the mean of its known neighbours."""
    x, k = position * known, known.float()
    kernel = torch.ones(1, 1, 3, 3)
    for _ in range(position.shape[-1]):
        if k.min() > 0:
            break
        total = F.conv2d(x[:, None], kernel, padding=1)[:, 0]
        count = F.conv2d(k[None, None], kernel, padding=1)[0, 0]
        fresh = (k == 0) & (count > 0)
        x = torch.where(fresh, total / count.clamp(min=1), x)
        k = torch.where(fresh, 1.0, k)
    return x


def _mixture(rng: np.random.Generator, bank: Tensor) -> Tensor:
    """A random mixture `[S, S]` of a bank's fields, with the deviation of each field."""
    w = rng.standard_normal(len(bank))
    return torch.tensordot(torch.from_numpy(w / np.linalg.norm(w)).float(), bank, 1)
