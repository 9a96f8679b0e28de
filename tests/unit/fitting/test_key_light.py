"""One strong lamp in a photo: found with its shadows, none where there is none, and not painted into the skin."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from fitdiff_core.detail.geometry import AtlasGeometry
from fitdiff_core.fitting.gbuffer import GBuffer
from fitdiff_core.fitting.key_light import KeyLight, find_key_light
from fitdiff_core.fitting.regions import region_weights
from fitdiff_core.fitting.sh_light import MEAN_SKIN, light_pixels
from fitdiff_core.head import load_head
from fitdiff_core.image import linear_to_srgb
from fitdiff_core.maps import TextureMaps
from fitdiff_core.render import Light, render
from fitdiff_core.render.light import Y00
from fitdiff_core.render.rig import combine_lights, directional_light, uniform_light
from fitdiff_core.scene import Scene
from fitdiff_lab.synthetic.shadows import cast_shadows


@pytest.fixture(scope="module")
def sitter():
    """The mean head with skin of one colour, as a frontal camera sees it at 128 px."""
    head = load_head()
    flat = torch.tensor(MEAN_SKIN)[None, :, None, None].expand(-1, -1, 64, 64)
    normal = torch.zeros(1, 3, 64, 64)
    normal[:, 2] = 1
    scene, vertices = Scene.portrait(yaw=12.0), head(torch.zeros(1, head.n_identity))
    gbuffer = GBuffer.render(vertices, head, scene, (128, 128))
    return SimpleNamespace(
        head=head,
        maps=TextureMaps(flat, 0.3 * torch.ones_like(flat), normal),
        scene=scene,
        vertices=vertices,
        gbuffer=gbuffer,
        skin=gbuffer.sample(region_weights(head))[:, 1:2] * gbuffer.facing,
    )


def found_in(sitter, light: Light) -> KeyLight | None:
    """Photographed with every lamp's shadows, which the guidance's renderer does not know."""
    lit = cast_shadows(sitter.head, sitter.vertices, light)
    photo = linear_to_srgb(
        render(sitter.vertices, lit, sitter.maps, sitter.scene.camera, light, size=(128, 128)).image.clamp(0, 1)
    )
    colour = torch.tensor(MEAN_SKIN)[None, :, None, None] * sitter.gbuffer.exposure
    (pixels,) = light_pixels(photo, colour, sitter.gbuffer.normal, sitter.skin, stride=2)
    return find_key_light(pixels, sitter.vertices, sitter.gbuffer, 2)


@pytest.mark.parametrize("azimuth, elevation, colour", [(65, 10, (3.0, 3.0, 3.0)), (-48, 38, (3.2, 2.4, 1.7))])
def test_a_key_light_is_found(sitter, azimuth, elevation, colour):
    key = directional_light(azimuth, elevation, colour)
    key_light = found_in(sitter, combine_lights(key, uniform_light((0.15, 0.15, 0.15))))
    angle = torch.rad2deg(torch.acos((key_light.direction * key.direction[0, 0]).sum()))
    assert angle < 12
    assert key_light.visibility.shape == (1, len(sitter.head.uv), 1) and 0.1 < key_light.visibility.mean() < 0.95


def test_soft_light_has_no_key_light(sitter):
    sky = Light(torch.zeros(1, 9, 3), torch.zeros(1, 0, 3), torch.zeros(1, 0, 3))
    sky.sh[:, 0], sky.sh[:, 1], sky.sh[:, 3] = 0.7 / Y00, 0.3, 0.25
    assert found_in(sitter, sky) is None


def test_without_skin_there_is_no_key_light(sitter):
    assert found_in(SimpleNamespace(**vars(sitter) | {"skin": sitter.skin * 0}), Light.preset("side")) is None


def picture(sitter, light: Light) -> torch.Tensor:
    return render(sitter.vertices, sitter.head, sitter.maps, sitter.scene.camera, light, size=(128, 128)).image


def test_shadows_take_only_what_the_lamp_gives(sitter):
    around = uniform_light((0.3, 0.3, 0.3))
    light = combine_lights(directional_light(75, 5, (2.0, 2.0, 2.0)), around)
    plain, cast, without = (
        picture(sitter, light),
        picture(sitter, replace(light, shadows=True)),
        picture(sitter, around),
    )
    assert (cast <= plain + 1e-4).all() and (cast >= without - 1e-4).all()
    lit = (plain - without).mean(1, keepdim=True)
    lost = (plain - cast).mean(1, keepdim=True) / lit.clamp(min=1e-6)
    lost = lost[(sitter.skin > 0.5) & (lit > 0.02)]
    assert (lost > 0.6).float().mean() > 0.01  # beside the nose
    assert (lost < 0.1).float().mean() > 0.5


def test_a_light_keeps_its_shadows(sitter):
    light = replace(directional_light(60, 10, (2.0, 1.0, 0.5)), shadows=True)
    for same in (light.rotated(20.0), light.scaled(2.0), light[0], light.expand(3), light.to("cpu"), light.detach()):
        assert same.shadows
    both = Light.cat([light, uniform_light((0.1, 0.1, 0.1))])  # of two photos, one with a lamp
    assert both.color.shape == (2, 1, 3) and both.shadows and both.color[1].max() == 0
    assert torch.allclose(both.direction.norm(dim=-1), torch.ones(2, 1))
    two = render(
        sitter.vertices.expand(2, -1, -1), sitter.head, sitter.maps, sitter.scene.camera, both, size=(64, 64)
    ).image
    assert torch.allclose(
        two[1:],
        render(
            sitter.vertices,
            sitter.head,
            sitter.maps,
            sitter.scene.camera,
            uniform_light((0.1, 0.1, 0.1)),
            size=(64, 64),
        ).image,
        atol=1e-5,
    )


def test_visibility_is_baked_for_each_directional_light(sitter):
    light = replace(
        combine_lights(directional_light(80, 0, (2.0, 2.0, 2.0)), directional_light(-80, 0, (2.0, 2.0, 2.0))),
        shadows=True,
    )
    visibility = AtlasGeometry.bake(sitter.vertices, sitter.head, 64, light).visibility
    assert visibility.shape == (1, 2, 64, 64)
    assert (visibility[:, 0] - visibility[:, 1].flip(2)).abs().mean() < 0.05  # the mean head is symmetric
    covered = visibility[:, :1] > 0
    plain = AtlasGeometry.bake(sitter.vertices, sitter.head, 64, replace(light, shadows=False)).visibility
    assert plain[:, :1][covered].min() > 0.99  # no shadows: all of it
    assert AtlasGeometry.bake(sitter.vertices, sitter.head, 64, uniform_light((1.0, 1.0, 1.0))).visibility.shape == (
        1,
        0,
        64,
        64,
    )
