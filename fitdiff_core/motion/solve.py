"""Fit one head to the mesh points of many frames: one person and one lens, a pose and an expression for each frame.

The same energy as of `fitting.landmarks` (Gauss-Newton, Cauchy residuals, bounded expressions), solved for all frames
at once. The identity is shared: the frames' own unknowns are eliminated (Schur complement; Triggs et al. 1999, Sec. 6).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..fitting.landmarks import FitPrior, landmark_basis, landmark_weights
from ..fitting.pose import axis_angle_to_matrix
from ..head import HeadModel

POSE = 6  # small rotation (3), x, y, log distance
CHUNK = 32  # frames solved together


@dataclass
class Person:
    """What all frames share.

    identity: `[K]`. focal: [] of a square picture. points: `[468, 3]` of the neutral head, metres
    """

    identity: Tensor
    focal: Tensor
    points: Tensor


@dataclass
class Poses:
    """rotation: `[F, 3, 3]`. shift: `[F, 3]` x, y in metres and the log of the distance. expression: `[F, 52]`"""

    rotation: Tensor
    shift: Tensor
    expression: Tensor

    def __getitem__(self, index) -> Poses:
        return Poses(self.rotation[index], self.shift[index], self.expression[index])

    def where(self, chosen: Tensor, other: Poses) -> Poses:
        """These where `chosen` `[F]`, the others elsewhere."""
        pick = lambda a, b: torch.where(chosen.reshape(-1, *[1] * (a.ndim - 1)), a, b)  # noqa: E731
        return Poses(
            pick(self.rotation, other.rotation),
            pick(self.shift, other.shift),
            pick(self.expression, other.expression),
        )

    @classmethod
    def cat(cls, parts: list[Poses]) -> Poses:
        return cls(*(torch.cat([getattr(p, n) for p in parts]) for n in ("rotation", "shift", "expression")))


class MotionProblem:
    """The energy of many frames. head: whose shapes are fitted. prior: as of a single photo."""

    def __init__(self, head: HeadModel, prior: FitPrior | None = None):
        self.prior = prior or FitPrior()
        self.mean, basis = landmark_basis(head)
        self.k, self.e = head.n_identity, head.n_expression
        self.of_identity, self.of_expression = basis[..., : self.k], basis[..., self.k :]
        self.weights = landmark_weights(head, "mesh", self.mean)
        self.sigma = self.prior.point_std / 128
        precision = self.mean.new_full((POSE + self.e,), self.prior.expression_std**-2)
        precision[:POSE] = 0
        self.precision = precision

    def person(self, identity: Tensor, focal: Tensor) -> Person:
        return Person(identity, focal, self.mean + self.of_identity @ identity)

    def project(self, person: Person, poses: Poses) -> tuple[Tensor, Tensor]:
        """Points in camera axes without the shift `[F, N, 3]`, and in the picture `[F, N, 2]`, -1..1, y up."""
        points = person.points + torch.einsum("nde,fe->fnd", self.of_expression, poses.expression)
        p = points @ poses.rotation.mT
        depth = poses.shift[:, 2:].exp() - p[..., 2]
        return p, person.focal * (p[..., :2] + poses.shift[:, None, :2]) / depth[..., None]

    def energy(self, person: Person, poses: Poses, target: Tensor) -> Tensor:
        """`[F]`. target: `[F, N, 2]`"""
        _, xy = self.project(person, poses)
        s, c = (xy - target).square().sum(2) / self.sigma**2, self.prior.outlier**2
        data = (self.weights * c * torch.log1p(s / c)).sum(1) / 2
        e = poses.expression
        return data + (self.precision[POSE:] * e.square()).sum(1) / 2 + self.prior.expression_l1 * e.sum(1)

    def system(self, person: Person, poses: Poses, target: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Gradient `[F, P]` of the frames' unknowns; weighted Jacobians by them `[F, 2N, P]` and by the identity
        `[F, 2N, K]`; weighted residual `[F, 2N]`."""
        p, xy = self.project(person, poses)
        f, n = p.shape[:2]
        distance = poses.shift[:, 2].exp()[:, None]
        q = 1 / (distance - p[..., 2])
        dp = p.new_zeros(f, n, 2, 3)  # d xy / d p
        dp[:, :, 0, 0] = dp[:, :, 1, 1] = person.focal * q
        dp[..., 2] = xy * q[..., None]
        x, y, z = p.unbind(2)
        zero = torch.zeros_like(x)
        turn = torch.stack([zero, z, -y, -z, zero, x, y, -x, zero], 2).reshape(f, n, 3, 3)
        by_place = dp @ poses.rotation[:, None]
        away = -xy * (q * distance)[..., None]
        jac = torch.cat([dp @ turn, dp[..., :2], away[..., None], by_place @ self.of_expression], 3)
        r = xy - target
        weight = self.weights / (1 + r.square().sum(2) / (self.sigma * self.prior.outlier) ** 2) / self.sigma**2
        root = weight.sqrt()[..., None]
        jac, r = (jac * root[..., None]).flatten(1, 2), (r * root).flatten(1)
        theta = torch.cat([p.new_zeros(f, POSE), poses.expression], 1)
        grad = (jac.mT @ r[..., None])[..., 0] + self.precision * theta
        grad[:, POSE:] += self.prior.expression_l1
        return grad, jac, (by_place * root[..., None]).flatten(1, 2), r

    def moved(self, poses: Poses, delta: Tensor) -> Poses:
        """The poses after a step `[F, P]`, expressions held to 0..1."""
        return Poses(
            axis_angle_to_matrix(delta[:, :3]) @ poses.rotation,
            poses.shift + delta[:, 3:6],
            (poses.expression + delta[:, POSE:]).clamp(0, 1),
        )

    def free(self, poses: Poses, grad: Tensor) -> Tensor:
        """`[F, P]` bool: unknowns that are not held at their bounds."""
        e, g = poses.expression, grad[:, POSE:]
        inside = ((e > 0) | (g < 0)) & ((e < 1) | (g > 0))
        return torch.cat([torch.ones_like(grad[:, :POSE], dtype=torch.bool), inside], 1)

    def fit(
        self, person: Person, poses: Poses, target: Tensor, iterations: int = 8, held: Tensor | None = None
    ) -> Poses:
        """The frames' poses and expressions with the person given.

        target: `[F, N, 2]`. held: `[F, 52]` bool, expressions that stay as they are; None for none
        """
        if held is None:
            held = torch.zeros_like(poses.expression, dtype=torch.bool)
        found = []
        for start in range(0, len(target), CHUNK):
            part = slice(start, start + CHUNK)
            found.append(self._fit(person, poses[part], target[part], iterations, held[part]))
        return Poses.cat(found)

    def _fit(self, person: Person, poses: Poses, target: Tensor, iterations: int, held: Tensor) -> Poses:
        current = self.energy(person, poses, target)
        damping = torch.full_like(current, 1e-3)
        for _ in range(iterations):
            grad, jac, _, _ = self.system(person, poses, target)
            free = self.free(poses, grad)
            free[:, POSE:] &= ~held
            hessian = jac.mT @ jac + torch.diag(self.precision)
            new = self.moved(poses, self.solve(hessian, grad, free, damping))
            value = self.energy(person, new, target)
            better = value < current
            poses = new.where(better, poses)
            gain = torch.where(better, current - value, 0.0)
            current = torch.where(better, value, current)
            damping = torch.where(better, damping * 0.3, damping * 10).clamp(1e-6, 1e6)
            if bool(better.any()) and bool((gain < 1e-4 * current).all()):
                break
        return poses

    def solve(self, hessian: Tensor, grad: Tensor, free: Tensor, damping: Tensor) -> Tensor:
        """The damped step `[F, P]`; 0 for unknowns that are held."""
        both = free[:, :, None] & free[:, None]
        diagonal = hessian.diagonal(dim1=1, dim2=2)
        h = torch.where(both, hessian, 0.0)
        h = h + torch.diag_embed(torch.where(free, damping[:, None] * diagonal + 1e-9, 1.0))
        return -torch.linalg.solve(h, torch.where(free, grad, 0.0))

    def refine(self, person: Person, poses: Poses, target: Tensor, rounds: int = 3) -> tuple[Person, Poses]:
        """Person and poses together, from a few frames. Each round eliminates the frames' unknowns."""
        poses = self.fit(person, poses, target, 6)
        for _ in range(rounds):
            grad, jac, place, r = self.system(person, poses, target)
            free = self.free(poses, grad)
            n = len(self.mean)
            own = (place.unflatten(1, (n, 2)) @ self.of_identity).flatten(1, 2)
            h = jac.mT @ jac + torch.diag(self.precision)
            cross = torch.where(free[..., None], jac.mT @ own, 0.0)
            both = free[:, :, None] & free[:, None]
            h = torch.where(both, h, 0.0) + torch.diag_embed(torch.where(free, 1e-9, 1.0))
            solved = torch.linalg.solve(h, cross)
            total = own.flatten(0, 1)
            schur = total.T @ total - (cross.mT @ solved).sum(0) + torch.eye(self.k).to(h)
            right = total.T @ r.flatten() + person.identity
            right = right - (solved.mT @ torch.where(free, grad, 0.0)[..., None]).sum(0)[:, 0]
            identity = (person.identity - torch.linalg.solve(schur, right)).clamp(-3.5, 3.5)
            person = self.person(identity, person.focal)
            poses = self.fit(person, poses, target, 3)
        return person, poses
