"""Fit camera, expression and a first shape to the photo's landmarks.

Perspective model-to-landmark fitting by Gauss-Newton with iteratively reweighted residuals and quadratic priors
(as in Blanz & Vetter 2003, Sec. 4; Huber et al. 2016), expression bounded below by 0. All Jacobians are analytic:
the head is linear in identity and expression. The light comes from `light.py`, finer shape from guidance.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import UserError
from ..face.mesh_points import LIDS_LEFT, LIDS_RIGHT, LIPS
from ..render.camera import Camera
from ..render.light import Light
from ..scene import Scene
from .crop import FaceCrop, crop_face, crop_image
from .gaze import fit_gaze
from .pose import affine_pose, axis_angle_to_matrix, matrix_to_axis_angle, umeyama

# inside the lower lip near the corners: on closed mouths, where the head's points were found, they cannot be told from the
# upper lip's
UNSURE = (96, 89, 319, 325)
FEATURES = (*LIDS_LEFT, *LIDS_RIGHT, *LIPS)
FEATURE_WEIGHT = 2.5  # few points, but where an error of a pixel shows


@dataclass(frozen=True)
class FitPrior:
    """What a likely portrait is. Lengths in metres, image lengths in pixels of a 256 px crop."""

    distance: float = 0.9  # median camera distance, log-normal: the crop's scale then fixes the focal length
    distance_log_std: float = 0.35
    distance_range: tuple[float, float] = (0.35, 4.0)  # a 24 mm selfie at arm's length ... a 120 mm lens across a room
    point_std: float = 5.0  # 468 points are strongly correlated: each counts as less than its own 1-2 px of noise
    outlier: float = 2.5  # Cauchy scale, in point_std
    expression_std: float = 0.35
    expression_l1: float = 0.6
    iterations: int = 24


@dataclass
class LandmarkFit:
    """What `fit_landmarks` finds, for one face. rotation `[3]` axis-angle, translation `[3]`, focal [], residual px []."""

    rotation: Tensor
    translation: Tensor
    focal: Tensor
    identity: Tensor
    expression: Tensor
    residual: Tensor

    def camera(self) -> Camera:
        return Camera(self.focal[None].float(), self.rotation[None].float(), self.translation[None].float())


@torch.no_grad()
def landmark_basis(head, which: str = "mesh") -> tuple[Tensor, Tensor]:
    """`[N, 3]` landmarks of the mean head and `[N, 3, K + 52]` their change per unit of identity and expression.

    float64 on the CPU: the problem is small, and not every device has float64.
    """
    k, e = head.n_identity, len(head.expression_names)
    device = head.triangles.device
    identity = torch.cat(
        [torch.zeros(1, k, device=device), torch.eye(k, device=device), torch.zeros(e, k, device=device)]
    )
    action = torch.cat([torch.zeros(1 + k, e, device=device), torch.eye(e, device=device)])
    rows = [
        head.landmarks(head(i, a), which).cpu().double()
        for i, a in zip(identity.split(32), action.split(32), strict=True)  # 32 heads at a time bound the memory
    ]
    points = torch.cat(rows)
    return points[0], (points[1:] - points[:1]).permute(1, 2, 0).contiguous()


def landmark_weights(head, which: str, like: Tensor) -> Tensor:
    """`[N]` say of each landmark, mean 1; only the mesh points differ: reliability, and more for lids and lips."""
    if which != "mesh":
        return like.new_ones(5 if which == "5" else 68)
    w = torch.as_tensor(head.landmark_weights(which)).to(like).clone()
    w[list(FEATURES)] *= FEATURE_WEIGHT
    w[list(UNSURE)] = 0
    return w / w.mean()


def _residual(theta: Tensor, rotation: Tensor, mean: Tensor, basis: Tensor, need_jacobian: bool = True):
    """Normalised device coordinates `[N, 2]` of the landmarks and their Jacobian `[N, 2, 6 + 1 + K]`.

    theta: 0-2 small rotation (world side of the camera frame), 3 tx, 4 ty, 5 log magnification m, 6 log distance d,
    7.. coefficients. With focal = m d the perspective x = m (X + tx) / (1 - Z / d) barely couples m and d.
    """
    tx, ty, m, d = theta[3], theta[4], theta[5].exp(), theta[6].exp()
    r = axis_angle_to_matrix(theta[:3]) @ rotation
    p = (mean + basis @ theta[7:]) @ r.T
    a, q = p[:, :2] + torch.stack([tx, ty]), 1 / (1 - p[:, 2] / d)
    xy = m * a * q[:, None]
    if not need_jacobian:
        return xy, None
    n = len(p)
    dp = torch.zeros(n, 2, 3, dtype=p.dtype, device=p.device)  # d xy / d p
    dp[:, 0, 0] = dp[:, 1, 1] = m * q
    dp[:, :, 2] = m * a * (q * q / d)[:, None]
    zero = torch.zeros_like(p[:, 0])
    x, y, z = p.unbind(1)
    turn = torch.stack([zero, z, -y, -z, zero, x, y, -x, zero], 1).reshape(n, 3, 3)  # d p / d rotation = -[p]_x
    jac = torch.cat(
        [
            dp @ turn,
            dp[:, :, :2],
            xy[:, :, None],
            (-m * a * (q * q * p[:, 2] / d)[:, None])[:, :, None],
            dp @ (r @ basis),
        ],
        2,
    )
    return xy, jac


def fit_landmarks(
    points: Tensor, head, size: int = 256, which: str = "mesh", prior: FitPrior | None = None
) -> LandmarkFit:
    """Landmarks `[N, 2 or 3]` in px of a square picture of `size` px -> LandmarkFit.

    which: "mesh" (468), "68" or "5". A third coordinate (px, negative towards the camera) only steers the start.
    """
    prior = prior or FitPrior()
    mean, basis = landmark_basis(head, which)
    if points.shape[0] != len(mean):
        raise UserError(f"{points.shape[0]} landmarks given, the head has {len(mean)} of the kind '{which}'.")
    points = points.to(mean)
    w = landmark_weights(head, which, mean)
    k, e = head.n_identity, len(head.expression_names)
    half = size / 2
    target = torch.stack([points[:, 0] / half - 1, 1 - points[:, 1] / half], 1)

    if points.shape[1] == 3:
        scale, rotation, shift = umeyama(mean, torch.cat([target, -points[:, 2:] / half], 1), w)
    else:
        scale, rotation, shift = affine_pose(mean, target, w)
    theta = mean.new_zeros(7 + k + e)
    theta[3:5], theta[5], theta[6] = shift[:2] / scale, scale.log(), torch.tensor(prior.distance).log()

    # priors as (mean, precision) per parameter; the pose is free
    centre, precision = torch.zeros_like(theta), torch.zeros_like(theta)
    centre[6], precision[6] = theta[6], prior.distance_log_std**-2
    precision[7 : 7 + k], precision[7 + k :] = 1.0, prior.expression_std**-2
    linear = torch.zeros_like(theta)
    linear[7 + k :] = prior.expression_l1
    sigma = prior.point_std / 128
    low, high = (torch.tensor(v).log() for v in prior.distance_range)

    def energy(t: Tensor) -> Tensor:
        xy, _ = _residual(t, rotation, mean, basis, need_jacobian=False)
        s = (xy - target).square().sum(1) / sigma**2
        c = prior.outlier**2
        data = (w * c * torch.log1p(s / c)).sum()
        return (data + (precision * (t - centre).square()).sum()) / 2 + (linear * t).sum()

    free = torch.ones_like(theta, dtype=torch.bool)
    current, damping = energy(theta), 1e-3
    for step in range(prior.iterations):
        xy, jac = _residual(theta, rotation, mean, basis)
        r = xy - target
        weight = w / (1 + r.square().sum(1) / (sigma * prior.outlier) ** 2) / sigma**2  # Cauchy, reweighted
        grad = torch.einsum("npk,np,n->k", jac, r, weight) + precision * (theta - centre) + linear
        flat = (jac * weight.sqrt()[:, None, None]).reshape(-1, len(theta))
        hessian = flat.T @ flat + torch.diag(precision)
        free[7:] = step >= 3  # pose before shape
        free[7 + k :] &= (theta[7 + k :] > 0) | (grad[7 + k :] < 0)
        index = free.nonzero()[:, 0]
        h = hessian[index][:, index]
        for _ in range(6):
            delta = torch.zeros_like(theta)
            delta[index] = -torch.linalg.solve(h + damping * torch.diag(h.diagonal() + 1e-9), grad[index])
            new = theta + delta
            new[6] = new[6].clamp(low, high)
            new[7 : 7 + k] = new[7 : 7 + k].clamp(-3.5, 3.5)
            new[7 + k :] = new[7 + k :].clamp(0, 1)
            value = energy(new)
            if value < current:
                break
            damping = min(damping * 8, 1e6)
        else:
            break
        gain, current, damping = current - value, value, damping * 0.3
        theta = new
        rotation = axis_angle_to_matrix(theta[:3]) @ rotation
        theta[:3] = 0
        if step > 4 and gain < 1e-4 * current:
            break

    d = theta[6].exp()
    xy, _ = _residual(theta, rotation, mean, basis, need_jacobian=False)
    error = ((xy - target).norm(dim=1) * w).sum() / w.sum() * half
    return LandmarkFit(
        matrix_to_axis_angle(rotation),
        torch.stack([theta[3], theta[4], -d]),
        theta[5].exp() * d,
        theta[7 : 7 + k].float(),
        theta[7 + k :].float(),
        error.float(),
    )


def fit_scene(
    photo: Tensor, face, head, size: int = 256, prior: FitPrior | None = None, crop: FaceCrop | None = None
) -> tuple[Scene, Tensor]:
    """Photo `[1, 3, H, W]` sRGB and its `identity.Face` -> the scene of the face's crop, and shape `[1, K]`.

    The light is ambient here; `light.fit_light` finds it once there is an albedo.
    """
    crop = crop or crop_face(photo, face.mesh, size)
    device = photo.device
    mesh = crop.points(face.mesh)
    found = fit_landmarks(mesh, head, size, "mesh", prior)
    camera, shape, expression = (
        found.camera().to(device),
        found.identity[None].to(device),
        found.expression[None].to(device),
    )
    fine = crop_image(photo, crop.matrix * 2, 2 * size).image  # irises are small: look at them at twice the size
    gaze = fit_gaze(fine, mesh * 2, head(shape, expression), head, camera, (2 * size, 2 * size))
    return Scene(camera, Light.ambient(1).to(device), expression, gaze, (size, size), crop.matrix), shape
