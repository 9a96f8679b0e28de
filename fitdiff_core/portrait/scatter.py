"""Light that enters skin leaves it some way off: a blur of the irradiance in the picture, red the widest."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# diffuse mean free path of light in skin, RGB, metres (after Jensen et al. 2001,
# "skin1", whose red goes 3.7 mm), and the albedo it was measured at
FREE_PATH, PALE = (3.0e-3, 1.25e-3, 0.68e-3), (0.55, 0.36, 0.28)
LIMITS = (0.35, 1.25)  # how the path may change with the tone
OFFSETS = (0, 1, 2, 3, 5, 7, 10, 14, 19, 25)  # taps on each side, in steps
STEP = 3.2e-4  # metres between taps 0 and 1
NEAR = 3.0  # pixels: taps beyond are rounded to whole ones
FAINT = 0.0015  # weight of a tap that is left out
TOO_FAR = 0.0035  # metres of depth over which light is not carried


def profile_radius(albedo: Tensor) -> Tensor:
    """Burley's shape parameter d `[3]` in metres for a mean skin albedo `[3]`, linear.

    Christensen & Burley 2015, for light of a searchlight, by the diffuse mean free path. Pigment shortens the path by
    the root of what it absorbs.
    """
    path = torch.tensor(FREE_PATH) * (albedo / torch.tensor(PALE)).sqrt().clamp(*LIMITS)
    return path / (3.5 + 100 * (albedo - 0.33) ** 4)


def line_profile(x: Tensor, d: Tensor) -> Tensor:
    """Burley's profile integrated along a line at distance x `[N]` from a straight edge: `[N, 3]`, metres."""
    t = torch.linspace(-7, 3, 160)  # log of y / d
    y = t.exp()[:, None] * d  # [Y, 3]
    r = (x[:, None, None].square() + y.square()).sqrt()
    value = ((-r / d).exp() + (-r / (3 * d)).exp()) / (8 * torch.pi * d * r)
    return 2 * (value * y).sum(1) * float(t[1] - t[0])


def kernel(albedo: Tensor) -> tuple[Tensor, Tensor]:
    """Distances `[T]` in metres and weights `[T, 3]` of one side of the blur; the other side has the same weights.

    The weight of a tap is the profile over the stretch of skin that is nearest to it.
    """
    d = profile_radius(albedo)
    at = torch.tensor(OFFSETS, dtype=torch.float32) * STEP
    border = torch.cat([at.new_zeros(1), (at[1:] + at[:-1]) / 2, at[-1:] * 1.3])
    weights = []
    for low, high in zip(border[:-1], border[1:], strict=True):
        part = low + (high - low) * (torch.arange(24) + 0.5) / 24
        weights.append(line_profile(part, d).mean(0) * (high - low))
    weight = torch.stack(weights)
    weight[0] *= 2  # both sides
    total = weight[0] + 2 * weight[1:].sum(0)
    return at, weight / total


def scatter(light: Tensor, depth: Tensor, albedo: Tensor, metre: float) -> Tensor:
    """Blur `[3, H, W]` of the irradiance.

    depth: `[H, W]` metres from the camera, 0 where nothing is; surfaces of other kinds must lie metres apart in it, so
        that they do not mix
    albedo: `[3]` of the skin, linear; metre: pixels that a metre spans
    """
    some = depth > 0
    rows, columns = (torch.nonzero(some.any(axis))[:, 0] for axis in (1, 0))
    if not len(rows):
        return light
    box = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
    taps = pixel_taps(albedo.cpu().float(), metre)
    part, depth = light[(slice(None), *box)], depth[box].contiguous()
    for axis in (2, 1):
        part = _pass(part, depth, taps, axis)
    light = light.clone()
    light[(slice(None), *box)] = part
    return light


def pixel_taps(albedo: Tensor, metre: float) -> dict[int, list[float]]:
    """Weights of RGB by distance in pixels, of one side. Taps near the middle are shared between whole pixels."""
    at, weight = kernel(albedo)
    taps: dict[int, list[float]] = {}
    for x, w in zip((at * metre).tolist(), weight.tolist(), strict=True):
        whole = int(x) if x < NEAR else round(x)
        share = x - whole if x < NEAR else 0.0
        for k, part in ((whole, 1 - share), (whole + 1, share)):
            if part > 0:
                old = taps.get(k, [0.0, 0.0, 0.0])
                taps[k] = [o + part * v * (2 if k == 0 and whole > 0 else 1) for o, v in zip(old, w, strict=True)]
    return taps


def _pass(light: Tensor, depth: Tensor, taps: dict[int, list[float]], axis: int) -> Tensor:
    """One direction of the blur. What lies too far in depth is left out, and the pixel's own light stands for it."""
    reach = max(taps)
    pad = (reach, reach, 0, 0) if axis == 2 else (0, 0, reach, reach)
    wide, far = F.pad(light, pad), F.pad(depth[None] / TOO_FAR, pad, value=-1e6)[0]
    size, own = light.shape[axis], depth / TOO_FAR
    change = torch.zeros_like(light)
    for k, weight in taps.items():
        # blue and green end much nearer than red
        channels = max((c + 1 for c in range(3) if weight[c] > FAINT), default=0) if k else 0
        for shift in (reach - k, reach + k) if channels else ():
            gap = far.narrow(axis - 1, shift, size) - own
            same = gap.square_().neg_().add_(1).clamp_(min=0)
            for c in range(channels):
                near = wide[c].narrow(axis - 1, shift, size) - light[c]
                change[c].addcmul_(near, same, value=weight[c])
    return light + change
