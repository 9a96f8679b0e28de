"""Hair like that of a photo: the style whose silhouette and strands come nearest, and its colour.

Styles are sketched with a few hundred wide cards, which shows their silhouette and direction in some 50 ms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..photo_networks import load_segmenter
from ..render.rasterizer import rasterize
from . import measures
from .body import Body
from .cards import ribbons
from .colour import lab
from .groom import scalp_of
from .growth import grow
from .invent import feminine_share, painted_hair, pigment, suitable_style
from .kind import CROP, CROPS, TIED, Cut, candidates, strand_order
from .locks import bend
from .mask import by_colour
from .match import GREY, colours
from .outline import CENTRE, corrected, directions, moved_opening, opening_of, reshape
from .photo import BALD, BARE_TOP, SIDE, Seen, View, head_places, see_hair, wide_view
from .presets import PRESETS
from .style import FAR, OUTLINE, HairStyle
from .ties import drawn

if TYPE_CHECKING:
    from ..avatar import Avatar
    from ..scene import Scene

CARDS, WIDTH = 380, 0.017  # of a sketch
CURLS_AGREE = -0.1
ORIENTATION = 0.25  # weight of the strands' direction beside the overlap of the silhouettes
MANLY = ("side_part", "ivy_league", "slicked_back", "messy", "crew_cut", "quiff", "french_crop")
WOMANLY = ("bob", "lob", "long_straight", "long_wavy", "long_fringe", "bob_with_fringe", "long_back", "pixie", *TIED)
HABIT = 0.06  # how much more likely than the other sex's a style is: as much as this overlap
EARS = 0.06  # how much less likely short styles are where hair covers the ears
WILD = 0.02  # how much less likely untidy styles are
LEAST = 0.06  # of the head's area: less hair than this is stubble or none
SOME_BARE = 0.05  # share of bare scalp; where less is seen, the photo shows little of the head
GREEN = -8.0  # CIELAB a below which foliage was taken for hair
STUBBLE, FLAT = 0.33, 0.65  # hair of the skin's colour that hardly stands off the head is shaved
# what is tried on the best styles: field -> factors, or steps where a number may be 0 or negative
FACTORS = {
    "top": (0.7, 1.35),
    "sides": (0.65, 1.5),
    "volume": (0.6, 1.5),
    "side_volume": (0.6, 1.6),
}
STEPS = {
    "fringe_sweep": (-0.5, 0.5),
    "hem": (-0.025, 0.025),
    "hairline": (-0.006, 0.007),
    "part": (-0.025, 0.025),
    "curtain": (-0.012, 0.01),
}
SIDE_PART = 0.042  # metres from the middle to a parting at most
BOB_HEM = -0.065  # metres; no loose hair is cut higher: it would cover half of the ear
FRINGE, NO_FRINGE = 0.3, 0.08  # share of the forehead that hair covers where there is a fringe, and where there is none
COVERED = 0.55  # share of the ears from which hair lies over them
PARTLY, FULL_SIDES = 0.4, 0.024  # the same for short hair that stands so far off the sides, metres
SET = 0.13  # metres of its sides before the cut
WAVING, SHORTER, SHORT_WAVES = 0.02, 0.3, 0.06  # volume of short hair that waves; amplitude over long hair's; metres
LONG_FRINGE = 0.12  # metres; it is cut at the opening
TOP, SIDES = (3, 4, 5, 6, 7, 8, 9), (23, 0, 1, 11, 12, 13)  # directions of the outline where the volume is measured
WAVELENGTH = 0.09  # metres, of the waves of long hair
FULL = ((0.034, 0.048), (0.06, 0.08))  # metres, greatest stand-off of top and sides of straight and of curly hair
STANDING = (0.35, 1.7)  # factors of the length of hair that stands off the head
UNEVEN = 0.011  # metres by which the top of short hair stands higher than its sides, at most
LOWER = 0.4  # quantile of the directions
FREEDOM, SHORT_VIEW = 0.012, 0.16  # metres over the photo's reach; a picture that ends before the second tells none
OUTLINE_ROUNDS = 2
SIDEWAYS = 0.6  # radians of yaw beyond which the outline is not that of the frontal view
TRIES = 18  # sketches after the first round


@torch.no_grad()
def fit_hair(avatar: Avatar, scene: Scene, photo: Tensor, seed: int = 0) -> tuple[HairStyle | None, list[str]]:
    """Style of one head from the photo `[1, 3, H, W]` that its scene was fitted to, and what there is to say about it.

    Bald heads stay as they are: None. Where the photo hides the hair, the head gets what suits it, and a note.
    """
    if scene.crop is None or len(avatar) != 1:
        return suitable_style(avatar[0], seed), ["The scene belongs to no photo; the hair is one that suits the face."]
    view = wide_view(avatar.head, avatar.vertices(scene)[:1].float().cpu(), scene, photo, texture=True)
    return fit_view(avatar, scene, view, load_segmenter().find(view), seed)


@torch.no_grad()
def fit_view(
    avatar: Avatar, scene: Scene, view: View, mask: Tensor, seed: int = 0
) -> tuple[HairStyle | None, list[str]]:
    """As `fit_hair`, from a view of the photo and where hair is in it, `[S, S]` 0..1."""
    seen = see_hair(view, by_colour(view, mask))
    if not seen.known:
        return suitable_style(avatar, seed), ["The photo hides the hair; the hair is one that suits the face."]
    share = float(seen.mask.sum() / (view.edge > -0.9).sum().clamp(min=1))
    shaved = seen.stubble > STUBBLE and seen.above < FLAT
    few = share < LEAST * (1 + 2 * seen.bare) and (seen.bare > SOME_BARE or share < LEAST / 3)
    if seen.bare > BALD or few or shaved or _green(seen.color):
        if share < LEAST / 3 and not shaved:
            return None, []
        return PRESETS["shaved"].with_(seed=seed, **pigment(painted_hair(avatar).colour)), []
    sketch = Sketch(avatar, scene, view, seen)
    style = PRESETS["balding"] if seen.above < BARE_TOP and seen.bare > 0.5 else _search(sketch, avatar)
    for _ in range(OUTLINE_ROUNDS):
        style = sketch.outlined(style)
    style = style.with_(seed=seed, dye=(GREY, GREY, GREY), grey=0.0)
    colour, streaks, cover = colours(avatar, scene, view, seen, style)
    if cover is not None:  # the groom itself reaches a little less far than its sketch
        style = sketch.toward(style, torch.maximum(cover, (view.edge > style.hairline + 0.002).to(cover)))
        style = sketch.reopened(style, cover)
    return style.with_(streaks=streaks, **pigment(colour)), []


def _green(colour: np.ndarray) -> bool:
    """Whether a linear RGB `[3]` is that of foliage."""
    return bool(lab(colour)[1] < GREEN)


class Sketch:
    """Compares styles with what a photo shows."""

    def __init__(self, avatar: Avatar, scene: Scene, view: View, seen: Seen):
        self.scalp, self.view, self.seen = scalp_of(avatar.head), view, seen
        toward = view.camera.position()[0]
        self.yaw = float(torch.atan2(toward[0], toward[2]))
        self.pitch = float(torch.atan2(-toward[1], toward[[0, 2]].norm()))  # of a head that looks up, radians
        self.vertices = avatar.vertices(scene)[0].float().cpu().numpy().astype(float)
        self.bodies: dict[bool, Body] = {}
        # the face below the brows tells nothing; the forehead shows where hair ends
        low_face = (view.face > 0.5) & (view.edge < -0.04)
        self.counts = (view.valid & ~low_face).float()
        self.places = head_places(view).numpy().astype(float)
        self.frontal = abs(self.yaw) < SIDEWAYS
        hair = ((seen.mask > 0.5) & ~low_face).numpy()
        self.opening = opening_of(hair, view.valid.numpy(), self.places) if self.frontal else ()
        self.limit = self._limit() if self.frontal else ()
        self.tried: dict[HairStyle, float] = {}

    def score(self, style: HairStyle) -> float:
        if style not in self.tried:
            mask, agree = self._draw(style)
            agree = CURLS_AGREE if style.flow == "out" else agree  # the strands of curls run everywhere
            both = torch.minimum(mask, self.seen.mask) * self.counts
            either = torch.maximum(mask, self.seen.mask) * self.counts
            self.tried[style] = float(both.sum() / either.sum().clamp(min=1)) + ORIENTATION * agree
        return self.tried[style]

    def outlined(self, style: HairStyle) -> HairStyle:
        """The style with an outline that is nearer to the photo's, or itself where that does not help."""
        changed = self.toward(style, self._draw(style)[0])
        return changed if self.score(changed) > self.score(style) else style

    def toward(self, style: HairStyle, drawn: Tensor) -> HairStyle:
        """The style with its outline moved by what is between the photo's mask and `drawn`, `[S, S]` 0..1."""
        if style.tie != "none" or not self.frontal:
            return style
        on = (self.view.edge > -0.9).float()
        return corrected(style, *(self._reach(mask) for mask in (self.seen.mask, drawn, on)))

    def reopened(self, style: HairStyle, drawn: Tensor) -> HairStyle:
        """The style with its opening moved by what is between the photo's and that of `drawn`, `[S, S]` 0..1."""
        if not (style.opening and self.opening):
            return style
        seen = opening_of((drawn > 0.5).numpy(), self.view.valid.numpy(), self.places)
        return style.with_(opening=moved_opening(style.opening, self.opening, seen))

    @property
    def cut(self) -> Cut:
        """What the photo says of the haircut."""
        top, side = self.thickness
        order = strand_order(self.view.fine, self.seen.mask * self.view.valid)
        return Cut(top, side, measures.hem(self), measures.ears(self), order, measures.forehead(self))

    @property
    def thickness(self) -> tuple[float, float]:
        """How far hair stands off the top and the sides of the head, metres; NaN where the photo doesn't tell."""
        if not self.frontal:
            return np.nan, np.nan
        thick = self._reach(self.seen.mask) - self._reach((self.view.edge > -0.9).float())
        # background that the mask took for hair makes bumps, so the lower part of the directions counts
        low = lambda at: float(np.nanquantile(thick[list(at)], LOWER)) if np.isfinite(thick[list(at)]).any() else np.nan  # noqa: E731
        top, side = low(TOP), low(SIDES)
        top = min(top, side + UNEVEN) if side < CROP else top  # the fitted skull is not known to the centimetre
        if np.isfinite(top) != np.isfinite(side):  # the other tells about it
            top, side = (1.3 * side, side) if np.isfinite(side) else (top, 0.7 * top)
        return max(top, 0.004), max(side, 0.002)

    def _reach(self, mask: Tensor) -> np.ndarray:
        """How far a mask `[S, S]` reaches from the head's centre in each direction, metres; NaN at the photo's end."""
        xy = self.places
        sector = np.round(directions(xy)).astype(int) % OUTLINE
        far = np.hypot(*(xy - CENTRE).transpose(2, 0, 1))
        inside, valid = mask.numpy() > 0.5, self.view.valid.numpy()
        reach = np.full(OUTLINE, np.nan)
        for k in range(OUTLINE):
            here = (sector == k) & inside
            if here.any():
                reach[k] = np.quantile(far[here], 0.98)
                end = far[(sector == k) & ~valid]
                if len(end) and reach[k] > end.min() - 0.01:
                    reach[k] = np.nan
        return reach

    def _limit(self) -> tuple[float, ...]:
        """`HairStyle.limit`: how far the photo's hair reaches, with some freedom, FAR where the picture ends."""
        sector = np.round(directions(self.places)).astype(int) % OUTLINE
        far = np.hypot(*(self.places - CENTRE).transpose(2, 0, 1))
        mask, valid = self.seen.mask.numpy() > 0.5, self.view.valid.numpy()
        reach = np.zeros(OUTLINE)
        for k in range(OUTLINE):
            here = (sector == k) & mask
            end = far[(sector == k) & ~valid].min(initial=FAR)
            reach[k] = np.quantile(far[here], 0.98) if here.any() else 0.0
            reach[k] = FAR if reach[k] > end - 0.02 or end < SHORT_VIEW else reach[k] + FREEDOM
        reach = np.max([np.roll(reach, k) for k in (-1, 0, 1)], axis=0)
        return tuple(float(x) for x in np.clip(reach, 0, FAR))

    def _draw(self, style: HairStyle) -> tuple[Tensor, float]:
        """Silhouette `[S, S]` of a style, and how well its strands run as the photo's, -1..1."""
        rng = np.random.default_rng(1)
        ears = style.over_ears or style.flow == "out"
        if ears not in self.bodies:
            self.bodies[ears] = Body(self.vertices, self.scalp.solid if ears else self.scalp.solid_without_ears)
        roots = self.scalp.roots(style, CARDS, rng)
        points, body = roots.on(self.vertices), self.bodies[ears]
        if style.flow == "tied":
            strands = drawn(style, roots, points, body, rng, 7)
        else:
            strands = grow(style, roots, points, body, rng, 8 if style.long else 5)
            if style.wave + style.curl > 0.004:
                strands = bend(strands, style, body, rng)
            strands = reshape(strands, style, body)
        width = np.minimum(WIDTH, 0.006 + 0.2 * strands.length)
        cards = ribbons(strands, style, width, np.ones(strands.points.shape[:2]), rng)
        positions, tri = torch.from_numpy(cards.positions).float(), torch.from_numpy(cards.triangles)
        rast = rasterize(self.view.camera.clip(positions[None], 1.0), tri, (SIDE, SIDE))[0]
        drawn_ = (rast[..., 3] > 0) & (rast[..., 2] < self.view.depth)
        mask = drawn_.flip(0) | (self.view.edge > style.hairline + 0.002)
        return mask.float(), self._agreement(positions, tri, torch.where(drawn_, rast[..., 3], 0).flip(0).long())

    def _agreement(self, positions: Tensor, tri: Tensor, ids: Tensor) -> float:
        """ids: `[S, S]` triangle + 1, 0 where no card is seen."""
        at = self.view.camera.project(positions[None], (SIDE, SIDE))[0]
        t = tri[(ids - 1).clamp(min=0)]
        # the first two corners of a triangle lie along an edge of the card, see `cards._strip`
        along = at[t[..., 1]] - at[t[..., 0]]
        angle = 2 * torch.atan2(-along[..., 1], along[..., 0])
        want, on = self.seen.orient, ids > 0
        total = (want.norm(dim=0) * on).sum()
        return float(((want[0] * angle.cos() + want[1] * angle.sin()) * on).sum() / total.clamp(min=1e-3))


def _search(sketch: Sketch, avatar: Avatar) -> HairStyle:
    """The best of a first round of presets, with its numbers changed as long as that helps."""
    feminine, cut = feminine_share(avatar), sketch.cut
    names = candidates(cut, feminine)

    def value(name: str, style: HairStyle) -> float:
        likely = HABIT * (1 - 2 * feminine) * ((name in MANLY) - (name in WOMANLY))
        likely -= EARS * cut.ears * (name in MANLY) + WILD * (style.frizz > 0.5 and style.strand == "straight")
        return sketch.score(style) + likely

    ranked = sorted(((value(n, s), n, s) for n, s in _first_round(sketch, cut, names)), key=lambda p: -p[0])
    finalists, tries = ranked[:2], 0
    best: list[tuple[float, HairStyle]] = []
    for start, name, style in finalists:
        found, at = start, style
        for key in (*FACTORS, *STEPS):
            if tries >= TRIES * (len(best) + 1) / len(finalists):
                break
            for option in _options(at, key):
                tries += 1
                here = value(name, option)
                if here > found + 0.002:
                    found, at = here, option
        best.append((found, at))
    return max(best, key=lambda b: b[0])[1]


def _first_round(sketch: Sketch, cut: Cut, names: tuple[str, ...]) -> list[tuple[str, HairStyle]]:
    """Presets with what the mask tells at once: hairline, fringe, covered ears, hem and how far hair stands."""
    line, top, side, forehead = measures.hairline(sketch), cut.top, cut.side, cut.forehead

    def preset(name: str) -> HairStyle:
        style = PRESETS[name]
        if forehead > FRINGE and style.flow != "out" and style.tie == "none":
            style = style.with_(fringe=max(style.fringe, LONG_FRINGE))
        changes: dict = {} if style.fringe else {"hairline": style.hairline + line}
        if style.tie == "none":
            changes["opening"] = sketch.opening
        if style.long:
            changes |= {"limit": sketch.limit, "over_ears": cut.ears > COVERED, "hem": min(cut.hem, BOB_HEM)}
            if style.strand == "straight" and cut.wave > style.wave:
                changes |= {"wave": cut.wave, "wavelength": WAVELENGTH}
        if np.isfinite(top + side) and style.tie == "none":
            if style.flow == "out":
                f = np.clip([top / (0.9 * style.top), side / (0.9 * style.sides)], *STANDING)
                changes |= {"top": style.top * f[0], "sides": style.sides * f[1], "back": style.back * f.mean()}
            else:
                high, wide = (min(x, y) for x, y in zip((top, side), FULL[style.strand == "curly"], strict=True))
                changes |= {"volume": high, "side_volume": wide / max(high, 0.004)}
                if style.hem <= -1:  # long enough to stand as far
                    changes |= {"top": max(style.top, 1.2 * top + 0.03), "sides": max(style.sides, 1.1 * side + 0.012)}
                    if cut.ears > PARTLY and side > FULL_SIDES:  # over the ears, and cut where the photo's ends
                        changes |= {"over_ears": True, "hem": cut.hem, "sides": SET, "back": SET}
                if name in CROPS and top < CROP:
                    changes |= {"top": style.top, "sides": style.sides}
                elif style.hem <= -1 and style.strand == "straight" and high > WAVING:
                    changes |= {"wave": max(style.wave, SHORTER * cut.wave), "wavelength": SHORT_WAVES}
        return style.with_(**changes)

    allowed = [n for n in names if forehead > NO_FRINGE or not PRESETS[n].fringe]
    pool = [(name, preset(name)) for name in allowed or names]
    pool += [
        (n, s.with_(part=-s.part, fringe_sweep=-s.fringe_sweep))
        for n, s in pool
        if n in ("side_part", "pixie", "lob", "bob")
    ]
    return pool + [
        (n, s.with_(part=x, fringe_sweep=np.sign(x) * -0.5))
        for n, s in pool
        if n == "bob_with_fringe"
        for x in (-0.042, 0.042)
    ]


def _options(style: HairStyle, key: str) -> list[HairStyle]:
    """Neighbours of a style in one of its numbers."""
    value = getattr(style, key)
    if key in FACTORS:
        if (
            value <= 0
            or (style.hem > -1 and key in ("top", "sides"))
            or (style.tie != "none" and key in ("top", "sides"))
        ):
            return []
        more = {"back": 1.0} if key == "sides" else {}
        # standing hair grows by its preset alone
        factors = [f for f in FACTORS[key] if f < 1 or style.flow not in ("out", "up")]
        found = [style.with_(**{key: value * f}, **dict.fromkeys(more, style.back * f)) for f in factors]
        most = FULL[style.strand == "curly"]
        return [s for s in found if s.volume <= most[0] and s.volume * s.side_volume <= most[1]]
    if (
        (key == "hem" and value <= -1)
        or (key == "fringe_sweep" and not style.fringe)
        or (key == "part" and style.flow != "part")
        or (key == "curtain" and not style.long)
    ):
        return []
    options = [value + step for step in STEPS[key]]
    if key == "hem":
        options = [x for x in options if x <= BOB_HEM]
    elif key == "part":
        options = [x for x in options if abs(x) <= SIDE_PART]
    return [style.with_(**{key: x}) for x in options]
