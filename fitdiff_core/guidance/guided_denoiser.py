"""Guided sampling as a wrapper of the denoiser, so that samplers need not know of it.

At each noise level inside the window, the denoised estimate Z_0 takes small steps down the gradient of the objective,
through decoder, renderer and recogniser (manifold-preserving guidance, He et al. 2024, arXiv 2311.16424). Diffusion
posterior sampling (Chung et al. 2023, arXiv 2209.14687) would continue the gradient through the denoiser: it costs
another backward pass and adds its noise. Here it continues through the denoiser's linear part, which is exact and
costs nothing (`LinearPrior.gradient`).

The estimate is kept from level to level. It may differ from the denoiser's by no more than the noise leaves open,
sigma / sqrt(1 + sigma^2) per unit-variance element. The prior therefore decides the detail.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..autograd import without_inference_mode
from ..contrast import ContrastLimits
from ..delight.reading import PhotoReading
from ..fitting.regions import regions
from ..model.autoencoder import MapAutoencoder
from ..model.checkpoint import FitDiffModel
from ..model.denoiser import pack_latent, unpack_latent
from ..precision import fast_networks
from ..scene import Scene
from .broad_colour import LowBand, with_redness, with_residual
from .multi_photo import as_guidances, with_colour_reference
from .objective import Guidance, PhotoObjective
from .optimiser import RMSNormalisedMomentum
from .photo_view import Objective, PhotoView
from .skin_tone import skin_tone, tone_loss
from .texture_projection import change_of_code, project_photos

Denoise = Callable[[Tensor, Tensor], Tensor]

# Photos per gradient step; of more, each step takes the next ones in turn. The denoiser and the decoder run once per
# step and are most of it: four photos take 1.8 times as long as one and 160 MB more. One photo per step is a third
# faster with three photos, but less stable: the last photo pulls the skin towards its own tone (figures in
# docs/design.md).
PHOTOS_PER_STEP = 4


@dataclass
class Estimate:
    """What the guidance keeps from one noise level to the next."""

    texture: Tensor
    shape: Tensor
    sigma: float


class CachedDecoder:
    """A decoder that keeps its last result: the photos of one step share it, and its backward pass.

    low_band: imposed on the maps; None for none
    """

    def __init__(self, decode: Callable[[Tensor], Tensor]):
        self.decode = decode
        self.last: tuple[Tensor, Tensor] | None = None
        self.low_band: LowBand | None = None

    def __call__(self, latent: Tensor) -> Tensor:
        if self.last is None or self.last[0] is not latent:
            stack = self.decode(latent)
            self.last = latent, stack if self.low_band is None else self.low_band.impose(stack)
        return self.last[1]

    def clear(self) -> None:
        """Drop the result, whose graph a backward pass has used up."""
        self.last = None


class GuidedDenoiser:
    """`(x [B, C + 1, h, w], sigma) -> denoised`, guided by one photo or by several photos of one person.

    One object serves one sampling run at a time. A larger sigma than the last starts a new run.

    The photos share texture and shape. Each has its own camera, expression, gaze and light. The loss is the mean over
    the photos, each with its own weights and sigma window. The step sizes of texture and shape are those of the first
    photo, which is also the reference for colour (`with_colour_reference`).

    scenes: the photos' scenes as refined so far, of batch B after the first call; scene: the first photo's.

    Works under `torch.inference_mode()`, in which ComfyUI runs its nodes.
    """

    def __init__(
        self,
        denoise: Denoise,
        model: FitDiffModel,
        guidance: Guidance | Sequence[Guidance],
        objective: Objective | None = None,
        texture_mean: Tensor | None = None,
    ):
        """denoise: the conditioned denoiser. objective: another objective, for tests.
        texture_mean: `[B or 1, C, h, w]`, most likely texture of the identity, whose broad colour the sample keeps;
        None where there is no identity

        Raises UserError where there is no photo.
        """
        self.denoise, self.prior = denoise, without_inference_mode(model.denoiser.prior)
        photos = with_colour_reference([without_inference_mode(g) for g in as_guidances(guidance)])
        self.settings = photos[0].settings
        self.head = model.head
        self.regions = photos[0].target.photo.regions
        self.skin = self.regions[:, 1:2]
        self.identity_size = model.head.n_identity
        self.decode: CachedDecoder | None = None
        self.objectives: list[PhotoObjective] = []
        if objective is None:
            head, autoencoder = without_inference_mode(model.head), without_inference_mode(model.autoencoder)
            self.decode = CachedDecoder(lambda z: decode_fast(autoencoder, z))
            self.autoencoder = autoencoder
            self.objectives = [PhotoObjective(head, self.decode, g) for g in photos]
            self.views = [PhotoView(g, own) for g, own in zip(photos, self.objectives, strict=True)]
            if texture_mean is not None and self.settings.broad_colour.sigma > 0:
                readings = [g.target.photo.reading for g in photos]
                self.decode.low_band = self._low_band(self.decode, texture_mean, readings)
        else:
            self.views = [PhotoView(g, objective) for g in photos]
        self._restart(1)

    @torch.inference_mode(False)
    @torch.no_grad()
    def _low_band(
        self, decoder: CachedDecoder, texture_mean: Tensor, readings: Sequence[PhotoReading | None]
    ) -> LowBand:
        diffuse = decoder.decode(texture_mean.clone())[:, :3]
        settings = self.settings.broad_colour
        reference = with_redness(with_residual(diffuse, readings, settings.residual), readings, settings.redness)
        beards = [r.beard for r in readings if r is not None]
        beard = torch.stack(beards).amax(0) if beards else None
        hidden = [v.photo.hidden_texels() for v in self.views]
        # another photo may show what one hides
        limits = ContrastLimits.of(self.head, diffuse.shape[-1], beard, torch.stack(hidden).amin(0), diffuse)
        beside = regions(self.head, ("ears", "neck"), diffuse.shape[-1]).to(diffuse)
        return LowBand(self.regions, reference, settings.sigma, limits, diffuse, beside)

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
        self.next_photo = 0
        self.tone: Tensor | None = None  # `[B, 3]` of the denoiser's first estimate
        s = self.settings
        self.steps = {
            "texture": RMSNormalisedMomentum(s.texture_step),
            "shape": RMSNormalisedMomentum(s.shape_step),
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
            if not any(view.acts_at(level) for view in self.views):
                return denoised
            texture, shape = unpack_latent(denoised.detach().clone(), self.identity_size)
            texture, shape = self.refine(texture.clone(), shape.clone(), level)
            guided = pack_latent(texture, shape).to(denoised.dtype)
        return guided

    @torch.inference_mode(False)
    @torch.no_grad()
    def finish(self, latent: Tensor) -> Tensor:
        """The sampled latent `[B, C + 1, h, w]` with the broad colour of the identity's prior."""
        if self.decode is None or self.decode.low_band is None:
            return latent
        texture = latent[:, :-1].detach().clone()
        maps = self.decode.decode(texture)
        change = change_of_code(self.autoencoder.encode, self.decode.low_band.impose(maps), maps)
        return torch.cat([texture + change, latent[:, -1:]], 1).to(latent.dtype)

    def refine(self, texture: Tensor, shape: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        """The denoiser's texture latent `[B, C, h, w]` and shape `[B, K]` -> the guided ones."""
        # posterior standard deviation of a unit-variance element
        radius = self.settings.trust_radius * sigma / (1 + sigma**2) ** 0.5
        z, s = texture, shape
        decode = self.decode
        # where the broad colour is held, so is the tone
        if self.last is None and decode is not None and decode.low_band is None and self.settings.weights.tone:
            self.tone = skin_tone(decode(texture), self.skin)
        if self.last is not None:  # continue from the estimate of the last level, as far as this level allows
            z, s = within(self.last.texture, texture, radius), within(self.last.shape, shape, radius)
        if self._projects_at(sigma):
            z = within(self._projected(z, s, sigma), texture, radius)
        for _ in range(self.settings.inner_steps):
            z, s = self._step(z, s, sigma)
        z, s = within(z, texture, radius), within(s, shape, radius)
        self.last = Estimate(z, s, sigma)
        return z, s

    def _projects_at(self, sigma: float) -> bool:
        """Whether this is the first noise level at or below one of `GuidanceSettings.projection`."""
        last = math.inf if self.last is None else self.last.sigma
        return any(sigma <= level < last for level in self.settings.projection)

    def _projected(self, z: Tensor, s: Tensor, sigma: float) -> Tensor:
        """The texture latent with the photos' colours where they show the skin (see `texture_projection`)."""
        if self.decode is None:  # another objective
            return z
        pairs = zip(self.views, self.objectives, strict=True)
        photos = [
            (own, v.scene)
            for v, own in pairs
            if v.acts_at(sigma) and own.photo.textured and v.settings.weights.photometric > 0
        ]
        if not photos:
            return z
        maps = self.decode(z)
        self.decode.clear()

        def encode(stack: Tensor) -> Tensor:
            with fast_networks(stack.device):
                return self.autoencoder.encode(stack)

        return z + change_of_code(encode, project_photos(photos, maps, s), maps)

    def _photos_of_step(self, sigma: float) -> list[PhotoView]:
        """The photos of the next step: all that act at this level, or the next PHOTOS_PER_STEP of them."""
        acting = [view for view in self.views if view.acts_at(sigma)]
        if len(acting) <= PHOTOS_PER_STEP:
            return acting
        chosen = [acting[(self.next_photo + i) % len(acting)] for i in range(PHOTOS_PER_STEP)]
        self.next_photo += PHOTOS_PER_STEP
        return chosen

    def _step(self, z: Tensor, s: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        """One gradient step of texture, shape, and the scenes of the photos."""
        views = self._photos_of_step(sigma)
        head = {"texture": z.detach().clone(), "shape": s.detach().clone()}
        parts = [head, *(view.unknowns() for view in views)]
        leaves = [x.requires_grad_(True) for part in parts for x in part.values()]
        with torch.enable_grad():
            losses = [
                view.loss(head["texture"], head["shape"], part) for view, part in zip(views, parts[1:], strict=True)
            ]
            loss = torch.stack(losses).mean(0)
            if self.tone is not None and self.decode is not None:
                tone = skin_tone(self.decode(head["texture"]), self.skin)
                loss = loss + self.settings.weights.tone * tone_loss(tone, self.tone)
            grads = iter(torch.autograd.grad(loss.sum(), leaves, allow_unused=True))
        if self.decode is not None:
            self.decode.clear()
        head_grad, *scene_grads = [{name: finite(next(grads), x) for name, x in part.items()} for part in parts]
        for view, grad in zip(views, scene_grads, strict=True):
            view.move(grad)
        texture_grad, shape_grad = self.prior.gradient(head_grad["texture"], head_grad["shape"], sigma)
        return head["texture"] + self.steps["texture"](texture_grad), head["shape"] + self.steps["shape"](shape_grad)


def decode_fast(autoencoder: MapAutoencoder, latent: Tensor) -> Tensor:
    """Latent `[B, C, h, w]` -> maps `[B, 9, 256, 256]` that guidance compares with a photo."""
    with fast_networks(latent.device):
        return autoencoder.decode(latent, size=256)


def finite(grad: Tensor | None, value: Tensor) -> Tensor:
    """The gradient, with 0 where there is none or where it is not finite."""
    return torch.zeros_like(value) if grad is None else torch.nan_to_num(grad, 0.0, 0.0, 0.0)


def within(value: Tensor, centre: Tensor, radius: float) -> Tensor:
    """`value` moved towards `centre` until its RMS distance is at most `radius`, per sample."""
    offset = value - centre
    rms = offset.square().mean(tuple(range(1, offset.ndim)), keepdim=True).sqrt()
    return centre + offset * (radius / rms.clamp(min=1e-12)).clamp(max=1)
