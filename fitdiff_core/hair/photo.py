"""What a photo shows of the hair: where it is, which way it runs, how bright it is.

The fitted head says where scalp, face, ears and background lie; a network finds the hair (`segmenter.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..filters import dilate, erode, gaussian_blur
from ..image import srgb_to_linear
from ..render.camera import Camera
from ..render.interpolation import interpolate
from ..render.rasterizer import rasterize
from .colour import lab
from .groom import scalp_of
from .style import HairStyle

if TYPE_CHECKING:
    from ..head import HeadModel
    from ..scene import Scene

WIDE = 2.0  # the view, over the scene's face crop: some 60 cm
SIDE = 160  # pixels of the view
FINER = 3  # of the finer view: 1.25 mm a pixel
SAMPLES = 320  # colours of the face that are compared
LEAST_SEEN = 30  # pixels of scalp, face or hair; fewer tell nothing
COVERED = 0.6  # share of the scalp that is neither hair nor of the skin's colour: a hat
SKIN_LIKE = 4.8  # CIELAB, lightness halved: nearer to the face's colours is skin
BALD = 0.8  # share of the scalp that looks like skin
LOW = -0.04  # metres; hair below it is long
BARE_TOP = 0.25  # of the outline of the top: less hair there is a bald top


@dataclass
class View:
    """A wide square view of the photo, row 0 at the top, S = SIDE.

    image: `[3, S, S]` sRGB; valid: `[S, S]` 0 where the photo ends. camera: of the view
    depth: `[S, S]` z/w of the head, row 0 at the BOTTOM.
    edge: `[S, S]` metres inside the hairline, -1 off the head; face, ears: `[S, S]` 0..1 of the head
    metre: `[S, S, 2]` metres right of and above the head's centre, in the picture's plane
    fine: `[3, F, F]` sRGB, the same view with FINER times as many pixels, for the texture of the hair; or None
    """

    image: Tensor
    valid: Tensor
    camera: Camera
    depth: Tensor
    edge: Tensor
    face: Tensor
    ears: Tensor
    metre: Tensor
    fine: Tensor | None = None


@dataclass
class Seen:
    """mask: `[S, S]` 0..1 of the hair. bare: share of the visible scalp that looks like skin.
    above: share of the outline of the head's top that hair surrounds.

    color: linear RGB `[3]` of what the mask shows, without highlights
    orient: `[2, S, S]`, doubled angle times how sure it is
    spread: CIELAB lightness between bright and dark strands. known: whether enough of the hair is seen to say anything
    stubble: share of the hair that has the skin's colour
    """

    mask: Tensor
    bare: float
    above: float
    color: np.ndarray
    orient: Tensor
    spread: float
    known: bool
    stubble: float = 0.0


@torch.no_grad()
def wide_view(
    head: HeadModel,
    vertices: Tensor,
    scene: Scene,
    photo: Tensor,
    wide: float = WIDE,
    side: int = SIDE,
    texture: bool = False,
) -> View:
    """The photo round the head of a fitted scene.

    vertices: `[1, V, 3]` metres, posed. scene: batch 1. photo: `[1, 3, H, W]` sRGB.
    wide: side of the view over the side of the scene's face crop. side: pixels of the view
    texture: with the finer view

    Raises UserError where the scene has no crop.
    """
    camera = Camera(scene.camera.focal.cpu() / wide, scene.camera.rotation.cpu(), scene.camera.translation.cpu())
    photo = photo.float().cpu()
    x, y, grid, image = _sampled(scene, photo, wide, side)
    fine = _sampled(scene, photo, wide, FINER * side)[-1] if texture else None
    valid = (grid.abs() < 1).all(-1)
    tri, scalp = head.triangles.cpu(), scalp_of(head)
    rast = rasterize(camera.clip(vertices, 1.0), tri, (side, side))
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
    middle = camera.project(torch.zeros(1, 1, 3), (side, side))[0, 0] / side * 2 - 1
    metre = torch.stack([(x - middle[0]) * scale, (middle[1] - y) * scale], -1)
    depth = torch.where(rast[0, ..., 3] > 0, rast[0, ..., 2], 9.0)
    return View(image, valid, camera, depth, torch.where(on > 0, edge, -1.0), face, ears, metre, fine)


def _sampled(scene: Scene, photo: Tensor, wide: float, side: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x and y `[side, side]` -1..1 over the view, where they lie in the photo, and the view `[3, side, side]`."""
    t = (torch.arange(side) + 0.5) / side * 2 - 1
    y, x = torch.meshgrid(t, t, indexing="ij")
    grid, step = photo_places(scene, x * wide, y * wide, (photo.shape[-2], photo.shape[-1]))
    source = gaussian_blur(photo, 0.4 * step) if step > 1.5 else photo
    return x, y, grid, F.grid_sample(source, grid[None], padding_mode="border", align_corners=False)[0]


def photo_places(scene: Scene, x: Tensor, y: Tensor, size: tuple[int, int]) -> tuple[Tensor, float]:
    """Where places of the face crop lie in the photo.

    x, y: `[h, w]`, -1..1 over the crop, right and down; may lie outside. size: (H, W) of the photo, pixels
    Returns `[h, w, 2]`, -1..1 over the photo, and the step from one column to the next in pixels of the photo.
    """
    half = scene.size[0] / 2
    crop = torch.stack([(x + 1) * half, (y + 1) * half, torch.ones_like(x)], -1)
    matrix = torch.cat([scene.photo_crop()[0].float().cpu(), torch.tensor([[0.0, 0.0, 1.0]])])
    at = crop @ torch.linalg.inv(matrix).T
    places = torch.stack([at[..., 0] / size[1] * 2 - 1, at[..., 1] / size[0] * 2 - 1], -1)
    return places, float((at[0, 1] - at[0, 0]).norm())


def crop_of(plane: Tensor, size: tuple[int, int]) -> Tensor:
    """The part of a plane `[S, S]` of a view, WIDE over the face crop, that the crop shows: `[1, 1, h, w]`."""
    t = [(torch.arange(n) + 0.5) / n * 2 - 1 for n in size]
    grid = torch.stack(torch.meshgrid(t[1], t[0], indexing="xy"), -1)[None] / WIDE
    return F.grid_sample(plane[None, None], grid.to(plane), padding_mode="border", align_corners=False)


@torch.no_grad()
def head_places(view: View) -> Tensor:
    """Where on the head each pixel's hair is, seen from the front: `[S, S, 2]` metres right of and above its centre.

    On the head that is the point of its surface; beside it the point in the frontal plane through its centre.
    """
    middle = view.camera.clip(torch.zeros(1, 1, 3), 1.0)[0, 0]
    near = middle[3] - middle[2]  # twice the near plane's distance
    ray, eye = view.camera.rays((SIDE, SIDE))[0].flip(0), view.camera.position()[0]
    depth = near / (1 - view.depth.flip(0)).clamp(min=1e-6)  # along the camera's axis, see `Camera.clip`
    along = -view.camera.matrix()[0, 2]
    on = view.edge > -0.9
    reach = torch.where(on, depth / (ray @ along), -eye[2] / torch.where(ray[..., 2].abs() < 1e-3, -1e-3, ray[..., 2]))
    return (eye + reach[..., None] * ray)[..., :2]


@torch.no_grad()
def see_hair(view: View, mask: Tensor) -> Seen:
    """What a view shows of the hair, given where it is: mask `[S, S]` 0..1 (`HairSegmenter.find`)."""
    color = torch.from_numpy(lab(srgb_to_linear(view.image).permute(1, 2, 0).numpy().astype(float))).float()
    nothing = Seen(mask, 0.0, 0.0, np.full(3, 0.05), torch.zeros(2, SIDE, SIDE), 0.0, False)
    scalp = view.valid & (view.edge > 0.008)
    skin = view.valid & (view.face > 0.8) & (view.edge < -0.022)
    if scalp.sum() < LEAST_SEEN or skin.sum() < LEAST_SEEN:
        return nothing
    inside, bald = mask > 0.5, scalp & (mask < 0.3)
    bare, rim = float(bald.sum() / scalp.sum()), _rim(view)
    above = float(mask[rim].mean()) if rim.any() else 1.0
    bare = min(bare, 1 - above)
    like = _like_skin(color, skin)
    hat = bare > COVERED and float(like[bald].float().mean()) < 1 - COVERED
    if hat or inside.sum() < LEAST_SEEN:
        return replace(nothing, bare=bare, above=above, known=not hat)
    # the middle of the hair: its edge is mixed with what lies behind
    inner = erode(mask, 3) > 0.5
    inner = inner if inner.sum() > LEAST_SEEN else inside
    stubble = float(like[inner].float().mean())
    # the mask holds a bit of the forehead: hair well above its edge, then hair of another colour than the skin's
    above_edge = inner & ((view.edge > 0.015) | (view.edge < -0.9))
    # far from the head the mask may hold a bit of the background
    sure = above_edge & (mask > 0.85) & (dilate((view.edge > -0.9).float(), 21) > 0)
    for better in (above_edge, inner & ~like, above_edge & ~like, sure, sure & ~like):
        inner = better if better.sum() > max(LEAST_SEEN, float(inner.sum()) / 5) else inner
    # next to the head there is least background, but long hair is seen best away from it
    long = int((inner & (view.metre[..., 1] < LOW)).sum()) > LEAST_SEEN
    near = inner & (dilate((view.edge > -0.9).float(), 5) > 0)
    inner = near if not long and near.sum() > max(LEAST_SEEN, float(inner.sum()) / 5) else inner
    light = color[..., 0][inner]
    spread = float(light.quantile(0.85) - light.quantile(0.15))
    body = body_colour(srgb_to_linear(view.image)[:, inner])
    return Seen(mask, bare, above, body, _orientation(view.image, mask), spread, True, stubble)


def body_colour(rgb: Tensor) -> np.ndarray:
    """Mean `[3]` of the middle and darker part of linear colours `[3, N]`: hair without its highlights."""
    order = rgb.sum(0).argsort()
    n = len(order)
    return rgb[:, order[int(0.2 * n) : max(int(0.75 * n), int(0.2 * n) + 1)]].mean(1).numpy().astype(float)


def _like_skin(color: Tensor, skin: Tensor) -> Tensor:
    """`[S, S]` bool: whether a pixel `[S, S, 3]` CIELAB is near a colour of the face, shading apart."""
    scaled = color * torch.tensor([0.45, 1.0, 1.0])
    known = scaled[skin]
    known = known[torch.from_numpy(np.random.default_rng(0).permutation(len(known))[:SAMPLES])]
    usual = known.median(0).values
    known = known[(known - usual).norm(dim=1) < 8]
    return torch.cdist(scaled.reshape(-1, 3), known).amin(1).view(SIDE, SIDE) < SKIN_LIKE


def _rim(view: View) -> Tensor:
    """`[S, S]` bool: a centimetre round the upper head, where even short hair is seen."""
    on = (view.edge > -0.9).float()
    pixel = float((view.metre[0, 1] - view.metre[0, 0]).norm())
    reach = max(1, round(0.010 / pixel))
    return (dilate(on, 2 * reach + 1) > on) & (view.metre[..., 1] > 0.05) & view.valid


def _orientation(image: Tensor, mask: Tensor) -> Tensor:
    """Structure tensor (Bigun & Granlund 1987) of the hair: `[2, S, S]` doubled angle of the strands, x right, y up."""
    grey = image.mean(0)
    gy, gx = torch.gradient(grey)
    inner = erode(mask, 5)[None, None]
    tensor = torch.stack([gx * gx, gy * gy, gx * gy])[None] * inner
    xx, yy, xy = gaussian_blur(tensor, 2.5)[0]
    total = xx + yy + 1e-6
    # strands run across the gradient, and rows count downwards
    return torch.stack([-(xx - yy) / total, 2 * xy / total]) * inner[0]
