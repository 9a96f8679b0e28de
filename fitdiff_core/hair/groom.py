"""A style on a head: the mesh of its hair and its textures."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from ..image import LUMINANCE
from ..render.normals import vertex_normals
from ..vectors import unit as unit_planes
from .atlas import CAP, ROWS, SIZE, WIDEST, Grain, strand_grain
from .body import Body
from .cap import PIXELS, cap_mesh, paint_cap
from .cards import Ribbons, ribbons, tubes
from .colour import WHITE, pigment_colour
from .density import Density
from .envelope import settle
from .growth import SKIN, Strands, fringe_share, grow, ramp, unit
from .locks import bend, gather, without_strays
from .outline import reshape
from .scalp import Roots, Scalp
from .style import HairStyle
from .ties import drawn, knots, plait, tail, twist, wound

if TYPE_CHECKING:
    from ..head import HeadModel

TRIANGLES = 40_000  # at most, of one groom
CARDS = 32_500  # of them for loose cards
OUTER, VISIBLE, NEAR = 0.6, 0.5, 0.012  # share of cards with all segments: above this layer, or so near the hairline
FRINGE, FRINGE_DEPTH = 220, 0.03  # more cards of a fringe, and metres inside the hairline where they grow
COARSER, HIDDEN_WIDER = 3, 1.25  # the others have so many times fewer segments, and so many times their width
# metres from a surface at which the hair over it is looked for, and how much each darkens it
HAIR_REACH = ((0.012, 0.5), (0.03, 0.8))
HEAD_REACH = ((0.006, 0.35), (0.018, 0.5), (0.04, 0.6))
CAP_EVEN = 0.75  # how evenly the cap is grey
USUAL = 0.8  # brightness of the grain that `streaks` leaves as it is
PALER = -0.35  # power of the brightness of a lock in the power of its tint
KEPT = 3  # grooms that are kept for the next call
_scalps = WeakTensorKeyDictionary()
_one_at_a_time = Lock()  # pictures of one head are drawn side by side
_grooms: OrderedDict[tuple, tuple[HeadModel, HairMesh]] = OrderedDict()  # with the head, whose id is in the key


@dataclass
class HairTexture:
    """color: `[3, S, S]` linear, bled beyond the alpha's edge; alpha: `[1, S, S]`; normal: `[3, S, S]` unit."""

    color: Tensor
    alpha: Tensor
    normal: Tensor


@dataclass
class HairMesh:
    """Hair on a neutral head, float32 on the CPU.

    positions, normals, direction: `[V, 3]`; direction runs along the strand. tangents: `[V, 4]`; uv: `[V, 2]`, v from
    the bottom. triangles: `[T, 3]` int64, seen from both sides. light: `[V]` share of ambient light.
    gloss: `[V]` strength of highlights. tone: `[V, 3]` about 1, factor of the texture's colour
    head_light: `[H]` share of ambient light that the hair leaves to each vertex of the head
    rows `[V, 3]` int64, weight `[V, 3]`: where each vertex is rooted on the head. rest: `[V, 3]`, the roots' positions
    """

    positions: Tensor
    normals: Tensor
    direction: Tensor
    tangents: Tensor
    uv: Tensor
    triangles: Tensor
    light: Tensor
    gloss: Tensor
    tone: Tensor
    head_light: Tensor
    rows: Tensor
    weight: Tensor
    rest: Tensor
    texture: HairTexture

    def on(self, vertices: Tensor) -> Tensor:
        """Positions `[V, 3]` on the head with another expression, vertices `[H, 3]`: each card moves with its root."""
        moved = (vertices[self.rows] * self.weight.to(vertices)[..., None]).sum(1)
        return self.positions.to(vertices) + moved - self.rest.to(vertices)


@torch.no_grad()
def grow_hair(head: HeadModel, shape: Tensor, style: HairStyle, keep: bool = True) -> HairMesh | None:
    """The hair of one head. shape: `[1, K]` as `head` takes it. None for a bald style. Deterministic.

    The latest grooms are kept, 40 MB each, so a second call with the same head and style costs nothing. keep: whether
    this one is
    """
    if style.bald:
        return None
    shape = shape.detach().float().cpu()
    key = (id(head), style, shape.numpy().tobytes())
    with _one_at_a_time:
        if key not in _grooms:
            if not keep:
                return _grow(head, shape, style)
            _grooms[key] = head, _grow(head, shape, style)
            while len(_grooms) > KEPT:
                _grooms.popitem(last=False)
        _grooms.move_to_end(key)
        return _grooms[key][1]


def scalp_of(head: HeadModel) -> Scalp:
    """The scalp of a head model, measured once."""
    if head.triangles not in _scalps:
        _scalps[head.triangles] = Scalp(head)
    return _scalps[head.triangles]


def _grow(head: HeadModel, shape: Tensor, style: HairStyle) -> HairMesh:
    scalp, rng = scalp_of(head), np.random.default_rng(style.seed + 1)
    vertices = head(shape.to(head.uv.device))[0].float().cpu()
    normals = vertex_normals(vertices[None], head.triangles.cpu())[0].numpy().astype(float)
    v = vertices.numpy().astype(float)
    body = Body(v, scalp.solid if style.over_ears or style.flow == "out" else scalp.solid_without_ears)
    parts = [cap_mesh(scalp, style, v, normals, body)]
    parts += _loose(scalp, style, v, body, rng)
    if style.tie != "none":
        parts += _tied(scalp, style, v, body, rng)
    whole = Ribbons.cat(parts)
    density = Density(whole)
    light = np.minimum(whole.light, density.light(whole.positions, body(whole.positions)[1], HAIR_REACH))
    head_light = density.light(v, normals, HEAD_REACH)
    f = lambda x: torch.from_numpy(np.ascontiguousarray(x)).float()  # noqa: E731
    rows, weight = torch.from_numpy(whole.rows).long(), f(whole.weight)
    return HairMesh(
        f(whole.positions),
        f(whole.normals),
        f(whole.direction),
        f(whole.tangents),
        f(whole.uv),
        torch.from_numpy(whole.triangles).long(),
        f(light),
        f(whole.gloss),
        f(_tinted(whole.tone, style)),
        f(head_light),
        rows,
        weight,
        (vertices[rows] * weight[..., None]).sum(1),
        hair_texture(scalp, style),
    )


def _tinted(tone: np.ndarray, style: HairStyle) -> np.ndarray:
    """RGB factors `[V, 3]`: in photos bright locks have no more chroma than dark ones."""
    base = _unfaded(style) * (1 - style.grey) + WHITE * style.grey
    tint = base / np.dot(LUMINANCE, base)
    return tone[:, None] * tint ** (tone**PALER - 1)[:, None]


def _unfaded(style: HairStyle) -> np.ndarray:
    """Linear RGB `[3]` of the strands that are not grey."""
    return np.array(style.dye) if style.dye else pigment_colour(style.melanin, style.redness)


def _plan(style: HairStyle) -> tuple[int, int]:
    """(cards, segments) that keep within TRIANGLES."""
    longest = max(style.top, style.sides, style.back)
    if style.hem > -1:
        longest = min(longest, 0.16 - style.hem)
    if style.strand in ("loc", "braid"):
        return round(120 * style.density), 14
    if style.strand == "coily" and style.flow == "out":
        return round(2700 * min(style.density, 1.0)), 4
    segments = np.clip(4 + longest / 0.016, 6, 18)
    if style.curl > 0.003 or style.wave > 0.003:
        segments = np.clip(max(segments, 4.5 * longest / style.wavelength), 6, 26)
    segments = COARSER * round(segments / COARSER)
    triangles = 2 * segments * (OUTER + (1 - OUTER) / COARSER)  # of a card in the mean
    return round(min(2600, CARDS / triangles) * min(style.density, 1.0)), segments


def _loose(scalp: Scalp, style: HairStyle, v: np.ndarray, body: Body, rng: np.random.Generator) -> list[Ribbons]:
    """Cards or tubes of the hair that is not tied."""
    cropped = max(style.top, style.sides, style.back) < 0.006
    if cropped:
        return []
    count, segments = _plan(style)
    roots = scalp.roots(style, count, rng, 0.002 if style.strand in ("loc", "braid") else 0.0)
    if not len(roots.mean):
        return []
    if style.fringe and style.tie == "none":
        more = _fringe(scalp.roots(style, 2 * count, rng), style)
        roots = roots.select(slice(max(count - len(more.mean), 0))).with_(more)
    if style.tie == "half_up":
        below = roots.mean[:, 1] < 0.058 + 0.01 * rng.normal(0, 1, len(roots.mean))
        roots = roots.select(below)
    if style.tie not in ("none", "half_up"):
        strands = drawn(style, roots, roots.on(v), body, rng, 9)
    else:
        strands = grow(style, roots, roots.on(v), body, rng, segments)
        strands = reshape(bend(gather(strands, style, rng), style, body, rng), style, body)
        strands = without_strays(settle(without_strays(strands, style), style, body), style)
    light = _light(strands, style, body)
    if style.strand == "coily" and style.flow == "out":
        part = strands.select(np.arange(len(strands)) % 3 == 0)
        loose = [ribbons(part, style, _width(part, style, rng), light[::3], rng)]
        return [*loose, *_puffs(strands, style, body, rng)]
    if style.strand in ("loc", "braid") and style.tie == "none":
        return [tubes(strands, style.strand, _tube_radius(strands, style, rng), light, rng)]
    width = _width(strands, style, rng)
    seen = (strands.layer > VISIBLE) | (strands.roots.edge < NEAR)
    if style.strand != "straight" or seen.all():
        return [ribbons(strands, style, width, light, rng)]
    parts = []
    for here, step, wider in ((seen, 1, 1.0), (~seen, COARSER, HIDDEN_WIDER)):
        part = strands.select(here)
        part = replace(part, points=part.points[:, ::step], out=part.out[:, ::step])
        parts.append(ribbons(part, style, wider * width[here], light[here][:, ::step], rng))
    return parts


def _fringe(roots: Roots, style: HairStyle) -> Roots:
    """Those of roots that make a fringe thicker: it alone covers the forehead."""
    front = (fringe_share(style, roots.mean) > 0.5) & (roots.edge < FRINGE_DEPTH)
    return roots.select(np.flatnonzero(front)[:FRINGE])


def _tied(scalp: Scalp, style: HairStyle, v: np.ndarray, body: Body, rng: np.random.Generator) -> list[Ribbons]:
    """The hair that is drawn to a knot where some is loose, and what the knot holds."""
    parts = []
    every = scalp.roots(replace(style, tie="none"), 900, rng)
    if style.tie == "half_up":
        roots = every
        above = roots.mean[:, 1] > 0.056
        roots = roots.select(above)
        strands = drawn(style, roots, roots.on(v), body, rng, 8)
        parts.append(ribbons(strands, style, _width(strands, style, rng), _light(strands, style, body), rng))
    for at in knots(style, body):
        nearest = ((every.on(v) - at) ** 2).sum(1).argmin()
        anchor = every.select(slice(nearest, nearest + 1))
        if style.tie in ("bun", "top_knot"):
            if style.strand != "coily":
                coil, radius = twist(style, at, anchor, body)
                parts.append(tubes(coil, "bundle", radius, np.full(radius.shape, 0.85), rng))
            strands = wound(style, at, anchor, body, rng, 260 if style.strand == "coily" else 60, 9)
        elif style.tie == "braid":
            strands = plait(style, at, anchor, body)
            k = strands.points.shape[1]
            radius = 0.0105 * np.interp(np.linspace(0, 1, k), [0, 0.1, 0.75, 0.93, 1], [0.8, 1, 0.8, 0.45, 0.7])
            parts.append(tubes(strands, "bundle", np.tile(radius, (3, 1)), np.full((3, k), 0.9), rng))
            continue
        else:
            count = 420 if style.tie != "pigtails" else 230
            strands = tail(style, at, anchor, body, rng, count, 12 if style.wave + style.curl < 0.003 else 18)
            strands = bend(strands, style, body, rng)
        light = 0.4 + 0.6 * strands.layer[:, None] * np.ones(strands.points.shape[1])
        width = 0.009 * rng.uniform(0.7, 1.2, len(strands))
        parts.append(ribbons(strands, style, width, light, rng))
    return parts


def _width(strands: Strands, style: HairStyle, rng: np.random.Generator) -> np.ndarray:
    """Width `[N]` of each card, metres: short hair needs narrow cards, or they show as scales."""
    length = strands.length
    width = np.minimum(WIDEST, 0.0022 + 0.11 * length)
    if style.strand in ("coily", "curly"):
        width = np.clip(0.2 * length, 0.006, 0.017)
    least = 0.45 if style.fringe == 0 else 0.85
    width = width * np.clip(least + strands.roots.edge / 0.02, 0, 1) * rng.uniform(0.7, 1.15, len(strands))
    return width * np.where(strands.layer > 0.85, 0.7, 1.0)


def _puffs(strands: Strands, style: HairStyle, body: Body, rng: np.random.Generator) -> list[Ribbons]:
    """Short cards at all angles in the outer hair: coils have no direction, and an afro has a round outline."""
    parts = []
    for depth in (0.95, 0.6):
        n, k, _ = strands.points.shape
        at = depth * rng.uniform(0.8, 1.0, n) * (k - 1)
        low = np.floor(at).astype(int).clip(0, k - 2)
        i = np.arange(n)
        middle = strands.points[i, low] + (at - low)[:, None] * (strands.points[i, low + 1] - strands.points[i, low])
        _, out = body(middle)
        size = np.clip(0.35 * strands.length, 0.006, 0.017) * rng.uniform(0.8, 1.2, n)
        d = unit(rng.normal(0, 1, (n, 3)) + 0.5 * out)
        t = np.linspace(-0.5, 0.5, 3)[None, :, None]
        arch = -0.25 * (2 * t) ** 2 * size[:, None, None] * out[:, None]
        points = body.push_out(middle[:, None] + t * size[:, None, None] * d[:, None] + arch, SKIN)
        outs = unit(out[:, None] + 0.0 * points)
        layer = np.full(n, depth * 0.8)
        puff = Strands(points, outs, strands.roots, layer, strands.lock)
        light = np.tile((0.35 + 0.65 * (at / (k - 1)) ** 2)[:, None], (1, 3))
        parts.append(ribbons(puff, style, size * 1.1, light, rng))
    return parts


def _tube_radius(strands: Strands, style: HairStyle, rng: np.random.Generator) -> np.ndarray:
    n, k, _ = strands.points.shape
    thick = 0.0056 * rng.uniform(0.8, 1.2, (n, 1))
    profile = np.interp(np.linspace(0, 1, k), [0, 0.1, 0.8, 1], [0.8, 1, 0.9, 0.25 if style.strand == "loc" else 0.5])
    return thick * profile[None]


def _light(strands: Strands, style: HairStyle, body: Body) -> np.ndarray:
    """Share of ambient light `[N, K]`: less between the layers and at the roots."""
    distance, _ = body(strands.points)
    high = max(style.volume * 1.2, 0.004) if style.flow != "out" else max(style.top * 0.9, 0.004)
    thick = np.minimum(high, 0.003 + 0.4 * strands.length)[:, None]
    depth = np.clip(distance / thick, 0, 1) * ramp(strands.points[..., 1], -0.06, 0.02)
    depth = np.maximum(depth, strands.layer[:, None] * 0.9)
    return 0.32 + 0.68 * depth**0.8


@lru_cache(maxsize=4)
def _planes(scalp: Scalp, style: HairStyle) -> Grain:
    grain = strand_grain("straight" if style.strand in ("loc", "braid") else style.strand)
    if style.strand in ("loc", "braid"):
        grain = strand_grain(style.strand)
    grain = Grain(grain.shade.copy(), grain.alpha.copy(), grain.strand.copy(), grain.bend.copy())
    x0, x1 = round(CAP[0] * SIZE), round(CAP[2] * SIZE)
    assert x1 - x0 == PIXELS == SIZE - ROWS
    grain.shade[ROWS:, x0:x1], grain.alpha[ROWS:, x0:x1], grain.strand[ROWS:, x0:x1] = paint_cap(scalp, style)
    return grain


def hair_texture(scalp: Scalp, style: HairStyle) -> HairTexture:
    """Colour the grain of a style's atlas."""
    # what the planes don't depend on: the fit grows its style twice, with another colour and outline
    plain = replace(style, melanin=0.0, redness=0.0, grey=0.0, dye=None, roots=0.0, streaks=1.0, outline=())
    grain = _planes(scalp, plain)
    shade = torch.from_numpy(grain.shade).float()
    shade = torch.where(shade > 0, USUAL * (shade.clamp(min=1e-3) / USUAL) ** style.streaks, shade)
    base = _unfaded(style)
    ident = torch.from_numpy(grain.strand).float()
    white = ((style.grey - ident) / 0.3 + 0.5).clamp(0, 1) * min(style.grey * 10, 1)
    # at the roots of grey hair single white strands would be specks
    white[ROWS:] = torch.lerp(white[ROWS:], torch.full_like(white[ROWS:], style.grey), CAP_EVEN)
    color = torch.from_numpy(base).float()[:, None, None] * shade
    pale = torch.from_numpy(WHITE).float()[:, None, None] * shade.clamp(max=1.4)
    color = torch.lerp(color, pale, white)
    t = torch.linspace(0, 1, ROWS)[None, :, None]
    tips = torch.tensor([0.30, 0.24, 0.16])[:, None, None] * t * (0.0 if style.grey > 0.7 else 0.8)
    color[:, :ROWS] = color[:, :ROWS] * (1 - style.roots * torch.exp(-t / 0.16)) * (1 + tips)
    alpha = torch.from_numpy(grain.alpha).float()
    bend = torch.from_numpy(grain.bend).float()
    normal = unit_planes(torch.stack([bend, torch.zeros_like(bend), (1 - bend**2).clamp(min=0.2).sqrt()])[None])[0]
    return HairTexture(_bleed(color, alpha).clamp(0, 1), alpha[None], normal)


def _bleed(color: Tensor, alpha: Tensor) -> Tensor:
    """`[3, S, S]` with the colour of the strands continued between them, so that filtering meets nothing dark.

    Push and pull (Gortler et al. 1996): means of known texels, coarser and coarser, fill the unknown ones.
    """
    known = (alpha > 0.3).float()[None, None]
    levels = [(color[None] * known, known)]
    while levels[-1][1].shape[-1] > 1:
        total, weight = levels[-1]
        levels.append((F.avg_pool2d(total, 2), F.avg_pool2d(weight, 2)))
    filled = levels[-1][0] / levels[-1][1].clamp(min=1e-6)
    for total, weight in reversed(levels[:-1]):
        coarse = F.interpolate(filled, scale_factor=2, mode="bilinear", align_corners=False)
        filled = torch.where(weight > 1e-3, total / weight.clamp(min=1e-3), coarse)
    return filled[0]
