"""Crop, landmark fit and light, on synthetic faces whose truth is known."""

import math
from types import SimpleNamespace

import pytest
import torch

from fitdiff_core.errors import UserError
from fitdiff_core.face.mesh_points import LIDS_LEFT, LIDS_RIGHT
from fitdiff_core.fitting import crop_face, fit_landmarks, fit_light, fit_scene
from fitdiff_core.fitting.crop import crop_image
from fitdiff_core.fitting.gaze import eyes_shut, fit_gaze, inside_polygon
from fitdiff_core.fitting.landmarks import FitPrior, LandmarkProblem, landmark_basis
from fitdiff_core.fitting.pose import affine_pose, axis_angle_to_matrix, matrix_to_axis_angle, umeyama
from fitdiff_core.fitting.sh_light import (
    AMBIENT,
    LightPrior,
    Pixels,
    directional_basis,
    irradiance_basis,
    solve_light,
    white_balance,
)
from fitdiff_core.image import linear_to_srgb, srgb_to_linear
from fitdiff_core.render import Camera


class ToyHead(torch.nn.Module):
    """A half ellipsoid like a face: 468 vertices, all landmarks, linear in 20 identity and 52 expression modes."""

    n_identity, n_skin = 20, 468
    expression_names = tuple(f"action{i}" for i in range(52))

    def __init__(self):
        super().__init__()
        g = torch.Generator().manual_seed(0)
        i = torch.arange(468) + 0.5
        azimuth, height = i * 2.399963, i / 468 * 1.8 - 0.9
        ring = (1 - height**2).sqrt()
        points = torch.stack([0.075 * ring * azimuth.sin(), 0.11 * height, 0.09 * ring * azimuth.cos().abs()], 1)
        points[:, 2] += 0.03 * torch.exp(-(points[:, 0] ** 2 + points[:, 1] ** 2) / 0.0008)  # a nose
        self.register_buffer("mean", points)
        centres = points[torch.randperm(468, generator=g)[:72]]
        bump = torch.exp(-(points[None] - centres[:, None]).square().sum(2) / 0.0025)
        size = torch.tensor([0.005] * 20 + [0.02] * 52)[:, None, None]
        self.register_buffer("basis", bump[..., None] * size * torch.randn(72, 1, 3, generator=g))
        self.register_buffer("triangles", torch.zeros(1, 3, dtype=torch.long))

    def forward(self, identity, expression=None, gaze=None):
        expression = identity.new_zeros(len(identity), 52) if expression is None else expression
        return self.mean.to(identity) + torch.einsum(
            "bk,kvc->bvc", torch.cat([identity, expression], 1), self.basis.to(identity)
        )

    def landmarks(self, vertices, which="mesh"):
        rows = {"mesh": range(468), "68": [i * 467 // 67 for i in range(68)], "5": [2, 77, 180, 301, 433]}[which]
        return vertices[:, list(rows)]

    def landmark_weights(self, which):
        return torch.ones(468)


@pytest.fixture(scope="module")
def head():
    return ToyHead()


def turn(*degrees):
    return torch.tensor([degrees]).deg2rad()


def degrees_between(a, b):
    relative = axis_angle_to_matrix(a.double()) @ axis_angle_to_matrix(b.double()).T
    return float(matrix_to_axis_angle(relative).norm().rad2deg())


def synthetic(head, rotation, distance=0.9, noise=0.0, seed=1):
    g = torch.Generator().manual_seed(seed)
    identity = torch.randn(1, 20, generator=g) * 0.8
    expression = torch.zeros(1, 52)
    expression[0, [3, 17, 40]] = torch.tensor([0.7, 0.4, 0.6])
    camera = Camera(torch.tensor([distance / 0.16]), rotation, torch.tensor([[0.01, -0.015, -distance]]))
    points = head.landmarks(head(identity, expression))
    px = camera.project(points, (256, 256))[0] + noise * torch.randn(468, 2, generator=g)
    depth = -(points[0] @ axis_angle_to_matrix(rotation[0]).T)[:, 2:] / 0.16 * 128
    return torch.cat([px, depth], 1), camera, identity, expression


@pytest.mark.parametrize("rotation", [(0, 0, 0), (10, 45, -20), (-35, -30, 15), (5, -70, 0), (0, 10, 95)])
def test_pose_is_recovered(head, rotation):
    points, camera, identity, expression = synthetic(head, turn(*rotation), noise=0.5)
    found = fit_landmarks(points, head)
    assert degrees_between(found.rotation, camera.rotation[0]) < 2.5
    assert found.residual < 1.5
    again = found.camera().project(head.landmarks(head(found.identity[None], found.expression[None])), (256, 256))
    assert (again[0] - points[:, :2]).norm(dim=1).mean() < 1.5


def test_expression_is_found_and_never_negative(head):
    points, _, _, expression = synthetic(head, turn(0, 20, 0))
    found = fit_landmarks(points, head)
    assert (found.expression >= 0).all() and (found.expression <= 1).all()
    active = expression[0] > 0
    assert found.expression[active].mean() > 5 * found.expression[~active].mean()


def test_shape_comes_nearer_than_the_mean(head):
    points, _, identity, _ = synthetic(head, turn(5, 25, 0))
    found = fit_landmarks(points, head)
    error = (head(found.identity[None]) - head(identity)).norm(dim=2).mean()
    assert error < 0.7 * (head(torch.zeros(1, 20)) - head(identity)).norm(dim=2).mean()


@pytest.mark.parametrize("distance", [0.45, 2.5])
def test_distance_stays_a_likely_one(head, distance):
    points, *_ = synthetic(head, turn(0, 15, 0), distance)
    found = fit_landmarks(points, head)
    assert 0.3 < -found.translation[2] < 4.1
    assert found.residual < 1.5


def test_outliers_do_not_move_the_pose(head):
    points, camera, *_ = synthetic(head, turn(0, 30, 0))
    points[::12, :2] += 60
    found = fit_landmarks(points, head)
    assert degrees_between(found.rotation, camera.rotation[0]) < 4


@pytest.mark.parametrize("which", ["68", "5"])
def test_a_few_landmarks_without_depth_are_enough_for_the_pose(head, which):
    points, camera, *_ = synthetic(head, turn(0, 15, 10))
    few = head.landmarks(points[None, :, :2], which)[0]
    found = fit_landmarks(few, head, which=which)
    assert degrees_between(found.rotation, camera.rotation[0]) < (8 if which == "68" else 26)


def test_wrong_landmark_count_is_a_user_error(head):
    with pytest.raises(UserError, match="468"):
        fit_landmarks(torch.rand(67, 2), head)


def test_jacobian_equals_the_derivative(head):
    g = torch.Generator().manual_seed(3)
    problem = LandmarkProblem(head.mean[:, :2] * 1000 + 128, head, 256, "mesh", FitPrior())
    problem.rotation = axis_angle_to_matrix(turn(10, -30, 5)[0].double())
    theta = torch.randn(79, generator=g, dtype=torch.float64) * 0.1
    theta[5], theta[6] = 2.0, -0.2
    _, analytic = problem.project(theta)
    numeric = torch.autograd.functional.jacobian(lambda t: problem.project(t, need_jacobian=False)[0], theta)
    # the rotation columns are taken at a zero increment, where the fit always is
    theta0 = theta.clone()
    theta0[:3] = 0
    _, analytic0 = problem.project(theta0)
    numeric0 = torch.autograd.functional.jacobian(lambda t: problem.project(t, need_jacobian=False)[0], theta0)
    assert torch.allclose(analytic[..., 3:], numeric[..., 3:], atol=1e-9)
    assert torch.allclose(analytic0, numeric0, atol=1e-9)


def test_closed_forms_are_exact():
    g = torch.Generator().manual_seed(2)
    source = torch.randn(30, 3, generator=g, dtype=torch.float64)
    r = axis_angle_to_matrix(torch.tensor([0.3, -1.2, 0.7], dtype=torch.float64))
    target = 2.5 * source @ r.T + torch.tensor([1.0, 2, 3], dtype=torch.float64)
    scale, rotation, shift = umeyama(source, target, torch.rand(30, generator=g).double() + 0.1)
    assert torch.allclose(rotation, r) and abs(scale - 2.5) < 1e-9
    assert torch.allclose(shift, torch.tensor([1.0, 2, 3], dtype=torch.float64))
    _, affine, _ = affine_pose(source, target[:, :2], torch.ones(30).double())
    assert torch.det(affine) == pytest.approx(1)
    for angle in (0.0, 1e-9, 0.5, 3.0, 3.14159265):
        v = torch.tensor([0.6, -0.64, 0.48], dtype=torch.float64) * angle
        back = matrix_to_axis_angle(axis_angle_to_matrix(v))
        assert torch.allclose(axis_angle_to_matrix(back), axis_angle_to_matrix(v), atol=1e-7)


def mesh_at(centre, side):
    points = torch.rand(468, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    points[10], points[152] = torch.tensor([0.0, -0.5, 0]), torch.tensor([0.0, 0.5, 0])
    return points * side + torch.tensor([*centre, 0.0])


def test_crop_holds_the_face_and_maps_its_points():
    photo = torch.zeros(1, 3, 300, 400)
    mesh = mesh_at((210, 150), 100)
    for x, y in mesh[:, :2].long().tolist():
        photo[..., y, x] = 1
    crop = crop_face(photo, mesh)
    points = crop.points(mesh)
    assert crop.image.shape == (1, 3, 256, 256) and crop.mask.min() == 1
    assert points[:, :2].min() > 8 and points[:, :2].max() < 248
    x, y = points[40, :2].long().tolist()
    assert crop.image[0, 0, y - 2 : y + 3, x - 2 : x + 3].max() > 0.3
    assert points[40, 2] == pytest.approx(float(mesh[40, 2] * crop.matrix[0, 0, 0]), abs=1e-4)


def test_crop_shrinks_without_aliasing():
    photo = torch.zeros(1, 3, 1200, 1200)
    photo[..., ::2] = 1
    crop = crop_face(photo, mesh_at((600, 600), 640))
    assert (crop.image - 0.5).abs().max() < 0.1


def test_crop_at_native_scale_copies():
    photo = torch.rand(1, 3, 40, 50, generator=torch.Generator().manual_seed(0))
    crop = crop_image(photo, torch.tensor([[[1.0, 0, -10], [0, 1.0, -5]]]), 32)
    assert torch.allclose(crop.image, photo[..., 5:37, 10:42], atol=1e-6)


def test_a_crop_beyond_the_frame_is_masked():
    photo = torch.full((1, 3, 200, 120), 0.5)
    crop = crop_face(photo, mesh_at((115, 100), 90))
    edge = float(crop.matrix[0, 0, 0] * 120 + crop.matrix[0, 0, 2])
    assert 100 < edge < 200
    assert crop.mask[..., : int(edge)].mean() > 0.9 and crop.mask[..., int(edge) + 2 :].max() == 0
    assert torch.allclose(crop.image, torch.full_like(crop.image, 0.5), atol=1e-5)


@pytest.mark.parametrize("mesh", [torch.zeros(468, 3), torch.full((468, 3), float("nan"))])
def test_no_face_to_crop_is_a_user_error(mesh):
    with pytest.raises(UserError, match="face"):
        crop_face(torch.rand(1, 3, 64, 64), mesh)


def test_fit_scene_in_photo_pixels(head):
    points, camera, *_ = synthetic(head, turn(5, -25, 10))
    photo = torch.rand(1, 3, 500, 700, generator=torch.Generator().manual_seed(1))
    mesh = points * 0.8 + torch.tensor([310.0, 120.0, 0.0])
    scene, shape = fit_scene(photo, SimpleNamespace(mesh=mesh), head)
    assert scene.size == (256, 256) and shape.shape == (1, 20) and scene.expression.shape == (1, 52)
    seen = scene.camera.project(head.landmarks(head(shape, scene.expression)), scene.size)[0]
    m = scene.crop[0]
    back = (seen - m[:, 2]) @ torch.linalg.inv(m[:, :2]).T
    assert (back - mesh[:, :2]).norm(dim=1).mean() < 2


def lit_sphere(sh, size=96):
    y, x = torch.meshgrid(torch.linspace(1, -1, size), torch.linspace(-1, 1, size), indexing="ij")
    inside = x**2 + y**2 < 0.95
    normal = torch.stack([x, y, (1 - x**2 - y**2).clamp(min=1e-3).sqrt()])[None]
    albedo = torch.tensor([0.4, 0.25, 0.18])[None, :, None, None] * (0.8 + 0.4 * torch.rand(1, 1, size, size))
    radiance = albedo * (irradiance_basis(normal.permute(0, 2, 3, 1)) @ sh).permute(0, 3, 1, 2)
    return linear_to_srgb(radiance.clamp(min=0)), albedo, normal, inside[None, None].float()


def test_light_is_exact_on_synthetic_pixels():
    torch.manual_seed(0)
    truth = torch.zeros(9, 3)
    truth[0] = torch.tensor([1.0, 0.97, 0.93]) * AMBIENT
    truth[1:4] = torch.tensor([[0.5], [0.8], [-0.6]])
    truth[4:] = 0.1 * torch.randn(5, 1)
    photo, albedo, normal, mask = lit_sphere(truth)
    light, trust = fit_light(photo, albedo, normal, mask)
    basis = irradiance_basis(normal.permute(0, 2, 3, 1))[mask[:, 0] > 0]
    assert ((basis @ light.sh[0]) - basis @ truth).abs().mean() < 0.03
    assert torch.isnan(trust).any() and trust[~torch.isnan(trust)].mean() > 0.5


def test_occluders_do_not_light_the_face():
    torch.manual_seed(0)
    truth = torch.zeros(9, 3)
    truth[0], truth[2] = AMBIENT, 0.8
    photo, albedo, normal, mask = lit_sphere(truth)
    hidden = photo.clone()
    hidden[..., :30, :] = 0.05  # a dark fringe
    light, trust = fit_light(hidden, albedo, normal, mask)
    basis = irradiance_basis(normal.permute(0, 2, 3, 1))[mask[:, 0] > 0]
    assert ((basis @ light.sh[0]) - basis @ truth).abs().mean() < 0.08
    rows = 30 // 3
    assert torch.nanmean(trust[..., :rows, :]) < 0.3 < 0.6 < torch.nanmean(trust[..., rows + 1 :, :])


def test_light_without_pixels_is_the_prior():
    photo, albedo, normal, mask = lit_sphere(torch.zeros(9, 3))
    light, _ = fit_light(photo, albedo, normal, mask * 0)
    assert (light.sh[0, 0] > 2).all() and light.sh[0, 1:].abs().max() < 1e-6 and light.color.shape == (1, 0, 3)


def test_without_white_balance_tint_goes_to_the_skin_and_not_to_the_light():
    torch.manual_seed(0)
    truth = torch.zeros(9, 3)
    truth[0] = AMBIENT
    photo, albedo, normal, mask = lit_sphere(truth)
    grey = albedo.mean(1, keepdim=True).expand_as(albedo).contiguous()
    tinted = float(albedo[0, 0, 0, 0] / albedo[0, 2, 0, 0])
    near_white = fit_light(photo, grey, normal, mask, prior=LightPrior(balance=0))[0].sh[0, 0]
    assert near_white.max() / near_white.min() < 0.8 * tinted
    balanced = fit_light(photo, grey, normal, mask)[0].sh[0, 0]
    assert balanced.max() / balanced.min() > 0.95 * tinted


def test_a_lamp_with_its_shadow_is_fitted_beside_the_surroundings():
    torch.manual_seed(0)
    around = torch.zeros(9, 3)
    around[0] = 0.45 * AMBIENT
    photo, albedo, normal, mask = lit_sphere(around)
    direction, visibility = torch.nn.functional.normalize(torch.tensor([0.9, 0.3, 0.3]), dim=0), torch.ones_like(mask)
    visibility[..., 40:60, 50:80] = 0
    share = (directional_basis(normal.permute(0, 2, 3, 1), direction) * visibility.permute(0, 2, 3, 1)).permute(
        0, 3, 1, 2
    )
    colour = torch.tensor([1.5, 1.4, 1.2])
    lit = linear_to_srgb((srgb_to_linear(photo) + albedo * share * colour[None, :, None, None]).clamp(0, 1))
    light, _ = fit_light(lit, albedo, normal, mask, stride=2, key_direction=direction, key_visibility=visibility)
    assert torch.allclose(light.direction[0, 0], direction)
    assert torch.allclose(light.color[0, 0] / math.pi, colour, rtol=0.1)
    assert torch.allclose(light.sh[0, 0], around[0], rtol=0.15) and light.sh[0, 1:].abs().max() < 0.3
    blind, _ = fit_light(lit, albedo, normal, mask, stride=2, key_direction=direction)  # without the shadow it is worse
    assert (blind.color[0, 0] / math.pi - colour).abs().max() > 2 * (light.color[0, 0] / math.pi - colour).abs().max()


class EyedHead:
    """Two eyeballs of 6 points each, nothing else."""

    n_skin = 0
    centres = torch.tensor([[0.031, 0.0, 0.03], [-0.031, 0.0, 0.03]])

    def vertices(self):
        axes = torch.cat([torch.eye(3), -torch.eye(3)]) * 0.0115
        return (self.centres[:, None] + axes).reshape(1, 12, 3)


@pytest.mark.parametrize("yaw, pitch", [(0, 0), (18, 0), (-15, 6), (8, -8)])
@pytest.mark.parametrize("turned", [0, 20])
def test_gaze_from_the_irises(yaw, pitch, turned):
    head, size = EyedHead(), (512, 512)
    camera = Camera(torch.tensor([6.0]), turn(0, turned, 5), torch.tensor([[0.0, 0.0, -0.9]]))
    mesh, image = torch.zeros(468, 2), torch.full((1, 3, 512, 512), 0.6)
    y, x = torch.meshgrid(torch.arange(512) + 0.5, torch.arange(512) + 0.5, indexing="ij")
    px = torch.stack([x, y], -1)
    a, b = torch.tensor([yaw, pitch]).deg2rad()
    forward = torch.stack([a.sin() * b.cos(), b.sin(), a.cos() * b.cos()])
    for centre, lids in zip(head.centres, (LIDS_LEFT, LIDS_RIGHT), strict=True):
        angle = torch.arange(16) / 16 * 2 * torch.pi
        rim = torch.stack([0.014 * angle.cos(), 0.006 * angle.sin(), torch.full((16,), 0.009)], 1) + centre
        mesh[list(lids)] = camera.project(rim[None], size)[0]
        iris = camera.project((centre + 0.0115 * forward)[None, None], size)[0, 0]
        eye = inside_polygon(px, mesh[list(lids)])
        image[0, :, eye] = 0.85
        scale = 6.0 / 0.87 * 256
        image[0, :, eye & ((px - iris).norm(dim=-1) < 0.00585 * scale)] = 0.15
    gaze = fit_gaze(image, mesh, head.vertices(), head, camera, size)[0].rad2deg()
    assert abs(gaze[0] - yaw) < 4 and abs(gaze[1] - pitch) < 5


def test_shut_eyes_and_heads_without_eyes_look_ahead(head):
    eyed, camera = EyedHead(), Camera(torch.tensor([6.0]), torch.zeros(1, 3), torch.tensor([[0.0, 0.0, -0.9]]))
    image, size = torch.rand(1, 3, 512, 512), (512, 512)
    assert fit_gaze(image, torch.full((468, 2), 250.0), eyed.vertices(), eyed, camera, size).abs().max() < 0.05
    assert fit_gaze(image, torch.zeros(468, 2), head(torch.zeros(1, 20)), head, camera, size).abs().max() == 0


def test_the_basis_of_the_landmarks_is_computed_once_for_each_head(head):
    first, again = landmark_basis(head, "5"), landmark_basis(head, "5")
    assert first[0] is again[0] and landmark_basis(head, "68")[0].shape[0] == 68


def drawn_eyes(shut: bool, lids: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """A picture of two eyes on skin, 256 px, and mesh points with the same gap between the lids, shut or not."""
    image = torch.tensor([0.8, 0.6, 0.5])[None, :, None, None].expand(1, 3, 256, 256).clone()
    mesh = torch.zeros(468, 2)
    t = torch.arange(256) + 0.5
    y, x = torch.meshgrid(t, t, indexing="ij")
    for rows, middle in zip(lids, (80.0, 176.0), strict=True):
        angle = torch.arange(len(rows)) / len(rows) * 2 * math.pi
        mesh[list(rows)] = torch.stack([middle + 30 * angle.cos(), 128 + 10 * angle.sin()], 1)
        within = ((x - middle) / 30) ** 2 + ((y - 128) / 10) ** 2 < 1
        if shut:
            image[:, :, within & ((y - 133).abs() < 2)] = 0.15  # lashes
        else:
            image[:, :, within] = 0.85
            image[:, :, within & ((x - middle) ** 2 + (y - 128) ** 2 < 11**2)] = 0.2
    return image, mesh


def test_eyes_are_shut_where_skin_lies_between_the_lids():
    lids = [list(LIDS_LEFT), list(LIDS_RIGHT)]
    assert eyes_shut(*drawn_eyes(True, lids))
    assert not eyes_shut(*drawn_eyes(False, lids))
    image, mesh = drawn_eyes(True, lids)
    assert not eyes_shut(image, 0 * mesh)  # no lids


def test_lamps_share_the_tint_of_the_photos_white_balance():
    g = torch.Generator().manual_seed(3)
    normal = torch.nn.functional.normalize(torch.randn(900, 3, generator=g).double() + torch.tensor([0, 0, 2.0]), dim=1)
    albedo = torch.tensor([0.45, 0.28, 0.2]).double() * (0.1 * torch.randn(900, 1, generator=g)).exp()
    tint = torch.tensor([1.5, 1.0, 0.6]).double()
    sh = torch.zeros(9, 3).double()
    sh[0] = 0.6 * AMBIENT
    key = directional_basis(normal, torch.tensor([0.6, 0.2, 0.77]))
    radiance = albedo * tint * (irradiance_basis(normal) @ sh + 0.5 * key)
    one = torch.ones(900)
    pixels = Pixels(one[None] > 0, radiance, albedo, normal, one.double(), radiance > 9, one[:, None].double())
    found = solve_light(pixels, LightPrior(), key)
    for light in (found.sh[0], found.key):
        assert torch.allclose(light / light.mean(), tint / tint.mean(), atol=0.06)
    near_white = solve_light(pixels, LightPrior(balance=0), key).sh[0]
    assert (near_white / near_white.mean() - tint / tint.mean()).abs().max() > 0.1
    assert torch.allclose(white_balance(pixels, 0.0), torch.ones(3).double())
