import pytest
import torch
from torch.autograd import gradcheck

from fitdiff_core.errors import UserError
from fitdiff_core.render import interpolate, rasterize, texture
from fitdiff_core.render.interpolation import filtered_texture, texture_level
from fitdiff_core.render.raster_torch import triangle_ids
from tests.support.meshes import sphere


def random_scene(seed, n_tri=40, batch=1, dtype=torch.float64):
    """Overlapping triangles of many sizes, some behind the camera, some off screen."""
    g = torch.Generator().manual_seed(seed)
    centre = torch.rand(batch, n_tri, 1, 3, generator=g, dtype=dtype) * 2.4 - 1.2
    points = centre + torch.randn(batch, n_tri, 3, 3, generator=g, dtype=dtype) * 0.3
    w = 1 + torch.rand(batch, n_tri, 3, 1, generator=g, dtype=dtype)
    w[:, ::9] -= 1.5  # reaches behind the camera
    points[:, ::7, :, 2] -= 3  # reaches in front of the near plane
    pos = torch.cat([points * w.abs(), w], -1).flatten(1, 2)
    return pos, torch.arange(3 * n_tri).view(-1, 3)


def brute_force(pos, tri, height, width):
    """Ray against plane through homogeneous coordinates, pixel by pixel, in Python."""
    out = torch.zeros(height, width, 4, dtype=pos.dtype)
    for row in range(height):
        for column in range(width):
            ndc = torch.tensor([(column + 0.5) * 2 / width - 1, (row + 0.5) * 2 / height - 1], dtype=pos.dtype)
            best = float("inf")
            for t, corner in enumerate(pos[tri]):
                if (corner[:, 3] <= 0).any() or (corner[:, 2] < -corner[:, 3]).any():
                    continue
                matrix = torch.stack([corner[:, 0], corner[:, 1], corner[:, 3]])  # a point is matrix @ barycentrics
                bary = torch.linalg.solve(matrix, torch.cat([ndc, ndc.new_ones(1)]))
                bary = bary / bary.sum()
                depth = (bary @ corner[:, 2]) / (bary @ corner[:, 3])
                if (bary >= 0).all() and depth < best:
                    best = depth
                    out[row, column] = torch.stack([bary[0], bary[1], depth, depth * 0 + t + 1])
    return out


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_rasterizer_agrees_with_brute_force(seed):
    pos, tri = random_scene(seed)
    expected = brute_force(pos[0], tri, 15, 22)
    assert (expected[..., 3] > 0).sum() > 60
    torch.testing.assert_close(rasterize(pos, tri, (15, 22), "torch")[0], expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numba_gives_the_same_bits(dtype):
    pytest.importorskip("numba")
    ball, faces = sphere(90, 60, 0.7, dtype)
    ball = torch.cat([ball, torch.ones(len(ball), 1, dtype=dtype)], 1)[None]
    flat = torch.tensor([[-0.5, -0.5, 0, 1], [0.5, -0.5, 0, 1], [0.5, 0.5, 0, 1], [-0.5, 0.5, 0, 1]], dtype=dtype)[None]
    coplanar = torch.tensor([[0, 1, 2], [0, 2, 3], [0, 1, 3], [1, 2, 3], [0, 1, 2], [2, 1, 0]])  # nothing but ties
    for pos, tri in [(ball, faces), (flat, coplanar), random_scene(3, 300, 2, dtype)]:
        for size in [(64, 64), (33, 50)]:
            one, other = rasterize(pos, tri, size, "torch"), rasterize(pos, tri, size, "numba")
            assert torch.equal(one, other)
            assert (one[..., 3] > 0).any()


def test_equal_depth_goes_to_the_smaller_id():
    pos = torch.tensor([[[-1.0, -1, 0, 1], [3, -1, 0, 1], [-1, 3, 0, 1]]])
    rast = rasterize(pos, torch.tensor([[0, 2, 1], [0, 1, 2], [1, 2, 0]]), (8, 8), "torch")
    assert (rast[..., 3] == 1).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_closed_sphere_has_no_holes(dtype):
    """Every pixel well inside the outline is covered, whatever the mesh's phase to the pixel grid."""
    points, tri = sphere(150, 90, 1.0, dtype)
    y, x = torch.meshgrid((torch.arange(96.0) + 0.5) / 48 - 1, (torch.arange(96.0) + 0.5) / 48 - 1, indexing="ij")
    disk = (x**2 + y**2).sqrt() < 0.78
    for seed in range(6):
        turn, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(seed), dtype=dtype))
        turned = (
            points @ (turn if seed else torch.eye(3, dtype=dtype)) * 0.8
        )  # seed 0: edges pass through pixel centres
        pos = torch.cat([turned, torch.ones(len(points), 1, dtype=dtype)], 1)[None]
        assert (triangle_ids(pos, tri, 96, 96)[0] >= 0)[disk].all()


def test_shared_edges_through_pixel_centres():
    """A square cut along pixel centres in both directions: no hole, and pixel coverage is exact."""
    c = torch.linspace(-1, 1, 9)
    grid = torch.stack(torch.meshgrid(c, c, indexing="xy"), -1).reshape(-1, 2)
    pos = torch.cat([grid, torch.zeros(81, 1), torch.ones(81, 1)], 1)[None]
    cell = torch.arange(8)[:, None] * 9 + torch.arange(8)
    a = cell.reshape(-1, 1)
    tri = torch.cat([torch.cat([a, a + 1, a + 10], 1), torch.cat([a, a + 10, a + 9], 1)])
    for backend in ("torch", "auto"):
        assert (rasterize(pos, tri, (8, 8), backend)[..., 3] > 0).all()
        assert (rasterize(pos, tri, (7, 7), backend)[..., 3] > 0).all()


def test_odd_vertices_drop_their_triangles_only():
    good = [[-0.5, -0.5, 0, 1], [0.5, -0.5, 0, 1], [0.0, 0.5, 0, 1]]
    for bad in ([0.0, 0, 0, -1], [0, 0, 0, 0], [float("nan"), 0, 0, 1], [0, 0, -2, 1], [float("inf"), 0, 0, 1]):
        pos = torch.tensor([[*good, bad]], requires_grad=True)
        for backend in ("torch", "auto"):
            rast = rasterize(pos, torch.tensor([[0, 1, 3], [0, 1, 2]]), (16, 16), backend)
            assert set(rast[..., 3].unique().tolist()) == {0.0, 2.0}
            (gradient,) = torch.autograd.grad(rast[..., :2].sum(), pos)
            assert torch.isfinite(gradient).all()


def test_large_and_empty_input():
    pos, tri = random_scene(5, 50)
    assert rasterize(pos, tri[:0], (4, 6)).shape == (1, 4, 6, 4)
    far_off = pos * torch.tensor([1e18, 1e18, 1, 1.0])
    assert torch.equal(rasterize(far_off, tri, (9, 9), "torch"), rasterize(far_off, tri, (9, 9), "auto"))


def test_memory_chunks_change_nothing(monkeypatch):
    pos, tri = random_scene(7, 80, 2)
    whole = triangle_ids(pos, tri, 40, 40)
    monkeypatch.setattr("fitdiff_core.render.raster_torch.CHUNK", 97)
    assert torch.equal(triangle_ids(pos, tri, 40, 40), whole)


def test_batch_entries_are_independent():
    pos, tri = random_scene(9, 60, 3)
    together = rasterize(pos, tri, (20, 20))
    for i in range(3):
        assert torch.equal(together[i : i + 1], rasterize(pos[i : i + 1], tri, (20, 20)))


def test_backend_choice(monkeypatch):
    pos, tri = random_scene(1)
    with pytest.raises(UserError, match="Unknown rasterizer"):
        rasterize(pos, tri, (8, 8), "gl")
    monkeypatch.setenv("FITDIFF_RASTERIZER", "gl")
    with pytest.raises(UserError, match="Unknown rasterizer"):
        rasterize(pos, tri, (8, 8))
    monkeypatch.delenv("FITDIFF_RASTERIZER")
    with pytest.warns(UserWarning, match="nvdiffrast cannot be used"):
        rast = rasterize(pos, tri, (8, 8), "nvdiffrast")
    assert torch.equal(rast, rasterize(pos, tri, (8, 8), "torch"))


def test_barycentric_gradient():
    pos, tri = random_scene(11, 30)
    ids = rasterize(pos, tri, (10, 10))[..., 3]
    inner = ids > 0

    def bary(p):
        rast = rasterize(p, tri, (10, 10))
        return torch.where(inner & (rast[..., 3] == ids), 1.0, 0.0)[..., None] * rast[..., :2]

    assert gradcheck(bary, pos.clone().requires_grad_(), eps=1e-7, atol=1e-4)


def test_interpolate_is_perspective_correct_and_differentiable():
    pos, tri = random_scene(12, 30, 2)
    rast = rasterize(pos, tri, (12, 9)).detach()
    # homogeneous coordinates themselves, interpolated, must land on the pixel centre
    at = interpolate(pos, rast, tri)
    seen = rast[..., 3] > 0
    x = ((torch.arange(9.0).double() + 0.5) * 2 / 9 - 1).expand(2, 12, 9)
    torch.testing.assert_close((at[..., 0] / at[..., 3])[seen], x[seen], atol=1e-9, rtol=0)
    assert (at[~seen] == 0).all()

    attr = torch.randn(pos.shape[1], 3, dtype=torch.float64, requires_grad=True)
    uv = rast[..., :2].clone().requires_grad_()
    assert gradcheck(lambda a, b: interpolate(a, torch.cat([b, rast[..., 2:]], -1), tri), (attr, uv))
    each = torch.randn(2, pos.shape[1], 2, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda a: interpolate(a, rast, tri), (each,))


def test_texture_orientation_and_gradient():
    tex = torch.arange(6.0).view(1, 1, 2, 3)  # row 0 is the top: v near 1
    uv = torch.tensor([[[[1 / 6, 0.75], [5 / 6, 0.25], [0.5, 0.5], [-3.0, 2.0]]]])
    torch.testing.assert_close(texture(tex, uv)[0, 0, :, 0], torch.tensor([0.0, 5.0, 2.5, 0.0]))
    g = torch.Generator().manual_seed(0)
    tex = torch.randn(1, 2, 5, 4, generator=g, dtype=torch.float64, requires_grad=True)
    uv = torch.rand(2, 3, 3, 2, generator=g, dtype=torch.float64, requires_grad=True)
    assert gradcheck(texture, (tex, uv))


def test_large_maps_are_prefiltered():
    """A pixel-sized checkerboard in a map four times too large comes out grey, not as noise."""
    checker = (torch.arange(256)[:, None] + torch.arange(256)).remainder(2).float()[None, None]
    centre = (torch.arange(64.0) + 0.3) / 64
    uv = torch.stack(torch.meshgrid(centre, centre, indexing="xy"), -1)[None]
    seen = torch.ones(1, 64, 64, dtype=torch.bool)
    level = texture_level(uv, seen, (256, 256))
    assert level.tolist() == [2]
    assert texture_level(uv / 8, seen, (256, 256)).tolist() == [0]
    torch.testing.assert_close(filtered_texture(checker, uv, level), torch.full((1, 64, 64, 1), 0.5))
    two = filtered_texture(checker, torch.cat([uv, uv]), torch.tensor([0, 2]))
    assert torch.equal(two[:1], texture(checker, uv))
    torch.testing.assert_close(two[1], torch.full((64, 64, 1), 0.5))
