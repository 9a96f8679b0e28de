"""Hair cards drawn over a picture: layers of cut-out alpha, two-sided and anisotropic shading, shadows.

Hair is a layer of its own. It has no gradient, and a picture without hair never comes here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from .camera import Camera
from .fragments import Fragments, fragments
from .interpolation import texture
from .light import Light
from .normals import perturb_normal
from .rasterizer import rasterize

if TYPE_CHECKING:
    from ..hair.groom import HairMesh

LAYERS = 10  # fragments of a pixel that are shaded, from the front
OPAQUE = 0.04  # of the light that gets through: what lies behind is left out
EDGE_ON = (0.05, 0.30)  # cosines to the view at which a card begins to be drawn, and is all drawn
FAINT = 0.03  # alpha below which a fragment is nothing
TEXEL = 1e-4  # metres of hair that a texel of the atlas shows across a card
# Longitudinal lobes (Marschner et al. 2003): shift towards the root, width (radians), strength
PRIMARY, SECONDARY = (-0.06, 0.12, 0.10), (0.12, 0.24, 0.70)
# of soft light: its share that strands mirror white and coloured; turns round the strand (radians) and their weights
SHEEN, COLOURED_SHEEN = 0.012, 0.40
CONE = [(turn, math.cos(turn / 2)) for turn in (-1.2, -0.6, 0.0, 0.6, 1.2)]
COARSEST = 4  # halvings of the texture at most
SHADOW_MAP = 160
SHADOW_DEPTH = 0.016  # metres of hair that let 1/e of a light through


@dataclass
class Window:
    """A part of a picture. whole, size: (H, W) pixels of both; left, low: the part's first column and lowest row."""

    whole: tuple[int, int]
    size: tuple[int, int]
    left: int
    low: int

    def clip(self, pos: Tensor) -> Tensor:
        """Clip positions `[B, V, 4]` of the whole picture -> of the part."""
        (height, width), (tall, wide) = self.whole, self.size
        x, y, z, w = pos.unbind(-1)
        x = x * (width / wide) + w * ((width - 2 * self.left - wide) / wide)
        y = y * (height / tall) + w * ((height - 2 * self.low - tall) / tall)
        return torch.stack([x, y, z, w], -1)


@torch.no_grad()
def hair_layer(
    hair: HairMesh,
    positions: Tensor,
    camera: Camera,
    light: Light,
    size: tuple[int, int],
    head_depth: Tensor,
    visibility: Tensor | None = None,
    window: Window | None = None,
) -> tuple[Tensor, Tensor]:
    """Hair alone: linear radiance times coverage `[1, 3, H, W]`, and coverage `[1, 1, H, W]`, row 0 at the top.

    positions: `[V, 3]` of the hair. camera, light: batch 1
    head_depth: `[H, W]` z/w of what hides hair, large where nothing does, row 0 at the bottom
    visibility: `[V, L]` of each directional light
    window: draw a part of a picture, `size` and `head_depth` are then of the part
    """
    height, width = size
    share, found, uv, texels = _visible(hair, positions, camera, size, head_depth, window)
    if not len(found.pixel):
        return positions.new_zeros(1, 3, height, width), positions.new_zeros(1, 1, height, width)
    single = torch.stack([hair.light, hair.gloss], 1)
    values = [hair.normals, hair.tangents, hair.direction, positions, single, hair.tone]
    values += [] if visibility is None else [visibility]
    at = _at(torch.cat(values, 1), found, hair.triangles)
    color, bend = _colors(hair, uv, texels)
    normal = perturb_normal(at[None, :, 0:3], at[None, :, 3:7], bend[None])[0]
    view = F.normalize(camera.position() - at[:, 10:13], dim=1)
    direction = F.normalize(at[:, 7:10], dim=1)
    color = color * at[:, 15:18]
    radiance = shade_hair(color, normal, direction, view, light, at[:, 13:14], at[:, 14:15], at[:, 18:])
    image = _spread(torch.cat([radiance, torch.ones_like(share[:, None])], 1), share, found, size)
    return image[:, :3], image[:, 3:].clamp(0, 1)


@torch.no_grad()
def hair_geometry(
    hair: HairMesh, positions: Tensor, camera: Camera, size: tuple[int, int], head_depth: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Coverage `[1, 1, H, W]`, depth along the camera's axis `[1, 1, H, W]` metres, unit normals in camera space and
    linear albedo `[1, 3, H, W]` of hair; arguments as `hair_layer`. All but the coverage are 0 where there is none."""
    share, found, uv, texels = _visible(hair, positions, camera, size, head_depth)
    depth = -camera.view(positions[None])[0, :, 2:]
    normal = hair.normals @ camera.matrix()[0].T
    at = _at(torch.cat([depth, normal, torch.ones_like(depth), hair.tone], 1), found, hair.triangles)
    facing = torch.where(at[:, 3:4] < 0, -1.0, 1.0)
    color = _colors(hair, uv, texels)[0] * at[:, 5:]
    image = _spread(torch.cat([at[:, :1], at[:, 1:4] * facing, at[:, 4:5], color], 1), share, found, size)
    cover = image[:, 4:5]
    over = cover.clamp(min=1e-6)
    return cover.clamp(0, 1), image[:, :1] / over, F.normalize(image[:, 1:4], dim=1, eps=1e-8), image[:, 5:] / over


def _visible(
    hair: HairMesh,
    positions: Tensor,
    camera: Camera,
    size: tuple[int, int],
    head_depth: Tensor,
    window: Window | None = None,
) -> tuple[Tensor, Fragments, Tensor, Tensor]:
    """Share `[N]` of each visible fragment, the fragments, their uv `[N, 2]`, and texels `[N]` in a pixel."""
    height, width = size if window is None else window.whole
    pos = camera.clip(positions[None], width / height)
    tall = float(height)  # of the whole picture, in pixels of `size`
    if window is not None:
        pos = window.clip(pos)
        tall *= size[0] / window.size[0]
    found = fragments(pos[0], hair.triangles, size, head_depth)
    uv = _at(hair.uv, found, hair.triangles)
    texels = float(1 / (camera.focal[0] * tall / 2)) * float(pos[0, :, 3].median()) / TEXEL
    eye = camera.position()[0]
    across = _texels(hair, positions, eye, texels)
    alpha = _alpha(hair, uv, across[found.tri]) * _turned_to(positions, hair, eye)[found.tri]
    share, found, uv = _blend(found, alpha, uv)
    return share, found, uv, across[found.tri]


def _turned_to(positions: Tensor, hair: HairMesh, eye: Tensor) -> Tensor:
    """Share `[T]` of each triangle that is drawn: no card that is seen edge-on, as a broken line of pixels.

    The cap and tubes have no edges of that kind: they are drawn whole, or the skin would show at the crown.
    """
    tri = hair.triangles
    a, b, c = (positions[tri[:, k]] for k in range(3))
    normal = F.normalize(torch.linalg.cross(b - a, c - a), dim=1, eps=1e-20)
    cosine = (normal * F.normalize(eye - a, dim=1)).sum(1).abs()
    x = ((cosine - EDGE_ON[0]) / (EDGE_ON[1] - EDGE_ON[0])).clamp(0, 1)
    return torch.where(hair.uv[tri[:, 0], 1] < 0.5, 1.0, x * x * (3 - 2 * x))


def _spread(values: Tensor, share: Tensor, found: Fragments, size: tuple[int, int]) -> Tensor:
    """Fragments' values `[N, C]` times their share, summed in their pixels: `[1, C, H, W]`, row 0 at the top."""
    image = values.new_zeros(size[0] * size[1], values.shape[1])
    image.index_add_(0, found.pixel, values * share[:, None])
    return image.view(*size, -1).flip(0).permute(2, 0, 1)[None]


def _at(values: Tensor, found: Fragments, tri: Tensor) -> Tensor:
    """Vertex values `[V, C]` at fragments -> `[N, C]`."""
    corner = tri.index_select(0, found.tri)
    parts = (values.index_select(0, corner[:, k]) * found.weight[:, k : k + 1] for k in range(3))
    return sum(parts, start=values.new_zeros(()))


def _look_up(plane: Tensor, uv: Tensor, texels: Tensor) -> Tensor:
    """Plane `[C, S, S]` at uv `[N, 2]` -> `[N, C]`, cards (upper half) averaged over `texels` `[N]` across them."""
    half = plane.shape[1] // 2
    upper = uv[:, 1] > 0.5
    level = torch.where(upper, texels.clamp(min=1).log2().round().clamp(0, COARSEST).long(), -1)
    out = plane.new_zeros(len(uv), len(plane))
    for k in range(-1, COARSEST + 1):
        rows = torch.nonzero(level == k).squeeze(1)
        if not len(rows):
            continue
        part, v0 = (plane[:, half:], 0.0) if k < 0 else (plane[:, :half], 0.5)
        part = F.avg_pool2d(part[None], (2 ** max(0, k - 1), 2 ** max(0, k)))
        at = torch.stack([uv[rows, 0], (uv[rows, 1] - v0) * 2], 1)
        out[rows] = texture(part, at[None, None])[0, 0]
    return out


def _texels(hair: HairMesh, positions: Tensor, eye: Tensor, texels: float) -> Tensor:
    """Texels `[T]` across a card that a pixel spans; more where a triangle's width is foreshortened."""
    a = hair.triangles[:, 0]
    along = (hair.tangents[a, :3] * F.normalize(eye - positions[a], dim=1)).sum(1)
    return texels / (1 - along.square()).clamp(min=0.004).sqrt()


def card_alpha(hair: HairMesh, found: Fragments, metres: float) -> Tensor:
    """Opacity `[N]` of fragments of cards, where a pixel spans `metres`."""
    texels = found.depth.new_full((len(found.tri),), metres / TEXEL)
    return _alpha(hair, _at(hair.uv, found, hair.triangles), texels)


def _alpha(hair: HairMesh, uv: Tensor, texels: Tensor) -> Tensor:
    return (_look_up(hair.texture.alpha, uv, texels)[:, 0] * 1.15).clamp(0, 1)


def _colors(hair: HairMesh, uv: Tensor, texels: Tensor) -> tuple[Tensor, Tensor]:
    planes = _look_up(torch.cat([hair.texture.color, hair.texture.normal]), uv, texels)
    return planes[:, :3], F.normalize(planes[:, 3:], dim=1)


def _blend(found: Fragments, alpha: Tensor, uv: Tensor) -> tuple[Tensor, Fragments, Tensor]:
    """Share of each visible fragment in its pixel, front to back: (share `[M]`, fragments, uv)."""
    # what lies behind an opaque fragment is never seen: most fragments go before they are sorted
    full = alpha > 1 - OPAQUE / 2
    wall = torch.full((int(found.pixel.max()) + 1 if len(alpha) else 1,), math.inf)
    wall.scatter_reduce_(0, found.pixel[full], found.depth[full], "amin")
    solid = (alpha > FAINT) & (found.depth <= wall[found.pixel])
    found, alpha, uv = found[solid], alpha[solid], uv[solid]
    key = (found.pixel << 31) | ((found.depth.double() * 0.5 + 0.5).clamp(0, 1) * 2147483000).long()
    order = torch.argsort(key)
    found, alpha, uv = found[order], alpha[order], uv[order]
    start = torch.ones_like(found.pixel, dtype=torch.bool)
    start[1:] = found.pixel[1:] != found.pixel[:-1]
    first = torch.cummax(torch.where(start, torch.arange(len(start)), 0), 0).values
    through = (1 - alpha.double()).clamp(min=1e-3).log()
    before = torch.cumsum(through, 0) - through
    before = (before - before[first]).exp().float()
    keep = (torch.arange(len(start)) - first < LAYERS) & (before > OPAQUE)
    return (before * alpha)[keep], found[keep], uv[keep]


def shade_hair(
    color: Tensor,
    normal: Tensor,
    along: Tensor,
    view: Tensor,
    light: Light,
    ambient: Tensor,
    gloss: Tensor,
    visibility: Tensor,
) -> Tensor:
    """Outgoing linear radiance `[N, 3]` of hair, the same for both faces of a card.

    Diffuse light wraps round the strands; two highlights lie along them: a white one shifted to the root, and one of
    the hair's colour shifted to the tip (Marschner et al. 2003, as in Scheuermann 2004).
    color: `[N, 3]` linear. normal, along, view: `[N, 3]` unit. ambient, gloss: `[N, 1]`
    visibility: `[N, L]`, or `[N, 0]` for 1
    """
    normal = normal * torch.where((normal * view).sum(1, keepdim=True) < -0.3, -1.0, 1.0)
    soft = light.irradiance(normal[None])[0].clamp(min=0)
    result = color * soft * ambient * 1.1
    sine_v = (along * view).sum(1, keepdim=True)
    result = result + gloss * ambient**1.5 * (SHEEN + color * COLOURED_SHEEN) * _from_cone(normal, along, view, light)
    tinted = color.clamp(min=1e-4).sqrt() * 0.55
    for k in range(light.direction.shape[1]):
        toward, lamp = light.direction[0, k], light.color[0, k]
        seen = visibility[:, k : k + 1] if visibility.shape[1] else 1.0
        sine_l = along @ toward[:, None]
        cosine = normal @ toward[:, None]
        matte = (1 - sine_l**2).clamp(min=0).sqrt() * ((cosine + 0.35) / 1.35).clamp(min=0)
        azimuth = (0.5 + 0.5 * ((view * toward).sum(1, keepdim=True) - sine_l * sine_v)).clamp(0, 1)
        tilt = (sine_l.clamp(-1, 1).asin() + sine_v.clamp(-1, 1).asin()) / 2
        facing = ((cosine + 0.25) / 1.25).clamp(0, 1)
        spec = torch.zeros_like(cosine)
        for (shift, width, strength), tint in ((PRIMARY, 1.0), (SECONDARY, tinted)):
            spec = spec + strength * tint * torch.exp(-(((tilt - shift) / width) ** 2)) * (0.35 + 0.65 * azimuth)
        result = result + lamp * seen * (color * matte / math.pi + 0.34 * gloss * spec * facing * ambient.sqrt())
    return result


def _from_cone(normal: Tensor, along: Tensor, view: Tensor, light: Light) -> Tensor:
    """Mean soft light `[N, 3]` from where strands mirror it to the eye: a cone round the strand, cut by the surface."""
    sine = (along * view).sum(1, keepdim=True)
    across = view - sine * along
    cosine = across.norm(dim=1, keepdim=True)
    ahead = across / cosine.clamp(min=1e-4)
    aside = torch.linalg.cross(along, ahead)
    total, whole = torch.zeros_like(normal), torch.zeros_like(sine)
    for turn, share in CONE:
        toward = cosine * (math.cos(turn) * ahead + math.sin(turn) * aside) - sine * along
        share = share * ((toward * normal).sum(1, keepdim=True) + 0.3).clamp(0, 1)
        total += share * light.radiance(toward[None])[0].clamp(min=0)
        whole += share
    return total / whole.clamp(min=1e-4) * (whole * 1.2).clamp(max=1)


def hair_shadows(
    hair: HairMesh, positions: Tensor, vertices: Tensor, triangles: Tensor, light: Light
) -> tuple[Tensor, Tensor]:
    """What each directional light gives to hair `[V, L]` and what hair leaves of it for the head `[H, L]`, 0..1.

    positions: `[V, 3]` of the hair; vertices, triangles: of the head. Light fades exponentially within hair.
    """
    to_hair, to_head = [], []
    centre = vertices.mean(0)
    reach = max(float((p - centre).norm(dim=1).max()) for p in (vertices, positions)) * 1.02
    for direction in light.direction[0]:
        z = F.normalize(direction, dim=0)
        helper = torch.tensor([0.0, 1.0, 0.0] if abs(float(z[1])) < 0.9 else [1.0, 0.0, 0.0]).to(z)
        x = F.normalize(torch.linalg.cross(helper, z), dim=0)
        frame = torch.stack([x, torch.linalg.cross(z, x), -z])
        at_hair, at_head = ((p - centre) @ frame.T / reach for p in (positions, vertices))
        near_hair, near_head = (_depth_map(p, t) for p, t in ((at_hair, hair.triangles), (at_head, triangles)))
        inside = (at_hair[:, 2] - _soft_read(near_hair, at_hair)).clamp(min=0) * reach
        behind = (at_hair[:, 2] - _soft_read(near_head, at_hair)) * reach
        to_hair.append(
            torch.exp(-(inside - 0.003).clamp(min=0) / SHADOW_DEPTH) * (1 - (behind / 0.006 - 0.5).clamp(0, 1))
        )
        under = (at_head[:, 2] - _soft_read(near_hair, at_head)) * reach
        to_head.append(1 - 0.85 * (under / 0.012).clamp(0, 1))
    if not to_hair:
        return positions.new_zeros(len(positions), 0), vertices.new_zeros(len(vertices), 0)
    return torch.stack(to_hair, 1), torch.stack(to_head, 1)


def _depth_map(points: Tensor, triangles: Tensor) -> Tensor:
    rast = rasterize(F.pad(points, (0, 1), value=1.0)[None], triangles, (SHADOW_MAP, SHADOW_MAP))[0]
    return torch.where(rast[..., 3] > 0, rast[..., 2], 2.0)


def _soft_read(depth: Tensor, at: Tensor) -> Tensor:
    """Mean nearest depth about points `[N, 3]` of light space; where little is seen it counts as behind them."""
    total = torch.zeros(len(at))
    steps = (-1.6, 0.0, 1.6)
    for dx in steps:
        for dy in steps:
            column = ((at[:, 0] + 1) / 2 * SHADOW_MAP - 0.5 + dx).round().long().clamp(0, SHADOW_MAP - 1)
            row = ((at[:, 1] + 1) / 2 * SHADOW_MAP - 0.5 + dy).round().long().clamp(0, SHADOW_MAP - 1)
            total += torch.minimum(depth[row, column], at[:, 2])
    return total / 9
