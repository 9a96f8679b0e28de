"""Affine transforms between an image and a face crop, and differentiable, antialiased sampling of the crop.

A matrix `[..., 2, 3]` maps pixel coordinates of the image to those of the crop. x points right, y down; the origin is
the top-left corner of the image, so the centre of the first pixel is at 0.5.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def similarity_transform(source: Tensor, target: Tensor) -> Tensor:
    """Least-squares rotation, uniform scale and translation `[B, 2, 3]` from `source` to `target` (Umeyama 1991).

    source: `[B, N, 2]`
    target: `[N, 2]`
    In the plane, without reflection, the problem is linear in (s cos, s sin), so no decomposition is needed.
    """
    target = target.to(source).expand_as(source)
    ms, mt = source.mean(1, keepdim=True), target.mean(1, keepdim=True)
    s, t = source - ms, target - mt
    norm = s.square().sum((1, 2))
    a = (s * t).sum((1, 2)) / norm
    b = (s[..., 0] * t[..., 1] - s[..., 1] * t[..., 0]).sum(1) / norm
    linear = torch.stack([torch.stack([a, -b], -1), torch.stack([b, a], -1)], 1)
    shift = mt[:, 0] - (linear @ ms[:, 0, :, None])[..., 0]
    return torch.cat([linear, shift[..., None]], -1)


def square_matrix(center: Tensor, side: Tensor, angle: Tensor, size: int) -> Tensor:
    """Matrices `[B, 2, 3]` from square regions of an image to a crop.

    center: `[B, 2]`, pixels
    side: `[B]`, pixels
    angle: `[B]`, of the square's x axis, radians
    size: side of the crop in pixels
    """
    k = size / side
    c, s = torch.cos(angle) * k, torch.sin(angle) * k
    linear = torch.stack([torch.stack([c, s], -1), torch.stack([-s, c], -1)], 1)
    shift = size / 2 - (linear @ center[..., None])[..., 0]
    return torch.cat([linear, shift[..., None]], -1)


def invert(matrix: Tensor) -> Tensor:
    """Inverse of an affine matrix, both `[..., 2, 3]`; written out, so that it needs no LAPACK."""
    a, b, c, d = matrix[..., :2].flatten(-2).unbind(-1)
    determinant = a * d - b * c
    linear = torch.stack([torch.stack([d, -b], -1), torch.stack([-c, a], -1)], -2) / determinant[..., None, None]
    return torch.cat([linear, -(linear @ matrix[..., 2:])], -1)


def apply(matrix: Tensor, points: Tensor) -> Tensor:
    """Points `[B, N, 2]` transformed by matrices `[B, 2, 3]`."""
    return points @ matrix[..., :2].transpose(-1, -2) + matrix[..., None, :, 2]


def scale_of(matrix: Tensor) -> Tensor:
    """Scale `[...]` of matrices `[..., 2, 3]`: crop pixels per image pixel."""
    a, b, c, d = matrix[..., :2].flatten(-2).unbind(-1)
    return (a * d - b * c).abs().sqrt()


def warp(image: Tensor, matrix: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Crops `[B, C, h, w]` of an image, bilinear, antialiased. Differentiable with respect to the image.

    image: `[B, C, H, W]`; outside it counts as 0 (black)
    matrix: `[B, 2, 3]`, image pixels -> crop pixels. Batch 1 of image or matrix serves all of the other
    size: side of the crop, or (h, w), pixels
    To avoid aliasing when the crop is smaller than the region it shows, the image is box-averaged first, and several
    samples per crop pixel are averaged at the end.
    """
    h, w = (size, size) if isinstance(size, int) else size
    matrix = matrix.to(image)
    shrink = 1 / float(scale_of(matrix.detach()).amin())
    reduce = int(shrink / 1.5)
    if reduce > 1:
        image = F.avg_pool2d(image, reduce, ceil_mode=True, count_include_pad=False)
        matrix = torch.cat([matrix[..., :2] * reduce, matrix[..., 2:]], -1)
        shrink /= reduce
    samples = max(1, math.ceil(shrink - 0.01))

    y = (torch.arange(h * samples, dtype=image.dtype, device=image.device) + 0.5) / samples
    x = (torch.arange(w * samples, dtype=image.dtype, device=image.device) + 0.5) / samples
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).reshape(1, -1, 2)
    extent = torch.tensor([image.shape[3], image.shape[2]], dtype=image.dtype, device=image.device)
    at = apply(invert(matrix), grid.expand(matrix.shape[0], -1, -1)) * 2 / extent - 1
    batch, crops = image.shape[0], matrix.shape[0]
    if batch == 1:  # crops of one image are sampled as rows of one grid, so that the image is not copied
        at = at.reshape(1, crops * h * samples, w * samples, 2)
    else:
        at = at.reshape(crops, h * samples, w * samples, 2).expand(batch, -1, -1, -1)
    out = F.grid_sample(image, at, mode="bilinear", padding_mode="zeros", align_corners=False)
    if batch == 1:
        out = out.reshape(-1, crops, h * samples, w * samples).transpose(0, 1)
    return F.avg_pool2d(out, samples) if samples > 1 else out
