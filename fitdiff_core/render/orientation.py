"""Row order: the rasterizer's row 0 is at the bottom of the picture, an image's row 0 is at the top."""

from __future__ import annotations

from torch import Tensor


def flip_rows(x: Tensor) -> Tensor:
    """`[B, H, W, ...]` with its rows in reverse order: from the rasterizer's order to an image's, and back."""
    return x.flip(1)


def raster_to_image(x: Tensor) -> Tensor:
    """`[B, H, W, C]`, row 0 at the bottom -> `[B, C, H, W]`, row 0 at the top."""
    return flip_rows(x).permute(0, 3, 1, 2)


def image_to_raster(x: Tensor) -> Tensor:
    """`[B, C, H, W]`, row 0 at the top -> `[B, H, W, C]`, row 0 at the bottom."""
    return flip_rows(x.permute(0, 2, 3, 1))
