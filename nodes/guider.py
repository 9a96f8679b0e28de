"""A GUIDER for ComfyUI's own samplers: the interface that `SamplerCustomAdvanced` and the k-diffusion samplers call.

ComfyUI calls three objects: the guider (`sample` by the node, `__call__` by the sampler), its `model_patcher`, and its
`inner_model`. ComfyUI's own classes of these load weights, patch them and batch prompts. Our denoiser is loaded and
conditioned already, so the classes here implement only what samplers call.
"""

from __future__ import annotations

import comfy.latent_formats
import comfy.model_sampling
import comfy.sampler_helpers
import torch

from ..fitdiff_core.errors import UserError
from ..fitdiff_core.model.samplers import SIGMA_MAX, SIGMA_MIN
from ..fitdiff_core.progress import unheard
from ..fitdiff_core.sampling import ConditionedDenoiser, SamplingRun
from ..fitdiff_core.scene import Scene
from . import host

RUNS_KEPT = 8  # runs whose scenes `scene_of` remembers


class LatentFormat(comfy.latent_formats.LatentFormat):
    """Our latents have unit variance. There are no preview factors: the guider shows decoded previews itself."""

    def __init__(self, channels: int):
        self.latent_channels = channels


class ModelSampling(comfy.model_sampling.ModelSamplingContinuousEDM, comfy.model_sampling.EDM):
    """x = x0 + sigma * noise at every level. ComfyUI would scale the noise of the first by sqrt(1 + sigma^2)."""

    def __init__(self):
        super().__init__()
        self.set_parameters(SIGMA_MIN, SIGMA_MAX, 1.0)

    def noise_scaling(self, sigma, noise, latent_image, max_denoise=False):
        return noise * comfy.model_sampling.reshape_sigma(sigma, noise.ndim) + latent_image


class HostModel:
    """The model as samplers see it."""

    def __init__(self, model):
        self.model_sampling, self.latent_format = ModelSampling(), LatentFormat(model.latent_shape[0])

    def process_latent_in(self, latent):
        return latent

    def process_latent_out(self, latent):
        return latent

    def scale_latent_inpaint(self, sigma, noise, latent_image, **_):
        return self.model_sampling.noise_scaling(sigma, noise, latent_image)


class HostPatcher:
    """The model's patcher as samplers and previews see it."""

    def __init__(self, model):
        self.model = HostModel(model)
        self.model_options: dict[str, dict] = {"transformer_options": {}}
        self.load_device = self.offload_device = model.device

    def get_model_object(self, name: str):
        return getattr(self.model, name)

    def model_dtype(self):
        return torch.float32


class Guider:
    """A GUIDER: our conditioned denoiser with its guidance."""

    def __init__(self, denoiser: ConditionedDenoiser, guidance, variation: float, preview=None):
        """guidance, variation: as of `SamplingRun`. preview: denoised latent -> sRGB `[3, H, W]`, shown some eight
        times."""
        self.denoiser, self.guidance, self.variation, self.preview = denoiser, guidance, variation, preview
        self.model = denoiser.model
        self.model_patcher = HostPatcher(self.model)
        self.model_options = self.model_patcher.model_options
        self.inner_model = self.model_patcher.model
        self.runs: list[tuple[torch.Tensor, Scene]] = []
        self.predict: ConditionedDenoiser | SamplingRun = self.denoiser

    def __call__(self, x, sigma, model_options=None, seed=None):
        """x `[B, C + 1, h, w]`, sigma `[B]` -> denoised. CFG++ samplers pass functions that are given both
        predictions."""
        denoised = self.predict(x, sigma)
        options = model_options or {}
        after = options.get("sampler_post_cfg_function", [])
        if after:
            null = self.model.denoiser(x, sigma)
            condition = self.denoiser.condition
            one = null if condition is None else self.model.denoiser(x, sigma, condition)
            parts = {
                "uncond_denoised": null,
                "cond_denoised": one,
                "cond": None,
                "uncond": None,
                "cond_scale": self.denoiser.cfg_scale,
                "model": self.inner_model,
                "sigma": sigma,
                "model_options": options,
                "input": x,
            }
            for function in after:
                denoised = function({"denoised": denoised, **parts})
        return denoised

    @host.with_gradients
    def sample(
        self, noise, latent_image, sampler, sigmas, denoise_mask=None, callback=None, disable_pbar=False, seed=None, **_
    ):
        """Called by SamplerCustomAdvanced, under inference mode. Returns the latent."""
        if tuple(noise.shape[1:]) != tuple(self.model.latent_shape):
            raise UserError(
                f"This latent is {tuple(noise.shape)}; this model's are [B, "
                f"{', '.join(map(str, self.model.latent_shape))}]. "
                "Start from FitDiff Empty Latent, or from a latent of the FitDiff sampler."
            )
        people = self.denoiser.people
        if people not in (1, len(noise)):
            raise UserError(
                f"The guider has {people} identities, the latent is a batch of {len(noise)}. Set FitDiff Empty "
                f"Latent's batch "
                f"to {people}; Latent Batch Seed Behavior, set to fixed, then gives all the same noise."
            )
        if len(sigmas) == 0:
            return latent_image
        device = self.model.device
        noise, latent_image, sigmas = (t.clone().float().to(device) for t in (noise, latent_image, sigmas))
        run = SamplingRun(self.denoiser, self.guidance, self.variation)
        noise = run.start(noise)
        mask = None if denoise_mask is None else self._mask(denoise_mask.clone(), noise, device)
        self.predict = run
        steps = max(len(sigmas) - 1, 1)
        progress = host.Progress(steps, self.preview)

        def report(i, x0, x, n):
            if callback is not None:
                callback(i, x0, x, n)
            if (i + 1) % progress.every == 0 or i + 1 == n:
                progress(i, n, x0)

        try:
            with unheard():  # `report` shows the steps
                latent = sampler.sample(
                    self,
                    sigmas,
                    {"model_options": {"transformer_options": {}}, "seed": seed},
                    report,
                    noise,
                    latent_image,
                    mask,
                    disable_pbar,
                )
        finally:
            self.predict = self.denoiser
        if mask is None and float(sigmas[-1]) == 0:  # a kept part stays as it is; a noisy latent is not decoded
            latent = run.finish(latent)
        self.runs = [*self.runs, (latent.cpu(), run.scenes(len(noise))[0])][-RUNS_KEPT:]
        return latent

    def scene_of(self, latent) -> Scene:
        """The scene that was refined while sampling this latent; for a latent changed since, that of the last run."""
        if not self.runs:
            raise UserError(
                "Nothing was sampled with this guider yet; connect the latent that the sampler made with it."
            )
        same = [scene for made, scene in self.runs if made.shape == latent.shape and torch.equal(made, latent.cpu())]
        return (same or [self.runs[-1][1]])[-1]

    @staticmethod
    def _mask(mask, noise, device):
        """Noise mask -> `[B, C + 1, h, w]`. A mask that keeps any texel also keeps the shape, which has no place in
        UV."""
        mask = comfy.sampler_helpers.prepare_mask(mask.float(), noise.shape, device)
        if mask.min() < 1:
            mask[:, -1] = 0
        return mask
