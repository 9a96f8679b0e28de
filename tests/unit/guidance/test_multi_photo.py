"""Several photos of one person: one loss, a scene for each, turns where there are many, photos of others, bad input."""

from dataclasses import replace

import pytest
import torch

from fitdiff_core import pipeline
from fitdiff_core.errors import UserError
from fitdiff_core.fitting import LightPrior
from fitdiff_core.guidance import GuidanceWeights, GuidedDenoiser, as_guidances, guided_denoiser, identity_outliers
from fitdiff_core.guidance.multi_photo import LEVEL_STD, TINT_STD, with_colour_reference
from fitdiff_core.image import load_photo
from fitdiff_core.model.samplers import ddim, sigmas
from fitdiff_core.render import Light
from tests.support.paths import SAMPLE
from tests.support.tiny_chain import K, TinyRecognizer, changed, gaussian, noise, tiny_model


def towards(chain, *photos, objective=None):
    return GuidedDenoiser(gaussian, chain.model, photos if len(photos) != 1 else photos[0], objective)


def shot(chain, yaw=0.0, level=1.0):
    """The same person photographed again: from the side, in brighter or darker light."""
    from fitdiff_core.image import linear_to_srgb
    from fitdiff_core.maps import TextureMaps
    from fitdiff_core.render import Camera, render

    model, g = chain.model, chain.guidance
    camera = Camera(g.scene.camera.focal, torch.tensor([[0.05, yaw, 0.0]]), g.scene.camera.translation)
    light = Light(g.scene.light.sh * level, g.scene.light.direction, g.scene.light.color)
    maps, vertices = TextureMaps.from_stack(model.autoencoder.decode(chain.texture)), model.head(chain.shape)
    photo = (
        linear_to_srgb(
            render(vertices, model.head, maps, camera, light, size=(64, 64), background=(0.2, 0.3, 0.4)).image
        )
        .clamp(0, 1)
        .detach()
    )
    target = g.target
    features = target.recognizer(target.recognizer.crop(photo, target.matrix))
    return changed(
        g,
        image=photo,
        scene=replace(g.scene, camera=camera),
        mesh=camera.project(model.head.landmarks(vertices), (64, 64)),
        embedding=features.embedding,
        activations=features.activations,
    )


def test_the_same_photo_twice_is_that_photo(chain):
    g = chain.guidance.with_settings(light_prior=LightPrior(level_std=LEVEL_STD, tint_std=TINT_STD))
    once, twice = towards(chain, g), towards(chain, g, g)
    # gradients of two photos are added before they go through the networks, which may run in bfloat16
    assert torch.allclose(ddim(once, noise(1), sigmas(8)), ddim(twice, noise(1), sigmas(8)), atol=2e-3)
    for scene in twice.scenes:
        assert torch.allclose(scene.camera.rotation, once.scene.camera.rotation, atol=1e-4)
    assert torch.equal(twice.scene.expression, twice.scenes[0].expression)


def test_each_photo_gets_its_own_camera_and_light(chain):
    a, b = shot(chain, 0.1), shot(chain, -0.5, level=0.4)
    both = towards(chain, a, b)
    ddim(both, noise(2), sigmas(30))
    one, two = both.scenes
    assert one.camera.rotation.shape == two.camera.rotation.shape == (2, 3)
    assert (one.camera.rotation[:, 1] - two.camera.rotation[:, 1] > 0.5).all()
    level = [scene.light.sh[:, 0].mean(1) for scene in (one, two)]
    assert (level[1] < 0.75 * level[0]).all(), "the darker photo is in darker light"


def test_a_second_view_tells_of_the_shape_what_one_cannot(chain):
    """Relief is seen from the side: landmarks of a turned photo bring the coefficients nearer."""
    weights = GuidanceWeights(identity=0.0, perceptual=0.0, photometric=0.0, landmark=1.0, tone=0.0)
    front, side = (
        shot(chain, yaw).with_settings(weights=weights, scene_step=0.0, shape_step=0.1) for yaw in (0.0, 0.9)
    )
    misses = []
    for photos in ((front,), (front, side)):
        latent = ddim(towards(chain, *photos), noise(1), sigmas(60))
        misses.append(float((latent[:, -1].flatten(1)[:, :K] - chain.shape).norm()))
    assert misses[1] < 0.8 * misses[0], misses


def test_the_first_photo_says_what_white_is(chain):
    """A second photo in red light: its light takes the colour, the skin keeps that of the first."""
    a, b = shot(chain, 0.1), shot(chain, -0.3)
    red = changed(b, image=(b.target.photo.image * torch.tensor([1.1, 0.7, 0.6])[None, :, None, None]).clamp(0, 1))
    tints, skins = [], []
    for photos in ((a,), (a, red), (red,)):
        denoiser = towards(chain, *photos)
        texture = ddim(denoiser, noise(1), sigmas(40))[:, :-1]
        colour = chain.model.autoencoder.decode(texture)[:, :3].mean((2, 3))[0]
        skins.append(float((colour[0] / colour[2]).log()))
        tints.append([float((s.light.sh[0, 0, 0] / s.light.sh[0, 0, 2]).log()) for s in denoiser.scenes])
    assert tints[1][1] > tints[1][0] + 0.5, "its own light is redder than the first photo's"
    assert abs(skins[1] - skins[0]) < 0.5 * abs(skins[2] - skins[0])
    assert with_colour_reference([a])[0] is a and with_colour_reference([a, a])[0] is a


def counting(seen):
    """An objective that notes by its camera which photo is asked."""

    def objective(texture, shape, scene):
        seen.append(int(scene.camera.focal[0]))
        return shape.square().mean(1), scene, {}

    return objective


def numbered(chain, n):
    g = chain.guidance
    cameras = [replace(g.scene.camera, focal=torch.tensor([float(i)])) for i in range(n)]
    return [changed(g, scene=replace(g.scene, camera=c)) for c in cameras]


def test_up_to_four_photos_are_seen_in_every_step_and_more_in_turn(chain):
    for n, expected in ((4, [0, 1, 2, 3] * 3), (6, [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5])):
        seen = []
        denoiser = towards(chain, *numbered(chain, n), objective=counting(seen))
        for sigma in (3.0, 2.0, 1.0):
            denoiser(noise(1) / 80, torch.tensor([sigma]))
        assert seen == expected
        assert guided_denoiser.PHOTOS_PER_STEP == 4 and len(denoiser.scenes) == n


def test_each_photo_acts_in_its_own_window(chain):
    early, late = numbered(chain, 2)
    early, late = early.with_settings(sigma_window=(20.0, 1.0)), late.with_settings(sigma_window=(2.0, 0.1))
    seen = []
    denoiser, x = towards(chain, early, late, objective=counting(seen)), noise(1) / 80
    for sigma, expected in ((30.0, []), (5.0, [0]), (1.5, [0, 1]), (0.5, [1]), (0.05, [])):
        seen.clear()
        s = torch.tensor([sigma])
        assert torch.equal(denoiser(x, s), gaussian(x, s)) is (not expected)
        assert seen == expected


def test_maps_are_decoded_once_a_step(chain):
    model, calls = tiny_model(), []
    decode = model.autoencoder.decode
    model.autoencoder.decode = lambda z, size: calls.append(len(z)) or decode(z, size)
    denoiser = GuidedDenoiser(gaussian, model, [shot(chain, 0.1), shot(chain, -0.3)])
    denoiser(noise(1) / 80, torch.tensor([1.0]))
    denoiser(noise(1) / 80, torch.tensor([0.5]))
    assert calls == [1, 1, 1], "and once before the first, for the skin tone to hold"


def test_identity_outliers_are_found_by_their_distance(chain):
    def photo(*embedding, **kw):
        return changed(chain.guidance, embedding=torch.nn.functional.normalize(torch.tensor([embedding]), dim=1), **kw)

    a, b, c = photo(1.0, 0.0), photo(1.0, 0.3), photo(0.0, 1.0)
    assert identity_outliers(a) == identity_outliers([a, b]) == []
    assert [s[:2] for s in identity_outliers([a, c])] == [(1, 0)], "of two, the second"
    assert [s[:2] for s in identity_outliers([c, a, b])] == [(0, 2)], "of three, the odd one"
    assert identity_outliers([c, a, b])[0][2] > 1
    other = TinyRecognizer()
    other.name = "another"
    assert identity_outliers([a, changed(c, recognizer=other)]) == [], "two recognisers have no common measure"


def test_an_empty_list_of_photos_is_a_user_error(chain):
    for empty in ([], ()):
        with pytest.raises(UserError, match="no photo to be guided by"):
            towards(chain, *empty)
    with pytest.raises(UserError, match="holds a Tensor"):
        as_guidances([chain.guidance, torch.zeros(1)])
    assert as_guidances(chain.guidance) == (chain.guidance,)


@pytest.fixture(scope="module")
def shipped():
    return pipeline.load_model(), pipeline.load_recognizer(), load_photo(SAMPLE)


def test_the_photo_without_a_face_is_named(shipped):
    model, recognizer, photo = shipped
    blank = torch.full((1, 3, 200, 200), 0.4)
    with pytest.raises(UserError, match="^Photo 2 of 3: No face"):
        pipeline.find_faces([photo, blank, photo])
    with pytest.raises(UserError, match="^No face"):
        pipeline.find_faces([blank])
    with pytest.raises(UserError, match="no photo"):
        pipeline.find_faces([])
    with pytest.raises(UserError, match="2 masks for 1 photos"):
        pipeline.fit_photos([photo], model.head, masks=[photo[:, :1]] * 2)
    with pytest.raises(UserError, match="0 faces for 1 photos"):
        pipeline.fit_photos([photo], model.head, faces=[])


def test_the_pipeline_takes_photos_of_any_size(shipped):
    model, recognizer, photo = shipped
    half = torch.nn.functional.interpolate(photo.flip(3), scale_factor=0.6, mode="bilinear", antialias=True)
    guidance = pipeline.prepare_guidance(pipeline.fit_photos([photo, half[0]], model.head), recognizer)
    assert identity_outliers(guidance) == []
    latent, scenes = pipeline.sample_scenes(model, None, guidance, steps=4)
    again, scene = pipeline.sample(model, None, guidance, steps=4)
    assert torch.equal(latent, again) and len(scenes) == 2
    assert torch.equal(scene.camera.rotation, scenes[0].camera.rotation)
    small = [float(s.crop[0, 0, 0]) for s in scenes]
    assert small[0] / small[1] == pytest.approx(0.6, rel=0.05), "each scene is of its own photo's pixels"


@pytest.mark.slow
def test_the_measurement_of_what_more_photos_give(monkeypatch, tmp_path, capsys):
    import json

    from fitdiff_lab.experiments import several_photos

    monkeypatch.setattr(several_photos, "WAYS", {k: several_photos.WAYS[k] for k in ("front", "all three")})
    out = tmp_path / "several.json"
    assert several_photos.main(["--people", "1", "--steps", "2", "--out", str(out)]) == 0
    results = json.loads(out.read_text())
    assert [r["way"] for r in results["rows"]] == ["front", "all three"] and "| all three |" in capsys.readouterr().out
    assert all(0 < r["shape"] < 8 and 0 < r["e76_gain"] <= r["e76"] + 1e-6 < 60 for r in results["rows"])
    assert several_photos.main(["--people", "0"]) == 2 and "--people must be" in capsys.readouterr().err
