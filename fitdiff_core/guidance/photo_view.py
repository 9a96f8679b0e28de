"""One photo of the person while the sampling runs: its goal, and its own scene, refined beside those of the other photos."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from ..render import Camera
from ..scene import Scene
from .objective import Guidance
from .optimiser import Descent

Objective = Callable[[Tensor, Tensor, Scene], tuple[Tensor, Scene, dict[str, Tensor]]]


class View:
    """`.scene`: as refined so far, of batch B once sampling runs. `.terms`: each loss `[B]` at the last step."""

    def __init__(self, guidance: Guidance, objective: Objective):
        self.guidance, self.objective = guidance, objective
        self.terms: dict[str, Tensor] = {}
        self.restart(1)

    def restart(self, batch: int) -> None:
        step = self.guidance.scene_step
        self.scene = self.guidance.scene.expand(batch)
        self.steps = {"rotation": Descent(step), "translation": Descent(step), "expression": Descent(3 * step)}

    def acts_at(self, sigma: float) -> bool:
        start, end = self.guidance.sigma_window
        return end <= sigma <= start

    def free(self) -> dict[str, Tensor]:
        """Copies of what is to be refined of the scene; nothing where it is held."""
        if self.guidance.scene_step <= 0:
            return {}
        camera, expression = self.scene.camera, self.scene.expression
        found = {"rotation": camera.rotation, "translation": camera.translation, "expression": expression}
        return {name: x.detach().clone() for name, x in found.items()}

    def loss(self, texture: Tensor, shape: Tensor, free: dict[str, Tensor]) -> Tensor:
        """The photo's loss `[B]`, differentiable in all three. The light is fitted on the way and kept."""
        scene = self.scene.detach()
        if free:
            camera = Camera(scene.camera.focal, free["rotation"], free["translation"])
            scene = replace(scene, camera=camera, expression=free["expression"])
        loss, lit, terms = self.objective(texture, shape, scene)
        self.scene = replace(self.scene.detach(), light=lit.light.detach())
        self.terms = {k: v.detach() for k, v in terms.items()}
        return loss

    def move(self, grad: dict[str, Tensor]) -> None:
        """One step of the scene down its gradient."""
        if not grad:
            return
        camera, expression = self.scene.camera, self.scene.expression
        change = {name: self.steps[name](g) for name, g in grad.items()}
        # a step along the view is a share of the distance, one across it less
        scale = camera.translation[:, 2:].abs() * camera.translation.new_tensor([0.1, 0.1, 1.0])
        moved = Camera(
            camera.focal, camera.rotation + change["rotation"], camera.translation + change["translation"] * scale
        )
        self.scene = replace(self.scene, camera=moved, expression=(expression + change["expression"]).clamp(0, 1))
