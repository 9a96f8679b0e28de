"""Closed-form head pose from landmarks: the initial value of the scene fit."""

from __future__ import annotations

import torch
from torch import Tensor

from ..render import Camera


def axis_angle_to_matrix(r: Tensor) -> Tensor:
    """`[..., 3]` axis times angle (rad) -> `[..., 3, 3]` rotation (Rodrigues)."""
    x, y, z = r.unbind(-1)
    o = torch.zeros_like(x)
    skew = torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).reshape(*r.shape[:-1], 3, 3)
    return torch.linalg.matrix_exp(skew)


def matrix_to_axis_angle(m: Tensor) -> Tensor:
    """Rotation `[3, 3]` -> `[3]` axis times angle in 0..pi, through the quaternion (stable near pi)."""
    # the largest eigenvector of this 4 x 4 matrix is the quaternion (x, y, z, w); Bar-Itzhack 2000
    t = m.trace()
    k = torch.empty(4, 4, dtype=m.dtype, device=m.device)
    k[:3, :3] = m + m.T - torch.eye(3, dtype=m.dtype, device=m.device) * t
    k[:3, 3] = k[3, :3] = torch.stack([m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]])
    k[3, 3] = t
    q = torch.linalg.eigh(k)[1][:, -1]
    q = q * (1 - 2 * (q[3] < 0).to(q))
    sine = q[:3].norm()
    angle = 2 * torch.atan2(sine, q[3])
    return q[:3] / sine.clamp(min=1e-12) * angle


def degrees_sideways(camera: Camera) -> Tensor:
    """How far each head is turned from its camera, to either side, `[B]` degrees."""
    at = camera.position()
    return torch.atan2(at[:, 0], at[:, 2]).abs().rad2deg()


def umeyama(source: Tensor, target: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Similarity with min sum w |s R source + c - target|^2 (Umeyama 1991). `[N, 3]` each -> s [], R `[3, 3]`, c
    `[3]`."""
    w = (weights / weights.sum())[:, None]
    ms, mt = (w * source).sum(0), (w * target).sum(0)
    a, b = source - ms, target - mt
    u, d, vt = torch.linalg.svd((w * b).T @ a)
    sign = torch.ones(3, dtype=source.dtype, device=source.device)
    sign[2] = torch.det(u @ vt).sign()
    rotation = (u * sign) @ vt
    scale = (d * sign).sum() / (w * a.square()).sum()
    return scale, rotation, mt - scale * rotation @ ms


def affine_pose(source: Tensor, target: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As `umeyama`, from 2-D targets: source `[N, 3]`, target `[N, 2]` (x right, y up) -> s [], R `[3, 3]`, c `[2]`.

    An affine camera by least squares (first step of POSIT, DeMenthon & Davis 1995), with a weak ridge towards the
    frontal view, so that few or nearly coplanar points can be solved.
    """
    w = (weights / weights.sum())[:, None]
    ms, mt = (w * source).sum(0), (w * target).sum(0)
    a, b = source - ms, target - mt
    size = (w * b.square()).sum().sqrt() / (w * a[:, :2].square()).sum().sqrt()
    normal = (w * a).T @ a
    ridge = 0.02 * normal.trace() * torch.eye(3, dtype=a.dtype, device=a.device)
    # the roll comes from a 2-D fit: the ridge must pull towards the frontal view with this roll
    c, s = (w * (a[:, :2] * b)).sum(), (w[:, 0] * (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])).sum()
    c, s = c / torch.hypot(c, s), s / torch.hypot(c, s)
    prior = torch.zeros(2, 3, dtype=a.dtype, device=a.device)
    prior[0, 0], prior[0, 1], prior[1, 0], prior[1, 1] = c, -s, s, c
    m = torch.linalg.solve(normal + ridge, (w * a).T @ b + ridge @ prior.T * size).T
    u, d, vt = torch.linalg.svd(m, full_matrices=False)
    top = u @ vt
    rotation = torch.cat([top, torch.linalg.cross(top[0], top[1])[None]])
    scale = d.mean()
    return scale, rotation, mt - scale * top @ ms
