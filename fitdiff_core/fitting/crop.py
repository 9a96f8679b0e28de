"""The face crop: a square picture of the face, cut from the photo. The scene is fitted to it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UserError
from ..face.mesh_points import CHIN, FOREHEAD

MARGIN = 1.62  # side of the crop / longer side of the mesh's bounding box; the mesh has no scalp and no ears
RAISE = 0.07  # shift of the crop towards the top of the head, as a share of the face's height
LEAST_SHOWN = 0.05  # least share of the face that a mask must leave; less means that it is inverted


@dataclass
class FaceCrop:
    """image: `[1, 3, S, S]` sRGB; mask: `[1, 1, S, S]`, 0 where the photo ends; matrix: `[1, 2, 3]` photo px -> crop
    px."""

    image: Tensor
    mask: Tensor
    matrix: Tensor

    def points(self, xy: Tensor) -> Tensor:
        """Photo pixels `[..., 2 or 3]` -> crop pixels; a third coordinate (depth in pixels) is scaled only."""
        m = self.matrix[0].to(xy)
        out = xy[..., :2] @ m[:, :2].T + m[:, 2]
        return torch.cat([out, xy[..., 2:] * m[0, 0]], -1)


def crop_matrix(points: Tensor, size: int = 256, margin: float = MARGIN) -> Tensor:
    """Affine `[1, 2, 3]` (scale and shift) from photo pixels to a square of `size` pixels around the head.

    points: face mesh `[N, 2+]` in photo pixels. Roll is not removed; it becomes part of the camera.
    """
    p = points[:, :2].cpu().double()  # not every device has float64
    low, high = p.amin(0), p.amax(0)
    extent = (high - low).max()
    if not torch.isfinite(p).all() or extent < 8:
        raise UserError("The face found in the photo is too small to fit; use a larger or closer photo.")
    centre = (low + high) / 2
    if len(p) > FOREHEAD and len(p) > CHIN:
        centre = centre + RAISE * (p[FOREHEAD] - p[CHIN])
    scale = size / (extent * margin)
    eye = torch.eye(2, dtype=p.dtype, device=p.device) * scale
    return torch.cat([eye, (size / 2 - centre * scale)[:, None]], 1)[None].float().to(points.device)


def _weights(n: int, size: int, scale: float, shift: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """Triangle filter along one axis: `[size, n]` weights, and `[size]` bool where the output centre is in the
    frame."""
    centre = (torch.arange(size, dtype=torch.float64) + 0.5 - shift) / scale
    width = max(1.0, 1.0 / scale)  # a wider filter when shrinking avoids aliasing
    source = torch.arange(n, dtype=torch.float64) + 0.5
    w = (1 - (source[None] - centre.clamp(0.5, n - 0.5)[:, None]).abs() / width).clamp(min=0)  # edge pixels repeat
    inside = (centre >= 0) & (centre <= n)
    return (w / w.sum(1, keepdim=True)).to(like), inside.to(like.device)


def crop_image(photo: Tensor, matrix: Tensor, size: int = 256) -> FaceCrop:
    """Crop photo `[1, 3, H, W]` by `matrix` (scale and shift only), antialiased. Outside the frame the edge repeats."""
    if photo.ndim != 4 or photo.shape[0] != 1 or photo.shape[1] != 3:
        raise UserError(f"One photo [1,3,H,W] is needed, not {tuple(photo.shape)}; pick one image of the batch.")
    m = matrix[0].tolist()
    wx, in_x = _weights(photo.shape[3], size, m[0][0], m[0][2], photo)
    wy, in_y = _weights(photo.shape[2], size, m[1][1], m[1][2], photo)
    image = torch.einsum("yh,bchw,xw->bcyx", wy, photo, wx).clamp(0, 1)
    mask = (in_y[:, None] & in_x[None, :])[None, None].to(photo.dtype)
    return FaceCrop(image, mask, matrix.to(photo.device))


def check_mask(mask: Tensor, photo: Tensor) -> None:
    """Raise UserError unless mask `[1, 1, H, W]` fits photo `[1, 3, H, W]`."""
    if mask.shape[-2:] != photo.shape[-2:]:
        raise UserError(
            f"The mask is {mask.shape[-1]}x{mask.shape[-2]} pixels, the photo {photo.shape[-1]}x{photo.shape[-2]}; "
            "give a mask of the photo's size."
        )
    if mask.shape[:-2] != (1, 1):
        raise UserError(f"One mask [1,1,H,W] is needed for a photo, not {tuple(mask.shape)}.")
    if not torch.isfinite(mask).all():
        raise UserError("The mask holds NaN or infinite values; make it again.")


def check_shown(share: Tensor) -> None:
    """Raise UserError where a mask leaves almost nothing of the face. share: what it leaves, 0..1."""
    if share < LEAST_SHOWN:
        raise UserError(
            "The mask hides the face: it must be white where the photo may be used. Invert it (node: InvertMask)."
        )


def uncrop(x: Tensor, matrix: Tensor, size: tuple[int, int], outside: float = 1.0) -> Tensor:
    """Inverse of the crop: `[1, C, S, S]` -> `[1, C, H, W]` in the photo's pixels, `outside` beyond the crop."""
    height, width = size
    y, x_ = (torch.arange(n, device=x.device) + 0.5 for n in (height, width))
    m, side = matrix[0].to(x), x.shape[-1]
    at = torch.stack(
        [(x_ * m[0, 0] + m[0, 2]).expand(height, -1), (y * m[1, 1] + m[1, 2])[:, None].expand(-1, width)], -1
    )
    grid = (at / side * 2 - 1)[None].to(x)
    inside = (grid.abs() <= 1).all(-1)[:, None]
    found = F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return torch.where(inside, found, outside)


def crop_face(photo: Tensor, mesh: Tensor, size: int = 256, margin: float = MARGIN) -> FaceCrop:
    """Crop photo `[1, 3, H, W]` sRGB around a face, given its mesh points `[468, 2+]` px."""
    return crop_image(photo, crop_matrix(mesh, size, margin), size)
