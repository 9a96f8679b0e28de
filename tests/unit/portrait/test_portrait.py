"""Shading of pictures: scattering, soft shadows, sky, gloss, eyes, pores, against answers that are known."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from fitdiff_core.head import load_head
from fitdiff_core.head.gloss import skin_roughness, whole_roughness
from fitdiff_core.pipeline import render_radiance
from fitdiff_core.portrait import sky
from fitdiff_core.portrait.eyes import Eyeballs
from fitdiff_core.portrait.lamps import HALF_ANGLE, LampMap, soft_cosine
from fitdiff_core.portrait.pores import FADE, porous, shown, tile
from fitdiff_core.portrait.scatter import kernel, line_profile, profile_radius, scatter
from fitdiff_core.portrait.sky import directions, see_sky, visibility
from fitdiff_core.render import Camera, Light
from fitdiff_core.render.normals import vertex_normals
from fitdiff_core.scene import Scene
from tests.support.meshes import ball_head
from tests.support.plain_avatar import plain_avatar

PALE, DARK = torch.tensor([0.6, 0.4, 0.3]), torch.tensor([0.12, 0.06, 0.04])


@pytest.fixture(scope="module")
def person():
    return plain_avatar()


def test_red_travels_farthest_and_less_far_in_dark_skin():
    pale, dark = profile_radius(PALE), profile_radius(DARK)
    assert pale[0] > 1.5 * pale[1] > 1.5 * pale[2] and (dark < pale).all()
    x = torch.linspace(-0.03, 0.03, 6001)
    area = line_profile(x.abs().clamp(min=1e-6), pale).sum(0) * float(x[1] - x[0])
    torch.testing.assert_close(area, torch.ones(3), atol=0.03, rtol=0)
    at, weight = kernel(PALE)
    torch.testing.assert_close(weight[0] + 2 * weight[1:].sum(0), torch.ones(3))
    assert (at.diff() > 0).all() and (weight >= 0).all()


def test_scattering_keeps_light_softens_edges_in_red_and_stays_on_its_surface():
    flat, depth = torch.full((3, 60, 80), 0.7), torch.ones(60, 80)
    torch.testing.assert_close(scatter(flat, depth, PALE, 3600.0), flat, atol=1e-5, rtol=0)
    edge = torch.zeros(3, 60, 80)
    edge[:, :, 40:] = 1.0
    soft = scatter(edge, depth, PALE, 3600.0)
    assert soft[0, 30, 36] > 2 * soft[1, 30, 36] > 2 * soft[2, 30, 36], "red light reaches farthest into the dark"
    torch.testing.assert_close(soft[0, 30, 32:48].sum(), torch.tensor(8.0), atol=0.4, rtol=0)
    apart = depth.clone()
    apart[:, 40:] = 1.05  # the lit part lies 5 cm behind
    torch.testing.assert_close(scatter(edge, apart, PALE, 3600.0), edge)
    nothing = torch.zeros(60, 80)
    assert not scatter(0 * edge, nothing, PALE, 3600.0).any()


def two_walls(gap: float):
    """A wall at z = 0 and a smaller one `gap` metres before its left half."""
    a = torch.tensor([[-0.1, -0.1, 0], [0.1, -0.1, 0], [0.1, 0.1, 0], [-0.1, 0.1, 0]])
    b = a * torch.tensor([0.5, 1.0, 1.0]) + torch.tensor([-0.05, 0, gap])
    tri = torch.tensor([[0, 1, 2], [0, 2, 3]])
    return torch.cat([a, b]), torch.cat([tri, tri + 4])


def test_a_penumbra_is_as_wide_as_the_lamp_and_the_distance_say():
    x = torch.linspace(-0.02, 0.02, 401)
    points = torch.stack([x, 0 * x, 0 * x], 1)
    normal = torch.tensor([[0.0, 0, 1]]).expand(401, 3)
    widths = []
    for gap in (0.02, 0.06):
        vertices, tri = two_walls(gap)
        seen = LampMap.draw(torch.tensor([0.0, 0, 1]), vertices, tri).visibility(points, normal)
        assert seen[:100].max() < 0.01 and seen[-100:].min() > 0.99
        assert (seen.diff() >= -0.13).all()
        widths.append(float((seen * (1 - seen)).sum() * 6 * 1e-4))  # of an even ramp
        half = float(x[(seen - 0.5).abs().argmin()])
        assert abs(half) < 0.0015, "the middle of the edge lies below the edge of the wall"
    assert widths[1] > 2 * widths[0]
    assert widths[1] == pytest.approx(2 * 0.06 * math.tan(HALF_ANGLE), rel=0.4)
    vertices, tri = two_walls(0.02)
    bare = LampMap.draw(torch.tensor([0.0, 0, 1]), vertices[:4], tri[:2]).visibility(points, normal)
    assert bare.min() > 0.99, "a wall does not shade itself"


def test_a_lamp_with_a_size_has_no_hard_terminator():
    c = torch.linspace(-0.3, 1, 500)
    soft = soft_cosine(c)
    assert (soft.diff() >= 0).all() and soft.diff().diff().abs().max() < 5e-4
    torch.testing.assert_close(soft[c > 0.1], c[c > 0.1])
    assert soft[c < -math.sin(HALF_ANGLE)].abs().max() == 0


def test_a_ball_sees_half_the_sky_and_a_hollow_less():
    way = directions(torch.zeros(1))
    torch.testing.assert_close(way.norm(dim=1), torch.ones(len(way)))
    assert way.mean(0).abs().max() < 0.03
    vertices, head = ball_head(96, 48, 0.1, torch.float32)
    normals = vertex_normals(vertices, head.triangles)[0]
    sky = see_sky(vertices[0], normals, head.triangles, Light.ambient(), PALE)
    assert sky.open.min() > 0.85 and sky.share.min() > 0.9
    walls, tri = two_walls(0.004)
    n = torch.tensor([[0.0, 0, 1]]).expand(8, 3)
    seen = visibility(walls, n, tri)
    assert seen[0].sum() < 0.8 * seen[1].sum(), "the second wall hides sky from the corner below it"


def test_the_mouth_opens_and_closes_its_occlusion():
    head = load_head()
    jaw = head.expression_names.index("jawOpen")
    neutral, open_ = torch.zeros(1, head.n_identity), torch.zeros(1, head.n_expression)
    open_[0, jaw] = 0.8
    light = []
    for expression in (torch.zeros_like(open_), open_):
        points = head(neutral, expression)
        normals = vertex_normals(points, head.triangles)[0]
        sky = see_sky(points[0], normals, head.triangles, Light.ambient(), PALE)
        light.append(float(sky.open[head.teeth_rows].mean()))
    assert light[1] > light[0] + 0.02


def test_lips_and_nose_are_glossier_than_cheeks_and_neck():
    head = load_head()
    shape = torch.zeros(1, head.n_identity)
    rough = skin_roughness(head, shape)
    mean = {n: float(rough[head.vertex_region(n) > 0.9].mean()) for n in ("lips", "nose", "neck")}
    assert mean["lips"] < mean["nose"] < mean["neck"] and (rough[: head.n_skin] > 0.15).all()
    assert torch.equal(rough[head.n_skin :], head.roughness[head.n_skin :]), "eyes keep their own"
    assert len(whole_roughness(head, shape)) > len(rough)


def test_the_iris_lies_behind_the_cornea():
    head = load_head()
    shape = torch.zeros(1, head.n_identity)
    points = head(shape, None, torch.tensor([[0.3, 0.1]]))[0]
    eyes = Eyeballs.of(head, points)
    assert eyes is not None
    ahead = eyes.rotation @ torch.tensor([0.0, 0, 1])
    assert (ahead[:, 0] > 0.25).all() and (ahead[:, 1] > 0.05).all(), "they look to the left and up"
    front = eyes.local[head.n_skin :][: len(head.eyeball)]
    apex = front[front[:, 2].argmax()][None]
    side, uv = torch.zeros(1), torch.tensor([[0.5, 0.5]])
    normal, slant = ahead[:1], torch.nn.functional.normalize(ahead[:1] + torch.tensor([[0.6, 0, 0.0]]), dim=1)
    straight = eyes.refract(apex, side, normal, normal, uv)
    aside = eyes.refract(apex, side, normal, slant, uv)
    centre = torch.tensor(
        [(head.eye_island[0] + head.eye_island[2]) / 2, (head.eye_island[1] + head.eye_island[3]) / 2]
    )
    assert (straight.uv - centre).abs().max() < 0.005 and float(straight.inside) == 1
    assert 0.03 < float(aside.radius) < 0.9, "seen from aside, the pupil shifts under the cornea"
    assert (straight.color(torch.full((1, 3), 0.2)) <= 0.2 + 1e-6).all()


def test_pores_fade_with_the_size_of_pixels_and_repeat_without_a_seam():
    assert shown(FADE[1]) == 0 and shown(FADE[0]) == 1 and 0 < shown(sum(FADE) / 2) < 1
    slopes = tile()
    seam = (slopes[..., 0] - slopes[..., -1]).std() / slopes.diff(dim=-1).std()
    assert 0.7 < float(seam) < 1.4
    normal, tangent = torch.tensor([[0.0, 0, 1]]).expand(50, 3), torch.tensor([[1.0, 0, 0, 1]]).expand(50, 4)
    uv = torch.rand(50, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(porous(normal, tangent, uv, 0.0), normal)
    bent = porous(normal, tangent, uv, 1.0)
    torch.testing.assert_close(bent.norm(dim=1), torch.ones(50))
    assert 0.02 < float((bent - normal).norm(dim=1).mean()) < 0.4


@pytest.mark.slow
def test_a_picture_is_the_same_again_has_no_specks_and_no_black_face(person):
    scene = Scene.portrait()
    light = replace(Light.preset("side"), shadows=True)
    a, mask = render_radiance(person, scene, 160, light, Camera.orbit(20.0, 0.0))
    b, _ = render_radiance(person, scene, 160, light, Camera.orbit(20.0, 0.0))
    assert torch.equal(a, b) and torch.isfinite(a).all() and (a >= 0).all()
    grey = a.mean(1)[0]
    middle = grey[1:-1, 1:-1]
    around = torch.stack([grey[:-2, 1:-1], grey[2:, 1:-1], grey[1:-1, :-2], grey[1:-1, 2:]])
    inside = torch.nn.functional.max_pool2d(1 - mask, 7, 1, 3)[0, 0, 1:-1, 1:-1] == 0
    assert ((middle - around.amax(0))[inside] > 0.25).float().mean() < 0.002, "single bright pixels are specks"
    assert float((grey[mask[0, 0] > 0.99] < 0.004).float().mean()) < 0.2


def test_another_gaze_takes_the_sky_of_the_same_face():
    head = load_head()
    shape, expression = torch.zeros(1, head.n_identity), torch.zeros(1, head.n_expression)
    eyes = slice(head.n_skin, head.n_skin + 2 * len(head.eyeball))

    def seen(yaw: float, blink: float = 0.0) -> torch.Tensor:
        expression[0, head.expression_names.index("eyeBlinkLeft")] = blink
        points = head(shape, expression, torch.tensor([[yaw, 0.0]]))
        return visibility(points[0], vertex_normals(points, head.triangles)[0], head.triangles, eyes)

    sky._poses.clear()
    ahead, aside = seen(0.0), seen(0.3)
    assert len(sky._poses) == 1 and torch.equal(ahead[: head.n_skin], aside[: head.n_skin])
    assert not torch.equal(ahead[eyes], aside[eyes])
    sky._poses.clear()
    assert (seen(0.3) - aside).abs().mean() < 2e-3, "as from depth maps of its own"
    seen(0.3, 1.0)
    assert len(sky._poses) == 2, "lids that shut hide more"
