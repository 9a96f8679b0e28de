"""What a photo shows of the hair: where it is, which way it runs, how bright it is.

The fitted head says where scalp, face, ears and background lie. Colours sampled there tell hair from skin and
background; the mask is smoothed and kept where it is connected to the scalp.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..filters import gaussian_blur
from ..fitting.occlusion import reconstruct
from ..image import srgb_to_linear
from ..render.camera import Camera
from ..render.interpolation import interpolate
from ..render.rasterizer import rasterize
from .colour import lab
from .groom import scalp_of
from .style import HairStyle

if TYPE_CHECKING:
    from ..avatar import Avatar
    from ..scene import Scene

WIDE = 2.4  # the view, over the scene's face crop
SIDE = 160  # pixels of the view
SAMPLES = 320  # colours of each kind that are compared
ROUNDS = 3
KERNEL = 6.0  # CIELAB, of a colour's neighbourhood
SKIN_LIKE = 4.8  # CIELAB, lightness halved: nearer to the face's colours is skin
BALD = 0.8  # share of the scalp that looks like skin
BARE_TOP = 0.25  # of the outline of the top: less hair there is a bald top


@dataclass
class View:
    """A wide square view of the photo, row 0 at the top, S = SIDE.

    image: `[3, S, S]` sRGB; valid: `[S, S]` 0 where the photo ends. camera: of the view
    depth: `[S, S]` z/w of the head, row 0 at the BOTTOM.
    edge: `[S, S]` metres inside the hairline, -1 off the head; face, ears: `[S, S]` 0..1 of the head
    metre: `[S, S, 2]` metres right of and above the head's centre, in the picture's plane
    """

    image: Tensor
    valid: Tensor
    camera: Camera
    depth: Tensor
    edge: Tensor
    face: Tensor
    ears: Tensor
    metre: Tensor


@dataclass
class Seen:
    """mask: `[S, S]` 0..1 of the hair. bare: share of the visible scalp that looks like skin.
    above: share of the outline of the head's top that hair surrounds.

    color: linear RGB `[3]`, the median of what the mask shows. orient: `[2, S, S]`, doubled angle times how sure it is
    spread: CIELAB lightness between bright and dark strands. known: whether enough of the hair is seen to say anything
    """

    mask: Tensor
    bare: float
    above: float
    color: np.ndarray
    orient: Tensor
    spread: float
    known: bool


@torch.no_grad()
def wide_view(avatar: Avatar, scene: Scene, photo: Tensor) -> View:
    """The photo `[1, 3, H, W]` round the head of a fitted scene (batch 1). Raises UserError where there is no crop."""
    head, vertices = avatar.head, avatar.vertices(scene)[:1].float().cpu()
    camera = Camera(scene.camera.focal.cpu() / WIDE, scene.camera.rotation.cpu(), scene.camera.translation.cpu())
    size = scene.size[0]
    t = (torch.arange(SIDE) + 0.5) / SIDE * 2 - 1
    y, x = torch.meshgrid(t, t, indexing="ij")
    crop = torch.stack([(x * WIDE + 1) / 2 * size, (y * WIDE + 1) / 2 * size, torch.ones_like(x)], -1)
    matrix = torch.cat([scene.photo_crop()[0].float().cpu(), torch.tensor([[0.0, 0.0, 1.0]])])
    at = crop @ torch.linalg.inv(matrix).T
    h, w = photo.shape[-2:]
    grid = torch.stack([at[..., 0] / w * 2 - 1, at[..., 1] / h * 2 - 1], -1)[None]
    step = float((at[0, 1] - at[0, 0]).norm())
    source = gaussian_blur(photo.float().cpu(), 0.4 * step) if step > 1.5 else photo.float().cpu()
    image = F.grid_sample(source, grid, padding_mode="border", align_corners=False)[0]
    valid = (grid[0].abs() < 1).all(-1)
    tri = head.triangles.cpu()
    rast = rasterize(camera.clip(vertices, 1.0), tri, (SIDE, SIDE))
    seen = rast[0, ..., 3] > 0
    scalp = scalp_of(head)
    fields = torch.stack(
        [
            torch.from_numpy(scalp.edge(HairStyle())).float(),
            head.vertex_region("face").cpu(),
            head.vertex_region("ears").cpu(),
            torch.ones(len(vertices[0])),
        ],
        1,
    )
    edge, face, ears, on = interpolate(fields, rast, tri)[0].flip(0).unbind(-1)
    distance = float(-camera.view(torch.zeros(1, 1, 3))[0, 0, 2])
    scale = distance / float(camera.focal[0])
    middle = camera.project(torch.zeros(1, 1, 3), (SIDE, SIDE))[0, 0] / SIDE * 2 - 1
    metre = torch.stack([(x - middle[0]) * scale, (middle[1] - y) * scale], -1)
    depth = torch.where(seen, rast[0, ..., 2], 9.0)
    return View(image, valid, camera, depth, torch.where(on > 0, edge, -1.0), face, ears, metre)


@torch.no_grad()
def see_hair(view: View) -> Seen:
    """Find the hair in a view."""
    rng = np.random.default_rng(0)
    color = torch.from_numpy(lab(srgb_to_linear(view.image).permute(1, 2, 0).numpy().astype(float))).float()
    smooth = F.avg_pool2d(color.permute(2, 0, 1)[None], 3, 1, 1)[0].permute(1, 2, 0)
    features = smooth * torch.tensor([0.6, 1.3, 1.3])
    on, x, y = view.edge > -0.9, view.metre[..., 0], view.metre[..., 1]
    scalp = view.valid & (view.edge > 0.008)
    skin = view.valid & (view.face > 0.8) & (view.edge < -0.022)
    radius = (x**2 + (y - 0.02) ** 2).sqrt()
    far = (
        view.valid
        & ~on
        & (((radius > 0.19) & (y > -0.05)) | ((x.abs() > 0.2) & (y <= -0.05)) | ((y < -0.27) & (x.abs() < 0.05)))
    )
    far |= view.valid & (y < -0.2) & (x.abs() > 0.17)
    nothing = Seen(torch.zeros(SIDE, SIDE), 0.0, 0.0, np.full(3, 0.05), torch.zeros(2, SIDE, SIDE), 0.0, False)
    if scalp.sum() < 30 or skin.sum() < 60:
        return nothing
    like = _like_skin(smooth, skin, rng)
    # a person's hairline may be higher than the head's: what lies round the top of the head counts as well
    rim = _rim(view) & ~like & (_nearest(features, far, rng) > 8.0)
    bare = float(like[scalp].float().mean())
    prior = _prior(view, radius)
    start = ((scalp & ~like) | rim).float()
    mask, back = start, far.float()
    if mask.sum() < 30:
        return replace(nothing, bare=bare, known=True)
    place = torch.stack([x, y], -1) * 90
    for _ in range(ROUNDS):
        hair = _density(features, mask > 0.5, rng)
        face = _density(features, skin, rng) + 1e-4
        ground = _local_density(features, place, back > 0.5)
        share = hair * prior / (hair * prior + face * 0.7 + ground + 0.002)
        share = gaussian_blur((share * view.valid)[None, None], 0.8)[0, 0]
        seed = torch.minimum(start, (share > 0.35).float())
        mask = reconstruct(seed[None, None], (share > 0.5).float()[None, None])[0, 0]
        back = (far | ((share < 0.15) & view.valid & ~on & (radius > 0.13))).float()
    closed = F.max_pool2d(mask[None, None], 3, 1, 1)
    mask = (-F.max_pool2d(-closed, 3, 1, 1))[0, 0] * view.valid
    inside = mask > 0.5
    above = float(mask[_rim(view)].mean()) if _rim(view).any() else 1.0
    bare = min(bare, 1 - above)
    if inside.sum() < 30:
        return replace(nothing, mask=mask, bare=bare, known=True)
    linear = srgb_to_linear(view.image)[:, inside]
    light = color[..., 0][inside]
    spread = float(light.quantile(0.85) - light.quantile(0.15))
    return Seen(
        mask,
        bare,
        above,
        linear.median(1).values.numpy().astype(float),
        _orientation(view.image, mask),
        spread,
        True,
    )


def _like_skin(color: Tensor, skin: Tensor, rng: np.random.Generator) -> Tensor:
    """`[S, S]` bool: whether a pixel is near a colour of the face, shading apart."""
    scale = torch.tensor([0.45, 1.0, 1.0])
    known = _pick(color * scale, skin, rng)
    usual = known.median(0).values
    known = known[(known - usual).norm(dim=1) < 8]
    return torch.cdist((color * scale).reshape(-1, 3), known).amin(1).view(SIDE, SIDE) < SKIN_LIKE


def _rim(view: View) -> Tensor:
    """`[S, S]` bool: a centimetre round the upper head, where even short hair is seen."""
    on = (view.edge > -0.9).float()
    pixel = float((view.metre[0, 1] - view.metre[0, 0]).norm())
    reach = max(1, round(0.010 / pixel))
    return (F.max_pool2d(on[None, None], 2 * reach + 1, 1, reach)[0, 0] > on) & (view.metre[..., 1] > 0.05) & view.valid


def _nearest(values: Tensor, where: Tensor, rng: np.random.Generator) -> Tensor:
    """Distance `[S, S]` of each pixel's value to the nearest of those `where`; far where there are none."""
    known = _pick(values, where, rng)
    if not len(known):
        return torch.full(values.shape[:2], 99.0)
    return torch.cdist(values.reshape(-1, values.shape[-1]), known).amin(1).view(values.shape[:2])


def _pick(values: Tensor, where: Tensor, rng: np.random.Generator) -> Tensor:
    found = values[where]
    return found[torch.from_numpy(rng.permutation(len(found))[:SAMPLES])]


def _density(values: Tensor, where: Tensor, rng: np.random.Generator) -> Tensor:
    """How common each pixel's value `[S, S, C]` is among those `where`: `[S, S]`."""
    known = _pick(values, where, rng)
    if not len(known):
        return torch.zeros(values.shape[:2])
    apart = torch.cdist(values.reshape(-1, values.shape[-1]), known)
    return torch.exp(-0.5 * (apart / KERNEL) ** 2).mean(1).view(values.shape[:2])


def _local_density(values: Tensor, place: Tensor, where: Tensor) -> Tensor:
    """How common each value is among those near it `where`: `[S, S]`. place: `[S, S, 2]`, in units of KERNEL."""
    rng = np.random.default_rng(1)
    both = _pick(torch.cat([values, place], -1), where, rng)
    if len(both) < 30:
        return torch.full(values.shape[:2], 1e-4)
    near = torch.exp(-0.5 * (torch.cdist(place.reshape(-1, 2), both[:, 3:]) / KERNEL) ** 2)
    like = torch.exp(-0.5 * (torch.cdist(values.reshape(-1, 3), both[:, :3]) / KERNEL) ** 2)
    return ((near * like).sum(1) / (near.sum(1) + 0.3)).view(values.shape[:2])


def _prior(view: View, radius: Tensor) -> Tensor:
    """How likely hair is at a pixel whatever its colour, `[S, S]`."""
    x, y = view.metre.unbind(-1)
    on = view.edge > -0.9
    away = torch.exp(-(((radius - 0.1).clamp(min=0) / 0.09) ** 2))
    beside = torch.exp(-(((x.abs() - 0.09).clamp(min=0) / 0.06) ** 2)) * torch.exp(-((-y - 0.2).clamp(min=0) / 0.1))
    prior = torch.where(y > -0.04, away, 0.35 * beside)
    prior = torch.where(on & (view.edge > 0.0), torch.ones_like(prior) * 2.5, prior)
    face = on & (view.face > 0.5) & (view.edge < -0.012)
    forehead = (view.edge / 0.06 + 1).clamp(0, 1) * 0.35
    prior = torch.where(face, 0.02 + forehead, prior)
    return torch.where(on & (view.face <= 0.5) & (view.edge < -0.015) & (view.ears < 0.5), 0.3 * prior, prior)


def _orientation(image: Tensor, mask: Tensor) -> Tensor:
    """Structure tensor (Bigun & Granlund 1987) of the hair: `[2, S, S]` doubled angle of the strands, x right, y up."""
    grey = image.mean(0)
    gy, gx = torch.gradient(grey)
    inner = -F.max_pool2d(-mask[None, None], 5, 1, 2)
    tensor = torch.stack([gx * gx, gy * gy, gx * gy])[None] * inner
    xx, yy, xy = gaussian_blur(tensor, 2.5)[0]
    total = xx + yy + 1e-6
    # strands run across the gradient, and rows count downwards
    return torch.stack([-(xx - yy) / total, 2 * xy / total]) * inner[0]
