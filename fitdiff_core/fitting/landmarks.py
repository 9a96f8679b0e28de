"""Fit camera, expression and a first shape to the landmarks of a photo.

Perspective model-to-landmark fitting by damped Gauss-Newton, with iteratively reweighted residuals and quadratic
priors (Blanz & Vetter 2003, Sec. 4; Huber et al. 2016). Expression is bounded to 0..1. The head is linear in identity
and expression, so all Jacobians are analytic. The light comes from `sh_light.py`, finer shape from the guidance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, overload
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ..errors import UserError
from ..face import Face
from ..face.mesh_points import LIDS_LEFT, LIDS_RIGHT, LIPS
from ..head import HeadModel
from ..render.camera import Camera
from ..render.light import Light
from ..scene import Scene
from .crop import FaceCrop, crop_face, crop_image
from .gaze import eyes_shut, fit_gaze
from .pose import affine_pose, axis_angle_to_matrix, matrix_to_axis_angle, umeyama

# inside of the lower lip near the corners: on closed mouths these cannot be told from the points of the upper lip
UNSURE = (96, 89, 319, 325)
FEATURES = (*LIDS_LEFT, *LIDS_RIGHT, *LIPS)
BLINK, WIDE = ("eyeBlinkLeft", "eyeBlinkRight"), ("eyeWideLeft", "eyeWideRight")
FEATURE_WEIGHT = 2.5  # lids and lips are few points, but an error of one pixel is visible there


@dataclass(frozen=True)
class FitPrior:
    """Prior of a portrait. Lengths in metres, image lengths in pixels of a 256-pixel crop."""

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
    """The fit of one face.

    rotation: `[3]` axis-angle. translation: `[3]` metres. focal: [] of the camera. identity: `[K]`. expression: `[52]`
    residual: [] weighted mean distance of the landmarks, pixels
    """

    rotation: Tensor
    translation: Tensor
    focal: Tensor
    identity: Tensor
    expression: Tensor
    residual: Tensor

    def camera(self) -> Camera:
        return Camera(self.focal[None].float(), self.rotation[None].float(), self.translation[None].float())


_BASES: WeakKeyDictionary[HeadModel, dict[str, tuple[Tensor, Tensor]]] = WeakKeyDictionary()


def landmark_basis(head: HeadModel, which: str = "mesh") -> tuple[Tensor, Tensor]:
    """Landmarks of the mean head `[N, 3]`, and their derivatives by identity and expression `[N, 3, K + 52]`.

    float64 on the CPU: the problem is small, and not every device has float64. Computed once for each head (0.1 s).
    """
    known = _BASES.setdefault(head, {})
    if which not in known:
        known[which] = _landmark_basis(head, which)
    return known[which]


@torch.inference_mode(False)
@torch.no_grad()
def _landmark_basis(head: HeadModel, which: str) -> tuple[Tensor, Tensor]:
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


def landmark_weights(head: HeadModel, which: str, like: Tensor) -> Tensor:
    """Weight of each landmark `[N]`, mean 1. Mesh points are weighted by reliability, lids and lips more; others
    equally."""
    if which != "mesh":
        return like.new_ones(5 if which == "5" else 68)
    w = torch.as_tensor(head.landmark_weights(which)).cpu().to(like).clone()  # `like` may be float64 on the CPU
    w[list(FEATURES)] *= FEATURE_WEIGHT
    w[list(UNSURE)] = 0
    return w / w.mean()


class LandmarkProblem:
    """Energy of the landmark fit and its Gauss-Newton system.

    The parameters theta are: 0-2 small rotation on top of `.rotation` (world side of the camera frame), 3 tx, 4 ty,
    5 log magnification m, 6 log distance d, 7.. identity, then expression. With focal = m d, the perspective
    x = m (X + tx) / (1 - Z / d) couples m and d only weakly.
    """

    def __init__(self, points: Tensor, head: HeadModel, size: int, which: str, prior: FitPrior):
        """points, size, which, prior: as of `fit_landmarks`."""
        self.prior, self.half = prior, size / 2
        self.mean, self.basis = landmark_basis(head, which)
        if points.shape[0] != len(self.mean):
            raise UserError(f"{points.shape[0]} landmarks given, the head has {len(self.mean)} of the kind '{which}'.")
        points = points.cpu().to(self.mean)
        self.weights = landmark_weights(head, which, self.mean)
        self.k, self.e = head.n_identity, len(head.expression_names)
        self.target = torch.stack([points[:, 0] / self.half - 1, 1 - points[:, 1] / self.half], 1)
        self.sigma = prior.point_std / 128

        if points.shape[1] == 3:
            target = torch.cat([self.target, -points[:, 2:] / self.half], 1)
            scale, self.rotation, shift = umeyama(self.mean, target, self.weights)
        else:
            scale, self.rotation, shift = affine_pose(self.mean, self.target, self.weights)
        theta = self.mean.new_zeros(7 + self.k + self.e)
        theta[3:5], theta[5], theta[6] = shift[:2] / scale, scale.log(), torch.tensor(prior.distance).log()
        self.start = theta

        # priors as (mean, precision) of each parameter; the pose has none
        self.centre, self.precision = torch.zeros_like(theta), torch.zeros_like(theta)
        self.centre[6], self.precision[6] = theta[6], prior.distance_log_std**-2
        self.precision[7 : 7 + self.k], self.precision[7 + self.k :] = 1.0, prior.expression_std**-2
        self.linear = torch.zeros_like(theta)
        self.linear[7 + self.k :] = prior.expression_l1

    @overload
    def project(self, theta: Tensor, need_jacobian: Literal[True] = True) -> tuple[Tensor, Tensor]: ...

    @overload
    def project(self, theta: Tensor, need_jacobian: Literal[False]) -> tuple[Tensor, None]: ...

    def project(self, theta: Tensor, need_jacobian: bool = True) -> tuple[Tensor, Tensor | None]:
        """Normalised device coordinates `[N, 2]` of the landmarks, and their Jacobian `[N, 2, 7 + K + 52]` or None."""
        tx, ty, m, d = theta[3], theta[4], theta[5].exp(), theta[6].exp()
        r = axis_angle_to_matrix(theta[:3]) @ self.rotation
        p = (self.mean + self.basis @ theta[7:]) @ r.T
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
                dp @ (r @ self.basis),
            ],
            2,
        )
        return xy, jac

    def energy(self, theta: Tensor) -> Tensor:
        """Negative log posterior [], with Cauchy residuals."""
        xy, _ = self.project(theta, need_jacobian=False)
        s = (xy - self.target).square().sum(1) / self.sigma**2
        c = self.prior.outlier**2
        data = (self.weights * c * torch.log1p(s / c)).sum()
        return (data + (self.precision * (theta - self.centre).square()).sum()) / 2 + (self.linear * theta).sum()

    def system(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient `[P]` and Gauss-Newton Hessian `[P, P]` of the energy, residuals reweighted."""
        xy, jac = self.project(theta)
        r = xy - self.target
        weight = self.weights / (1 + r.square().sum(1) / (self.sigma * self.prior.outlier) ** 2) / self.sigma**2
        grad = torch.einsum("npk,np,n->k", jac, r, weight) + self.precision * (theta - self.centre) + self.linear
        flat = (jac * weight.sqrt()[:, None, None]).reshape(-1, len(theta))
        return grad, flat.T @ flat + torch.diag(self.precision)

    def bounded(self, theta: Tensor) -> Tensor:
        """theta, changed in place: distance, identity and expression held to their ranges."""
        low, high = (torch.tensor(v).log() for v in self.prior.distance_range)
        theta[6] = theta[6].clamp(low, high)
        theta[7 : 7 + self.k] = theta[7 : 7 + self.k].clamp(-3.5, 3.5)
        theta[7 + self.k :] = theta[7 + self.k :].clamp(0, 1)
        return theta

    def absorb_rotation(self, theta: Tensor) -> Tensor:
        """theta with its small rotation moved into `.rotation`."""
        self.rotation = axis_angle_to_matrix(theta[:3]) @ self.rotation
        theta[:3] = 0
        return theta

    def step(
        self,
        theta: Tensor,
        free: Tensor,
        current: Tensor,
        damping: float,
        bounded: Callable[[Tensor], Tensor],
        system: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, Tensor, float] | None:
        """A damped Gauss-Newton step of the free parameters, with the damping raised until the energy falls.

        free: bool, which parameters move. current: energy at theta. bounded: holds parameters to their ranges
        system: gradient and Hessian at theta. Returns parameters, energy and the next step's damping; None where no
        step lowers the energy.
        """
        index, (grad, hessian) = free.nonzero()[:, 0], system
        h = hessian[index][:, index]
        for _ in range(6):
            delta = torch.zeros_like(theta)
            delta[index] = -torch.linalg.solve(h + damping * torch.diag(h.diagonal() + 1e-9), grad[index])
            new = bounded(theta + delta)
            value = self.energy(new)
            if value < current:
                return new, value, damping * 0.3
            damping = min(damping * 8, 1e6)
        return None

    def result(self, theta: Tensor) -> LandmarkFit:
        """The parameters as a `LandmarkFit`."""
        d = theta[6].exp()
        xy, _ = self.project(theta, need_jacobian=False)
        error = ((xy - self.target).norm(dim=1) * self.weights).sum() / self.weights.sum() * self.half
        return LandmarkFit(
            matrix_to_axis_angle(self.rotation),
            torch.stack([theta[3], theta[4], -d]),
            theta[5].exp() * d,
            theta[7 : 7 + self.k].float(),
            theta[7 + self.k :].float(),
            error.float(),
        )


def fit_landmarks(
    points: Tensor, head: HeadModel, size: int = 256, which: str = "mesh", prior: FitPrior | None = None
) -> LandmarkFit:
    """Fit the head to landmarks by damped Gauss-Newton.

    points: `[N, 2 or 3]` pixels of a square picture of `size` pixels; a third coordinate (pixels, negative towards the
        camera) only improves the initial pose
    which: "mesh" (468 points), "68" or "5"

    Raises UserError for another number of points than the head has of this kind.
    """
    prior = prior or FitPrior()
    problem = LandmarkProblem(points, head, size, which, prior)
    theta, k = problem.start, problem.k
    free = torch.ones_like(theta, dtype=torch.bool)
    current, damping = problem.energy(theta), 1e-3
    for step in range(prior.iterations):
        grad, hessian = problem.system(theta)
        free[7:] = step >= 3  # pose before shape
        free[7 + k :] &= (theta[7 + k :] > 0) | (grad[7 + k :] < 0)
        found = problem.step(theta, free, current, damping, problem.bounded, (grad, hessian))
        if found is None:
            break
        new, value, damping = found
        gain, current = current - value, value
        theta = problem.absorb_rotation(new)
        if step > 4 and gain < 1e-4 * current:
            break
    return problem.result(theta)


def fit_scene(
    photo: Tensor,
    face: Face,
    head: HeadModel,
    size: int = 256,
    prior: FitPrior | None = None,
    crop: FaceCrop | None = None,
) -> tuple[Scene, Tensor]:
    """Fit camera, expression and gaze to a photo -> the scene of the face crop, and the shape `[1, K]`.

    photo: `[1, 3, H, W]` sRGB. face: its mesh points. crop: of the face, None cuts it.
    The light of the scene is ambient; `sh_light.fit_light` fits it once there is an albedo.
    """
    crop = crop or crop_face(photo, face.mesh, size)
    device = photo.device
    mesh = crop.points(face.mesh)
    found = fit_landmarks(mesh, head, size, "mesh", prior)
    camera = found.camera().to(device)
    shape, expression = found.identity[None].to(device), found.expression[None].to(device)
    fine = crop_image(photo, crop.matrix * 2, 2 * size).image  # twice the size, since irises are small
    if eyes_shut(fine, mesh * 2):
        for names, weight in ((BLINK, 1.0), (WIDE, 0.0)):
            expression[:, [head.expression_names.index(n) for n in names if n in head.expression_names]] = weight
        straight = expression.new_zeros(1, 2)
        return Scene(camera, Light.ambient(1).to(device), expression, straight, (size, size), crop.matrix), shape
    gaze = fit_gaze(fine, mesh * 2, head(shape, expression), head, camera, (2 * size, 2 * size))
    return Scene(camera, Light.ambient(1).to(device), expression, gaze, (size, size), crop.matrix), shape
