"""Settings of the guidance: weights of the losses, step sizes, and the limits that keep it near the prior."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import UserError
from ..fitting import LightPrior
from .broad_colour import BroadColour
from .low_frequency import LowFrequency


@dataclass(frozen=True)
class GuidanceWeights:
    """Weight of each loss; 0 turns it off. Every loss is about 1 for an unguided sample (see `losses.py`)."""

    identity: float = 1.0
    perceptual: float = 0.5
    photometric: float = 1.0
    landmark: float = 0.25
    tone: float = 0.03  # see `skin_tone.py`; not used where `broad_colour` holds the tone

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e6:
                raise UserError(f"The guidance weight '{name}' must be a number of at least 0, not {value!r}.")


@dataclass(frozen=True)
class GuidanceSettings:
    """How one photo guides.

    weights: of the losses
    sigma_window: (start, end) noise levels between which the photo guides
    texture_step: RMS change of the texture latent (unit variance) per inner step
    shape_step: RMS change of the whitened shape coefficients per inner step. Small: the identity says more about the
        shape than the pixels do
    scene_step: change of the camera per inner step, radians and relative distance; expression moves 3 times as far
    inner_steps: gradient steps per noise level
    trust_radius: largest distance of the estimate from the denoiser's, in posterior standard deviations
    recognizer_blur: width in pixels of the Gaussian that smooths the recogniser's gradient (see `gradient_clipping.py`)
    recognizer_share: largest RMS of the recogniser's gradient, as a share of the photometric one
    light_prior: prior of the photo's light
    low_frequency: how the low-frequency residual between photo and render is treated
    projection: noise levels at which the photo's colours are projected onto the texture (see `texture_projection`);
        empty leaves the texture to the gradient
    broad_colour: how the broad colour of the skin is held at that of the identity's prior
    """

    weights: GuidanceWeights = field(default_factory=GuidanceWeights)
    sigma_window: tuple[float, float] = (20.0, 0.03)
    texture_step: float = 0.12
    shape_step: float = 0.012
    scene_step: float = 0.008
    inner_steps: int = 1
    trust_radius: float = 1.5
    recognizer_blur: float = 2.0
    recognizer_share: float = 1.0
    light_prior: LightPrior = field(default_factory=LightPrior)
    low_frequency: LowFrequency = field(default_factory=LowFrequency)
    projection: tuple[float, ...] = (1.4, 0.36, 0.09)
    broad_colour: BroadColour = field(default_factory=BroadColour)

    def __post_init__(self) -> None:
        start, end = self.sigma_window
        if not (start > end >= 0):
            raise UserError(f"The sigma window must run from a larger to a smaller noise level, not {start} to {end}.")
