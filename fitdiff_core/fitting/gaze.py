"""Gaze: find the darkest disc of the iris's size between the lids, and convert its place to angles.

The 468 mesh points include the lids but not the iris. The iris is 11.7 mm wide in nearly everyone (Caroline & Andre
2002). Its size in the picture is therefore known, and only its position is searched.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..face.mesh_points import LIDS_LEFT, LIDS_RIGHT
from ..head import HeadModel
from ..image import srgb_to_linear
from ..render import Camera
from .pose import axis_angle_to_matrix

IRIS_RADIUS, EYE_RADIUS = 0.00585, 0.0115  # metres
LIMIT = (math.radians(28), math.radians(20))  # yaw, pitch; larger angles are errors
PULL = (
    0.4,
    2.5,
)  # strength of the prior for a straight gaze, across and up: lashes and shadow attract the disc upwards
SURE = 0.08  # score of both eyes above which the gaze is trusted fully
# log tint and log step up to which a pixel between the lids is like the skin around the eye; the share of such pixels
# in the middle of the lids, mean of both eyes, above which they are shut: open .00-.19, closed .37 and .38 (35 photos)
SKIN_TINT, SKIN_STEP, SHUT = 0.18, 0.5, 0.28
WORK_RADIUS = 9.0  # iris radius in samples at which the search works


def inside_polygon(points: Tensor, polygon: Tensor) -> Tensor:
    """points `[..., 2]`, polygon `[N, 2]` -> bool `[...]` (even-odd rule)."""
    a, b = polygon, polygon.roll(-1, 0)
    x, y = points[..., None, 0], points[..., None, 1]
    crosses = (a[:, 1] > y) != (b[:, 1] > y)
    height = torch.where((b - a)[:, 1].abs() < 1e-9, 1e-9, (b - a)[:, 1])
    at = a[:, 0] + (y - a[:, 1]) / height * (b - a)[:, 0]
    return (crosses & (x < at)).sum(-1) % 2 == 1


def eyes_shut(image: Tensor, mesh: Tensor) -> bool:
    """Whether both eyes are closed: between the lids' points there is skin, and no iris.

    image: crop `[1, 3, S, S]` sRGB. mesh: `[468, 2+]` in its pixels. The mesh network leaves a gap between closed lids,
    up to that of an open eye, so the gap tells nothing.
    """
    shares = []
    for lids in (LIDS_LEFT, LIDS_RIGHT):
        outline = mesh[list(lids), :2].to(image)
        centre = outline.mean(0)
        across = outline[:, 0].amax() - outline[:, 0].amin()
        x0, y0, x1, y1 = _window(centre, outline, image.shape[-1])
        if x1 <= x0 or y1 <= y0:
            return False
        t = torch.arange(image.shape[-1], device=image.device) + 0.5
        points = torch.stack(torch.meshgrid(t[x0:x1], t[y0:y1], indexing="xy"), -1)
        log = srgb_to_linear(image[0, :, y0:y1, x0:x1]).clamp(min=0.002).log()

        def grown(x: float, y: float, points=points, centre=centre, outline=outline) -> Tensor:
            return inside_polygon(points, centre + (outline - centre) * outline.new_tensor([x, y]))

        between = grown(0.95, 0.95) & ((points[..., 0] - centre[0]).abs() < 0.3 * across)
        around = grown(1.15, 2.6) & ~grown(1.3, 1.5)
        if between.sum() < 20 or not around.any():
            return False
        ratio = log[:, between] - log[:, around].median(1, keepdim=True).values
        level = ratio.mean(0)
        like_skin = ((ratio - level).norm(dim=0) < SKIN_TINT) & (level.abs() < SKIN_STEP)
        shares.append(float(like_skin.float().mean()))
    return sum(shares) / 2 > SHUT


def _window(centre: Tensor, outline: Tensor, size: int) -> tuple[int, ...]:
    """x0, y0, x1, y1 of the pixels that the largest of the outlines in `eyes_shut` covers, within the picture."""
    reach = (outline - centre).abs().amax(0) * outline.new_tensor([1.3, 2.6]) + 1
    low, high = (centre - reach).floor().long().clamp(min=0), (centre + reach).ceil().long().clamp(max=size)
    return (*low.tolist(), *high.tolist())


def iris_score(image: Tensor, lids: Tensor, origin: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """How well a dark disc of the iris's size fits at offsets from `origin`.

    image: `[1, 3, H, W]` sRGB. lids: `[16, 2]`, origin: `[2]`, radius of the iris: pixels

    Returns scores `[h, w]` and offsets `[h, w, 2]` in iris radii. The score is the darkness of the disc minus that of
    the rest of the eye, times the contrast of the eye. It is 0 everywhere where the eye is almost closed.
    """
    n = int(WORK_RADIUS)
    y, x = torch.meshgrid(torch.arange(-3 * n, 3 * n + 1), torch.arange(-4 * n, 4 * n + 1), indexing="ij")
    offset = torch.stack([x, y], -1).to(lids) / n
    at = origin + offset * radius
    grid = at / torch.tensor([image.shape[3], image.shape[2]]).to(at) * 2 - 1
    grey = F.grid_sample(image.mean(1, keepdim=True), grid[None].to(image), align_corners=False, padding_mode="border")
    grey = F.avg_pool2d(F.pad(grey, (1, 1, 1, 1), mode="replicate"), 3, 1)
    eye = inside_polygon(at, lids)[None, None].to(grey)
    if eye.sum() < 0.35 * math.pi * n**2:
        return torch.zeros_like(grey[0, 0]), offset
    values = grey[eye > 0]
    dark, bright = values.quantile(0.1), values.quantile(0.85)
    darkness = ((bright - grey) / (bright - dark).clamp(min=0.02)).clamp(0, 1.2) * eye
    ring = torch.arange(-n, n + 1).to(grey)
    disc = ((ring[:, None] ** 2 + ring[None] ** 2) <= n**2).to(grey)[None, None]
    within, area = F.conv2d(darkness, disc, padding=n), F.conv2d(eye, disc, padding=n)
    outside = (darkness.sum() - within) / (eye.sum() - area).clamp(min=20)
    score = (within / area.clamp(min=20) - outside) * (area / area.max()).sqrt()
    return (score * (bright - dark))[0, 0], offset


def eye_centres(vertices: Tensor, head: HeadModel) -> Tensor | None:
    """Centres of the left and right eyeball `[2, 3]` in metres, None where the head has no eyes."""
    count = (vertices.shape[1] - head.n_skin) // 2
    if count < 4:
        return None
    eyes = vertices[0, head.n_skin :].reshape(2, count, 3)
    return (eyes.amin(1) + eyes.amax(1)) / 2


@torch.no_grad()
def fit_gaze(
    image: Tensor, mesh: Tensor, vertices: Tensor, head: HeadModel, camera: Camera, size: tuple[int, int]
) -> Tensor:
    """Gaze `[1, 2]` (yaw, pitch in radians) of both eyes together; 0 where it cannot be seen.

    image: crop `[1, 3, S, S]` sRGB. mesh: `[468, 2+]` in its pixels. vertices: `[1, V, 3]` posed, metres
    size: (H, W) that the camera projects to. An eye that is turned away or closed has little weight.
    """
    centres = eye_centres(vertices, head)
    if centres is None:
        return torch.zeros(1, 2, device=image.device)
    rotation = axis_angle_to_matrix(camera.rotation[0])
    at = camera.project(centres[None], size)[0]
    depth = -(centres @ rotation.T + camera.translation[0])[:, 2]
    scale = camera.focal[0] / depth * size[0] / 2  # px per metre
    gaze, sure = find_gaze(image, mesh, at, scale, rotation)
    return limited(gaze * sure)[None]  # with little evidence, a straight gaze


def limited(gaze: Tensor) -> Tensor:
    """Gaze `[..., 2]` held to `LIMIT`."""
    limit = torch.tensor(LIMIT).to(gaze)
    return torch.minimum(torch.maximum(gaze, -limit), limit)


@torch.no_grad()
def find_gaze(image: Tensor, mesh: Tensor, at: Tensor, scale: Tensor, rotation: Tensor) -> tuple[Tensor, float]:
    """Gaze `[2]` of both eyes together, against the head, and how sure it is, 0..1.

    image: `[1, 3, H, W]` sRGB. mesh: `[468, 2+]` in its pixels. at: `[2, 2]` px, centres of the left and right eyeball
    scale: `[2]` pixels of a metre there. rotation: `[3, 3]` from the head's axes to the camera's
    """
    total = at.new_zeros(())
    for i, lids in enumerate((LIDS_LEFT, LIDS_RIGHT)):
        score, offset = iris_score(image, mesh[list(lids), :2].to(at), at[i], float(scale[i]) * IRIS_RADIUS)
        total = total + score
    # both eyes share one offset; lashes at the corners are dark too, so the middle is preferred
    sideways = offset * (IRIS_RADIUS / EYE_RADIUS)
    total = total - (sideways.square() * sideways.new_tensor(PULL)).sum(-1)
    peak = total.max()
    share = ((total - peak) * 60).exp()
    flat = (sideways * share[..., None]).sum((0, 1)) / share.sum()
    flat = torch.stack([flat[0], -flat[1]])
    flat = flat * (0.9 / flat.norm().clamp(min=0.9))
    direction = rotation.T @ torch.cat([flat, (1 - flat.square().sum()).sqrt()[None]])
    if direction[2] < 0.3:
        return at.new_zeros(2), 0.0
    gaze = torch.stack([torch.atan2(direction[0], direction[2]), torch.asin(direction[1].clamp(-1, 1))])
    return gaze, float((peak / SURE).clamp(0, 1))
