"""Affine fits and the antialiased, differentiable sampling of crops."""

from __future__ import annotations

import pytest
import torch

from fitdiff_core.face import warp
from fitdiff_core.face.align import apply, invert, similarity_transform, square_matrix


def test_similarity_transform_recovers_a_known_one():
    g = torch.Generator().manual_seed(0)
    points = torch.randn(4, 7, 2, generator=g, dtype=torch.float64)
    matrix = square_matrix(
        torch.randn(4, 2, generator=g, dtype=torch.float64),
        torch.rand(4, dtype=torch.float64) + 0.5,
        torch.randn(4, generator=g, dtype=torch.float64),
        3,
    )
    for i in range(4):
        fitted = similarity_transform(points[i : i + 1], apply(matrix[i : i + 1], points[i : i + 1])[0])
        torch.testing.assert_close(fitted, matrix[i : i + 1])
    torch.testing.assert_close(apply(invert(matrix), apply(matrix, points)), points)


def test_warp_identity_padding_and_batches(photo):
    eye = torch.tensor([[[1.0, 0, 0], [0, 1, 0]]])
    torch.testing.assert_close(warp(photo, eye, 512), photo, atol=1e-5, rtol=0)
    shifted = torch.tensor([[[1.0, 0, 40], [0, 1, 0]]])
    out = warp(photo, torch.cat([eye, shifted]), (64, 96))
    assert out.shape == (2, 3, 64, 96)
    assert (out[1, ..., :39] == 0).all()
    torch.testing.assert_close(out[1, ..., 40:], photo[0, :, :64, :56], atol=1e-5, rtol=0)
    both = warp(torch.cat([photo, photo.flip(3)]), eye.expand(2, -1, -1), 512)
    torch.testing.assert_close(both[1:], photo.flip(3), atol=1e-5, rtol=0)


@pytest.mark.parametrize("factor", [2, 3, 7])
def test_warp_averages_when_shrinking(factor):
    """Stripes finer than a crop pixel become grey instead of moire."""
    stripes = (torch.arange(840) % 2).float().expand(1, 1, 840, -1)
    matrix = torch.tensor([[[1 / factor, 0, 0], [0, 1 / factor, 0]]])
    out = warp(stripes, matrix, 840 // factor)[..., 2:-2, 2:-2]
    assert (out - 0.5).abs().max() < 0.2
    assert out.mean() == pytest.approx(0.5, abs=0.02)


def test_warp_gradcheck():
    g = torch.Generator().manual_seed(0)
    image = torch.rand(1, 2, 9, 8, dtype=torch.float64, generator=g, requires_grad=True)
    for side in (6.0, 30.0):  # enlarging and shrinking
        matrix = square_matrix(torch.tensor([[4.2, 4.6]]), torch.tensor([side]), torch.tensor([0.3]), 5).double()
        assert torch.autograd.gradcheck(lambda v, m=matrix: warp(v, m, 5), (image,))
