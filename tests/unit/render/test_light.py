import math

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from fitdiff_core.errors import UserError
from fitdiff_core.render import PRESETS, Light, shade
from fitdiff_core.render.light import Y00, panorama_directions, sh_basis, toward
from fitdiff_core.render.shading import environment_brdf, ggx, grazing, lobe_direction


def directions(n, seed=0, dtype=torch.float64):
    return F.normalize(torch.randn(n, 3, generator=torch.Generator().manual_seed(seed), dtype=dtype), dim=-1)


def uniform(radiance=1.0, dtype=torch.float64):
    sh = torch.zeros(1, 9, 3, dtype=dtype)
    sh[:, 0] = radiance / Y00
    return Light(sh, torch.zeros(1, 0, 3, dtype=dtype), torch.zeros(1, 0, 3, dtype=dtype))


def one_lamp(direction, color, dtype=torch.float64):
    direction = torch.as_tensor(direction, dtype=dtype)
    return Light(torch.zeros(1, 9, 3, dtype=dtype), direction.view(1, 1, 3), torch.full((1, 1, 3), color, dtype=dtype))


def sphere_samples(n=128):
    direction, solid = panorama_directions(n, torch.zeros(1, dtype=torch.float64))
    return direction, solid


def test_sh_basis_is_orthonormal():
    direction, solid = sphere_samples()
    basis = sh_basis(direction)
    torch.testing.assert_close((basis * solid[:, None]).T @ basis, torch.eye(9).double(), atol=2e-3, rtol=0)


def test_irradiance_is_the_cosine_integral():
    """Against the integral over the sphere, for an order-2 environment."""
    light = Light(
        torch.randn(1, 9, 3, generator=torch.Generator().manual_seed(0)).double(), *([torch.zeros(1, 0, 3)] * 2)
    )
    direction, solid = sphere_samples()
    normal = directions(20)
    cosine = (normal @ direction.T).clamp(min=0) * solid
    expected = cosine @ light.radiance(direction[None])[0] / math.pi
    torch.testing.assert_close(light.irradiance(normal[None])[0], expected, atol=3e-3, rtol=0)


def test_uniformpanorama_directions_becomes_uniform_light():
    light = Light.from_environment(torch.full((1, 3, 32, 64), 0.7))
    torch.testing.assert_close(
        light.irradiance(directions(50, dtype=torch.float32)[None]), torch.full((1, 50, 3), 0.7), atol=2e-3, rtol=0
    )
    assert light.color.abs().max() < 1e-4


def test_the_sun_of_apanorama_directions_is_found_and_energy_is_kept():
    direction, solid = panorama_directions(64, torch.zeros(1))
    for yaw, pitch in [(0.0, 0.0), (70.0, 30.0), (-120.0, 50.0), (179.0, 5.0)]:
        sun = toward(*torch.deg2rad(torch.tensor([yaw, pitch])))
        disk = ((direction @ sun) > math.cos(math.radians(7))).float()
        pano = 0.3 + disk * 40.0
        light = Light.from_environment(pano.view(1, 1, 64, 128).expand(1, 3, 64, 128))
        assert torch.rad2deg(torch.arccos((light.direction[0, 0] @ sun).clamp(max=1))) < 1.5
        expected = (disk * 40.0 * solid).sum()
        torch.testing.assert_close(light.color[0, 0], expected.expand(3), rtol=0.02, atol=0)
        torch.testing.assert_close(light.sh[0, 0] * Y00, torch.full((3,), 0.3), rtol=0.02, atol=0)


def testpanorama_directions_orientation():
    """The middle of the picture is +z, right of it the subject's right (-x), the top is up."""
    pano = torch.zeros(1, 3, 32, 64)
    pano[:, 0, :, 46:50] = 1.0  # red: three quarters along
    pano[:, 1, :3] = 1.0  # green: the top
    pano[:, 2, 14:18, 30:34] = 1.0  # blue: the middle
    light = Light.from_environment(pano, lights=0)
    assert light.direction.shape == (1, 0, 3)
    seen = light.radiance(torch.tensor([[[-1.0, 0, 0], [0, 1, 0], [0, 0, 1]]]))[0]
    assert seen.argmax(1).tolist() == [0, 1, 2]


def test_two_lamps_are_told_apart():
    direction, _ = panorama_directions(64, torch.zeros(1))
    lamps = [toward(*torch.deg2rad(torch.tensor(a))) for a in ([60.0, 20.0], [-50.0, 10.0])]
    pano = sum(
        ((direction @ d) > math.cos(math.radians(6))).float() * s for d, s in zip(lamps, (30.0, 12.0), strict=True)
    )
    light = Light.from_environment((0.1 + pano).view(1, 1, 64, 128).expand(1, 3, 64, 128), lights=2)
    for found, lamp in zip(light.direction[0], lamps, strict=True):
        assert found @ lamp > math.cos(math.radians(2))


@pytest.mark.parametrize("bad", [torch.zeros(1, 1, 8, 16), torch.zeros(3, 8, 16), torch.full((1, 3, 8, 16), math.nan)])
def test_badpanorama_directionss_are_refused(bad):
    with pytest.raises(UserError):
        Light.from_environment(bad)


def test_rotating_a_light_rotates_its_radiance():
    g = torch.Generator().manual_seed(3)
    light = Light(torch.randn(2, 9, 3, generator=g).double(), directions(2)[:, None], torch.ones(2, 1, 3).double())
    yaw = 37.0
    turned = light.rotated(yaw)
    a = math.radians(yaw)
    turn = torch.tensor([[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]]).double()
    d = directions(30).expand(2, -1, -1)
    torch.testing.assert_close(turned.radiance(d @ turn.T), light.radiance(d))
    torch.testing.assert_close(turned.direction, light.direction @ turn.T)
    torch.testing.assert_close(light.rotated(360.0).sh, light.sh)
    front = one_lamp([0, 0, 1], 1.0).rotated(90.0)
    torch.testing.assert_close(front.direction[0, 0], torch.tensor([1.0, 0, 0]).double())
    assert len(light[0].rotated(torch.tensor([0.0, 10.0, 20.0]))) == 3
    parameter = torch.tensor([12.0], dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda y: light.rotated(y).sh, (parameter,))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_never_negative_and_of_usual_brightness(name):
    light = Light.preset(name, 2)
    assert light.sh.shape == (2, 9, 3) and light.direction.shape == light.color.shape
    torch.testing.assert_close(light.direction.norm(dim=-1), torch.ones(light.direction.shape[:2]))
    assert (light.radiance(directions(200, dtype=torch.float32).expand(2, -1, -1)) > -1e-4).all(), "no negative light"
    # what a white face that looks into the camera shows
    normal, white = torch.tensor([[[0.0, 0, 1]]]), torch.ones(1, 1, 3)
    level = shade(white, white * 0, normal, normal, light[0], 0.5).mean()
    assert 0.2 < level < 1.3


def test_unknown_preset():
    with pytest.raises(UserError, match="studio"):
        Light.preset("disco")


def test_white_furnace():
    """Albedo 1 under uniform light 1 shows 1; gloss adds its own reflectance and no more."""
    normal, view = directions(200)[None], directions(200, 1)[None]
    view = torch.where((normal * view).sum(-1, keepdim=True) < 0, -view, view)
    white = torch.ones(1, 200, 3).double()
    torch.testing.assert_close(shade(white, white * 0, normal, view, uniform()), white, atol=1e-6, rtol=0)
    for rough in (0.1, 0.3, 0.6, 1.0):
        gloss = shade(white * 0, white * 0.5, normal, view, uniform(), rough)
        assert 0.005 < gloss.min() and gloss.max() <= 1.0
    facing = shade(white[:, :1] * 0, white[:, :1] * 0.5, normal[:, :1], normal[:, :1], uniform(), 0.2)
    assert facing.mean() == pytest.approx(0.04, abs=0.006), "specular 0.5 means F0 = 4 %"


def test_lambert_level_of_a_lamp():
    n = torch.tensor([[[0.0, 0, 1]]]).double()
    white = torch.ones(1, 1, 3).double()
    for wrap in [(0.0, 0.0, 0.0), (0.16, 0.08, 0.06)]:
        lit = shade(white, white * 0, n, n, one_lamp([0, 0, 1], math.pi), wrap=wrap)
        torch.testing.assert_close(lit[0, 0], 1 / (1 + torch.tensor(wrap).double()))
    behind = shade(white, white, n, n, one_lamp([0, 0, -1], math.pi))
    torch.testing.assert_close(behind, torch.zeros_like(behind))


@pytest.mark.parametrize("rough", [0.25, 0.45, 0.8])
def test_ggx_keeps_energy(rough):
    """A mirror-coated surface (F0 high) reflects no more light than arrives; the wrapped diffuse keeps its energy."""
    direction, solid = sphere_samples(96)
    normal = torch.tensor([0.0, 0, 1]).double()
    for angle in (0.0, 50.0):
        lamp = toward(*torch.deg2rad(torch.tensor([angle, 0.0], dtype=torch.float64)))
        n = normal.expand(1, len(direction), 3)
        out = shade(n * 0, torch.full_like(n, 12.0), n, direction[None], one_lamp(lamp, 1.0), rough)[0, :, 0]
        up = direction[:, 2].clamp(min=0)
        reflected = (out * up * solid).sum() / math.cos(math.radians(angle))
        assert 0.4 < reflected < 1.02
    # the diffuse term, integrated over all orientations of the surface, does not depend on the wrap
    flux = [
        (
            shade(torch.ones_like(n), n * 0, direction[None], direction[None], one_lamp(lamp, 1.0), wrap=(w, w, w))[
                0, :, 0
            ]
            * solid
        )
        .sum()
        .item()
        for w in (0.0, 0.3)
    ]
    assert flux[0] == pytest.approx(flux[1], rel=0.01)


@pytest.mark.parametrize("rough", [0.3, 0.45, 0.7])
def test_environment_gloss_is_the_integral_of_the_lamps(rough):
    """Share and mean direction of what a uniform surround sends to the camera, towards the silhouette."""
    toward_light, solid = sphere_samples(256)
    normal = torch.tensor([[[0.0, 0, 1]]]).double()
    n_l = toward_light[None, :, 2:].clamp(min=0)
    rough, f0 = torch.tensor(rough).double(), torch.tensor([0.04]).double()
    for n_v in (0.1, 0.3, 0.5):
        view = torch.tensor([[[math.sqrt(1 - n_v**2), 0, n_v]]]).double()
        n_v = torch.tensor(n_v).double()
        sent = (ggx(f0, normal, view, toward_light[None], n_l, n_v, rough) * n_l)[0, :, 0] * solid
        assert float(environment_brdf(f0, n_v, rough)) == pytest.approx(float(sent.sum()), rel=0.25)
        mean = F.normalize(sent @ toward_light, dim=0)
        assert rough > 0.5 or lobe_direction(normal, view, n_v, rough)[0, 0] @ mean > math.cos(math.radians(12))


def test_light_from_behind_draws_no_pale_line():
    """A silhouette mirrors little of what is behind the head, also where the normal faces away (F90 = 1 gave 16 %)."""
    sh = torch.zeros(1, 9, 3).double()
    sh[:, 0], sh[:, 2] = 1 / Y00, -1 / Y00  # bright behind (-z)
    back = Light(sh, torch.zeros(1, 0, 3).double(), torch.zeros(1, 0, 3).double())
    view = torch.tensor([[[0.0, 0, 1]]]).double()
    for angle in (80.0, 89.0, 95.0):
        a = math.radians(angle)
        normal = torch.tensor([[[math.sin(a), 0, math.cos(a)]]]).double()
        white = torch.ones(1, 1, 3).double()
        assert 0.005 < shade(0 * white, 0.5 * white, normal, view, back).max() < 0.07 * back.radiance(-view).max()
    assert grazing(torch.tensor(0.08), torch.tensor(0.9)) == pytest.approx(0.08)  # never below F0
    assert grazing(torch.tensor(0.04), torch.tensor(0.0)) == 1


def test_shade_gradient():
    g = torch.Generator().manual_seed(5)
    n, v = directions(6, 7), directions(6, 8)
    v = torch.where((n * v).sum(-1, keepdim=True) < 0.2, F.normalize(n + 0.3 * v, dim=-1), v)
    inputs = [
        torch.rand(1, 6, 3, generator=g).double(),
        torch.rand(1, 6, 3, generator=g).double() * 0.5 + 0.3,
        n[None],
        v[None],
        torch.rand(1, 9, 3, generator=g).double() * 0.1 + uniform().sh,
        F.normalize(n[:2] + 0.4 * v[:2], dim=-1)[None],
        torch.rand(1, 2, 3, generator=g).double(),
        torch.rand(1, 6, 1, generator=g).double() * 0.4 + 0.3,
    ]
    for x in inputs:
        x.requires_grad_()
    assert gradcheck(lambda d, s, n, v, sh, to, c, r: shade(d, s, n, v, Light(sh, to, c), r), inputs)
