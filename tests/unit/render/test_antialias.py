"""The gradient of visibility, against finite differences."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from fitdiff_core.render import Camera, EdgeTable, antialias, rasterize
from tests.support.meshes import sphere

SIZE = 96


def coverage(vertices, tri, edges, size=SIZE, color=None):
    pos = Camera.orbit().to(torch.float64).clip(vertices[None])
    rast = rasterize(pos, tri, (size, size))
    color = (rast[..., 3:4].detach() > 0).double() if color is None else color
    return antialias(color, rast, pos, tri, edges)


def pixel(size=SIZE):
    """Metres a pixel spans at the default camera's target."""
    return 0.8 * 2 * math.tan(math.radians(10)) / size


def derivatives(f, start, phases):
    """Mean of (autograd, central difference over a pixel) at `phases` places a fraction of a pixel apart.

    Rasterization is exact only on average over the phase of the silhouette to the pixel grid.
    """
    pairs = []
    for i in range(phases):
        x = torch.tensor(start + 0.31 * i * pixel(), dtype=torch.float64, requires_grad=True)
        (exact,) = torch.autograd.grad(f(x), x)
        with torch.no_grad():
            numeric = (f(x + pixel() / 2) - f(x - pixel() / 2)) / pixel()
        pairs.append([exact.item(), numeric.item()])
    return torch.tensor(pairs).mean(0).tolist()


@pytest.mark.parametrize(("radius", "phases"), [(0.02, 8), (0.05, 4), (0.08, 1), (0.1, 1), (0.12, 1)])
def test_the_gradient_of_an_area_is_the_analytic_one(radius, phases):
    """Growing a dense sphere: from 14 to 83 pixels across, most triangles smaller than a pixel."""
    points, tri = sphere(140, 90)
    edges = EdgeTable.build(tri)
    centre = torch.tensor([0, 0, 0.02], dtype=torch.float64)
    exact, numeric = derivatives(lambda r: coverage(points * r + centre, tri, edges).sum(), radius, phases)
    assert exact == pytest.approx(numeric, rel=0.05)
    # and the area itself is that of the disk a perspective camera sees
    seen = coverage(points * radius + centre, tri, edges).sum().item()
    tangent = radius / math.sqrt(0.8**2 - radius**2)
    disk = math.pi * (tangent / math.tan(math.radians(10)) * SIZE / 2) ** 2
    assert seen == pytest.approx(disk, rel=0.01)


@pytest.mark.parametrize(("radius", "phases"), [(0.03, 6), (0.06, 1), (0.11, 1)])
@pytest.mark.parametrize("direction", [(1.0, 0.0, 0.0), (0.6, 0.8, 0.0)])
def test_moving_blob_gradient(radius, phases, direction):
    """A sphere that slides over a soft target picture."""
    points, tri = sphere(140, 90)
    edges = EdgeTable.build(tri)
    axis = torch.linspace(-1, 1, SIZE, dtype=torch.float64)
    blob = torch.exp(-((axis[None] - 0.25) ** 2 + (axis[:, None] - 0.1) ** 2) / 0.18)[None, ..., None]
    way = torch.tensor(direction, dtype=torch.float64)
    exact, numeric = derivatives(lambda t: (coverage(points * radius + way * t, tri, edges) * blob).sum(), 0.0, phases)
    assert exact == pytest.approx(numeric, rel=0.05)


def test_inner_silhouette_has_a_gradient():
    """A small sphere in front of a large one: only the edge inside the picture of the large one moves."""
    points, tri = sphere(100, 60)
    both = torch.cat([tri, tri + len(points)])
    edges = EdgeTable.build(both)
    pos0 = torch.cat([points * 0.11, points * 0.03])
    lift = torch.zeros_like(pos0)
    lift[len(points) :] = torch.tensor([1.0, 0, 0], dtype=torch.float64)
    front = torch.tensor([0, 0, 0.15], dtype=torch.float64)
    ramp = torch.linspace(0, 1, SIZE, dtype=torch.float64)[None, None, :, None]

    def loss(t):
        vertices = pos0 + lift * t
        vertices = torch.cat([vertices[: len(points)], vertices[len(points) :] + front])
        pos = Camera.orbit().to(torch.float64).clip(vertices[None])
        rast = rasterize(pos, both, (SIZE, SIZE))
        small = (rast[..., 3:4].detach() > len(tri)).double()
        return (antialias(small, rast, pos, both, edges) * ramp**2).sum()

    exact, numeric = derivatives(loss, 0.01, 4)
    assert exact == pytest.approx(numeric, rel=0.05)


def test_a_half_covered_pixel_is_half_blended():
    """An upright edge a quarter pixel past a pixel centre."""
    for x, expected in [(0.0, 0.0), (0.0625, 0.5), (0.03125, 0.25), (0.09375, 0.75)]:
        # 16 px over -1..1: pixel 8 spans 0..0.125
        pos = torch.tensor([[[-3.0, -3, 0, 1], [x, -3, 0, 1], [x, 3, 0, 1], [-3, 3, 0, 1]]], dtype=torch.float64)
        tri = torch.tensor([[0, 1, 2], [0, 2, 3]])
        rast = rasterize(pos, tri, (16, 16))
        image = antialias((rast[..., 3:4] > 0).double(), rast, pos, tri)
        torch.testing.assert_close(image[0, :, 8, 0], torch.full((16,), expected, dtype=torch.float64))
        assert (image[0, :, :8] == 1).all() and (image[0, :, 9:] == 0).all()


def test_flat_surfaces_stay_as_they_are():
    """Edges inside a surface are no silhouettes."""
    pos = torch.tensor([[[-3.0, -3, 0, 1], [3, -3, 0, 1], [3, 3, 0, 1], [-3, 3, 0, 1]]])
    tri = torch.tensor([[0, 1, 2], [0, 2, 3]])
    rast = rasterize(pos, tri, (16, 16))
    color = torch.rand(1, 16, 16, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(antialias(color, rast, pos, tri), color)


def test_color_gradient_and_batch():
    points, tri = sphere(24, 12)
    pos = Camera.orbit().to(torch.float64).clip(torch.stack([points * 0.08, points * 0.11]))
    rast = rasterize(pos, tri, (12, 12))
    color = torch.rand(2, 12, 12, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    together = antialias(color, rast, pos, tri)
    for i in range(2):
        one = slice(i, i + 1)
        torch.testing.assert_close(antialias(color[one], rast[one], pos[one], tri), together[one])
    assert gradcheck(lambda c: antialias(c, rast, pos, tri), (color.requires_grad_(),))


def test_edge_table():
    _, tri = sphere(12, 8)
    closed = EdgeTable.build(tri)
    assert len(closed.ends) == len(tri) * 3 // 2 and (closed.face1 >= 0).all()
    for face in (closed.face0, closed.face1):
        corners = tri[face]
        assert ((corners[:, :, None] == closed.ends[:, None]).sum((1, 2)) == 2).all()
    assert ((tri[closed.face0] == closed.opposite[:, None]).sum(1) == 1).all()
    assert (closed.opposite[:, None] != closed.ends).all()
    fan = EdgeTable.build(torch.tensor([[0, 1, 2], [0, 1, 3], [1, 0, 4]]))  # three faces on one edge
    assert (fan.face1 == -1).all() and len(fan.ends) == 7
