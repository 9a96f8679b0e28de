"""One photo while the sampling runs: its objective, and its own scene, which is refined along the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from ..render import Camera
from ..scene import Scene
from .objective import Guidance
from .optimiser import RMSNormalisedMomentum

Objective = Callable[[Tensor, Tensor, Scene], tuple[Tensor, Scene, dict[str, Tensor]]]


class PhotoView:
    """scene: as refined so far, of batch B once sampling runs. terms: each loss `[B]` at the last step."""

    def __init__(self, guidance: Guidance, objective: Objective):
        self.photo, self.settings, self.objective = guidance.target.photo, guidance.settings, objective
        self.held = list(self.photo.held)
        self.terms: dict[str, Tensor] = {}
        self.restart(1)

    def restart(self, batch: int) -> None:
        """Begin a run of `batch` samples with the fitted scene."""
        step = self.settings.scene_step
        self.scene = self.photo.scene.expand(batch)
        self.steps = {
            "rotation": RMSNormalisedMomentum(step),
            "translation": RMSNormalisedMomentum(step),
            "expression": RMSNormalisedMomentum(3 * step),
        }

    def acts_at(self, sigma: float) -> bool:
        """Whether the photo guides at this noise level."""
        start, end = self.settings.sigma_window
        return end <= sigma <= start

    def unknowns(self) -> dict[str, Tensor]:
        """Copies of what is to be refined of the scene; empty where the scene is held (`scene_step` 0)."""
        if self.settings.scene_step <= 0:
            return {}
        camera, expression = self.scene.camera, self.scene.expression
        found = {"rotation": camera.rotation, "translation": camera.translation, "expression": expression}
        return {name: x.detach().clone() for name, x in found.items()}

    def loss(self, texture: Tensor, shape: Tensor, unknowns: dict[str, Tensor]) -> Tensor:
        """Loss `[B]` of the photo, differentiable in all three arguments. The refitted light is kept in `.scene`."""
        scene = self.scene.detach()
        if unknowns:
            camera = Camera(scene.camera.focal, unknowns["rotation"], unknowns["translation"])
            scene = replace(scene, camera=camera, expression=unknowns["expression"])
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
        # steps along the view axis are relative to the distance, steps across it a tenth of that
        scale = camera.translation[:, 2:].abs() * camera.translation.new_tensor([0.1, 0.1, 1.0])
        moved = Camera(
            camera.focal, camera.rotation + change["rotation"], camera.translation + change["translation"] * scale
        )
        moved_expression = (expression + change["expression"]).clamp(0, 1)
        moved_expression[:, self.held] = expression[:, self.held]
        self.scene = replace(self.scene, camera=moved, expression=moved_expression)
