"""The metrics of `evaluate.model`, in float64: of pictures, sets of samples, heads and skin tones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

SRGB_TO_XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
ITA_CLASSES = (  # lower bound in degrees, Del Bino & Bernerd 2013
    (55.0, "very light"), (41.0, "light"), (28.0, "intermediate"), (10.0, "tan"), (-30.0, "brown"), (-90.0, "dark"),
)  # fmt: skip


def psnr(a: Tensor, b: Tensor, peak: float = 1.0, mask: Tensor | None = None) -> float:
    """Peak signal-to-noise ratio in dB of `[..., H, W]`; mask `[H, W]` bool: the texels that count."""
    square = (a.double() - b.double()).square()
    error = square.mean() if mask is None else square[..., mask].mean()
    return float(10 * torch.log10(peak**2 / error))


def mean_angle(a: Tensor, b: Tensor, mask: Tensor) -> float:
    """Mean angle in degrees between vectors `[3, H, W]` (any length) where mask `[H, W]` is true."""
    a, b = F.normalize(a.double()[:, mask], dim=0), F.normalize(b.double()[:, mask], dim=0)
    # atan2, because acos is inexact at small angles
    return float(torch.atan2(torch.linalg.cross(a, b, dim=0).norm(dim=0), (a * b).sum(0)).rad2deg().mean())


def frechet_gaussians(mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor) -> float:
    """Squared Frechet distance of two Gaussians: |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) (Dowson & Landau 1982).

    Means `[D]`, covariances `[D, D]`. FID (arXiv 1706.08500) uses the same. The trace of (C1 C2)^(1/2) is that of the
    symmetric (C1^(1/2) C2 C1^(1/2))^(1/2), which needs no complex numbers.
    """
    mean1, cov1, mean2, cov2 = (x.double() for x in (mean1, cov1, mean2, cov2))
    values, vectors = torch.linalg.eigh(cov1)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov2 @ root).clamp(min=0).sqrt().sum()
    return float((mean1 - mean2).square().sum() + cov1.trace() + cov2.trace() - 2 * cross)


def frechet(a: Tensor, b: Tensor) -> float:
    """Squared Frechet distance of the Gaussians that fit samples `[N, D]` and `[M, D]`.

    Few samples make it too large: compare distances of equal N, M and D only.
    """
    return frechet_gaussians(a.double().mean(0), a.double().T.cov(), b.double().mean(0), b.double().T.cov())


@dataclass
class Pca:
    """Principal components. mean: `[D]`. axes: `[k, D]` orthonormal, largest variance first."""

    mean: Tensor
    axes: Tensor

    @classmethod
    def fit(cls, x: Tensor, k: int) -> Pca:
        """The first k axes (at most N - 1) of rows `[N, D]`, from the Gram matrix because D is far above N."""
        x = x.double()
        mean = x.mean(0)
        centred = x - mean
        values, vectors = torch.linalg.eigh(centred @ centred.T)
        k = min(k, len(x) - 1, x.shape[1])
        axes = (vectors[:, -k:].T @ centred).flip(0)
        return cls(mean, axes / axes.norm(dim=1, keepdim=True).clamp(min=1e-12))

    def __call__(self, x: Tensor) -> Tensor:
        """Coordinates `[N, k]` of rows `[N, D]`."""
        return (x.double() - self.mean) @ self.axes.T


def pairwise_mean(distance: Tensor) -> float:
    """Mean of a square matrix `[N, N]` without its diagonal and without NaN."""
    off = distance[~torch.eye(len(distance), dtype=torch.bool)]
    return float(off.nanmean())


def nearest(a: Tensor, b: Tensor) -> Tensor:
    """Distance of each row of `[N, D]` to the nearest row of `[M, D]`: `[N]`."""
    return torch.cdist(a.double(), b.double(), compute_mode="donot_use_mm_for_euclid_dist").amin(1)


def lab(linear: Tensor) -> Tensor:
    """Linear sRGB `[..., 3]` (0..1) -> CIELAB `[..., 3]` under D65; white is L* = 100, a* = b* = 0."""
    to_xyz = torch.tensor(SRGB_TO_XYZ, dtype=torch.float64)
    t = linear.double() @ to_xyz.T / to_xyz.sum(1)
    f = torch.where(t > (6 / 29) ** 3, t.clamp(min=1e-9) ** (1 / 3), t / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = f.unbind(-1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def ita(linear: Tensor) -> Tensor:
    """Individual typology angle atan2(L* - 50, b*) in degrees (Chardon et al. 1991) of linear sRGB `[..., 3]`.

    Light skin has a large angle, dark skin a small one.
    """
    light, _, yellow = lab(linear).unbind(-1)
    return torch.atan2(light - 50, yellow).rad2deg()


def ita_class(degrees: float) -> str:
    """Name of the skin tone of a typology angle."""
    return next((name for bound, name in ITA_CLASSES if degrees > bound), ITA_CLASSES[-1][1])


def aligned_distance(a: Tensor, b: Tensor, scale: bool = False) -> float:
    """Mean distance of corresponding points `[V, 3]`, in their unit, after the best alignment of `a` to `b` (Umeyama
    1991).

    The alignment is a rotation and a translation in least squares; with `scale` a scale too.
    """
    a, b = a.double(), b.double()
    x, y = a - a.mean(0), b - b.mean(0)
    u, s, vh = torch.linalg.svd(y.T @ x)
    sign = torch.ones(3, dtype=torch.float64)
    sign[2] = torch.linalg.det(u @ vh).sign()  # a rotation, not a reflection
    moved = x @ (u * sign @ vh).T
    if scale:
        moved = moved * ((s * sign).sum() / x.square().sum())
    return float((moved - y).norm(dim=1).mean())
