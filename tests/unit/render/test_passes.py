"""Depth, normals, masks, uv and lines against shapes whose answers are known."""

from __future__ import annotations

import math

import pytest
import torch

from fitdiff_core.head import load_head
from fitdiff_core.head.whole import whole_head
from fitdiff_core.maps import TextureMaps
from fitdiff_core.render import Camera
from fitdiff_core.render.parts import PARTS
from fitdiff_core.render.passes import (
    FLOOR,
    Passes,
    depth_image,
    normal_image,
    part_image,
    position_image,
    render_passes,
    uv_image,
)
from tests.support.meshes import PlainHead, ball_head

CAMERA = Camera.orbit(0.0, 0.0, 1.0, 20.0, target=(0.0, 0.0, 0.0))  # at z = 1, 0.353 m high at the origin
SIZE = (64, 64)


def quads(*corners) -> tuple[torch.Tensor, PlainHead]:
    """Quads `[4, 3]`, counter-clockwise from the lower left -> vertices `[1, V, 3]` and a head of them."""
    vertices = torch.cat([torch.as_tensor(c).float() for c in corners])
    one = torch.tensor([[0, 1, 2], [0, 2, 3]])
    uv = torch.tensor([[0.0, 0], [1, 0], [1, 1], [0, 1]]).repeat(len(corners), 1)
    return vertices[None], PlainHead(torch.cat([one + 4 * i for i in range(len(corners))]), uv)


def wall(x0, x1, z0=0.0, z1=0.0, h=0.1):
    return [[x0, -h, z0], [x1, -h, z1], [x1, h, z1], [x0, h, z0]]


def test_a_wall_has_its_depth_normal_and_uv():
    vertices, head = quads(wall(-0.1, 0.1, z0=0.2, z1=0.2))
    p = render_passes(vertices, head, CAMERA, SIZE)
    inside = p.mask > 0.999
    assert torch.allclose(p.depth[inside], torch.tensor(0.8), atol=1e-5)
    assert torch.allclose(p.normal[:, :, 32, 32], torch.tensor([[0.0, 0.0, 1.0]]), atol=1e-5)
    # the pixel right of and above the middle: half a pixel of 2 tan(10 deg) 0.8 / 64 m beyond u = v = 0.5
    beyond = 0.5 * 2 * math.tan(math.radians(10)) * 0.8 / 64 / 0.2
    assert torch.allclose(p.uv[0, :, 31, 32], torch.tensor([0.5 + beyond, 0.5 + beyond]), atol=1e-4)
    half = 0.1 / (math.tan(math.radians(10)) * 0.8) * 32
    assert p.mask.sum().item() == pytest.approx((2 * half) ** 2, rel=0.03), "coverage is the area"
    assert not p.line[0, 0, 20:44, 20:44].any() and p.line.any(), "an outline and nothing else"
    assert not p.depth[p.mask == 0].any() and not p.normal[:, :, 0, 0].any()


def test_a_slanted_wall_leans_its_normal_and_draws_no_line():
    vertices, head = quads(wall(-0.1, 0.1, z0=-0.1, z1=0.1))  # its right side nearer: it faces left
    p = render_passes(vertices, head, CAMERA, SIZE)
    assert torch.allclose(p.normal[0, :, 32, 32], torch.tensor([-1.0, 0.0, 1.0]) / 2**0.5, atol=1e-4)
    inside = torch.nn.functional.max_pool2d(1 - p.mask, 5, 1, 2) == 0
    assert inside.any() and not p.line[inside].any()
    assert p.depth[0, 0, 32, 40] < p.depth[0, 0, 32, 24]


def test_colours_follow_the_protocols():
    left = torch.tensor([-1.0, 0, 0]).view(1, 3, 1, 1)
    one = torch.ones(1, 1, 1, 1)
    assert normal_image(left, one, "controlnet").flatten().tolist() == [1.0, 0.5, 0.5], "red is left"
    assert normal_image(left, one, "opengl").flatten().tolist() == [0.0, 0.5, 0.5]
    up = torch.tensor([0.0, 1, 0]).view(1, 3, 1, 1)
    assert normal_image(up, one).flatten().tolist() == [0.5, 1.0, 0.5], "green is top"
    assert normal_image(up, 0 * one).flatten().tolist() == [0.5, 0.5, 1.0], "nothing is a wall that faces the viewer"
    with pytest.raises(ValueError, match="opengl"):
        normal_image(up, one, "magic")
    assert uv_image(torch.full((1, 2, 1, 1), 0.25), one).flatten().tolist() == [0.25, 0.25, 1.0]


def test_a_sphere_has_the_normals_of_a_sphere():
    vertices, head = ball_head(192, 96, 0.1, torch.float32)
    p = render_passes(vertices, head, CAMERA, (96, 96))
    rays = CAMERA.rays((96, 96)).flip(1)
    # first hit of |o + t d| = r, from o = (0, 0, 1)
    b, c = rays[..., 2], 1 - 0.1**2
    root = (b * b - c).clamp(min=0).sqrt()
    point = rays * (-b - root)[..., None] + torch.tensor([0.0, 0, 1])
    expected = (point / 0.1).permute(0, 3, 1, 2)
    inside = (torch.nn.functional.max_pool2d(1 - p.mask, 7, 1, 3) == 0).expand(-1, 3, -1, -1)
    assert (p.normal - expected)[inside].abs().max() < 0.02
    assert (p.depth - (1 - point[..., 2])[:, None])[inside[:, :1]].abs().max() < 5e-4
    assert p.normal[0, 0, 48, 30] < 0 < p.normal[0, 0, 48, 66] and p.normal[0, 1, 30, 48] > 0


def test_depth_is_drawn_near_white_in_one_range_for_the_batch():
    depth = torch.tensor([[1.0, 2.0], [4.0, 0.0]]).view(1, 1, 2, 2)
    mask = torch.tensor([[1.0, 1.0], [1.0, 0.0]]).view(1, 1, 2, 2)
    grey = depth_image(depth, mask)[0, 0]
    assert grey[0, 0] == 1 and grey[1, 0] == pytest.approx(FLOOR) and grey[1, 1] == 0
    assert grey[0, 1] == pytest.approx(FLOOR + (1 - FLOOR) / 3), "linear in 1 / depth: 1, 1/2, 1/4"
    two = depth_image(torch.cat([depth, depth * 2]), mask.expand(2, -1, -1, -1))
    assert two[0, 0, 1, 0] == pytest.approx(two[1, 0, 0, 1].item()), "4 m in one is 4 m in the other"
    assert not depth_image(depth, 0 * mask).any()


def test_a_jump_in_depth_draws_a_line():
    vertices, head = quads(wall(-0.15, 0.0, z0=0.0, z1=0.0), wall(0.0, 0.15, z0=0.02, z1=0.02))
    p = render_passes(vertices, head, CAMERA, SIZE)
    assert p.line[0, 0, 24:40, 30:34].amax(-1).min() > 0.4
    assert not p.line[0, 0, 24:40, 14:27].any()
    vertices, head = quads(wall(-0.15, 0.0), wall(0.0, 0.15))
    assert not render_passes(vertices, head, CAMERA, SIZE).line[0, 0, 24:40, 20:44].any(), "no jump, no line"


def test_the_normal_map_bends_the_normals():
    vertices, head = quads(wall(-0.1, 0.1))
    normal = torch.nn.functional.normalize(torch.tensor([1.0, 0, 1]), dim=0).view(1, 3, 1, 1).expand(1, 3, 16, 16)
    maps = TextureMaps(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16), normal)
    p = render_passes(vertices, head, CAMERA, SIZE, maps)
    assert torch.allclose(p.normal[0, :, 32, 32], torch.tensor([1.0, 0.0, 1.0]) / 2**0.5, atol=1e-3), (
        "u grows to the right"
    )


def test_the_head_has_lines_where_faces_have_them():
    head = load_head()
    p = render_passes(head(torch.zeros(1, head.n_identity)), head, Camera.orbit(), (128, 128))
    assert isinstance(p, Passes) and p.mask.mean() > 0.2
    assert {tuple(x.shape) for x in (p.depth, p.mask, p.line)} == {(1, 1, 128, 128)}
    assert 0.01 < p.line.mean() < 0.15 and p.line.max() <= 1
    nose = head.landmarks(head(torch.zeros(1, head.n_identity)))[:, 30:31]
    x, y = Camera.orbit().project(nose, (128, 128))[0, 0].round().long().tolist()
    seen = p.mask[0, 0] > 0.99
    assert p.depth[0, 0, y, x] < p.depth[0, 0][seen].min() + 0.004, "the nose is nearest"


def test_positions_albedo_and_parts_of_a_wall_and_of_a_head():
    vertices, wall_head = quads(wall(-0.1, 0.1, z0=0.2, z1=0.2))
    albedo = torch.tensor([0.8, 0.4, 0.2]).view(1, 3, 1, 1).expand(1, 3, 16, 16)
    normal = torch.tensor([0.0, 0, 1]).view(1, 3, 1, 1).expand(1, 3, 16, 16)
    p = render_passes(vertices, wall_head, CAMERA, SIZE, TextureMaps(albedo, 0 * albedo, normal))
    inside = p.mask[0, 0] > 0.999
    assert torch.allclose(p.albedo[0][:, inside], torch.tensor([[0.8], [0.4], [0.2]]), atol=1e-5)
    assert torch.allclose(p.position[0, 2][inside], torch.tensor(0.2), atol=1e-5)
    across = p.position[0, 0, 32, 32] - p.position[0, 0, 32, 31]
    assert float(across) == pytest.approx(2 * math.tan(math.radians(10)) * 0.8 / 64, rel=1e-3)
    assert p.position[0, 1, 20, 32] > p.position[0, 1, 44, 32], "y grows upwards"
    assert torch.equal(p.skin, p.mask) and not p.lips.any() and not p.eyes.any()
    assert part_image(p.part)[0, :, 32, 32].mul(255).round().tolist() == list(PARTS["skin"])
    assert part_image(0 * p.part).sum() == 0
    grey = position_image(p.position, p.mask)
    assert float(grey[0, 2, 32, 32]) == pytest.approx(0.9) and not grey[0, :, 0, 0].any()


def test_masks_of_a_head_lie_where_its_parts_are():
    head = whole_head(load_head())
    shape = torch.zeros(1, head.head.n_identity)
    vertices = head.vertices(shape)
    camera, size = Camera.orbit(), (128, 128)
    p = render_passes(vertices, head, camera, size)
    points = camera.project(head.head.landmarks(vertices), size)[0].round().long()
    column = lambda rows: points[list(rows)].float().mean(0).round().long().tolist()  # noqa: E731
    (lx, ly), (rx, ry) = column(range(42, 48)), column(range(36, 42))
    names = [None, *PARTS]
    assert names[p.part[0, 0, ly, lx]] == "left eye" and names[p.part[0, 0, ry, rx]] == "right eye"
    assert p.eyes[0, 0, ly, lx] > 0.9 and p.skin[0, 0, ly, lx] < 0.1
    x, y = column((51, 62))
    assert p.lips[0, 0, y, x] > 0.5 and names[p.part[0, 0, y, x]] == "lips"
    x, y = points[30].tolist()
    assert p.skin[0, 0, y, x] > 0.99
    total = p.skin + p.lips + p.eyes
    assert (total <= p.mask + 1e-5).all() and (p.mask - total).mean() < 0.004, "the rest is the inside of the mouth"
    assert set(p.part.unique().tolist()) <= set(range(len(names)))
