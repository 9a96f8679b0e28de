"""One sampling run: a denoiser with its identity and its guidance, which any sigma-space sampler can drive.

`pipeline.sample` drives it with our own samplers, the node FitDiff Guider with ComfyUI's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import UserError
from .face import check_same_face
from .fitting.settle import settle_mouth
from .guidance import Guidance, GuidedDenoiser, as_guidances
from .identity import Features, Identity
from .model.checkpoint import FitDiffModel
from .model.denoiser import Condition, pack_latent, unpack_latent
from .model.samplers import SAMPLERS
from .precision import fast_networks
from .scene import Scene


@dataclass(frozen=True)
class SampleSettings:
    """Settings of a sampling run. Command line, library and nodes take their defaults from here.

    steps: number of denoiser evaluations, at least 1. The paper takes 50 of DDIM
    cfg_scale: scale of the classifier-free guidance; 1 is plain conditioning
    sampler: a name of `SAMPLERS`
    variation: scale of the initial noise in the subspace that the identity determines, 0 to 1 (see `scale_noise`)
    """

    steps: int = 20
    cfg_scale: float = 1.5  # docs/design.md compares it with 1
    sampler: str = "dpmpp_2m"  # at 20 steps nearer to the limit of many steps than DDIM at 50
    variation: float = 0.2

    def __post_init__(self) -> None:
        """Raises UserError for a value outside its range."""
        if self.sampler not in SAMPLERS:
            raise UserError(f"Unknown sampler '{self.sampler}'; choose one of {', '.join(SAMPLERS)}.")
        if self.steps < 1:
            raise UserError(f"steps must be at least 1 (got {self.steps}).")
        if not 0 <= self.variation <= 1:
            raise UserError(f"variation must be from 0 to 1 (got {self.variation}).")
        if not math.isfinite(self.cfg_scale):
            usual = SampleSettings.cfg_scale
            raise UserError(f"cfg must be a finite number (got {self.cfg_scale}); {usual} is usual.")


def condition(model: FitDiffModel, identity: Identity | None) -> Condition | None:
    """Identity -> what the denoiser is conditioned on, on the model's device. None stays None (unconditional).

    Raises UserError for an identity that is empty, not finite, or of another recogniser than the model's.
    """
    if identity is None:
        return None
    if identity.recognizer != model.recognizer:
        raise UserError(
            f"This checkpoint was trained with the recogniser '{model.recognizer}', the identity comes from "
            f"'{identity.recognizer}'. Encode the photo with '{model.recognizer}'; others may still guide the sampling."
        )
    if len(identity) == 0:
        raise UserError("The identity is empty; encode a photo.")
    c = model.denoiser.config
    sizes = (identity.embedding.shape[1], *(a.shape[1] for a in identity.activations))
    if sizes != (c.embedding, *c.activations):
        raise UserError(
            f"The identity has features of sizes {sizes}, this checkpoint takes {(c.embedding, *c.activations)}. "
            f"Encode "
            "the photo again, with the recogniser of this release."
        )
    features: list[Identity | Features] = [identity, *(f for v in identity.views for f in (v.photo, v.mirrored))]
    if not all(torch.isfinite(x).all() for f in features for x in (f.embedding, *f.activations)):
        raise UserError("The identity holds NaN or infinite values; encode the photo again.")
    identity = identity.to(model.device)
    return Condition(identity.embedding, identity.activations, identity.views)


def check_faces(identity: Identity | None, guidance: Guidance | Sequence[Guidance] | None) -> None:
    """Raise UserError if identity and guidance were taken from different faces of one photo."""
    if identity is not None and guidance is not None:
        guided = [g.target.photo.source for g in as_guidances(guidance)]
        check_same_face(identity.sources, [s for s in guided if s is not None], ("The identity", "the guidance"))


def noise(model: FitDiffModel, seed: int, batch: int = 1) -> Tensor:
    """Unit Gaussian noise `[B, C + 1, h, w]`. Entry i is what seed + i gives alone, on every device."""
    shape = model.latent_shape
    rows = [torch.randn(shape, generator=torch.Generator().manual_seed((seed + i) % 2**63)) for i in range(batch)]
    return torch.stack(rows).to(model.device)


def scale_noise(model: FitDiffModel, noise: Tensor, variation: float) -> Tensor:
    """Initial noise `[B, C + 1, h, w]` of a conditioned run, scaled in the subspace of the identity.

    The linear prior says which part of the latent the identity determines. There the noise is scaled by `variation`: 0
    starts from the most likely head of this identity, 1 leaves the noise as it is. Fine detail of the skin lies outside
    the subspace and keeps its noise. A full draw is about as far from the person as the most likely head is, so small
    values give a better likeness (docs/design.md).
    """
    if variation == 1:
        return noise
    texture, shape = unpack_latent(noise, model.head.n_identity)
    return pack_latent(*model.denoiser.prior.scale_noise(texture, shape, variation))


class ConditionedDenoiser:
    """`(x [B, C + 1, h, w], sigma) -> denoised`, conditioned on an identity by classifier-free guidance."""

    def __init__(self, model: FitDiffModel, identity: Identity | None, cfg_scale: float):
        """identity: of B people, or None for unconditional sampling. Raises UserError as `condition` does."""
        self.model, self.cfg_scale = model, cfg_scale
        self.condition = condition(model, identity)

    @property
    def people(self) -> int:
        """Number of identities; 1 where there is none."""
        return 1 if self.condition is None else len(self.condition.embedding)

    def texture_mean(self) -> Tensor | None:
        """Most likely texture latent `[B, C, h, w]` of the identity; None where there is none."""
        return None if self.condition is None else self.model.denoiser.texture_mean(self.condition)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        with fast_networks(x.device):
            return self.model.denoiser(x, sigma, self.condition, cfg_scale=self.cfg_scale)


class SamplingRun:
    """`(x, sigma) -> denoised` of one run: conditioned, and guided where there is a guidance."""

    def __init__(self, denoiser: ConditionedDenoiser, guidance: Guidance | Sequence[Guidance] | None, variation: float):
        """guidance: of one photo or of several photos of one person, None for none. variation: see `SampleSettings`."""
        self.denoiser, self.variation = denoiser, variation
        self.guided: GuidedDenoiser | None = None
        self.shape: Tensor | None = None  # `[B, K]` of the finished heads
        if guidance is not None:
            mean = denoiser.texture_mean()
            self.guided = GuidedDenoiser(denoiser, denoiser.model, guidance, texture_mean=mean)

    def start(self, noise: Tensor) -> Tensor:
        """Unit noise -> the noise that this run starts from. A new person (no identity) is always a full draw."""
        if self.denoiser.condition is None:
            return noise
        return scale_noise(self.denoiser.model, noise, self.variation)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return (self.guided or self.denoiser)(x, sigma)

    def finish(self, latent: Tensor) -> Tensor:
        """What the sampler returned `[B, C + 1, h, w]` -> the latent of the heads (`GuidedDenoiser.finish`)."""
        latent = latent if self.guided is None else self.guided.finish(latent)
        self.shape = unpack_latent(latent, self.denoiser.model.head.n_identity)[1]
        return latent

    def scenes(self, batch: int) -> list[Scene]:
        """The scenes of the photos as the run refined them, with the mouth settled for the finished heads (`finish`
        comes first), or one studio portrait where there is no photo."""
        if self.guided is None:
            return [Scene.portrait(batch, self.denoiser.model.device)]
        scenes = [scene.detach() for scene in self.guided.scenes]
        if self.shape is None:
            return scenes
        head, shape, photos = self.denoiser.model.head, self.shape, [view.photo for view in self.guided.views]
        return [settle_mouth(s, head, shape, p.mesh, p.teeth) for s, p in zip(scenes, photos, strict=True)]
