"""Camera and mouth once more, for the shape that the sampling ended with.

The guidance moves shape, camera and expression together, by gradient steps of one size. What it ends with has the lips
near their place, but by many small weights: a jaw that is open by a third under lips that are pulled together, or lips
that part where the photo's are shut. Here they are solved together, with the landmark fit's own priors, and the shape
stays.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..face.mesh_points import LIPS, MOUTH_LEFT, MOUTH_RIGHT, OUTLINE
from ..head import HeadModel
from ..render.camera import Camera
from ..scene import Scene
from .landmarks import FitPrior, LandmarkProblem
from .pose import axis_angle_to_matrix
from .smile import LOWER, SMILE, UPPER, Teeth

FREE = ("mouth", "jaw", "cheek")  # how the names of the weights begin that are solved; the others stay
LIP_WEIGHT = 4.0  # of the lips' points, over that of the landmark fit
CORNER = 4.0  # of the corners of the mouth, over that of the lips: they make the smile
TEETH_SHUT = 0.03  # standard deviation of jawOpen where teeth fill the smile
SHUT = 0.04  # height of the opening, as a share of the mouth's width, below which lips are shut
CHIN_WEIGHT = 0.3  # of the outline then: its length is the shape's, not the jaw's
STEPS = 16
POSE = 6  # the first parameters of `LandmarkProblem`, before the distance, which stays


@torch.inference_mode(False)
@torch.no_grad()
def settle_mouth(scene: Scene, head: HeadModel, shape: Tensor, mesh: Tensor, teeth: Teeth | None = None) -> Scene:
    """The scene with camera and weights of mouth, jaw and cheeks that bring this shape to the photo's landmarks.

    scene: of B pictures, as refined by the guidance. shape: `[B, K]`. mesh: `[1, 468, 2]` px of the scene's picture
    teeth: where they fill the opening between the lips, the jaw stays nearly shut, and the lips open the mouth
    """
    if not isinstance(head, HeadModel) or head.mesh_triangles is None:
        return scene
    expression, cameras = scene.expression.expand(len(shape), -1).clone(), []
    for i, one in enumerate(shape):
        problem, theta = _problem(scene[i].camera, head, one, expression[i], mesh[0], scene.size[0])
        _prefer_shut_jaw(problem, head, teeth)
        found = problem.result(_solve(problem, theta, head))
        cameras.append(found.camera().to(shape.device))
        expression[i] = found.expression.to(expression)
    return replace(scene, camera=Camera.cat(cameras), expression=expression)


def _problem(
    camera: Camera, head: HeadModel, shape: Tensor, expression: Tensor, mesh: Tensor, size: int
) -> tuple[LandmarkProblem, Tensor]:
    """The landmark fit of one picture, and its parameters at what is known."""
    problem = LandmarkProblem(mesh, head, size, "mesh", FitPrior())
    known = [x.detach().cpu().double() for x in (camera.rotation[0], camera.translation[0], camera.focal[0])]
    problem.rotation, distance = axis_angle_to_matrix(known[0]), -known[1][2]
    theta, first = problem.start.clone(), 7 + problem.k
    theta[3:5], theta[5], theta[6] = known[1][:2], (known[2] / distance).log(), distance.log()
    theta[7:first], theta[first:] = shape.detach().cpu().double(), expression.detach().cpu().double()
    problem.weights = problem.weights.clone()
    problem.weights[list(LIPS)] *= LIP_WEIGHT
    problem.weights[[MOUTH_LEFT, MOUTH_RIGHT]] *= CORNER
    return problem, theta


def _prefer_shut_jaw(problem: LandmarkProblem, head: HeadModel, teeth: Teeth | None) -> None:
    """Hold the jaw where teeth fill the opening between the lips, or where there is none."""
    gap = (problem.target[list(UPPER)] - problem.target[list(LOWER)]).norm(dim=1).mean()
    shut = gap < SHUT * (problem.target[MOUTH_LEFT] - problem.target[MOUTH_RIGHT]).norm()
    if (shut or (teeth is not None and teeth.share > SMILE)) and "jawOpen" in head.expression_names:
        problem.weights[list(OUTLINE)] *= CHIN_WEIGHT
        problem.precision[7 + problem.k + head.expression_names.index("jawOpen")] = TEETH_SHUT**-2
    problem.weights = problem.weights / problem.weights.mean()


def _solve(problem: LandmarkProblem, theta: Tensor, head: HeadModel) -> Tensor:
    """Parameters after damped Gauss-Newton steps of pose and mouth; weights stay in 0..1."""
    first = 7 + problem.k
    mouth = torch.tensor([name.startswith(FREE) for name in head.expression_names])
    free = torch.zeros(len(theta), dtype=torch.bool)
    free[:POSE], free[first:] = True, mouth
    weights = torch.arange(len(theta)) >= first

    def bounded(theta: Tensor) -> Tensor:
        theta[first:] = torch.where(mouth, theta[first:].clamp(0, 1), theta[first:])
        return theta

    current, damping = problem.energy(theta), 1e-3
    for _ in range(STEPS):
        grad, hessian = problem.system(theta)
        moving = free & (~weights | (theta > 0) | (grad < 0))
        found = problem.step(theta, moving, current, damping, bounded, (grad, hessian))
        if found is None:
            break
        new, value, damping = found
        gain, current = current - value, value
        theta = problem.absorb_rotation(new)
        if gain < 1e-4 * current:
            break
    return theta
