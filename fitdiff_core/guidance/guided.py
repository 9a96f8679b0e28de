"""Guided sampling: wraps the denoiser, so that no sampler knows of it.

At each noise level inside the window the denoised estimate Z_0 takes small steps down the gradient of the objective
through decoder, renderer and recogniser (manifold-preserving guidance, He et al. 2024, arXiv 2311.16424). Diffusion
posterior sampling (Chung et al. 2023, arXiv 2209.14687) would go on through the denoiser, at the price of another
backward pass and of its noise; we go through its linear part, which is exact and free (`LinearPrior.gradient`). The estimate is kept from level to level and may differ from the denoiser's by no more than the noise
leaves open, sigma / sqrt(1 + sigma^2) per unit-variance element, so that the prior has the last word on detail.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn

from ..denoiser import pack_latent, unpack_latent
from ..render import Camera, Light
from ..scene import Scene
from .objective import Guidance, PhotoObjective

Denoise = Callable[[Tensor, Tensor], Tensor]


def expand_scene(scene: Scene, batch: int) -> Scene:
    """A scene of batch 1 repeated for `batch` samples; a scene that fits already is returned as it is."""
    if len(scene.expression) == batch:
        return scene

    def rows(x: Tensor) -> Tensor:
        return x.expand(batch, *x.shape[1:]).clone()

    camera, light = scene.camera, scene.light
    return replace(
        scene,
        camera=Camera(rows(camera.focal), rows(camera.rotation), rows(camera.translation)),
        light=Light(rows(light.sh), rows(light.direction), rows(light.color)),
        expression=rows(scene.expression), gaze=rows(scene.gaze),
        crop=None if scene.crop is None else rows(scene.crop),
    )


def plain(module: nn.Module) -> nn.Module:
    """The module, copied where it was loaded under inference mode: autograd refuses such weights."""
    tensors = [*module.parameters(), *module.buffers()]
    if not any(t.is_inference() for t in tensors):
        return module
    with torch.inference_mode(False):
        return copy.deepcopy(module)


def plain_tensors(value):
    """Tensors made under inference mode copied, in any nesting of dataclasses and tuples."""
    if isinstance(value, Tensor):
        with torch.inference_mode(False):
            return value.clone() if value.is_inference() else value
    if isinstance(value, tuple):
        return tuple(plain_tensors(v) for v in value)
    if isinstance(value, nn.Module):
        return plain(value)
    if hasattr(value, "__dataclass_fields__"):
        return replace(value, **{f.name: plain_tensors(getattr(value, f.name)) for f in fields(value) if f.init})
    return value


class Descent:
    """Normalised gradient steps with momentum for one group of unknowns `[B, ...]`: each sample moves `step` in RMS.

    Adam (Kingma & Ba 2015) with one second moment per sample, not per element: texels and coefficients that the photo
    says little about then move little, instead of being blown up to full steps.
    """

    def __init__(self, step: float, betas: tuple[float, float] = (0.7, 0.9)):
        self.step, self.betas = step, betas
        self.count, self.first, self.second = 0, 0.0, 0.0

    def __call__(self, grad: Tensor) -> Tensor:
        """Gradient `[B, ...]` -> the change to add."""
        b1, b2 = self.betas
        axes = tuple(range(1, grad.ndim))
        self.count += 1
        self.first = b1 * self.first + (1 - b1) * grad
        self.second = b2 * self.second + (1 - b2) * grad.square().mean(axes, keepdim=True)
        first, second = self.first / (1 - b1**self.count), self.second / (1 - b2**self.count)
        return -self.step * first / (second.sqrt() + 1e-12)


@dataclass
class Estimate:
    """What the guidance remembers between noise levels."""

    texture: Tensor
    shape: Tensor
    sigma: float


class GuidedDenoiser:
    """`(x [B, C + 1, h, w], sigma) -> denoised`, pulled towards the photo. One object serves one sampling run at a time;
    a larger sigma than the last starts a new run. `.scene` is the scene as refined so far (batch B once called).

    Works under `torch.inference_mode()`, as ComfyUI runs its nodes.
    """

    def __init__(self, denoise: Denoise, model, guidance: Guidance, objective=None):
        """denoise: conditioned already. model: a `FitDiffModel`. objective: another goal, for tests."""
        self.denoise, self.prior = denoise, plain(model.denoiser.prior)
        self.guidance = guidance = plain_tensors(guidance)
        self.identity_size = model.head.n_identity
        if objective is None:
            autoencoder = plain(model.autoencoder)
            objective = PhotoObjective(plain(model.head), lambda z: autoencoder.decode(z, size=256), guidance)
        self.objective = objective
        self.terms: dict[str, Tensor] = {}
        self._restart(1)

    def _restart(self, batch: int) -> None:
        g = self.guidance
        self.scene = expand_scene(g.scene, batch)
        self.last: Estimate | None = None
        self.steps = {
            "texture": Descent(g.texture_step), "shape": Descent(g.shape_step), "rotation": Descent(g.scene_step),
            "translation": Descent(g.scene_step), "expression": Descent(3 * g.scene_step),
        }

    def __call__(self, x: Tensor, sigma: Tensor, **kwargs) -> Tensor:
        denoised = self.denoise(x, sigma, **kwargs)
        level = float(torch.as_tensor(sigma).flatten()[0])
        with torch.inference_mode(False), torch.no_grad():
            batch = len(denoised)
            if self.last is not None and (level > self.last.sigma * 1.0001 or batch != len(self.last.texture)):
                self.last = None
            if self.last is None:
                self._restart(batch)
            start, end = self.guidance.sigma_window
            if not end <= level <= start:
                return denoised
            texture, shape = unpack_latent(denoised.detach().clone(), self.identity_size)
            texture, shape = self.refine(texture.clone(), shape.clone(), level)
            guided = pack_latent(texture, shape).to(denoised.dtype)
        return guided

    def refine(self, texture: Tensor, shape: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        """The denoiser's texture latent `[B, C, h, w]` and shape `[B, K]` -> the guided ones."""
        free = self.guidance.trust * sigma / (1 + sigma**2) ** 0.5  # posterior std of a unit-variance element
        z, s = texture, shape
        if self.last is not None:  # go on from the last level's estimate, as far as this level leaves it open
            z, s = within(self.last.texture, texture, free), within(self.last.shape, shape, free)
        for _ in range(self.guidance.inner_steps):
            z, s = self._step(z, s, sigma)
        z, s = within(z, texture, free), within(s, shape, free)
        self.last = Estimate(z, s, sigma)
        return z, s

    def _step(self, z: Tensor, s: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        scene = self.scene.detach()
        camera = scene.camera
        free = {
            "texture": z.detach().clone(), "shape": s.detach().clone(), "rotation": camera.rotation.clone(),
            "translation": camera.translation.clone(), "expression": scene.expression.clone(),
        }
        if self.guidance.scene_step <= 0:
            free = {k: free[k] for k in ("texture", "shape")}
        with torch.enable_grad():
            for value in free.values():
                value.requires_grad_(True)
            trial = scene
            if len(free) > 2:
                moved = Camera(camera.focal, free["rotation"], free["translation"])
                trial = replace(scene, camera=moved, expression=free["expression"])
            loss, lit, self.terms = self.objective(free["texture"], free["shape"], trial)
            grads = torch.autograd.grad(loss.sum(), list(free.values()), allow_unused=True)
        grad = {n: torch.zeros_like(v) if g is None else torch.nan_to_num(g, 0.0, 0.0, 0.0)
                for (n, v), g in zip(free.items(), grads, strict=True)}
        grad["texture"], grad["shape"] = self.prior.gradient(grad["texture"], grad["shape"], sigma)
        change = {n: v.detach() + self.steps[n](grad[n]) * self._unit(n, v) for n, v in free.items()}
        self.terms = {k: v.detach() for k, v in self.terms.items()}
        if len(free) > 2:
            scene = replace(
                scene, camera=Camera(camera.focal, change["rotation"], change["translation"]),
                expression=change["expression"].clamp(0, 1),
            )
        self.scene = replace(scene, light=lit.light.detach())
        return change["texture"], change["shape"]

    @staticmethod
    def _unit(name: str, value: Tensor) -> Tensor | float:
        """Translation steps are relative: a share of the distance along the view, less across it."""
        if name != "translation":
            return 1.0
        depth = value.detach()[:, 2:].abs()
        return depth * value.new_tensor([0.1, 0.1, 1.0])


def within(value: Tensor, centre: Tensor, radius: float) -> Tensor:
    """`value` pulled towards `centre` until it is at most `radius` away in RMS, per sample."""
    offset = value - centre
    rms = offset.square().mean(tuple(range(1, offset.ndim)), keepdim=True).sqrt()
    return centre + offset * (radius / rms.clamp(min=1e-12)).clamp(max=1)
