"""Panoramas, film curve, exposure and backdrop."""

from __future__ import annotations

import math

import pytest
import torch

from fitdiff_core.avatar import Avatar
from fitdiff_core.errors import UserError
from fitdiff_core.maps import TextureMaps
from fitdiff_core.pipeline import photograph, render_avatar
from fitdiff_core.render import Camera, Light
from fitdiff_core.render.backdrop import BACKDROPS, backdrop, wall_shadow
from fitdiff_core.render.light import panorama_directions, toward
from fitdiff_core.render.panoramas import FOLDER, PANORAMAS, named_light, panorama, panorama_light
from fitdiff_core.render.rig import directional_light
from fitdiff_core.render.tone import START, face_exposure, film
from fitdiff_core.scene import Scene

SIZE = (64, 96)


def test_panoramas_are_small_and_light_a_face_well():
    files = list(FOLDER.iterdir())
    assert {f.stem for f in files} == set(PANORAMAS) and sum(f.stat().st_size for f in files) < 1_000_000
    yaw = torch.tensor([-45.0, 0.0, 45.0]).deg2rad()
    for name in PANORAMAS:
        pixels = panorama(name)
        assert pixels.shape == (1, 3, 128, 256) and float(pixels.min()) >= 0
        direction, solid = panorama_directions(128, pixels)
        cosine = (direction @ toward(yaw, 0 * yaw).T).clamp(min=0) * solid[:, None] / math.pi
        assert float((pixels.flatten(2)[0] @ cosine).mean()) == pytest.approx(1, abs=0.15), name


@pytest.mark.parametrize("name", PANORAMAS)
def test_the_light_of_a_panorama_keeps_its_energy(name):
    light, pixels = panorama_light(name), panorama(name)
    _, solid = panorama_directions(128, pixels)
    total = light.sh[0, 0] * 2 * math.sqrt(math.pi) + light.color[0].sum(0)
    torch.testing.assert_close(total, pixels.flatten(2)[0] @ solid, rtol=2e-3, atol=1e-3)
    assert light.direction[0, 0, 2] > -0.9 or name == "softboxes"


def test_unknown_lights():
    with pytest.raises(UserError, match="Unknown light"):
        named_light("moon")


def test_the_film_curve_keeps_what_is_well_exposed():
    x = torch.rand(1, 3, 8, 8) * START
    torch.testing.assert_close(film(x), x)
    bright = torch.linspace(0, 20, 200).view(1, 1, 1, -1) * torch.tensor([1.0, 0.7, 0.5]).view(1, 3, 1, 1)
    out = film(bright)
    assert (out.diff(dim=3) >= -1e-6).all() and float(out.max()) < 1, "it rises and never clips"
    assert float(out[0, :, 0, -1].min()) > 0.8, "very bright light turns pale"


def test_a_dark_face_is_exposed_longer_and_a_good_one_is_left():
    mask = torch.ones(3, 1, 16, 16)
    radiance = torch.stack([torch.full((3, 16, 16), v) for v in (0.02, 0.2, 4.0)])
    factors = face_exposure(radiance, mask)
    assert factors[0] > 4 and factors[1] == 1 and factors[2] < 0.25
    assert face_exposure(radiance[:1], 0 * mask[:1]).isfinite().all()


def test_backdrops():
    like = torch.zeros(1)
    for name in BACKDROPS:
        assert backdrop(name, SIZE, like).shape == (1, 3, *SIZE)
    studio = backdrop("studio", SIZE, like)
    assert studio[0, :, 28, 48].min() > 2 * studio[0, :, 0, 0].max()
    with pytest.raises(UserError, match="Unknown backdrop"):
        backdrop("beach", SIZE, like)


def test_the_shadow_falls_away_from_the_lamp():
    """A lamp at the subject's left, which is right in the picture, throws the shadow to the left; one above, down."""
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 24:40, 24:40] = 1
    camera = Camera.orbit()
    left = 1 - wall_shadow(mask, camera, directional_light(20, 0, (2, 2, 2)))
    assert left[..., :32].sum() > 4 * left[..., 32:].sum() and left[..., :32].sum() > 1
    above = 1 - wall_shadow(mask, camera, directional_light(0, 20, (2, 2, 2)))
    assert above[:, :, 32:].sum() > 2 * above[:, :, :32].sum()
    behind = wall_shadow(mask, camera, directional_light(170, 0, (2, 2, 2)))
    assert (behind == 1).all()


def test_a_photograph(head):
    maps = TextureMaps.from_stack(torch.full((1, 9, 32, 32), 0.4))
    avatar, scene = Avatar(head, torch.zeros(1, head.n_identity), maps), Scene.portrait()
    picture, mask = photograph(avatar, scene, 64, backdrop="grey", tone="plain")
    plain, same = render_avatar(avatar, scene, 64)
    torch.testing.assert_close(mask, same)
    assert (picture - plain).abs().mean() < 2e-3
    studio, _ = photograph(avatar, scene, 64)
    assert (studio - plain).abs()[mask.expand_as(studio) < 0.01].mean() > 0.02
    dark = Light.ambient().scaled(0.05)
    shown, _ = photograph(avatar, scene, 64, dark, expose=True)
    hidden, _ = photograph(avatar, scene, 64, dark)
    inside = mask.expand_as(shown) > 0.99
    assert shown[inside].median() > 2 * hidden[inside].median()
    with pytest.raises(UserError, match="Unknown tone"):
        photograph(avatar, scene, 64, tone="sepia")
