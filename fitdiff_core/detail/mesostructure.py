"""Mesostructure of the skin: pores, furrows, lip and brow relief, as a height field that bends the normal map.

The diffusion model's maps end at about a millimetre. What is finer is added here: cell noise and value noise at the
position of each texel on the neutral head, by region, and a little relief from the person's own albedo. Structure that
is finer than the texels of a map fades out (LIMIT), so small maps get only its coarse part. Sizes and depths follow
measurements of facial skin (Hong et al. 2018, "Skin roughness and pores": pores 0.25 to 0.5 mm wide; Akazaki et al.
2002: furrows 0.02 to 0.07 mm deep).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..avatar import Avatar
from ..errors import UserError
from ..filters import normalized_convolution
from ..head.places import FacePlaces
from ..maps import ALBEDO_EPSILON, TextureMaps
from ..progress import part, report
from .skin_regions import SkinTexels, steps
from .solid_noise import Lattice, cell_borders, pits, sine_warp, value_noise

MM = 1e-3
LIMIT, SHARP = 2.2, 3.6  # texels of a wavelength at which structure is gone, and at which all of it is there
STRONGEST = 3.0  # largest strength
STEEPEST = 0.9  # slope of the relief, at most
CAVITY = 0.030 * MM  # depth below the surroundings at which the specular albedo has lost about half of CAVITY_LOSS
CAVITY_LOSS = 0.35  # share of specular albedo that the deepest places lose
ALBEDO_DEPTH, ALBEDO_RANGE = 0.012 * MM, 0.12  # depth of the albedo's dark detail; log albedo at which it saturates
HAIR_DEPTH = 0.035 * MM  # height of brow and beard hair
FINE, BROAD = 0.45 * MM, 1.6 * MM  # band of the albedo's detail: standard deviations of two blurs


def skin_relief(avatar: Avatar, strength: float = 1.0, seed: int = 0, texture_size: int | None = None) -> Avatar:
    """Add the relief of the skin to normal and specular maps.

    avatar: B heads. strength: factor of all depths, 0 (the maps as they are) to 3
    seed: entry i takes seed + i; the same seed gives the same relief
    texture_size: texels a side of the maps; None keeps the avatar's

    Eyes, mouth and scalp stay as they are, and so does the diffuse map. Raises UserError for a strength out of range,
    or a size below 1.
    """
    check_strength(strength)
    if texture_size is not None and texture_size < 1:
        raise UserError(f"The texture size must be at least 1 (got {texture_size}).")
    size = texture_size or avatar.maps.size[0]
    maps = avatar.maps if avatar.maps.size == (size, size) else avatar.maps.resize(size)
    if not all(torch.isfinite(x).all() for x in (maps.diffuse, maps.specular, maps.normal)):
        raise UserError("The texture maps hold NaN or infinite values; sample the head again.")
    if strength == 0:
        return replace(avatar, maps=maps)
    vertices = avatar.vertices()
    landmarks = avatar.head.landmarks(vertices)
    stacks = []
    for i in range(len(avatar)):
        with part(i, len(avatar)):
            texels = SkinTexels.bake(vertices[i], avatar.head, size)
            report(1, 4)
            places = FacePlaces.of(texels.position, landmarks[i])
            height = noise_height(texels, places, seed + i)
            report(3, 4)
            one = maps[i]
            height = strength * (height + albedo_height(texels, places, one.diffuse))
            stacks.append(bend(one, height, texels).stack())
    return replace(avatar, maps=TextureMaps.from_stack(torch.cat(stacks)))


def check_strength(strength: float) -> None:
    """Raise UserError for a strength that is not from 0 to STRONGEST."""
    if not math.isfinite(strength) or not 0 <= strength <= STRONGEST:
        raise UserError(f"The strength of the skin relief must be from 0 to {STRONGEST:g}, not {strength}.")


def kept(wavelength: float, step: Tensor) -> Tensor:
    """Share `[N]` of structure of a wavelength, metres, that texels of `step` `[N]` metres can show."""
    x = ((wavelength / step.clamp(min=1e-6) - LIMIT) / (SHARP - LIMIT)).clamp(0, 1)
    return x * x * (3 - 2 * x)


@dataclass
class _Layers:
    """Makes the layers of noise of one head; a layer that no texel can show is not computed."""

    texels: SkinTexels
    seed: int

    def lattice(self, layer: int) -> Lattice:
        return Lattice.of(self.seed, layer, self.texels.position.device)

    def where(self, share: Tensor) -> Tensor:
        """Rows of texels with a share above 0."""
        return torch.nonzero(share > 1e-3)[:, 0]

    def spread(self, values: Tensor, rows: Tensor) -> Tensor:
        return torch.zeros_like(self.texels.step).index_copy(0, rows, values)

    def value(self, layer: int, size: float, share: Tensor, points: Tensor | None = None) -> Tensor:
        """Value noise with cells of `size` metres times its share. points: None takes the texels' positions."""
        share = share * kept(1.2 * size, self.texels.step) if points is None else share
        rows = self.where(share)
        points = self.texels.position if points is None else points
        return self.spread(value_noise(points[rows], size, self.lattice(layer)) * share[rows], rows)

    def pores(self, layer: int, size: float, radius: Tensor, share: Tensor) -> Tensor:
        """Pits of `radius` `[N]` metres, a cell of `size` metres for each, 0..1 deep times their share.

        A pit is at least as wide as the texels can show, and then not as deep.
        """
        step = self.texels.step
        share = share * kept(size, step)
        rows = self.where(share)
        own = radius[rows] / size
        wide = (own.square() + (step[rows] / size).square()).sqrt().clamp(max=0.5)
        found = pits(self.texels.position[rows], size, wide, self.lattice(layer))
        return self.spread(found * (own / wide).clamp(max=1).square() * share[rows], rows)

    def furrows(self, layer: int, size: float, width: float, share: Tensor, points: Tensor) -> Tensor:
        """A net of furrows, 0..1 deep times their share; width: of a furrow in cells."""
        step = self.texels.step
        share = share * kept(0.8 * size, step)
        rows = self.where(share)
        wide = (width**2 + (0.8 * step[rows] / size).square()).sqrt()
        line = cell_borders(points[rows], size, self.lattice(layer)) / wide
        return self.spread(torch.exp(-line.square()) * (width / wide) * share[rows], rows)


def noise_height(texels: SkinTexels, places: FacePlaces, seed: int) -> Tensor:
    """Height `[N]` of pores, furrows and lines, metres."""
    make, at = _Layers(texels, seed), texels.position
    lips, lids, brows, nose = (texels.region(n) for n in ("lips", "eyelids", "brows", "nose"))
    thin = torch.maximum(lids, texels.region("ears") * 0.7)  # thin skin: fine, few pores
    plain = texels.skin * (1 - lips).clamp(min=0)
    # people have smooth and rough patches
    patch = (1 + 1.1 * make.value(0, 6 * MM, torch.ones_like(plain))).clamp(0.25, 1.8)
    large = (0.35 + 0.75 * places.cheeks + 0.9 * nose + 0.35 * places.forehead + 0.45 * places.chin).clamp(max=1.3)
    porous = plain * (1 - 0.85 * thin) * (1 - 0.5 * brows) * patch
    warped = at + 0.35 * MM * sine_warp(at, 4.5 * MM, make.lattice(1))

    bumps = 0.034 * make.value(6, 2.6 * MM, plain * patch) + 0.026 * make.value(7, 1.3 * MM, plain)
    grain = 0.012 * make.value(8, 0.6 * MM, plain)
    holes = 0.075 * make.pores(9, 2.1 * MM, MM * (0.30 + 0.20 * large), porous * large)
    holes = holes + 0.070 * make.pores(10, 1.15 * MM, MM * (0.20 + 0.14 * large), porous * (0.5 + 0.5 * large))
    net = 0.034 * make.furrows(11, 1.25 * MM, 0.16, plain * (1 - thin) * patch, warped)
    net = net + 0.018 * make.furrows(12, 0.62 * MM, 0.20, plain * (0.6 + 0.4 * thin), warped)
    height = bumps + grain - holes - net - _crossing_lines(make, warped, places, thin, plain)
    return (height + _lip_furrows(make, places, lips)) * texels.skin * MM


def _crossing_lines(make: _Layers, warped: Tensor, places: FacePlaces, thin: Tensor, plain: Tensor) -> Tensor:
    """Depth `[N]` in mm of fine lines that run across forehead, lids and neck."""
    stretched = warped * warped.new_tensor([0.16, 1.0, 0.35])
    share = plain * (0.6 * places.forehead + 0.8 * thin + 0.8 * make.texels.region("neck"))
    wave = 1.5 * 0.9 * MM
    share = share * kept(wave, make.texels.step)
    lattice = replace_turn(make.lattice(13))
    rows = make.where(share)
    line = 1 - value_noise(stretched[rows], 0.9 * MM, lattice).abs() / 0.35
    return make.spread(0.022 * line.clamp(min=0) * share[rows], rows)


def _lip_furrows(make: _Layers, places: FacePlaces, lips: Tensor) -> Tensor:
    """Height `[N]` in mm of the lips' furrows, which run from the inside of the mouth outwards."""
    texels = make.texels
    across = (
        texels.along_u.square().sum(0).sqrt().flatten()[texels.index]
    )  # the step along the mouth is the shorter one
    height = torch.zeros_like(lips)
    warp = 0.45 * MM * sine_warp(texels.position, 5 * MM, make.lattice(17))[:, 0]  # furrows bend and fork
    uneven = (0.75 + 1.3 * make.value(18, 2.8 * MM, lips)).clamp(0.1, 1.6)
    for layer, size, depth in ((14, 1.5 * MM, 0.050), (15, 0.75 * MM, 0.030)):
        share = lips * kept(1.5 * size, across)
        rows = make.where(share)
        high = texels.position[:, 1] * (size / (3.2 * MM))
        place = torch.stack([places.around + warp, high, torch.zeros_like(high)], 1)
        line = 1 - value_noise(place[rows], size, replace_turn(make.lattice(layer))).abs() / 0.4
        height = height - make.spread(depth * line.clamp(min=0) * share[rows], rows) * uneven
    return height + 0.03 * make.value(16, 2.2 * MM, lips)


def replace_turn(lattice: Lattice) -> Lattice:
    """The lattice along the axes of its points, for points that were stretched along them."""
    return lattice._replace(turn=torch.eye(3).to(lattice.turn))


def albedo_height(texels: SkinTexels, places: FacePlaces, diffuse: Tensor) -> Tensor:
    """Height `[N]` in metres from the albedo's own detail, diffuse `[1, 3, S, S]`.

    Dark lines and spots lie lower. In brows and beards they are hair, which lies higher. Spots of more than about
    2 mm, such as freckles and moles, are hardly seen, because the band ends there.
    """
    step = float(texels.step.median())
    light = texels.picture((diffuse.clamp(min=0) + ALBEDO_EPSILON).log().mean(1).flatten()[texels.index])[None, None]
    weight = texels.picture(torch.ones_like(texels.skin))[None, None]
    fine, broad = (blurred(light, weight, max(s / step, m)) for s, m in ((FINE, 0.7), (BROAD, 1.8)))
    band = ((fine - broad) * weight).flatten()[texels.index]
    brows = texels.region("brows")
    bristles = torch.maximum(brows, beard_share(texels, places, band))
    rise = torch.tanh(band / ALBEDO_RANGE)
    return (ALBEDO_DEPTH * (1 - bristles) - HAIR_DEPTH * bristles) * rise * texels.skin


def beard_share(texels: SkinTexels, places: FacePlaces, band: Tensor) -> Tensor:
    """Share `[N]` of beard: skin below the nose whose fine detail `band` `[N]` is much stronger than that of the cheeks
    and the forehead."""
    plain = (1 - places.lower) * (1 - texels.region("brows")) * (1 - texels.region("eyelids"))
    usual = ((band.square() * plain).sum() / plain.sum().clamp(min=1)).sqrt().clamp(min=0.01)
    picture = texels.picture(band.square())[None, None]
    weight = texels.picture(torch.ones_like(band))[None, None]
    spread = blurred(picture, weight, 4 * MM / float(texels.step.median()))
    rough = spread.clamp(min=0).sqrt().flatten()[texels.index]
    return ((rough / usual - 2.0) / 2.0).clamp(0, 1) * places.lower * (1 - texels.region("lips"))


def blurred(x: Tensor, weight: Tensor, sigma: float) -> Tensor:
    """`normalized_convolution`, computed at half the size where the kernel is wide enough."""
    size = x.shape[-1]
    if sigma < 2.5 or size % 2:
        return normalized_convolution(x, weight, sigma)
    small = blurred(
        F.avg_pool2d(x * weight, 2) / F.avg_pool2d(weight, 2).clamp(min=0.25), F.avg_pool2d(weight, 2), sigma / 2
    )
    return F.interpolate(small, (size, size), mode="bilinear", align_corners=False)


def bend(maps: TextureMaps, height: Tensor, texels: SkinTexels) -> TextureMaps:
    """The maps of one head with a relief. height: `[N]` metres at its texels."""
    picture = texels.picture(height)
    slope = slopes(picture, texels)
    normal = maps.normal
    # slopes add up, as those of two height fields do (partial derivative blending)
    tilt = normal[:, :2] / normal[:, 2:].clamp(min=0.05) - slope
    length = (tilt.square().sum(1, keepdim=True) + 1).rsqrt()
    bent = torch.cat([tilt * length, length], 1)
    changed = (slope != 0).any(1, keepdim=True)
    step = float(texels.step.median()) if len(texels.step) else 1.0
    weight = texels.picture(torch.ones_like(height))[None, None]
    around = blurred(picture[None, None], weight, max(1.2 * MM / step, 1.5)) * weight
    cavity = 1 - torch.exp(-(around - picture).clamp(min=0) / CAVITY)
    return TextureMaps(maps.diffuse, maps.specular * (1 - CAVITY_LOSS * cavity), torch.where(changed, bent, normal))


def slopes(height: Tensor, texels: SkinTexels) -> Tensor:
    """Slopes `[1, 2, S, S]` of a height `[S, S]` in metres along the tangent (growing u) and the bitangent (up)."""
    inside = texels.covered & (texels.step.new_zeros(height.numel()).index_fill(0, texels.index, 1).view_as(height) > 0)
    right, up = (x[0] for x in steps(height[None], inside))
    u, v = texels.along_u, texels.along_v
    length = u.square().sum(0).sqrt().clamp(min=1e-6)
    shear = (v * u).sum(0) / length
    upward = (v.square().sum(0) - shear.square()).clamp(min=1e-12).sqrt()
    across = right / length
    slope = torch.stack([across, (up - across * shear) / upward])[None]
    # where texels are stretched to needles, a slope means nothing
    return slope * (STEEPEST / slope.square().sum(1, keepdim=True).sqrt().clamp(min=STEEPEST))
