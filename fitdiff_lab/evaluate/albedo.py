"""Colour differences between albedos, and plain unwrapping of a photo: for `light_test`."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from fitdiff_core.render import Camera, interpolate, rasterize, vertex_normals
from fitdiff_core.render.orientation import flip_rows

from .metrics import lab

FACING = 0.3  # least cosine between a texel's normal and the direction to the camera
BEHIND = 0.003  # metres that a texel may lie behind the surface that the camera sees
GAINS = (0.1, 10.0)  # range of the gain
GOLDEN = (math.sqrt(5) - 1) / 2


def delta_e76(a: Tensor, b: Tensor) -> Tensor:
    """Colour difference CIE76 `[...]` of CIELAB colours `[..., 3]`."""
    return (a - b).norm(dim=-1)


def delta_e2000(a: Tensor, b: Tensor) -> Tensor:
    """Colour difference CIEDE2000 `[...]` of CIELAB colours `[..., 3]`, all weights 1 (Sharma, Wu & Dalal 2005)."""
    (l1, a1, b1), (l2, a2, b2) = a.double().unbind(-1), b.double().unbind(-1)
    mean = (torch.hypot(a1, b1) + torch.hypot(a2, b2)) / 2
    stretch = 1.5 - 0.5 * (mean**7 / (mean**7 + 25**7)).sqrt()
    a1, a2 = a1 * stretch, a2 * stretch
    c1, c2 = torch.hypot(a1, b1), torch.hypot(a2, b2)
    h1, h2 = (torch.atan2(y, x).rad2deg() % 360 for y, x in ((b1, a1), (b2, a2)))
    grey = c1 * c2 == 0
    turn = (h2 - h1 + 180) % 360 - 180
    turn = torch.where(grey, 0.0, torch.where((turn == -180) & (h2 > h1), 180.0, turn))
    hue_step = 2 * (c1 * c2).sqrt() * (turn / 2).deg2rad().sin()
    hue = torch.where(
        grey,
        h1 + h2,
        (h1 + h2) / 2 + torch.where((h1 - h2).abs() > 180, 180.0, 0.0) * torch.where(h1 + h2 < 360, 1, -1),
    )
    light, chroma = (l1 + l2) / 2, (c1 + c2) / 2

    def cosine(times: float, less: float) -> Tensor:
        return (times * hue - less).deg2rad().cos()

    weight = 1 - 0.17 * cosine(1, 30) + 0.24 * cosine(2, 0) + 0.32 * cosine(3, -6) - 0.20 * cosine(4, 63)
    s_l = 1 + 0.015 * (light - 50) ** 2 / (20 + (light - 50) ** 2).sqrt()
    s_c, s_h = 1 + 0.045 * chroma, 1 + 0.015 * chroma * weight
    rotation = (
        -2 * (chroma**7 / (chroma**7 + 25**7)).sqrt() * (60 * torch.exp(-(((hue - 275) / 25) ** 2))).deg2rad().sin()
    )
    x, y, z = (l2 - l1) / s_l, (c2 - c1) / s_c, hue_step / s_h
    return (x * x + y * y + z * z + rotation * y * z).clamp(min=0).sqrt()


def least(error: Callable[[float], float]) -> float:
    """The gain within GAINS with the least error, by golden section over its logarithm. error: of a gain."""
    low, high = (math.log(g) for g in GAINS)
    for _ in range(28):
        step = GOLDEN * (high - low)
        if error(math.exp(high - step)) < error(math.exp(low + step)):
            high = low + step
        else:
            low = high - step
    return math.exp((low + high) / 2)


def best_gain(albedo: Tensor, truth: Tensor) -> float:
    """The factor on a linear albedo that minimises its mean CIE76 difference to the truth. Both `[N, 3]`.

    A photo does not tell its exposure, so it does not tell the brightness of the albedo either.
    """
    goal = lab(truth)
    return least(lambda gain: float(delta_e76(lab(albedo * gain), goal).mean()))


def errors(albedo: Tensor, truth: Tensor) -> dict[str, float]:
    """Mean CIE76 and CIEDE2000 of linear colours `[N, 3]` of the same texels, without gain and after the best gain."""
    goal, gain = lab(truth), best_gain(albedo, truth)
    out = {"gain": gain}
    for name, factor in (("", 1.0), ("_gain", gain)):
        colour = lab(albedo * factor)
        out[f"e76{name}"] = float(delta_e76(colour, goal).mean())
        out[f"e2000{name}"] = float(delta_e2000(colour, goal).mean())
    return out


def difference(a: Tensor, b: Tensor) -> dict[str, float]:
    """The same of two albedos `[N, 3]` of one person.

    Neither is the truth, so each gets the square root of the gain.
    """
    half = least(lambda gain: float(delta_e76(lab(a * gain), lab(b / gain)).mean()))
    out = {}
    for name, factor in (("", 1.0), ("_gain", half)):
        x, y = lab(a * factor), lab(b / factor)
        out[f"e76{name}"] = float(delta_e76(x, y).mean())
        out[f"e2000{name}"] = float(delta_e2000(x, y).mean())
    return out


@torch.no_grad()
def unwrap(photo: Tensor, vertices: Tensor, head, camera: Camera, size: int = 512) -> tuple[Tensor, Tensor]:
    """Plain unwrapping: copy a photo's colours into the atlas through mesh and camera.

    photo: `[1, C, H, W]`. vertices: `[1, V, 3]`. size: side of the atlas, texels.
    Returns `[1, C, size, size]` (0 where unseen), and `[size, size]` bool: texels that are in the frame, face the
    camera and have nothing in front of them.

    This is not `detail.unwrap`, which is itself measured here (--photo-detail). That one leaves out hair and fades out
    at rims; a reference needs all texels that the camera saw.
    """
    height, width = photo.shape[-2:]
    points, covered = head.uv_positions(vertices, size)
    normals, _ = head.uv_positions(vertex_normals(vertices, head.triangles), size)
    points, normals = (x.flatten(2).mT for x in (points, normals))
    at = camera.project(points, (height, width)) / torch.tensor([width, height])
    grid = (at * 2 - 1).view(1, size, size, 2)
    toward_camera = F.normalize(camera.position()[:, None] - points, dim=-1)
    facing = (F.normalize(normals, dim=-1) * toward_camera).sum(-1) > FACING

    fine = (2 * height, 2 * width)
    rast = rasterize(camera.clip(vertices, width / height), head.triangles, fine)
    depth = flip_rows(interpolate(-camera.view(vertices)[..., 2:], rast, head.triangles))[..., 0]
    depth = torch.where(flip_rows(rast)[..., 3] > 0, depth, torch.inf)[:, None]
    # nearest pixel: a mean over an edge would lie between near and far
    front = F.grid_sample(depth, grid, mode="nearest", padding_mode="zeros", align_corners=False)[0, 0]
    behind = -camera.view(points)[0, :, 2].view(size, size) - front
    inside = (grid[0].abs() <= 1).all(-1)
    seen = covered & inside & facing.view(size, size) & (behind < BEHIND)
    return F.grid_sample(photo, grid, padding_mode="border", align_corners=False) * seen, seen


def skin_texels(head, size: int = 512) -> Tensor:
    """`[size, size]` bool: the face's skin without brows, lips, eyes and the inside of the mouth."""
    face = head.region("face", size) > 0.5
    for name in ("brows", "lips", "mouth_interior", "eyes"):
        face &= head.region(name, size) < 0.5
    return face
