"""The optimiser of the guidance: momentum, with steps normalised by their RMS."""

from __future__ import annotations

from torch import Tensor


class RMSNormalisedMomentum:
    """Gradient steps with momentum for one group of unknowns `[B, ...]`; each sample moves by `step` in RMS.

    Adam (Kingma & Ba 2015), but with one second moment per sample instead of one per element. Texels and coefficients
    that the photo says little about then move little; Adam would move them by full steps.
    """

    def __init__(self, step: float, betas: tuple[float, float] = (0.7, 0.9)):
        """step: RMS of one change. betas: decay of the first and second moment."""
        self.step, self.betas = step, betas
        self.count = 0
        self.first: Tensor | float = 0.0
        self.second: Tensor | float = 0.0

    def __call__(self, grad: Tensor) -> Tensor:
        """Gradient `[B, ...]` -> the change to add."""
        b1, b2 = self.betas
        axes = tuple(range(1, grad.ndim))
        self.count += 1
        self.first = first = b1 * self.first + (1 - b1) * grad
        self.second = second = b2 * self.second + (1 - b2) * grad.square().mean(axes, keepdim=True)
        mean, square = first / (1 - b1**self.count), second / (1 - b2**self.count)
        return -self.step * mean / (square.sqrt() + 1e-12)
