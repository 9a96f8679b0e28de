"""Fragments of cards against a test of every pixel of every triangle."""

from __future__ import annotations

import pytest
import torch

from fitdiff_core.render import fragments as module
from fitdiff_core.render.fragments import fragments


def cards(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Narrow triangles before and behind z = 0, some of them beyond the picture's border."""
    g = torch.Generator().manual_seed(seed)
    at = (torch.rand(count, 1, 3, generator=g) * 2 - 1) * torch.tensor([1.1, 1.1, 0.7])
    corner = at + torch.rand(count, 3, 3, generator=g) * torch.tensor([0.3, 0.5, 0.2])
    w = 1 + torch.rand(count, 3, 1, generator=g)
    pos = torch.cat([corner * w, w], 2).reshape(-1, 4)
    return pos, torch.arange(3 * count).view(-1, 3)


def every_pixel(pos, tri, size, limit) -> dict[tuple[int, int], tuple[float, torch.Tensor]]:
    """(pixel, triangle) -> depth and weights, in float64."""
    height, width = size
    found = {}
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    for t, ids in enumerate(tri.tolist()):
        p = pos[ids].double()
        screen = (p[:, :2] / p[:, 3:] * 0.5 + 0.5) * torch.tensor([width, height]) - 0.5
        a, b, c = screen
        cross = lambda u, v: u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]  # noqa: E731
        at = torch.stack([x, y], -1).double()
        parts = torch.stack([cross(b - at, c - at), cross(c - at, a - at), cross(a - at, b - at)], -1) / cross(
            b - a, c - a
        )
        depth = parts @ (p[:, 2] / p[:, 3])
        weight = parts / p[:, 3]
        weight = weight / weight.sum(-1, keepdim=True)
        for row, column in torch.nonzero((parts > 1e-4).all(-1) & (depth < limit - 1e-4)).tolist():
            found[row * width + column, t] = float(depth[row, column]), weight[row, column]
    return found


@pytest.mark.parametrize("chunk", [1 << 18, 300])
def test_all_pixels_of_all_triangles_before_the_limit(monkeypatch, chunk):
    monkeypatch.setattr(module, "CHUNK", chunk)
    size = (40, 56)
    pos, tri = cards(60, 3)
    limit = torch.full(size, 9.0)
    limit[:, 20:] = 0.1
    found = fragments(pos, tri, size, limit)
    want = every_pixel(pos, tri, size, limit)
    got = {(int(p), int(t)): k for k, (p, t) in enumerate(zip(found.pixel, found.tri, strict=True))}
    assert len(got) == len(found.pixel) and set(want) <= set(got)
    assert len(got) < 1.1 * len(want) and (found.depth < limit.flatten()[found.pixel]).all()
    for key, (depth, weight) in want.items():
        assert abs(float(found.depth[got[key]]) - depth) < 1e-4
        torch.testing.assert_close(found.weight[got[key]].double(), weight, atol=1e-3, rtol=0)


def test_what_lies_behind_the_limit_is_left_out_of_the_search():
    pos, tri = cards(200, 5)
    hidden = module._before(*_columns(pos, tri, (200, 200)), torch.full((200, 200), -3.0))
    open_ = module._before(*_columns(pos, tri, (200, 200)), torch.full((200, 200), 9.0))
    assert open_.all() and hidden.float().mean() < 0.5
    assert not len(fragments(pos, tri, (200, 200), torch.full((200, 200), -3.0)).pixel)


def _columns(pos, tri, size):
    from fitdiff_core.render.raster_torch import window

    points, _ = window(pos[None], *size)
    return (tuple(axis) for axis in points[0][tri].permute(2, 1, 0).contiguous())
