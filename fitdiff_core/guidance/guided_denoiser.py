"""Guided sampling: wraps the denoiser, so that no sampler knows of it.

At each noise level inside the window the denoised estimate Z_0 takes small steps down the gradient of the objective
through decoder, renderer and recogniser (manifold-preserving guidance, He et al. 2024, arXiv 2311.16424). Diffusion
posterior sampling (Chung et al. 2023, arXiv 2209.14687) would go on through the denoiser, at the price of another
backward pass and of its noise; we go through its linear part, which is exact and free (`LinearPrior.gradient`). The
estimate is kept from level to level and may differ from the denoiser's by no more than the noise leaves open, sigma /
sqrt(1 + sigma^2) per unit-variance element, so that the prior has the last word on detail.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..autograd import without_inference_mode
from ..model.denoiser import pack_latent, unpack_latent
from ..scene import Scene
from .multi_photo import as_guidances, with_reference
from .objective import Guidance, PhotoObjective
from .optimiser import Descent
from .photo_view import Objective, View
from .skin_tone import skin_tone, tone_loss

Denoise = Callable[[Tensor, Tensor], Tensor]

# Photos a step goes through; of more, each step takes the next ones in turn. The denoiser and the decoder, which run once,
# are most of a step: four photos take 1.8 times as long as one and 160 MB more. One photo a step saves a third with three
# of them, and is less sure: whichever comes last pulls the skin to its own tone (figures in docs/design.md).
AT_ONCE = 4


@dataclass
class Estimate:
    """What the guidance remembers between noise levels."""

    texture: Tensor
    shape: Tensor
    sigma: float


class Once:
    """A decoder that remembers its last answer: the photos of one step share it, and its backward pass."""

    def __init__(self, decode: Callable[[Tensor], Tensor]):
        self.decode, self.last = decode, None

    def __call__(self, latent: Tensor) -> Tensor:
        if self.last is None or self.last[0] is not latent:
            self.last = latent, self.decode(latent)
        return self.last[1]


class GuidedDenoiser:
    """`(x [B, C + 1, h, w], sigma) -> denoised`, pulled towards one photo or several of one person. One object serves one
    sampling run at a time; a larger sigma than the last starts a new run.

    The photos share texture and shape; each has a camera, expression, gaze and light of its own. The loss is the mean of
    theirs, each by its own weights and in its own sigma window. The steps of texture and shape are as the first photo's
    guidance has them, and the first photo says what white is (`with_reference`). `.scenes` are the photos' as refined so far
    (batch B once called), `.scene` is the first photo's.

    Works under `torch.inference_mode()`, as ComfyUI runs its nodes.
    """

    def __init__(
        self, denoise: Denoise, model, guidance: Guidance | Sequence[Guidance], objective: Objective | None = None
    ):
        """denoise: conditioned already. model: a `FitDiffModel`. objective: another goal for each photo, for tests.
        Raises UserError where there is no photo."""
        self.denoise, self.prior = denoise, without_inference_mode(model.denoiser.prior)
        photos = with_reference([without_inference_mode(g) for g in as_guidances(guidance)])
        self.guidance = photos[0]
        self.skin = self.guidance.regions[:, 1:2]
        self.identity_size = model.head.n_identity
        self.decode = None
        if objective is None:
            head, autoencoder = without_inference_mode(model.head), without_inference_mode(model.autoencoder)
            self.decode = Once(lambda z: autoencoder.decode(z, size=256))
            self.views = [View(g, PhotoObjective(head, self.decode, g)) for g in photos]
        else:
            self.views = [View(g, objective) for g in photos]
        self._restart(1)

    @property
    def scenes(self) -> list[Scene]:
        return [view.scene for view in self.views]

    @property
    def scene(self) -> Scene:
        return self.views[0].scene

    def _restart(self, batch: int) -> None:
        for view in self.views:
            view.restart(batch)
        self.last: Estimate | None = None
        self.turn = 0
        self.tone: Tensor | None = None  # the denoiser's first estimate of it, `[B, 3]`
        self.steps = {"texture": Descent(self.guidance.texture_step), "shape": Descent(self.guidance.shape_step)}

    def __call__(self, x: Tensor, sigma: Tensor, **kwargs) -> Tensor:
        denoised = self.denoise(x, sigma, **kwargs)
        level = float(torch.as_tensor(sigma).flatten()[0])
        with torch.inference_mode(False), torch.no_grad():
            batch = len(denoised)
            if self.last is not None and (level > self.last.sigma * 1.0001 or batch != len(self.last.texture)):
                self.last = None
            if self.last is None:
                self._restart(batch)
            if not any(view.acts_at(level) for view in self.views):
                return denoised
            texture, shape = unpack_latent(denoised.detach().clone(), self.identity_size)
            texture, shape = self.refine(texture.clone(), shape.clone(), level)
            guided = pack_latent(texture, shape).to(denoised.dtype)
        return guided

    def refine(self, texture: Tensor, shape: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        """The denoiser's texture latent `[B, C, h, w]` and shape `[B, K]` -> the guided ones."""
        free = self.guidance.trust * sigma / (1 + sigma**2) ** 0.5  # posterior std of a unit-variance element
        z, s = texture, shape
        if self.last is None and self.decode is not None and self.guidance.weights.tone:
            self.tone = skin_tone(self.decode(texture), self.skin)
        if self.last is not None:  # go on from the last level's estimate, as far as this level leaves it open
            z, s = within(self.last.texture, texture, free), within(self.last.shape, shape, free)
        for _ in range(self.guidance.inner_steps):
            z, s = self._step(z, s, sigma)
        z, s = within(z, texture, free), within(s, shape, free)
        self.last = Estimate(z, s, sigma)
        return z, s

    def _turn(self, sigma: float) -> list[View]:
        """The photos of the next step: all that act at this level, or the next AT_ONCE of them."""
        acting = [view for view in self.views if view.acts_at(sigma)]
        if len(acting) <= AT_ONCE:
            return acting
        chosen = [acting[(self.turn + i) % len(acting)] for i in range(AT_ONCE)]
        self.turn += AT_ONCE
        return chosen

    def _step(self, z: Tensor, s: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        views = self._turn(sigma)
        head = {"texture": z.detach().clone(), "shape": s.detach().clone()}
        parts = [head, *(view.free() for view in views)]
        leaves = [x.requires_grad_(True) for part in parts for x in part.values()]
        with torch.enable_grad():
            losses = [view.loss(*head.values(), free) for view, free in zip(views, parts[1:], strict=True)]
            loss = torch.stack(losses).mean(0)
            if self.tone is not None:
                tone = skin_tone(self.decode(head["texture"]), self.skin)
                loss = loss + self.guidance.weights.tone * tone_loss(tone, self.tone)
            grads = iter(torch.autograd.grad(loss.sum(), leaves, allow_unused=True))
        if self.decode is not None:
            self.decode.last = None  # its graph is spent
        head_grad, *scene_grads = [{name: usable(next(grads), x) for name, x in part.items()} for part in parts]
        for view, grad in zip(views, scene_grads, strict=True):
            view.move(grad)
        head_grad = self.prior.gradient(head_grad["texture"], head_grad["shape"], sigma)
        return tuple(x + self.steps[n](g) for (n, x), g in zip(head.items(), head_grad, strict=True))


def usable(grad: Tensor | None, value: Tensor) -> Tensor:
    """A gradient without gaps: 0 where there is none, or where it is no number."""
    return torch.zeros_like(value) if grad is None else torch.nan_to_num(grad, 0.0, 0.0, 0.0)


def within(value: Tensor, centre: Tensor, radius: float) -> Tensor:
    """`value` pulled towards `centre` until it is at most `radius` away in RMS, per sample."""
    offset = value - centre
    rms = offset.square().mean(tuple(range(1, offset.ndim)), keepdim=True).sqrt()
    return centre + offset * (radius / rms.clamp(min=1e-12)).clamp(max=1)
