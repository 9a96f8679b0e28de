"""Filters and vectors that are written for speed, against torch's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from fitdiff_core.filters import dilate, erode
from fitdiff_core.vectors import length, unit


@pytest.mark.parametrize("side", [1, 3, 5, 9, 21, 25])
def test_dilation_and_erosion_are_max_pooling(side):
    x = torch.rand(2, 3, 17, 40, generator=torch.Generator().manual_seed(side))
    assert torch.equal(dilate(x, side), F.max_pool2d(x, side, 1, side // 2))
    assert torch.equal(erode(x, side), -F.max_pool2d(-x, side, 1, side // 2))
    assert torch.equal(dilate(x[0, 0], side), dilate(x, side)[0, 0])


def test_lengths_along_axis_1():
    x = torch.randn(2, 3, 8, 9, generator=torch.Generator().manual_seed(1), requires_grad=True)
    torch.testing.assert_close(length(x), x.norm(dim=1, keepdim=True))
    torch.testing.assert_close(unit(x), F.normalize(x, dim=1))
    none = torch.zeros(1, 3, 2, requires_grad=True)
    (grad,) = torch.autograd.grad(unit(none).sum(), none)
    assert unit(none).abs().max() == 0 and torch.isfinite(grad).all()
