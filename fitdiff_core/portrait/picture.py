"""A head as a photographer would light it: the picture behind every picture node. Not differentiable."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ..head import HeadModel
from ..maps import TextureMaps
from ..render.antialiasing import antialias
from ..render.camera import Camera
from ..render.interpolation import covered, filtered_texture, interpolate_at, texture_level
from ..render.light import Light
from ..render.normals import frames, perturb_normal
from ..render.orientation import raster_to_image
from ..render.parts import EYE, SKIN, vertex_kinds
from ..render.rasterizer import rasterize
from ..render.renderer import edge_table
from ..render.shading import F0_SCALE, environment_brdf, facing_viewer, ggx, lobe_direction, sh_blurred
from .eyes import COAT_F0, Eyeballs
from .lamps import HALF_ANGLE, LampMap, soft_cosine
from .pores import porous, shown
from .scatter import scatter
from .sky import see_sky

if TYPE_CHECKING:
    from ..hair.groom import HairMesh
    from ..head.whole import WholeHead

APART = 10.0  # metres between kinds of surface in the depth that `scatter` gets
LOBES = ((0.85, 0.60), (1.40, 0.40))  # of skin: factor of the roughness, share
VEIL = 0.4  # of the environment mirrored by eyes: harmonics have no shapes to see, only a haze over the pupil
WET_LIGHT = 0.75  # share of the sky over the corners of the eyes
SIDEWAYS = 0.25  # cosine to a lamp below which highlights of bent normals fade
SHARP = 3e-5  # depth margin of the antialiasing: lids lie close to the eyeball


@dataclass
class Hair:
    """Hair that shades the head. positions: `[V, 3]`; light: `[H]` share of ambient light that it leaves the head"""

    mesh: HairMesh
    positions: Tensor
    light: Tensor


@torch.no_grad()
def portrait(
    vertices: Tensor,
    head: HeadModel | WholeHead,
    maps: TextureMaps,
    camera: Camera,
    light: Light,
    size: tuple[int, int],
    roughness: Tensor,
    background: Tensor | None = None,
    hair: Hair | None = None,
) -> tuple[Tensor, Tensor]:
    """Linear radiance `[1, 3, H, W]` and coverage `[1, 1, H, W]` of one head, row 0 at the top.

    vertices: `[1, V, 3]` metres, posed. maps, camera, light: batch 1
    roughness: `[V]` perceptual, see `head.gloss`
    background: linear, broadcasts to `[H, W, 3]`, row 0 at the bottom; None is black
    """
    g = _Surface.of(vertices, head, maps, camera, size, roughness)
    albedo = _mean_skin(maps, g)
    model = model_of(head)
    eyes = slice(model.n_skin, model.n_skin + 2 * len(model.eyeball))
    sky = see_sky(vertices[0], g.vertex_normal, head.triangles, light, albedo, eyes)
    share, open_ = _shared_light(sky.share, sky.open, head, vertices, hair)
    lit = g.at(torch.cat([share, open_], 1))
    share, open_ = lit[:, :3], lit[:, 3:]

    soft = light.irradiance(g.smooth[None])[0].clamp(min=0)
    fine = light.irradiance(g.normal[None])[0].clamp(min=0)
    matte = share * torch.lerp(soft, fine, 0.7)
    gloss = _environment_gloss(g, light, open_, share)
    for k in range(light.direction.shape[1]):
        toward, color = light.direction[0, k], light.color[0, k]
        if float(color.max()) <= 0:
            continue
        seen = _lamp_map(toward, vertices[0], head, hair).visibility(g.position, g.smooth)[:, None]
        matte = matte + seen * color / math.pi * soft_cosine((g.normal @ toward)[:, None])
        gloss = gloss + seen * color * _lamp_gloss(g, toward)

    image = g.spread(matte).permute(2, 0, 1)
    image = scatter(image, g.scatter_depth(), albedo, g.pixels_per_metre)
    matte = image.permute(1, 2, 0).reshape(-1, 3)[g.pixel]
    return g.finish(g.albedo * matte + gloss, background)


def _shared_light(
    share: Tensor, open_: Tensor, head: HeadModel | WholeHead, vertices: Tensor, hair: Hair | None
) -> tuple[Tensor, Tensor]:
    """Sky at the vertices, less where hair hangs over the skin; the painted mouth keeps its own darkness."""
    if hair is not None:
        left = F.pad(hair.light, (0, len(share) - len(hair.light)), value=1.0).to(share)[:, None]
        share, open_ = share * left, open_ * left
    parts: dict[str, slice] = getattr(head, "parts", {})
    if "Mouth" in parts:
        rows = parts["Mouth"]
        own = head.light_at(vertices)[0, rows, None]
        share, open_ = share.clone(), open_.clone()
        share[rows], open_[rows] = own.expand(-1, 3), own
    if "EyeWet" in parts:  # too small for the depth maps
        rows = parts["EyeWet"]
        share, open_ = share.clone(), open_.clone()
        share[rows], open_[rows] = WET_LIGHT, WET_LIGHT
    return share, open_


def _mean_skin(maps: TextureMaps, g: _Surface) -> Tensor:
    """Median albedo `[3]` of the skin that is seen."""
    skin = g.albedo[(g.kind == SKIN)][::13]
    return skin.median(0).values.clamp(0.02, 0.9) if len(skin) else maps.diffuse[0].mean((1, 2)).clamp(0.02, 0.9)


def _lamp_map(toward: Tensor, points: Tensor, head: HeadModel | WholeHead, hair: Hair | None) -> LampMap:
    if hair is None:
        return LampMap.draw(toward, points, head.triangles)
    return LampMap.draw(toward, points, head.triangles, hair.mesh, hair.positions.to(points))


def _environment_gloss(g: _Surface, light: Light, open_: Tensor, share: Tensor) -> Tensor:
    """What the surface mirrors of the environment, `[N, 3]`."""
    # what is hidden of the sky is hidden of the mirrored sky (Lagarde & de Rousiers 2014, 4.10)
    hidden = ((g.n_v + open_).clamp(min=0) ** torch.exp2(-16 * g.rough - 1) - 1 + open_).clamp(0, 1)
    tint = share / share.mean(1, keepdim=True).clamp(min=1e-4)
    total = torch.zeros_like(g.albedo)
    for factor, part in LOBES:
        rough = (g.rough * factor).clamp(max=0.85)
        mirror = lobe_direction(g.shiny, g.view, g.n_v, rough)
        total += part * environment_brdf(g.f0, g.n_v, rough) * sh_blurred(mirror[None], light, rough)[0]
    total = total * hidden * tint
    coat = g.coat > 0
    if coat.any():
        rows = torch.nonzero(coat[:, 0]).squeeze(1)
        n_v = (g.smooth[rows] * g.view[rows]).sum(1, keepdim=True).clamp(1e-3, 1)
        mirror = 2 * n_v * g.smooth[rows] - g.view[rows]
        fresnel = COAT_F0 + (1 - COAT_F0) * (1 - n_v) ** 5 * 0.6
        total[rows] += VEIL * g.coat[rows] * fresnel * light.radiance(mirror[None])[0].clamp(min=0) * open_[rows] ** 2
    return total


def _lamp_gloss(g: _Surface, toward: Tensor) -> Tensor:
    """Highlights of a lamp of irradiance 1, `[N, 3]`."""
    bare = (g.smooth @ toward)[:, None]
    rows = torch.nonzero(bare[:, 0] > -math.sin(HALF_ANGLE)).squeeze(1)
    normal, view, rough, f0 = (x[rows] for x in (g.shiny, g.view, g.rough, g.f0))
    n_l = (normal @ toward)[:, None].clamp(min=0)
    n_v = g.n_v[rows]
    value = torch.zeros_like(normal)
    for factor, part in LOBES:
        # the lamp's own size widens the highlight
        wide = ((rough * factor).clamp(max=0.85) ** 4 + (HALF_ANGLE / 2) ** 2) ** 0.25
        value += (
            part
            * ggx(f0[None], normal[None], view[None], toward.expand_as(normal)[None], n_l[None], n_v[None], wide[None])[
                0
            ]
        )
    value = value * n_l * (bare[rows] / SIDEWAYS).clamp(0, 1)
    coated = torch.nonzero(g.coat[rows, 0] > 0).squeeze(1)
    if len(coated):
        at = rows[coated]
        normal, view = g.smooth[at], g.view[at]
        cosine = (normal @ toward)[:, None].clamp(min=0)
        n_v = (normal * view).sum(1, keepdim=True).clamp(1e-3, 1)
        mirror = 2 * n_v * normal - view
        # the lamp's disk itself, mirrored: its radiance is irradiance over solid angle
        angle = torch.acos((mirror @ toward).clamp(-1, 1))[:, None]
        disk = ((1.25 * HALF_ANGLE - angle) / (0.5 * HALF_ANGLE)).clamp(0, 1)
        fresnel = COAT_F0 + (1 - COAT_F0) * (1 - n_v) ** 5
        solid = math.pi * HALF_ANGLE**2
        value[coated] += g.coat[at] * fresnel * (disk / solid) * (cosine > 0)
    out = torch.zeros_like(g.albedo)
    out[rows] = value
    return out


class _Surface:
    """What is seen in the covered pixels, N in number. Vectors are unit, in world space.

    pixel: `[N]` into the flattened picture, row 0 at the bottom; position, normal, shiny (what highlights see),
    smooth (the mesh's own normal), view, albedo, f0: `[N, 3]`; rough, coat, n_v: `[N, 1]`; kind: `[N]` of SKIN to WET
    """

    vertex_normal: Tensor
    pixel: Tensor
    position: Tensor
    normal: Tensor
    shiny: Tensor
    smooth: Tensor
    view: Tensor
    albedo: Tensor
    f0: Tensor
    rough: Tensor
    coat: Tensor
    n_v: Tensor
    kind: Tensor
    depth: Tensor
    pixels_per_metre: float

    def __init__(self, pos: Tensor, tri: Tensor, size: tuple[int, int]):
        self.pos, self.tri, self.size = pos, tri, size
        self.rast = rasterize(pos, tri, size)
        self.pixel = covered(self.rast)
        self.batch = torch.zeros_like(self.pixel)

    @classmethod
    def of(
        cls,
        vertices: Tensor,
        head: HeadModel | WholeHead,
        maps: TextureMaps,
        camera: Camera,
        size: tuple[int, int],
        roughness: Tensor,
    ) -> _Surface:
        tri, uv = head.triangles, head.uv.to(vertices)
        g = cls(camera.clip(vertices, size[1] / size[0]), tri, size)
        normal, tangent = frames(vertices, uv, tri)
        g.vertex_normal = normal[0]
        kinds = vertex_kinds(head).to(vertices.device)
        seen = g.rast.reshape(-1, 4).index_select(0, g.pixel)[:, 3].long() - 1
        g.kind = kinds[tri.long()[seen, 0]]
        values = g.at(torch.cat([normal[0], tangent[0], uv, vertices[0], roughness.to(vertices)[:, None]], 1))
        bare, tangent, at, g.position, g.rough = values.split([3, 4, 2, 3, 1], 1)
        g.view = F.normalize(camera.position() - g.position, dim=1)
        g.smooth = facing_viewer(F.normalize(bare, dim=1, eps=1e-8), g.view)
        eyes = Eyeballs.of(model_of(head), vertices[0])
        rows = torch.nonzero(g.kind == EYE).squeeze(1)
        hit = None
        if eyes is not None and len(rows):
            local = g.at(torch.cat([eyes.local, eyes.side[:, None]], 1))[rows]
            hit = eyes.refract(local[:, :3], local[:, 3], g.smooth[rows], g.view[rows], at[rows])
            at = at.index_copy(0, rows, hit.uv)
        level = texture_level(g.spread(at)[None], g.rast[..., 3] > 0, maps.size)
        texels = filtered_texture(maps.stack().to(vertices.dtype), at[None, None], level)[0, 0]
        g.albedo, specular = texels[:, :3], texels[:, 3:6]
        g.normal = facing_viewer(perturb_normal(bare, tangent, texels[:, 6:9]), g.view)
        g.f0, g.coat = F0_SCALE * specular, torch.zeros_like(g.rough)
        if hit is not None:
            g.albedo = g.albedo.index_copy(0, rows, hit.color(g.albedo[rows]))
            g.normal = g.normal.index_copy(
                0, rows, F.normalize(torch.lerp(g.normal[rows], hit.normal, hit.inside), dim=1)
            )
            g.f0 = g.f0.index_fill(0, rows, 0.0)  # the coat alone shines
            g.coat = g.coat.index_fill(0, rows, 1.0)
        g.pixels_per_metre = float(camera.focal[0] * size[0] / 2 / g.pos[0, :, 3].median())
        g.shiny = g.normal
        if strength := shown(1 / g.pixels_per_metre):
            skin = torch.nonzero(g.kind == SKIN).squeeze(1)
            bent = porous(g.normal[skin], tangent[skin], at[skin], strength)
            g.shiny = g.normal.index_copy(0, skin, facing_viewer(bent, g.view[skin]))
        g.n_v = (g.shiny * g.view).sum(1, keepdim=True).clamp(1e-3, 1)
        g.depth = g.at(g.pos[0, :, 3:])[:, 0]
        return g

    def at(self, values: Tensor) -> Tensor:
        """Vertex values `[V, C]` -> `[N, C]`."""
        return interpolate_at(values, self.rast, self.tri, self.pixel, self.batch)

    def spread(self, values: Tensor) -> Tensor:
        """`[N, C]` -> `[H, W, C]`, 0 elsewhere, row 0 at the bottom."""
        out = values.new_zeros(self.size[0] * self.size[1], values.shape[1])
        return out.index_copy(0, self.pixel, values).view(*self.size, -1)

    def scatter_depth(self) -> Tensor:
        """Depth `[H, W]`, in which the kinds of surface lie APART metres from each other."""
        return self.spread((self.depth + APART * (self.kind + 1))[:, None])[..., 0]

    def finish(self, color: Tensor, background: Tensor | None) -> tuple[Tensor, Tensor]:
        """Radiance `[N, 3]` over the background -> the picture and its coverage, antialiased."""
        mask = self.spread(torch.ones_like(color[:, :1]))
        behind = color.new_zeros(1, 1, 3) if background is None else background.to(color)
        image = torch.cat([self.spread(color) + (1 - mask) * behind, mask], -1)[None]
        image = raster_to_image(antialias(image, self.rast, self.pos, self.tri, edge_table(self.tri), SHARP))
        return image[:, :3], image[:, 3:]


def model_of(head: HeadModel | WholeHead) -> HeadModel:
    """The head model of a whole head, or the model itself."""
    return head if isinstance(head, HeadModel) else head.head
