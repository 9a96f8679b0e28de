"""The variants that `ablation` compares: the shipped guidance, and the same with one change each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fitdiff_core.guidance import Guidance
from fitdiff_core.guidance.low_frequency import LowFrequency
from fitdiff_core.model.checkpoint import FitDiffModel
from fitdiff_core.model.denoiser import pack_latent, unpack_latent
from fitdiff_core.sampling import SampleSettings


@dataclass
class Variant:
    """One variant.

    what: description for the table.
    guidance: changes the guidance.
    gradient: context that changes the gradient's way back to the noisy latent.
    steps: factor on the number of steps.
    cfg, variation: of `pipeline.sample`.
    """

    what: str
    guidance: Callable[[Guidance], Guidance] = lambda g: g
    gradient: Callable[[FitDiffModel], AbstractContextManager] = lambda model: nullcontext()
    steps: float = 1.0
    cfg: float = SampleSettings.cfg_scale
    variation: float = SampleSettings.variation


@contextmanager
def detached(model: FitDiffModel) -> Iterator[None]:
    """Context in which the gradient stops at the denoised estimate."""
    prior = model.denoiser.prior
    prior.gradient = lambda texture, shape, sigma: (texture, shape)
    try:
        yield
    finally:
        del prior.gradient


@contextmanager
def through_denoiser(model: FitDiffModel) -> Iterator[None]:
    """Context in which the gradient goes through the whole network, as in diffusion posterior sampling (Chung et al.
    2023).

    It includes classifier-free guidance, and costs one more forward and a backward pass at each step.
    """
    denoiser, prior, last = model.denoiser, model.denoiser.prior, {}

    def remember(module, args, kwargs) -> None:
        last["call"] = args, kwargs

    def gradient(texture: Tensor, shape: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        (x, *rest), kwargs = last["call"]
        with torch.enable_grad():
            x = x.detach().clone().requires_grad_()
            denoised = denoiser.forward(x, *rest, **kwargs)  # `forward`, because a call would run the hook again
            (found,) = torch.autograd.grad(denoised, x, pack_latent(texture, shape))
        return unpack_latent(found, shape.shape[1])

    hook = denoiser.register_forward_pre_hook(remember, with_kwargs=True)
    prior.gradient = gradient
    try:
        yield
    finally:
        hook.remove()
        del prior.gradient


def _without(loss: str) -> Variant:
    return Variant(
        f"without the {loss} loss", lambda g: g.with_settings(weights=replace(g.settings.weights, **{loss: 0.0}))
    )


def _with(what: str, **settings) -> Variant:
    return Variant(what, lambda g: g.with_settings(**settings))


def _window(factor: float) -> Callable[[Guidance], Guidance]:
    """Change the window of sigma: a factor above 1 makes it wider at both ends, below 1 narrower."""
    return lambda g: g.with_settings(
        sigma_window=(g.settings.sigma_window[0] * factor, g.settings.sigma_window[1] / factor)
    )


def _without_key_light(guidance: Guidance) -> Guidance:
    target = guidance.target
    return replace(guidance, target=replace(target, photo=replace(target.photo, key_light=None)))


VARIANTS: dict[str, Variant] = {
    "full": Variant("as shipped"),
    "no_identity": _without("identity"),
    "no_perceptual": _without("perceptual"),
    "no_photometric": _without("photometric"),
    "no_landmark": _without("landmark"),
    "no_recogniser": Variant(
        "without the recogniser (identity and perceptual loss)",
        lambda g: g.with_settings(weights=replace(g.settings.weights, identity=0.0, perceptual=0.0)),
    ),
    "no_projection": _with("the photo's colours are not projected onto the texture", projection=()),
    "no_light_gain": _with("low-frequency residual not counted as light", low_frequency=LowFrequency(share=0.0)),
    "no_key_light": Variant("no key light", _without_key_light),
    "shape_held": _with("the shape stays as the prior gives it", shape_step=0.0),
    "shape_fast": Variant(
        "shape steps 8 times as large", lambda g: g.with_settings(shape_step=8 * g.settings.shape_step)
    ),
    "window_narrow": Variant("sigma window 4 times narrower at both ends", _window(0.25)),
    "window_wide": Variant("sigma window 4 times wider at both ends", _window(4.0)),
    "inner_2": _with("2 inner steps", inner_steps=2),
    "trust_half": Variant(
        "half the trust region", lambda g: g.with_settings(trust_radius=0.5 * g.settings.trust_radius)
    ),
    "trust_double": Variant(
        "twice the trust region", lambda g: g.with_settings(trust_radius=2 * g.settings.trust_radius)
    ),
    "detached": Variant("gradient does not go through the prior", gradient=detached),
    "through_denoiser": Variant("gradient goes through the whole denoiser", gradient=through_denoiser),
    "no_clipping": _with("recogniser's gradient neither blurred nor clipped", recognizer_share=0.0),
    "steps_half": Variant("half the steps", steps=0.5),
    "steps_double": Variant("twice the steps", steps=2.0),
    "variation_1": Variant("variation 1: a full random sample", variation=1.0),
    "cfg_1": Variant("cfg 1", cfg=1.0),
    "cfg_3": Variant("cfg 3", cfg=3.0),
}
