"""The cap: the scalp under the cards, painted with short strands along the flow, with a soft hairline."""

from __future__ import annotations

import numpy as np
import torch

from ..render.interpolation import interpolate
from ..render.rasterizer import rasterize
from .atlas import CAP
from .body import Body
from .cards import Ribbons
from .growth import _tangent, flow, lengths, ramp
from .scalp import Roots, Scalp
from .style import HairStyle

PIXELS = 512
CENTRE = np.array([0.0, 0.005, -0.02])
OPENING = np.radians(155)  # angle from the top that the map's rim shows
OFF = 0.0007  # metres above the skin
SHADED = (0.012, 0.04)  # metres of hair: from the first it begins to shade the cap, from the second it does wholly
STEPS = 10  # of line integral convolution, to each side


def polar_uv(points: np.ndarray) -> np.ndarray:
    """Azimuthal equidistant map of the mean head, from above: points `[N, 3]` -> `[N, 2]` in -1..1, the face below."""
    q = points - CENTRE
    angle = np.arccos(np.clip(q[:, 1] / np.linalg.norm(q, axis=1), -1, 1)) / OPENING
    turn = np.arctan2(q[:, 0], q[:, 2])
    return np.stack([angle * np.sin(turn), -angle * np.cos(turn)], 1)


def cap_mesh(scalp: Scalp, style: HairStyle, vertices: np.ndarray, normals: np.ndarray, body: Body) -> Ribbons:
    """The scalp's triangles on a head with `vertices` and unit `normals` `[V, 3]`."""
    edge = scalp.edge(style)
    tri = scalp.solid_without_ears
    tri = tri[(edge[tri] > -0.003).any(1) & (edge[tri] > -0.02).all(1)]
    used, index = np.unique(tri, return_inverse=True)
    mean, out = scalp.mean[used], normals[used]
    side = np.where(mean[:, :1] >= style.part, 1.0, -1.0)
    along = _tangent(flow(style, mean, mean, side), out)
    u0, v0, u1, v1 = CAP
    uv = (polar_uv(mean) * 0.98 + 1) / 2 * [u1 - u0, v1 - v0] + [u0, v0]
    across = np.cross(along, out)
    rows = np.repeat(used[:, None], 3, 1)
    weight = np.tile([1.0, 0.0, 0.0], (len(used), 1))
    # under short hair the cap is seen between the strands, as bright as they are
    length = lengths(style, Roots(rows, weight, mean, edge[used]), np.random.default_rng(style.seed))
    light = 0.9 - 0.4 * ramp(length, *SHADED) * (not cropped(style))
    tangents = np.concatenate([across, np.full((len(used), 1), 1.0)], 1)
    off = OFF * np.clip((edge[used] + 0.004) / 0.008, 0.3, 1)[:, None]
    return Ribbons(
        vertices[used] + off * out,
        out,
        along,
        tangents,
        uv,
        index.reshape(-1, 3),
        light,
        np.full(len(used), 0.2),
        np.ones(len(used)),
        rows,
        weight,
    )


def paint_cap(scalp: Scalp, style: HairStyle) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """shade, alpha and strand `[PIXELS, PIXELS]`, row 0 at v = top of CAP."""
    mean = torch.from_numpy(scalp.mean).float()
    flat = torch.from_numpy(polar_uv(scalp.mean) * 0.98).float()
    far = 1 - (mean - torch.from_numpy(CENTRE).float()).norm(dim=1, keepdim=True) * 2  # the outermost surface wins
    clip = torch.cat([flat, -far.abs(), torch.ones_like(far)], 1)
    tri = torch.from_numpy(scalp.solid_without_ears).long()
    rast = rasterize(clip[None], tri, (PIXELS, PIXELS))
    covered = (rast[0, ..., 3] > 0).numpy()
    edge = interpolate(torch.from_numpy(scalp.edge(style)).float()[:, None], rast, tri)[0, ..., 0].numpy()
    point = interpolate(mean, rast, tri)[0].numpy()
    p = point.reshape(-1, 3).astype(float)
    side = np.where(p[:, :1] >= style.part, 1.0, -1.0)
    out = p - CENTRE
    along = _tangent(flow(style, p, p, side), out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-6))
    step = polar_uv(p + 0.001 * along) - polar_uv(p)
    step = step / np.maximum(np.linalg.norm(step, axis=1, keepdims=True), 1e-9)
    rng = np.random.default_rng(style.seed + 17)
    grain = _line_integral(rng.normal(0, 1, (PIXELS, PIXELS)), step.reshape(PIXELS, PIXELS, 2), _steps(style))
    edge = edge * 1000
    short, soft = cropped(style), 1 + 2.5 * style.crown
    dots = rng.normal(0, 1, (PIXELS, PIXELS))
    cover = 1 / (
        1 + np.exp(-(edge - 3.0 + 1.5 * grain + (1.0 * dots if short else 0)) / (soft * (1.8 if short else 1.9)))
    )
    if short:
        cover = cover * np.clip(0.5 + 55 * max(style.top, style.sides) + 0.10 * dots, 0.1, 0.95)
        grain = 0.6 * grain + 0.6 * dots
    alpha = np.where(covered, cover * min(style.density * 1.4, 1), 0)
    shade = np.exp(0.22 * grain) * (0.75 if not short else 0.9)
    alpha, shade, grain = (x[::-1] for x in (alpha, shade, grain))
    return shade, alpha, np.clip(0.5 + 0.3 * grain, 0, 1)


def cropped(style: HairStyle) -> bool:
    """Whether the hair is so short that the cap shows as much as the cards."""
    return max(style.top, style.sides) < 0.012


def _steps(style: HairStyle) -> int:
    return 2 if style.strand == "coily" or cropped(style) else STEPS


def _line_integral(noise: np.ndarray, step: np.ndarray, count: int) -> np.ndarray:
    """Noise smeared along `step` `[H, W, 2]` (line integral convolution, Cabral & Leedom 1993), unit deviation."""
    h, w = noise.shape
    total = np.zeros_like(noise)
    for sign in (1, -1):
        y, x = np.meshgrid(np.arange(h, dtype=float), np.arange(w, dtype=float), indexing="ij")
        for _ in range(count):
            i, j = y.round().astype(int).clip(0, h - 1), x.round().astype(int).clip(0, w - 1)
            total += noise[i, j]
            x, y = x + sign * step[i, j, 0], y + sign * step[i, j, 1]
    return total / np.sqrt(2 * count + 2 * (count > 0))
