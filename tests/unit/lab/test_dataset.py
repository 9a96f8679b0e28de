"""Synthetic people: pigment physics, maps that show what was asked for, photos, shards that survive interruption."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fitdiff_core.avatar import Avatar
from fitdiff_core.errors import UserError
from fitdiff_core.render import Camera, Light, vertex_normals
from fitdiff_core.render.light import sh_basis
from fitdiff_core.render.shadow import directional_visibility
from fitdiff_lab.dataset import shards
from fitdiff_lab.dataset.prepare import DatasetGenerator, prepare_dataset
from fitdiff_lab.dataset.shards import PeopleShards, TextureShards, decode_maps, encode_maps
from fitdiff_lab.synthetic import scenes, skin_optics, strokes
from fitdiff_lab.synthetic.background import random_background
from fitdiff_lab.synthetic.long_hair import LongHair
from fitdiff_lab.synthetic.people import SkinAttributes, random_person
from fitdiff_lab.synthetic.photograph import take_photograph
from fitdiff_lab.synthetic.shapes import attribute_model, attribute_values, random_shape
from fitdiff_lab.synthetic.skin import SkinGenerator

SIZE = 256


@pytest.fixture(scope="module")
def skin(head):
    return SkinGenerator(head, SIZE)


def plain(**changes) -> SkinAttributes:
    base = {"moles": 0, "hair": "bald", "circles": 0.0, "flush": 0.1, "mottle": 0.0, "wrinkles": 0.0}
    return SkinAttributes(**(base | changes))


def mean(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return (x * weight).sum((-2, -1)) / weight.sum()


# -- pigment -----------------------------------------------------------------------------------------------------------


def test_more_melanin_is_darker_and_more_blood_is_redder():
    optics = skin_optics.SkinOptics()
    melanin = torch.logspace(-3, -0.4, 12)
    light = skin_optics.lightness(skin_optics.skin_colour(melanin, torch.full((12,), 0.02), optics))
    assert (light.diff() < 0).all()
    lab = skin_optics.to_lab(skin_optics.skin_colour(torch.full((8,), 0.03), torch.logspace(-2.5, -1, 8), optics))
    assert (lab[:, 1].diff() > 0).all()


@pytest.mark.parametrize("wanted", [25.0, 40.0, 55.0, 72.0])
def test_melanin_is_found_for_every_skin_tone(wanted):
    table = skin_optics.colour_table(skin_optics.SkinOptics(yellow=1.5))
    m = skin_optics.melanin_for(table, wanted, 0.012)
    got = skin_optics.lightness(
        skin_optics.skin_colour(torch.tensor(m), torch.tensor(0.012), skin_optics.SkinOptics(yellow=1.5))
    )
    assert abs(float(got) - wanted) < 0.6


def test_table_agrees_with_the_model_it_tabulates():
    optics = skin_optics.SkinOptics(thickness=0.008, oxygen=0.7)
    generator = torch.Generator().manual_seed(0)
    melanin, blood = torch.exp(torch.rand(2, 1, 64, generator=generator) * 3.5 - 5)
    exact = skin_optics.skin_colour(melanin, blood, optics)[0].T
    assert (
        skin_optics.sample_table(skin_optics.colour_table(optics), melanin.log(), blood.log())[:, 0] - exact
    ).abs().max() < 3e-3


def test_people_cover_all_tones_and_ages():
    people = [random_person(i) for i in range(600)]
    light = np.array([p.lightness for p in people])
    assert light.min() < 31 and light.max() > 70 and (np.histogram(light, 5, (25, 75))[0] > 30).all()
    ages = np.array([p.age for p in people])
    assert ages.min() < 22 and ages.max() > 68
    bearded = [p for p in people if p.jaw_beard > 0.3]
    assert bearded and all(p.feminine < 0.7 for p in bearded)
    assert {p.hair for p in people} == {"bald", "shaved", "short", "medium", "long"}


def test_shapes_follow_the_person_and_stay_unit_normal_over_all(head):
    people = [random_person(i) for i in range(2000)]
    rng = np.random.default_rng(0)
    shapes = np.concatenate([random_shape(head, rng, p).numpy() for p in people])
    assert np.abs(shapes.mean(0)).max() < 0.1
    assert 0.85 < shapes.std(0).min() and shapes.std(0).max() < 1.15
    gain = attribute_model(head.attribute_directions.numpy(), head.attribute_names)[0]
    values = np.stack([attribute_values(p, head.attribute_names) for p in people])
    for i, name in enumerate(head.attribute_names):
        r = np.corrcoef(shapes @ gain[i], values[:, i])[0, 1]
        assert 0.5 < r < 0.95, (name, r)
        # neither wider nor narrower along its own axis than the prior says
        assert 0.9 < (shapes @ gain[i]).std() / np.linalg.norm(gain[i]) < 1.1, name


def test_ancestries_are_shares_and_numbers_stay_plain():
    for p in (random_person(i) for i in range(50)):
        assert p.african + p.asian + p.caucasian == pytest.approx(1) and 0 <= p.weight <= 1
        assert {"weight", "african", "asian", "caucasian"} <= p.numbers().keys()
        assert all(type(v) is float for v in p.numbers().values())


def test_without_attributes_a_shape_is_plain_noise(head):
    plain_noise = np.clip(np.random.default_rng(4).standard_normal((1, head.n_identity)), -2.6, 2.6)
    np.testing.assert_allclose(random_shape(head, np.random.default_rng(4)).numpy(), plain_noise, atol=1e-6)


# -- maps --------------------------------------------------------------------------------------------------------------


def test_maps_are_valid_and_repeatable(skin):
    first, a = skin.sample(3)
    again, b = skin.sample(3)
    other, _ = skin.sample(4)
    x = first.stack()
    assert x.shape == (1, 9, SIZE, SIZE) and x.dtype == torch.float32 and torch.isfinite(x).all()
    assert torch.equal(x, again.stack()) and a == b
    assert (x - other.stack()).abs().mean() > 0.01
    assert (
        0 <= first.diffuse.min()
        and first.diffuse.max() <= 1
        and 0 <= first.specular.min()
        and first.specular.max() <= 1
    )
    assert (first.normal.norm(dim=1) - 1).abs().max() < 1e-4 and first.normal[:, 2].min() > 0.3
    assert torch.equal(first.specular[:, 0], first.specular[:, 2])


@pytest.mark.parametrize("wanted", [28.0, 45.0, 60.0, 72.0])
def test_cheek_has_the_lightness_asked_for(skin, wanted):
    maps, _ = skin.sample(0, plain(lightness=wanted))
    cheek = mean(maps.diffuse[0], skin.regions["cheek"] ** 2)
    assert abs(float(skin_optics.lightness(cheek)) - wanted) < 4


def test_attributes_show_where_they_should_and_nowhere_else(skin):
    r = skin.regions
    base = skin.sample(0, plain())[0].diffuse[0]

    def change(**attributes) -> torch.Tensor:
        return skin.sample(0, plain(**attributes))[0].diffuse[0] - base

    lips, cheek = (r["lips"] > 0.9) & (r["mouth_inside"] < 0.1), r["cheek"] > 0.5
    red = change(lipstick=0.9, lipstick_colour=(0.5, 0.02, 0.02))
    assert red[1][lips].mean() < -0.03 and red.abs()[:, cheek].max() < 1e-6
    beard = change(moustache=1.0, chin_beard=1.0, jaw_beard=1.0, beard_colour=(0.01, 0.01, 0.01))
    chin = (r["chin_beard"] > 0.8) & (r["beard_area"] > 0.8)
    assert beard[:, chin].mean() < -0.05 and beard.abs()[:, r["forehead"] > 0.5].max() < 1e-4
    hair = change(hair="short", hair_colour=(0.01, 0.01, 0.01))
    scalp = (r["hairline_mm"] > 30) & (r["ear"] < 0.1) & skin.canvas.skin
    assert hair[:, scalp].mean() < -0.1 and hair.abs()[:, cheek].max() < 0.01


def test_brows_lie_on_the_brow_landmarks(skin):
    bare = skin.sample(0, plain(brow_density=0.0, brow_colour=(0.01, 0.01, 0.01)))[0].diffuse[0]
    full = skin.sample(0, plain(brow_density=1.0, brow_colour=(0.01, 0.01, 0.01)))[0].diffuse[0]
    darker = (bare - full).mean(0).clamp(min=0)
    at = skin.canvas.to_texel(skin.canvas.landmarks[[18, 19, 20, 23, 24, 25]]).round().long()
    near = torch.nn.functional.max_pool2d(darker[None], 5, 1, 2)[0]  # the tail is thinner than the landmarks' error
    assert near[at[:, 1], at[:, 0]].min() > 0.05
    spine = skin.canvas.landmarks[17:27]
    away = torch.minimum(skin.canvas.distance_to(spine[:5]), skin.canvas.distance_to(spine[5:]))
    assert darker[(away > 18) & skin.canvas.skin].max() < 1e-4


def test_wrinkles_come_with_age(skin):
    young, old = (skin.sample(1, plain(wrinkles=w, age=a))[0].normal[0, 2] for w, a in ((0.0, 20), (1.0, 75)))
    forehead = skin.regions["forehead"] > 0.5
    assert (1 - old[forehead]).mean() > 1.5 * (1 - young[forehead]).mean()


@pytest.mark.parametrize("seed", [0, *(pytest.param(s, marks=pytest.mark.slow) for s in (1, 2))])
def test_neck_has_no_streaks(head, seed):
    """The neck is a rim of few texels, so detail laid out in texels would run down it as streaks: along the rim, where
    texels are fine, colour and normals must change no faster per millimetre than on the cheek."""
    generator = SkinGenerator(head, 512)
    c, r = generator.canvas, generator.regions
    scalp = torch.maximum(r["hairline_mm"], r["behind_mm"]) > -25
    neck = c.skin & (r["neck"] > 0.9) & (c.coarse > 6) & ~scalp & (r["ear"] < 0.01)
    neck = neck & neck.roll(1, 1) & neck.roll(-1, 1) & (c.scale[0] < 1.0)  # rows that run along the rim
    assert neck.sum() > 300
    cheek = (r["cheek"] > 0.6) & c.skin
    maps, _ = generator.sample(seed, plain(mottle=0.6, wrinkles=0.8, pores=0.8, jaw_beard=1.0, chin_beard=1.0))
    for image in (maps.diffuse[0].clamp(min=1e-3).log(), maps.normal[0, :2]):
        step = (image.roll(-1, 2) - image.roll(1, 2)).abs().mean(0) / (2 * c.scale[0])
        assert step[neck].mean() < 0.8 * step[cheek].mean()


def test_ground_colour_keeps_to_measured_skin():
    chalk, clay = torch.tensor([0.46, 0.33, 0.33]), torch.tensor([0.16, 0.055, 0.014])
    for rgb in (chalk, clay):
        before, after = skin_optics.to_lab(rgb), skin_optics.to_lab(skin_optics.plausible(rgb))
        assert abs(float(after[0] - before[0])) < 0.5 and (after - before).norm() > 4
        assert 45 < math.degrees(math.atan2(after[2], after[1])) < 70 and after[1:].norm() < 25
    usual = torch.tensor([0.36, 0.21, 0.14])
    assert (skin_optics.plausible(usual) - usual).abs().max() < 1e-3
    assert (skin_optics.from_lab(skin_optics.to_lab(usual)) - usual).abs().max() < 1e-4


def test_a_bump_faces_its_light_whichever_way_rows_run(skin):
    """A hill's upper flank must lean to +Y and its left flank to -X."""
    s = SIZE // 2
    y, x = torch.meshgrid(torch.arange(SIZE) - s, torch.arange(SIZE) - s, indexing="ij")
    normal = skin._normals(2 * torch.exp(-(x**2 + y**2) / 50.0))
    assert normal[1, s - 5, s] > 0.1 > -0.1 > normal[1, s + 5, s]
    assert normal[0, s, s + 5] > 0.1 > -0.1 > normal[0, s, s - 5]


def test_eye_island_has_a_dark_pupil_in_a_coloured_iris_in_a_white(skin):
    maps, _ = skin.sample(0, plain(iris_colour=(0.05, 0.12, 0.3)))
    ball, angle = maps.diffuse[(0, slice(None), *skin.eyes.window)], skin.eyes.angle
    inside = skin.canvas.island[skin.eyes.window]
    assert ball[:, (angle < 4) & inside].mean() < 0.03
    iris = ball[:, (angle > 10) & (angle < 18) & inside].mean(1)
    assert iris[2] > 1.5 * iris[0]
    assert ball[:, (angle > 25) & (angle < 45) & inside].mean() > 0.3


def test_landmarks_find_their_texels(skin):
    c = skin.canvas
    at = c.to_texel(c.landmarks[17:48]).round().long()
    assert (c.position[:, at[:, 1], at[:, 0]].T - c.landmarks[17:48]).norm(dim=1).max() < 2.5


def test_spots_are_round_in_space(skin):
    rng = np.random.default_rng(0)
    weight = skin.regions["cheek"] ** 4
    spot = strokes.spots(skin.canvas, rng, weight, 1, strokes.SpotStyle((4.0, 4.0), 0.15))
    where = skin.canvas.position[:, spot > 0.5 * spot.max()]
    extent = torch.linalg.svdvals(where - where.mean(1, keepdim=True))
    assert extent[1] / extent[0] > 0.6
    assert 5 < (where[:, :, None] - where[:, None]).norm(dim=0).max() < 11


# -- photos ------------------------------------------------------------------------------------------------------------


def test_rolling_a_camera_turns_its_picture_about_the_centre():
    camera = Camera.orbit(30.0, 10.0, 0.8, 20.0)
    points = torch.tensor([[[0.03, 0.02, 0.08], [-0.05, -0.03, 0.05]]])
    before, after = (
        camera.project(points, (200, 200)) - 100,
        scenes.rolled(camera, 25.0).project(points, (200, 200)) - 100,
    )
    c, s = math.cos(math.radians(25)), math.sin(math.radians(25))
    expected = torch.stack([c * before[..., 0] + s * before[..., 1], -s * before[..., 0] + c * before[..., 1]], -1)
    assert (after - expected).abs().max() < 1e-2


def test_cap_lights_project_to_the_harmonics_of_a_cap():
    generator = torch.Generator().manual_seed(0)
    d = torch.nn.functional.normalize(torch.randn(400_000, 3, generator=generator), dim=1)
    axis, half = torch.tensor([0.0, 0.6, 0.8]), 0.7
    measured = (sh_basis(d) * ((d @ axis) > math.cos(half))[:, None]).mean(0) * 4 * math.pi
    assert (torch.from_numpy(scenes.cap_light(axis.numpy(), half)).float() - measured).abs().max() < 0.02


def test_scenes_stay_in_range(head):
    rng = np.random.default_rng(0)
    for _ in range(60):
        s = scenes.random_scene(rng, head.expression_names)
        assert 0 <= s.expression.min() and s.expression.max() <= 1 and s.expression.sum() <= scenes.LIMIT + 1e-4
        p = s.camera.position()[0]
        assert p[2] > 0 and abs(math.degrees(math.atan2(float(p[0]), float(p[2])))) < 60
        assert torch.isfinite(s.light.sh).all() and s.gaze.abs().max() <= 0.5


def test_strong_light_comes_from_one_side(head):
    """Skin turned to the key light gets several times the light of skin turned away. A second light may fill in."""
    rng, ratios = np.random.default_rng(7), []
    for _ in range(60):
        light = scenes.strong_light(rng, Camera.orbit(0.0, 0.0, 1.0, 17.0))
        key = light.direction[0, 0] * torch.tensor([1.0, 0.0, 0.0])
        cheeks = torch.nn.functional.normalize(torch.stack([key, -key]) + torch.tensor([0.0, 0.0, 0.5]), dim=1)
        lamps = (cheeks @ light.direction[0].T).clamp(min=0) @ light.color[0]
        near, far = (light.irradiance(cheeks[None])[0] + lamps).mean(1).tolist()
        assert far > 0
        ratios.append(near / far)
    assert np.median(ratios) > 3


def test_the_nose_shades_the_far_cheek(head):
    v = head(torch.zeros(1, head.n_identity))
    n = vertex_normals(v, head.triangles)
    lit = directional_visibility(v, n, head.triangles, torch.tensor([1.0, 0.1, 0.35]))
    wing_near, wing_far = head.landmarks(v, "68")[0][[35, 31]]
    near, far = (lit[((v[0] - p).norm(dim=1) < 0.012)].mean() for p in (wing_near, wing_far))
    assert near > far + 0.3


def test_poses_and_distances_cover_what_photos_show():
    rng = np.random.default_rng(4)
    at = torch.stack([scenes.random_camera(rng).position()[0] for _ in range(400)]) - torch.tensor([0.0, 0.0, 0.05])
    yaw = torch.rad2deg(torch.atan2(at[:, 0], at[:, 2])).abs()
    assert 0.7 < (yaw < 25).float().mean() < 0.95 and yaw.max() > 45
    distance = at.norm(dim=1)
    assert distance.min() < 0.55 and distance.max() > 2.5


def test_backgrounds_and_lamps_have_no_garish_colours():
    """Averages: no picture's surroundings are pink, lilac or neon green as a whole."""
    rng = np.random.default_rng(5)
    for _ in range(150):
        colour = random_background(rng, (40, 40)).mean((0, 2, 3))
        red, green, blue = (colour / colour.mean()).tolist()
        assert green > 0.6 * min(red, blue) and green < 2.0, "pink or neon"
        light = torch.from_numpy(scenes.tint(rng)).float()
        assert abs(float(light[1] / (light[0] * light[2]).sqrt()) - 1) < 0.2, "off the line from lamp to sky"


def test_long_hair_hangs_beside_the_face_and_short_hair_does_not():
    rng = np.random.default_rng(6)
    camera, light, size = Camera.orbit(0.0, 0.0, 1.0, 17.0), Light.studio(), (96, 96)
    grey = torch.full((1, 3, *size), 0.5)
    assert torch.equal(LongHair(SkinAttributes(hair="short"), camera, light, size, rng).behind(grey), grey)
    a = SkinAttributes(hair="long", hair_colour=(0.02, 0.01, 0.01))
    for _ in range(5):
        mane = LongHair(a, camera, light, size, rng)
        behind, before = mane.behind(grey), mane.before(grey)
        assert behind[0, 1, 30:60, 40:56].mean() < 0.1, "the middle is covered"
        assert behind[0, 1, :, :4].mean() > 0.45, "and the margin is not"
        assert before[0, 1, 45:75, 44:52].mean() > 0.4, "the face stays free"


def test_photo_is_repeatable_and_shows_the_head(head, skin):
    maps, a = skin.sample(5)
    avatar = Avatar(head, random_shape(head, np.random.default_rng(1)), maps)
    scene = scenes.random_scene(np.random.default_rng(2), head.expression_names, (96, 96))
    one, two = (take_photograph(avatar, scene, np.random.default_rng(3), a) for _ in range(2))
    assert one.shape == (1, 3, 96, 96) and torch.equal(one, two) and 0 <= one.min() and one.max() <= 1
    assert one.std() > 0.03


# -- shards ------------------------------------------------------------------------------------------------------------


def test_maps_survive_encoding(skin):
    x = skin.sample(2)[0].stack()
    y = decode_maps(encode_maps(x))
    assert (x[:, :6].sqrt() - y[:, :6].sqrt()).abs().max() < 0.0025 and (x[:, 6:] - y[:, 6:]).abs().max() < 0.005


def test_crop_from_the_known_camera_puts_the_eyes_where_the_recogniser_wants_them(head):
    generator = DatasetGenerator.__new__(DatasetGenerator)
    from fitdiff_core.identity import load_recognizer

    generator.recognizer = load_recognizer("built-in")
    avatar = Avatar(head, torch.zeros(1, head.n_identity), None)
    scene = scenes.Scene.portrait()
    matrix = generator.crop_matrix(avatar, scene, np.random.default_rng(0))
    points = scene.camera.project(head.landmarks(avatar.vertices(scene), "68"), scene.size)[0]
    at = points[[45, 42, 36, 39, 33]] @ matrix[0, :, :2].T + matrix[0, :, 2]
    assert (at - generator.recognizer.template).norm(dim=1).max() < 9


def test_preparation_resumes_where_it_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD", 2)
    lines: list[str] = []
    prepare_dataset(tmp_path, 4, 3, seed=9, size=128, log=lines.append)
    assert len(lines) == 4
    textures, people = TextureShards(tmp_path), PeopleShards(tmp_path)
    assert len(textures) == 4 and textures.row("maps", 3).shape == (9, 128, 128)
    assert people.all("texture").max() < 4 and people.row("crop", 1).shape == (3, 150, 150)
    lost = tmp_path / "textures-00001.safetensors"
    before = textures.row("maps", 2).clone()
    lost.unlink()
    lines.clear()
    prepare_dataset(tmp_path, 4, 3, seed=9, size=128, log=lines.append)
    assert len(lines) == 1 and torch.equal(TextureShards(tmp_path).row("maps", 2), before)
    prepare_dataset(
        tmp_path, 4, 6, seed=9, size=128, strong_light=1.0, log=lines.append
    )  # more people, under other light
    assert len(PeopleShards(tmp_path)) == 6
    with pytest.raises(UserError, match="--strong-light"):
        prepare_dataset(tmp_path, 4, 6, seed=9, size=128, strong_light=2.0)
    with pytest.raises(UserError, match="was begun with"):
        prepare_dataset(tmp_path, 4, 3, seed=10, size=128)
    with pytest.raises(UserError, match="No people"):
        PeopleShards(tmp_path / "nowhere")
