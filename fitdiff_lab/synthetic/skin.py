"""A person's reflectance in the atlas: diffuse albedo, specular albedo and normals, from attributes and a seed.

All work is done in the atlas at full size, in this order. Log concentrations of melanin and blood are sums over soft
regions, noise and spots. A table turns them into colour (`skin_optics`). Make-up, hair and eyes are painted over it.
Relief follows from pores, wrinkles, lips and hair.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fitdiff_core.head.teeth import paint
from fitdiff_core.maps import TextureMaps

from .brows import Brows
from .eyes import Eyes
from .hair import Hair
from .people import SkinAttributes, random_attributes
from .regions import Regions
from .skin_optics import SkinOptics, colour_table, melanin_for, plausible, sample_table
from .strokes import SpotStyle, over, spots
from .uv_canvas import UVCanvas
from .wrinkles import Wrinkles

# change of ln melanin and ln blood in each region at contrast 1: (region, melanin, blood)
_LAYOUT = (
    ("cheek", -0.06, 0.06), ("forehead", 0.14, -0.28), ("temple", 0.08, -0.05), ("socket", 0.16, 0.02),
    ("perioral", 0.12, 0.0), ("nasolabial", 0.10, 0.12), ("chin", -0.05, 0.1), ("lid", 0.06, 0.28),
    ("nose", 0.02, 0.15), ("glabella", 0.02, 0.06), ("under_eye", 0.04, 0.05), ("neck", 0.05, -0.05),
    ("jaw", 0.04, -0.08), ("bridge", 0.0, -0.05), ("ear", 0.0, 0.35), ("cheekbone", 0.02, 0.05),
    ("philtrum", 0.0, 0.06),
)  # fmt: skip
_FLUSH = {"cheek": 0.6, "nose": 0.6, "chin": 0.35, "ear": 0.4, "glabella": 0.12, "cheekbone": 0.35, "nasolabial": 0.25}
# more ln melanin on dark skin
_DARKER = {"socket": 0.17, "perioral": 0.15, "nasolabial": 0.11, "temple": 0.12, "jaw": 0.1, "forehead": 0.08}
# dark circles: (melanin, blood)
_CIRCLES = {"under_eye": (0.30, 0.35), "inner_eye": (0.22, 0.25), "socket": (0.14, 0.0)}
_FRECKLES = SpotStyle((0.28, 1.3), soft=0.55, skew=3.0, faint=0.06)
_MOLES = SpotStyle((0.5, 1.5), soft=0.3, skew=2.5, faint=0.3)
_SUN_SPOTS = SpotStyle((0.9, 4.2), soft=0.6, skew=2.0, faint=0.15)
_BLEMISHES = SpotStyle((0.8, 2.2), soft=0.6, skew=2.0, faint=0.2)


@dataclass(frozen=True)
class _Layers:
    """The parts of a skin that shape its gloss and relief, `[S, S]` each unless a shape is given.

    fine: noise of 6 mm; grains: three fields of finer noise; pores: depth; creases: of the lips; folds, lines:
        wrinkles;
    spots: by kind; brow, hair, whiskers: cover; strand: `[2, S, S]` noise of single hairs and locks.
    """

    fine: Tensor
    grains: list[Tensor]
    pores: Tensor
    creases: Tensor
    folds: Tensor
    lines: Tensor
    spots: dict[str, Tensor]
    brow: Tensor
    hair: Tensor
    whiskers: Tensor
    strand: Tensor


class SkinGenerator:
    """Draws the maps of a person: `sample(seed)`.

    head: a `HeadModel`. size: side of the maps, texels. The constructor computes what depends on the head only
        (seconds).
    """

    def __init__(self, head, size: int = 512):
        self.canvas = c = UVCanvas(head, size)
        self.regions = Regions(c)
        self.brows, self.hair, self.eyes, self.wrinkles = (
            Brows(c),
            Hair(c, self.regions),
            Eyes(c, self.regions),
            Wrinkles(c),
        )
        self._names = tuple(n for n, _, _ in _LAYOUT) + ("inner_eye",)
        self._tone = self.regions.stack(self._names).reshape(len(self._names), -1)
        r = self.regions
        self._face = (
            (1 - r["ear"]) * torch.sigmoid(-r["hairline_mm"] / 4) * torch.sigmoid(-r["behind_mm"] / 4) * (1 - r["lips"])
        ).clamp(0, 1)
        self._freckled = (r["cheek"] + 0.8 * r["nose"] + 0.6 * r["bridge"] + 0.4 * r["forehead"] + 0.10).clamp(
            0, 1.2
        ) * self._face
        self._t_zone = (
            0.8 * r["forehead"] + 1.1 * r["nose"] + 0.8 * r["bridge"] + 0.6 * r["chin"] + 0.4 * r["glabella"]
        ).clamp(0, 1.3)
        rows, columns = torch.nonzero(r["lips_mm"] > -16, as_tuple=True)
        self._lip_window = (
            slice(int(rows.min()), int(rows.max()) + 1),
            slice(int(columns.min()), int(columns.max()) + 1),
        )
        self._lip_inside = torch.exp(
            -((r["lip_line_mm"][self._lip_window] / 2.6) ** 2)
        )  # redder towards the wet inside
        # strands and relief are left out on the neck: it has few texels and would show streaks
        scalp = torch.sigmoid(torch.maximum(r["hairline_mm"], r["behind_mm"] + 6) / 3)
        self._drawable = scalp + (1 - scalp) * c.resolved(6.0)
        self._shaved = r["beard_area"] * torch.sigmoid((r["beard_mm"] - 2) / 4) * (1 - 0.4 * r["neck"])
        self._relief = 0.45 + 0.35 * r["cheek"] + 0.5 * r["nose"] + 0.4 * r["forehead"] + 0.55 * r["chin"]
        self._relief = (self._relief - 0.25 * r["lid"] - 0.2 * r["under_eye"]).clamp(0.15, 1.0) * self._drawable
        self._pore_area = 0.25 + 1.0 * r["cheek"] + 1.2 * r["nose"] + 0.45 * r["forehead"] + 0.45 * r["chin"]
        self._sun_area = (1.5 * r["temple"] + 0.6 * r["forehead"] + 0.8 * r["cheek"] + 0.05) * self._face
        self._spotty = (r["chin"] + 0.6 * r["cheek"] + 0.6 * r["forehead"] + 0.1) * self._face

    @torch.no_grad()
    def sample(self, seed: int, attributes: SkinAttributes | None = None) -> tuple[TextureMaps, SkinAttributes]:
        """The maps (batch 1) and the attributes of one person. The same seed and attributes give the same maps.

        attributes: default, those that the seed draws.
        """

        def stream(k: int) -> np.random.Generator:
            """A generator for one feature, so that a change of one attribute changes nothing else."""
            return np.random.default_rng([seed, 77, k])

        rng = stream(0)
        a = random_attributes(np.random.default_rng(seed)) if attributes is None else attributes
        c, r = self.canvas, self.regions
        clouds = c.cloud(rng, (42.0, 19.0, 11.0, 11.0))
        fine = c.cloud(rng, (6.0,), 256)[0]
        grains = [c.grain(rng, k) for k in range(3)]
        pores = (0.6 * grains[0] + 0.75 * grains[1] - 0.85).clamp(0, 1.5) * self._pore_area
        creases = c.creases(stream(7)) * r["lips"]

        spot_layers = self._spots(a, stream(1), clouds[2], grains[1])
        albedo = self._colour(a, clouds, fine, grains, creases, spot_layers)
        folds, lines = self.wrinkles.draw(a, stream(2))
        albedo = albedo * (1 - 0.08 * folds - 0.07 * lines - 0.10 * (0.3 + a.pores) * pores)
        albedo = self._make_up(a, albedo, fine)
        cover, shade, strand = self.hair.cover(a, stream(3), clouds[2])
        beard = self.hair.beard(a, stream(4), strand, clouds[1], grains[0])
        whiskers = torch.zeros_like(cover)
        if beard is not None:
            beard = beard[0], beard[1] * self._drawable
            albedo = self.hair.paint_beard(a, albedo, *beard, shade)
            whiskers = beard[1]
        albedo = self._lip_paint(a, albedo, creases)
        albedo = self.eyes.lids(a, albedo, clouds[2])
        brow, under = self.brows.draw(a, stream(5))
        colour = torch.tensor(a.brow_colour).view(3, 1, 1)
        shadow = 0.5 * colour + 0.5 * albedo * colour.mean().clamp(max=0.35).sqrt()  # blurred hair on skin
        albedo = over(albedo, (under * min(1.0, a.brow_density) * (0.30 + 0.5 * a.brow_drawn)).clamp(0, 0.9), shadow)
        albedo = over(albedo, (brow * 1.05).clamp(0, 0.95), 0.85 * colour)
        albedo, hair = self.hair.paint_scalp(a, albedo, cover, shade, grains[0])
        folds, lines = folds * (1 - hair), lines * (1 - hair)  # a fringe hides the forehead's lines
        albedo = albedo * (1 - 0.6 * r["nostril"].clamp(0, 1))
        albedo = over(albedo, r["mouth_inside"], torch.tensor([0.085, 0.018, 0.016]))

        layers = _Layers(fine, grains, pores, creases, folds, lines, spot_layers, brow, hair, whiskers, strand)
        specular, normal = self._specular(a, layers), self._normals(self._height(a, layers))
        return self._finish(a, stream(6), albedo, specular, normal), a

    # -- colour ----------------------------------------------------------------------------------------------------

    def _spots(self, a: SkinAttributes, rng: np.random.Generator, cloud: Tensor, grain: Tensor) -> dict[str, Tensor]:
        """Cover `[S, S]` of each kind of spot that the person has."""
        c = self.canvas
        out = {}
        if a.freckles > 0:
            # most of them on the cheeks and the nose, in patches
            where = self._freckled**1.5 * self._drawable * torch.sigmoid(1.3 * cloud)
            out["freckles"] = spots(c, rng, where, int(1300 * a.freckles), _FRECKLES, grain)
        if a.moles:
            out["moles"] = spots(c, rng, self._face * self._drawable, a.moles, _MOLES, grain)
        if a.sun_spots:
            out["sun"] = spots(c, rng, self._sun_area * self._drawable, a.sun_spots, _SUN_SPOTS, grain)
        if a.blemishes:
            out["blemishes"] = spots(c, rng, self._spotty * self._drawable, a.blemishes, _BLEMISHES)
        return out

    def _colour(
        self, a: SkinAttributes, clouds: Tensor, fine: Tensor, grains, creases, spot_layers: dict[str, Tensor]
    ) -> Tensor:
        """Albedo `[3, S, S]` of the bare skin."""
        table = colour_table(SkinOptics(a.thickness, a.oxygen, a.eumelanin, a.yellow))
        melanin = melanin_for(table, a.lightness, a.blood)
        ground = sample_table(table, torch.tensor([[math.log(melanin)]]), torch.tensor([[math.log(a.blood)]])).view(3)
        gain = plausible(ground * torch.tensor(a.tint)) / ground
        dark = float(np.clip((65 - a.lightness) / 25, 0, 1.4))
        # one product adds regions and noise: rows of `noise` are clouds of 42, 19, 11, 11 and 6 mm and the grains
        mottle, blotch = (0.02 + 0.05 * a.mottle) * (1 - 0.3 * min(1.0, dark)), 0.05 + 0.12 * a.mottle
        noise = torch.cat([clouds, fine[None], *(g[None] for g in grains)]).flatten(1)
        mix = torch.tensor(
            [
                [0.05, mottle, 0.6 * mottle, 0.0, 0.9 * mottle, 0.04, 0.0, 0.03],
                [0.0, 0.0, 0.0, blotch, 0.7 * blotch, 0.0, 0.05, 0.08 * (0.5 + a.mottle)],
            ]
        )
        base = torch.tensor([[math.log(melanin)], [math.log(a.blood)]])
        m, b = torch.addmm(base, self._region_change(a, dark), self._tone).addmm_(mix, noise).view(2, *fine.shape)
        m, b = self._add_spots(a, m, b, grains, spot_layers)
        self._lips(a, m, b, (melanin, dark), creases, fine)
        albedo = sample_table(table, m, b) * gain.view(3, 1, 1)
        if a.feminine < 0.5:
            albedo = self._beard_shadow(a, albedo)
        # the blue-grey of veins below the eyes lies deeper than the two layers of the model
        r = self.regions
        tired = (0.30 * a.circles) * (r["under_eye"] + 0.7 * r["inner_eye"]).clamp(0, 1)
        return albedo * (1 - tired * torch.tensor([0.42, 0.36, 0.24]).view(3, 1, 1))

    def _region_change(self, a: SkinAttributes, dark: float) -> Tensor:
        """`[2, regions]` change of ln melanin and ln blood in each region. dark: 0 for light skin, up to 1.4."""
        change = torch.tensor([[m, b] for _, m, b in _LAYOUT] + [[0.0, 0.0]]).T * a.contrast
        for name, v in _FLUSH.items():
            change[1, self._names.index(name)] += v * (1.5 * a.flush - 0.15)
        for name, v in _DARKER.items():
            change[0, self._names.index(name)] += v * dark * a.contrast
        for name, (m, b) in _CIRCLES.items():
            change[:, self._names.index(name)] += torch.tensor([m, b]) * (1.4 - 0.5 * min(dark, 1.2)) * a.circles
        return change

    def _add_spots(
        self, a: SkinAttributes, m: Tensor, b: Tensor, grains, spot_layers: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """ln melanin and ln blood `[S, S]` with small veins and spots."""
        r = self.regions
        veins = (
            (grains[2] - 0.9).clamp(0, 1.5) * (r["cheek"] + r["nose"]) * (0.1 + 0.8 * a.flush * min(1.0, a.age / 60))
        )
        b = b + 0.4 * veins
        if "freckles" in spot_layers:
            m = m + (0.7 + 0.8 * a.freckles) * spot_layers["freckles"]
        if "moles" in spot_layers:
            m = m + 2.0 * spot_layers["moles"] * (1 if a.lightness > 45 else 0.6)
        if "sun" in spot_layers:
            m = m + 0.65 * spot_layers["sun"] * (0.8 + 0.2 * grains[2])
        if "blemishes" in spot_layers:
            b = b + 0.8 * spot_layers["blemishes"]
        return m, b

    def _lips(
        self, a: SkinAttributes, m: Tensor, b: Tensor, ground: tuple[float, float], creases: Tensor, fine: Tensor
    ) -> None:
        """Put the lips into ln melanin and ln blood, in place: thin skin, little melanin and much blood, but dark lips.

        ground: the skin's melanin fraction and its darkness.
        """
        melanin, dark = ground
        w = self._lip_window
        lip = torch.sigmoid((self.regions["lips_mm"][w] - 0.3) / (0.75 + 1.5 * (1 - a.lip_edge)))
        edge = self._lip_inside
        lip_m = (
            math.log(melanin)
            + 0.15
            - 0.32 * (1 - a.lip_dark) * (1 - 0.6 * min(1, dark))
            + (0.75 - 0.4 * min(1, dark)) * a.lip_dark
            + 0.07 * creases[w]
        )
        lip_b = math.log(a.blood) + 0.70 + 1.1 * a.lip_blood + 0.09 * creases[w] + 0.10 * fine[w]
        m[w] += lip * (lip_m - m[w] + 0.3 * edge)
        b[w] += lip * (lip_b - b[w] + 0.25 * edge)

    def _beard_shadow(self, a: SkinAttributes, albedo: Tensor) -> Tensor:
        """Darken the shaved area of men a little and make it cooler: hair below the skin. Less for fair beards."""
        dark = max(0.0, 1 - sum(a.beard_colour) / 0.5)
        amount = 0.8 * (1 - 2 * a.feminine) * (0.25 + 0.75 * dark)
        return albedo * (1 - amount * self._shaved * torch.tensor([0.20, 0.13, 0.07]).view(3, 1, 1))

    def _make_up(self, a: SkinAttributes, albedo: Tensor, fine: Tensor) -> Tensor:
        """Foundation and blush."""
        r = self.regions
        if a.foundation > 0:
            weight = r["cheek"] + r["forehead"] * 0.5 + 0.2
            mean = (albedo * (weight * self._face)).sum((1, 2)) / (weight * self._face).sum()
            front = self._face * (1 - 0.7 * r["neck"])
            albedo = over(albedo, 0.55 * a.foundation * front, mean * torch.tensor([1.04, 1.02, 1.0]))
        if a.blush > 0:
            cover = (a.blush * (r["cheekbone"] + 0.4 * r["cheek"]) * (1 + 0.1 * fine)).clamp(0, 0.6)
            level = albedo.mean(0, keepdim=True) / 0.3  # powder is as light as the skin
            albedo = over(albedo, cover, torch.tensor(a.blush_colour).view(3, 1, 1) * level.clamp(0.15, 1.2))
        return albedo

    def _lip_paint(self, a: SkinAttributes, albedo: Tensor, creases: Tensor) -> Tensor:
        """Lipstick."""
        if a.lipstick <= 0:
            return albedo
        r = self.regions
        area = torch.sigmoid(r["lips_mm"] / 0.75)
        level = albedo.mean(0, keepdim=True) / albedo.mean(0)[area > 0.5].mean().clamp(min=0.02)
        cover = (0.88 * a.lipstick * area * (1 - 0.10 * creases.abs())).clamp(0, 1)
        return over(albedo, cover, torch.tensor(a.lipstick_colour).view(3, 1, 1) * level.clamp(0.5, 1.5))

    # -- surface ---------------------------------------------------------------------------------------------------

    def _specular(self, a: SkinAttributes, x: _Layers) -> Tensor:
        """Specular albedo `[1, S, S]`. It is the same for all skin tones: melanin lies below the reflecting surface."""
        r = self.regions
        dry = 0.20 * (1 - a.oil) * r["cheek"] + 0.12 * r["jaw"] + 0.10 * r["neck"]
        s = (0.32 + 0.06 * (a.oil - 0.5)) * (
            1 + (0.04 + 0.36 * a.oil) * self._t_zone - 0.18 * r["socket"] - 0.10 * r["temple"] - dry
        )
        pits = (0.06 + 0.18 * a.pores) * x.pores
        rough = self._drawable * (0.05 * x.fine + 0.06 * x.grains[1] + 0.06 * x.grains[2])
        s = s * (1 + rough - 0.22 * x.folds - 0.18 * x.lines - pits)
        wet = (0.02 + 0.20 * a.gloss) * r["lips"] * (1 + 0.15 * x.creases)
        s = s * (1 - 0.15 * a.foundation) + wet
        s = s * (1 - 0.6 * x.brow) * (1 - 0.45 * x.hair) * (1 - 0.35 * x.whiskers)
        return over(s[None].expand(3, -1, -1), r["mouth_inside"], torch.tensor([0.3, 0.3, 0.3]))[:1].clamp(0.02, 0.9)

    def _height(self, a: SkinAttributes, x: _Layers) -> Tensor:
        """Relief in millimetres `[S, S]`."""
        r, grains, strand = self.regions, x.grains, x.strand
        skin = 0.010 * grains[0] + 0.019 * grains[1] + 0.022 * grains[2] + 0.02 * (1 + a.wrinkles) * x.fine
        skin = skin * (0.75 + 0.25 * a.pores + 0.35 * min(a.wrinkles, 1.0)) * self._relief
        skin = skin - 0.05 * (0.4 + a.pores) * x.pores
        h = skin * (1 - r["lips"]) + 0.042 * x.creases - 0.025 * x.creases.abs()
        h = h - 0.55 * x.folds - 0.18 * x.lines
        h = h + 0.10 * x.brow + x.whiskers * (0.10 + 0.10 * strand[0]) + x.hair * (0.10 * strand[0] + 0.15 * strand[1])
        if "blemishes" in x.spots:
            h = h + 0.2 * x.spots["blemishes"]
        if "moles" in x.spots:
            h = h + 0.15 * x.spots["moles"]
        return h * self._drawable

    def _normals(self, height: Tensor) -> Tensor:
        """Tangent-space normals `[3, S, S]`, +Y up, of a height `[S, S]` in mm. Rows run down, so y changes sign."""
        padded = torch.nn.functional.pad(height[None, None], (1, 1, 1, 1), mode="replicate")[0, 0]
        dx = (padded[1:-1, 2:] - padded[1:-1, :-2]) / (2 * self.canvas.scale[0])
        dy = (padded[2:, 1:-1] - padded[:-2, 1:-1]) / (2 * self.canvas.scale[1])
        dx, dy = dx.clamp(-1.2, 1.2), dy.clamp(-1.2, 1.2)
        z = (1 + dx * dx + dy * dy).rsqrt()
        return torch.stack([-dx * z, dy * z, z])

    def _finish(self, a: SkinAttributes, rng: np.random.Generator, albedo, specular, normal) -> TextureMaps:
        """Fill the texels outside the charts, and paint the eye island and the teeth."""
        c = self.canvas
        window = self.eyes.window
        ball, ball_specular = self.eyes.ball(a, rng)
        flat = torch.tensor([0.0, 0.0, 1.0]).view(3, 1, 1)
        neck = (
            self.regions["neck"] * c.skin
        )  # its mean colour fills the texels outside the charts, which border on the neck
        skin = ((albedo * neck).sum((1, 2)) / neck.sum()).view(3, 1, 1)
        albedo, specular, normal = c.finish(albedo, skin), c.finish(specular, torch.tensor(0.3)), c.finish(normal, flat)
        island = c.island[window]
        albedo[(slice(None), *window)] = torch.where(island, ball, albedo[(slice(None), *window)])
        specular[(slice(None), *window)] = torch.where(island, ball_specular, specular[(slice(None), *window)])
        normal[(slice(None), *window)] = torch.where(island, flat, normal[(slice(None), *window)])
        stack = paint(torch.cat([albedo.clamp(0, 1), specular.expand(3, -1, -1), normal])[None])
        return TextureMaps(*stack.split(3, 1))
