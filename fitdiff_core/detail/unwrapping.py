"""Unwrap the photo into UV: for each texel the pixel that shows it, and how well that pixel shows it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..avatar import Avatar
from ..delight.reading import read_photo
from ..errors import UserError
from ..filters import erode, erode_and_feather, gaussian_blur
from ..fitting.crop import check_mask, check_shown, crop_image
from ..fitting.gbuffer import GBuffer
from ..fitting.occlusion import visible_skin
from ..fitting.photo import hair_in_crop, tells_colour
from ..fitting.regions import region_weights, regions
from ..fitting.sh_light import CLIPPED
from ..head import HeadModel
from ..image import srgb_to_linear
from ..render import interpolate, rasterize
from ..render.orientation import raster_to_image
from ..scene import Scene
from .geometry import AtlasGeometry

GRAZING, FRONTAL = 0.25, 0.6  # cosines to the camera between which a texel's weight grows from 0 to 1
TOLERANCE = 0.004  # metres a texel may lie behind the surface seen there
DEPTH_SIZE = 512
USED = (
    "face",
    "nose",
    "lips",
    "brows",
    "eyelids",
)  # scalp, neck and ears: hair and collars hide them, or the fit is off
UNUSED = ("mouth_interior", "scalp", "ears", "neck")
EDGES = ("lips", "eyelids", "mouth_interior", "eyes")  # where the head itself hides the skin's edge
FEATHER = 0.02  # of the atlas' side


@dataclass
class Unwrapped:
    """A photo in UV.

    radiance: `[1, 3, S, S]` linear, 0 where nothing is seen
    weight: `[1, 1, S, S]`, 0..1, how well the photo shows the texel
    shown: `[1, 1, S, S]`, 1 where the photo shows the texel at all
    clipped: `[1, 1, S, S]`, 1 where the photo is burnt out
    geometry: of the texels
    beard: `[1, 1, h, w]`, probability of a beard, None if unknown
    hidden: `[1, 1, S, S]`, 1 where something hides the skin
    """

    radiance: Tensor
    weight: Tensor
    shown: Tensor
    clipped: Tensor
    geometry: AtlasGeometry
    beard: Tensor | None = None
    hidden: Tensor | None = None


@torch.no_grad()
def unwrap(avatar: Avatar, scene: Scene, photo: Tensor, mask: Tensor | None = None, size: int = 512) -> Unwrapped:
    """Unwrap a photo at its full resolution into the UV of one head.

    scene: of the photo. photo: `[1, 3, H, W]` sRGB
    mask: `[1, 1, H, W]`, 1 where the photo may be used; None finds hair, hands and glasses in the photo
    size: texels a side

    Raises UserError for a batch, and for a scene that was not fitted to a photo.
    """
    _check(avatar, scene, photo, mask)
    vertices = avatar.vertices(scene)
    geometry = AtlasGeometry.bake(vertices, avatar.head, size, scene.light)
    pixels = project(geometry.position, scene)  # [1, S, S, 2], of the scene's picture
    seen = visible(geometry, vertices, avatar.head, scene, pixels)
    cosine = (geometry.normal * geometry.view(scene.camera)).sum(1, keepdim=True)
    facing = ((cosine - GRAZING) / (FRONTAL - GRAZING)).clamp(0, 1)

    at = to_photo(pixels, scene.photo_crop())
    sharp = prefilter(photo, at, geometry.covered)
    picture = sample_at(sharp, at, photo.shape)
    # bright skin often clips in red alone, and keeps its detail in green and blue
    burnt = ((photo > CLIPPED).sum(1, keepdim=True) > 1).to(photo)
    clipped = (sample_at(burnt, at, photo.shape) > 0.1).to(photo)
    inside = ((at > 0) & (at < at.new_tensor([photo.shape[3], photo.shape[2]]))).all(-1)[:, None].to(photo)
    if (seen * inside).sum() < 0.05 * seen.sum():
        raise UserError("The face of this scene lies outside the photo; give the photo that the scene was fitted to.")
    free, beard = occluders(avatar, vertices, scene, photo)
    free = sample_at(free, pixels, (1, 1, *scene.size)) if mask is None else sample_at(mask.to(photo), at, photo.shape)

    in_view = seen * inside * (cosine > GRAZING)
    if not tells_colour(scene):
        free = free * 0
    usable = in_view * (free > 0.9)
    if mask is not None:
        check_shown(usable.sum() / in_view.sum().clamp(min=1))
    # The fit may be off by some texels, so the weight fades near hair, silhouettes and folds. It fades over less near
    # eyes and mouth: there the skin ends, or turns inwards, and lips and lids are as narrow as the wide rim.
    edges = regions(avatar.head, EDGES, size).to(photo) > 0.3
    open_edges = torch.maximum(usable, (edges & (in_view < 0.5)).to(photo))
    weight = erode_and_feather(open_edges, 0.004 * size, FEATHER * size) * facing
    narrow = usable * usable_regions(avatar.head, size).to(photo)
    weight = weight * erode_and_feather(narrow, 0, FEATHER / 3 * size)
    # half a pixel of the photo per texel is enough, a fifth is blurred
    density = (pixel_steps(at) / 0.3).clamp(0, 1)
    shown = gaussian_blur(usable * facing, FEATHER / 4 * size)
    radiance = srgb_to_linear(picture) * usable
    return Unwrapped(radiance, weight * density, shown, clipped, geometry, beard, in_view - usable)


def _check(avatar: Avatar, scene: Scene, photo: Tensor, mask: Tensor | None) -> None:
    if len(avatar) != 1 or len(scene.camera) != 1 or len(scene.expression) != 1:
        raise UserError(f"Photo detail works on one head at a time, got {len(avatar)} heads; pick one of the batch.")
    if photo.ndim != 4 or photo.shape[0] != 1 or photo.shape[1] != 3:
        raise UserError(
            f"Photo detail needs one photo [1,3,H,W], not {tuple(photo.shape)}; pick one image of the batch."
        )
    scene.photo_crop()  # raises UserError where there is none
    if not torch.isfinite(photo).all():
        raise UserError("The photo holds NaN or infinite values; load it again.")
    if not torch.isfinite(avatar.maps.stack()).all():
        raise UserError("The texture maps hold NaN or infinite values; sample the head again.")
    if mask is not None:
        check_mask(mask, photo)


def project(position: Tensor, scene: Scene) -> Tensor:
    """World positions `[1, 3, S, S]` -> pixels `[1, S, S, 2]` of the scene's picture."""
    pixels = scene.camera.project(position.flatten(2).mT, scene.size)
    return pixels.view(1, *position.shape[-2:], 2)


def to_photo(pixels: Tensor, crop: Tensor) -> Tensor:
    """Scene pixels `[1, S, S, 2]` -> pixels of the photo that `crop` `[1, 2, 3]` was cut from."""
    m = crop[0].to(pixels)
    return (pixels - m[:, 2]) @ torch.linalg.inv(m[:, :2]).T


def sample_at(image: Tensor, at: Tensor, frame: tuple[int, ...]) -> Tensor:
    """Sample `[1, C, h, w]` at pixels `[1, S, S, 2]` of a frame `(.., .., H, W)` that the image fills -> `[1, C, S,
    S]`."""
    grid = at / at.new_tensor([frame[-1], frame[-2]]) * 2 - 1
    return F.grid_sample(image, grid.to(image), mode="bilinear", padding_mode="border", align_corners=False)


def pixel_steps(at: Tensor) -> Tensor:
    """Photo pixels between neighbouring texels (root of the area), `[1, 1, S, S]`."""
    step = torch.zeros_like(at[..., 0])
    dx, dy = at[:, 1:, 1:] - at[:, 1:, :-1], at[:, 1:, 1:] - at[:, :-1, 1:]
    step[:, 1:, 1:] = (dx[..., 0] * dy[..., 1] - dx[..., 1] * dy[..., 0]).abs().sqrt()
    return step[:, None]


def prefilter(photo: Tensor, at: Tensor, covered: Tensor) -> Tensor:
    """The photo, reduced if it has several pixels per texel, to avoid aliasing."""
    step = pixel_steps(at)[covered > 0.5]
    factor = float(step.median()) if len(step) else 1.0
    if factor <= 1.4:
        return photo
    size = tuple(max(8, round(n / factor)) for n in photo.shape[-2:])
    return F.interpolate(photo, size, mode="bilinear", antialias=True, align_corners=False)


def visible(geometry: AtlasGeometry, vertices: Tensor, head: HeadModel, scene: Scene, pixels: Tensor) -> Tensor:
    """1 where no other part of the head lies between texel and camera (depth test), `[1, 1, S, S]`."""
    height, width = DEPTH_SIZE, max(1, round(DEPTH_SIZE * scene.size[1] / scene.size[0]))
    tri = head.triangles.long()
    rast = rasterize(scene.camera.clip(vertices, scene.size[1] / scene.size[0]), tri, (height, width))
    far = 1e3
    depth = interpolate(-scene.camera.view(vertices)[..., 2:], rast, tri)
    depth = raster_to_image(torch.where(rast[..., 3:] > 0, depth, far))
    nearest = erode(depth, 3)
    own = -scene.camera.view(geometry.position.flatten(2).mT)[..., 2].view(1, 1, *geometry.position.shape[-2:])
    front = sample_at(nearest, pixels, (1, 1, *scene.size))
    return ((own < front + TOLERANCE) & (own > 0)).to(vertices) * geometry.covered


def usable_regions(head: HeadModel, size: int) -> Tensor:
    """Skin and features of the face, `[1, 1, size, size]`."""
    if not head.region_names:
        return torch.ones(1, 1, size, size)
    return ((regions(head, USED, size) > 0.5) & (regions(head, UNUSED, size) < 0.3)).float()


def occluders(avatar: Avatar, vertices: Tensor, scene: Scene, photo: Tensor) -> tuple[Tensor, Tensor | None]:
    """`[1, 1, h, w]` at the scene's size: 0 where hair, a hand or glasses hide the skin, and outside the photo; and the
    probability of a beard in UV, `[1, 1, h, w]`, None if unknown."""
    head = avatar.head
    crop = crop_image(photo, scene.photo_crop(), scene.size[0])
    if not head.region_names:
        return crop.mask, None
    gbuffer = GBuffer.render(vertices, head, scene, scene.size)
    mesh = scene.camera.project(head.landmarks(vertices, "mesh"), scene.size)
    reading = read_photo(crop.image, crop.mask, vertices, scene.camera, head)
    hair = hair_in_crop(head, vertices, scene, photo)
    weights = region_weights(head).to(photo)
    free = visible_skin(crop.image, crop.mask, mesh, gbuffer, head, weights, reading, hair)[1]
    return free, reading.beard
