"""Losses and the guided denoiser: on a toy goal whose answer is known, and on a small real rendering chain."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from fitdiff_core.autograd import without_inference_mode
from fitdiff_core.errors import UserError
from fitdiff_core.fitting.occlusion import above_nose, connected_hair, enclosed, skin_ratio, strongly_different
from fitdiff_core.guidance import GuidanceWeights, GuidedDenoiser, PhotoObjective
from fitdiff_core.guidance.gradient_clipping import clip_recognizer_gradient
from fitdiff_core.guidance.guided_denoiser import within
from fitdiff_core.guidance.losses import identity_loss, landmark_loss, perceptual_loss, photometric_loss
from fitdiff_core.guidance.low_frequency import LowFrequency
from fitdiff_core.guidance.optimiser import RMSNormalisedMomentum
from fitdiff_core.model.denoiser import pack_latent, unpack_latent
from fitdiff_core.model.samplers import ddim, dpmpp_2m, sigmas
from tests.support.tiny_chain import (
    K,
    PatchHead,
    TinyDecoder,
    TinyRecognizer,
    changed,
    gaussian,
    noise,
    real,
    scene_of,
    tiny_model,
)


def quadratic(target_texture, target_shape):
    def objective(texture, shape, scene):
        loss = (texture - target_texture).square().mean((1, 2, 3)) + (shape - target_shape).square().mean(1)
        return loss, scene, {"distance": loss}

    return objective


def toy(chain, **settings):
    """Guided to a fixed point."""
    target = torch.full((1, 2, 8, 8), 0.8), torch.full((1, K), -0.7)
    guidance = changed(chain.guidance, texture_step=0.1, shape_step=0.1, **settings)
    return GuidedDenoiser(gaussian, chain.model, guidance, quadratic(*target))


@pytest.mark.parametrize("sampler", [ddim, dpmpp_2m])
@pytest.mark.parametrize("batch", [1, 3])
def test_guided_samples_move_to_the_goal(chain, sampler, batch):
    guided = toy(chain)
    plain_texture, plain_shape = unpack_latent(sampler(guided.denoise, noise(batch), sigmas(30)), K)
    texture, shape = unpack_latent(sampler(guided, noise(batch), sigmas(30)), K)

    def miss(t, s):
        return (t - 0.8).square().mean((1, 2, 3)).sqrt(), (s + 0.7).square().mean(1).sqrt()

    for after, before in zip(miss(texture, shape), miss(plain_texture, plain_shape), strict=True):
        assert (after < 0.4 * before).all()
    assert guided.scene.expression.shape == (batch, 52)


def test_each_sample_of_a_batch_is_guided_as_if_alone(chain):
    both = ddim(toy(chain), noise(2), sigmas(12))
    alone = ddim(toy(chain), noise(2)[1:], sigmas(12))
    assert torch.allclose(both[1:], alone, atol=1e-4)


def test_a_second_run_starts_afresh(chain):
    guided = toy(chain)
    first = ddim(guided, noise(1), sigmas(10))
    assert torch.allclose(ddim(guided, noise(1), sigmas(10)), first, atol=1e-6)


def test_outside_the_sigma_window_nothing_changes(chain):
    guided = toy(chain, sigma_window=(2.0, 0.5))
    x = noise(1) / 80
    for sigma, same in ((2.5, True), (2.0, False), (1.0, False), (0.5, False), (0.4, True)):
        s = torch.tensor([sigma])
        assert torch.equal(guided(x, s), guided.denoise(x, s)) is same, sigma


def test_the_estimate_stays_within_what_the_noise_leaves_open(chain):
    guided = toy(chain, inner_steps=50, trust_radius=0.5)
    x, s = noise(1) / 80, torch.tensor([0.3])
    change = guided(x, s) - guided.denoise(x, s)
    free = 0.5 * 0.3 / 1.09**0.5
    assert change[:, :-1].square().mean().sqrt() == pytest.approx(free, rel=1e-3)
    assert guided(x, s)[:, -1].flatten()[K:].abs().max() == 0


@pytest.mark.parametrize("window", [(1.0, 2.0), (1.0, 1.0), (3.0, -1.0)])
def test_a_reversed_window_is_a_user_error(chain, window):
    with pytest.raises(UserError, match="sigma window"):
        chain.guidance.with_settings(sigma_window=window)


@pytest.mark.parametrize("bad", [{"identity": -1}, {"photometric": float("nan")}, {"landmark": "much"}])
def test_bad_weights_are_user_errors(bad):
    with pytest.raises(UserError, match=next(iter(bad))):
        GuidanceWeights(**bad)


def test_sampling_through_the_renderer_nears_the_photo(chain):
    guided = real(chain, texture_step=0.1, shape_step=0.1)
    x = noise(2)
    before = ddim(guided.denoise, x, sigmas(30))
    after = ddim(guided, x, sigmas(30))
    objective = guided.views[0].objective
    losses = []
    for latent in (before, after):
        texture, shape = unpack_latent(latent, K)
        with torch.no_grad():
            losses.append(objective(texture, shape, guided.scene)[0])
    assert (losses[1] < 0.5 * losses[0]).all()
    assert set(guided.views[0].terms) == {"identity", "perceptual", "photometric", "landmark"}


def test_inference_mode_gives_the_same_sample(chain):
    expected = ddim(real(chain), noise(1), sigmas(6))
    with torch.inference_mode():
        target = chain.guidance.target
        guidance = changed(
            chain.guidance,
            image=target.photo.image.clone(),
            embedding=target.embedding.clone(),
            recognizer=TinyRecognizer(),
        )
        model = tiny_model()
        assert guidance.target.photo.image.is_inference() and model.head.basis.is_inference()
        guided = GuidedDenoiser(gaussian, model, guidance)
        found = ddim(guided, noise(1), sigmas(6))
    assert torch.allclose(found, expected, atol=1e-4)
    assert not without_inference_mode(model.head).basis.is_inference()


def test_the_scene_is_refined_and_the_given_one_left_alone(chain):
    before = chain.guidance.scene.camera.rotation.clone()
    guided = real(chain)
    ddim(guided, noise(2), sigmas(8))
    assert guided.scene.camera.rotation.shape == (2, 3)
    assert not torch.equal(guided.scene.camera.rotation[0], before[0])
    assert torch.equal(chain.guidance.scene.camera.rotation, before)
    assert (guided.scene.expression >= 0).all()
    fixed = real(chain, scene_step=0.0)
    ddim(fixed, noise(1), sigmas(8))
    assert torch.equal(fixed.scene.camera.rotation, before)


def test_gradient_of_the_whole_objective(chain):
    """Against central differences, in float64, along random directions of latent, shape and expression."""
    model = SimpleNamespace(head=PatchHead().double(), autoencoder=TinyDecoder().double())
    g, target, photo = chain.guidance, chain.guidance.target, chain.guidance.target.photo
    as64 = {n: getattr(photo, n).double() for n in ("image", "visible", "mesh", "mesh_weights", "regions")}
    scene = scene_of()
    scene = replace(
        scene,
        camera=scene.camera.to(torch.float64),
        expression=scene.expression.double() + 0.2,
        light=scene.light.to(torch.float64),
        gaze=scene.gaze.double(),
    )
    guidance = changed(
        g,
        **as64,
        matrix=target.matrix.double(),
        embedding=target.embedding.double(),
        activations=tuple(a.double() for a in target.activations),
        recognizer=TinyRecognizer().double(),
        scene=scene,
        recognizer_share=0.0,
        low_frequency=LowFrequency(share=0.0),  # which removes a part of the gradient
    )
    objective = PhotoObjective(model.head, model.autoencoder.decode, guidance)
    light = scene.light
    objective.relight = lambda *args: light  # held: the fitted light is taken as a constant
    texture, shape = chain.texture.double() * 0.7, chain.shape.double() * 0.7
    leaves = [t.clone().requires_grad_(True) for t in (texture, shape, scene.expression)]

    def loss(t, s, e):
        return objective(t, s, replace(scene, expression=e))[0].sum()

    grads = torch.autograd.grad(loss(*leaves), leaves)
    rng = torch.Generator().manual_seed(7)
    # shape moves silhouettes, whose coverage is only approximated; the texture's gradient is exact
    for i, (step, tolerance) in enumerate([(1e-5, 1e-4), (2e-3, 0.12), (2e-3, 0.12)]):
        d = torch.randn(leaves[i].shape, generator=rng, dtype=torch.float64)
        d = F.normalize(d + 2 * F.normalize(grads[i], dim=None) * d.norm(), dim=None)
        moved = []
        for sign in (1, -1):
            args = [t.detach() for t in leaves]
            args[i] = args[i] + sign * step * d
            with torch.no_grad():
                moved.append(loss(*args))
        numeric, analytic = (moved[0] - moved[1]) / (2 * step), (grads[i] * d).sum()
        assert float(analytic) == pytest.approx(float(numeric), rel=tolerance)


def test_losses_are_zero_at_the_photo_and_scaled():
    g = torch.Generator().manual_seed(0)
    assert torch.allclose(identity_loss(torch.tensor([0.0, 0.6, 1.2]), 0.6), torch.tensor([0.0, 1.0, 4.0]))
    acts = (torch.randn(3, 4, 9, 9, generator=g), torch.randn(3, 8, 5, 5, generator=g))
    assert perceptual_loss(acts, acts).abs().max() == 0
    average = tuple(a.mean((2, 3), keepdim=True).expand_as(a) for a in acts)
    assert torch.allclose(perceptual_loss(average, acts), torch.ones(3))
    photo, mask = torch.rand(1, 3, 32, 32, generator=g) * 0.9, torch.ones(1, 1, 32, 32)
    assert photometric_loss(photo, photo, mask).abs().max() < 1e-5
    assert 0.5 < photometric_loss(photo + 0.08, photo, mask).item() < 1.2
    points = torch.rand(2, 468, 2, generator=g) * 200
    assert landmark_loss(points, points, torch.ones(468), 256).abs().max() == 0
    assert landmark_loss(points + 2.2, points, torch.ones(468), 256).mean() == pytest.approx(1, rel=0.2)


def test_masked_pixels_and_clipped_highlights_do_not_count():
    photo = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.5
    image, mask = photo.clone(), torch.ones(1, 1, 32, 32)
    image[..., :16] += 0.4
    mask[..., :16] = 0
    assert photometric_loss(image, photo, mask).abs().max() < 1e-5
    white = torch.ones(1, 3, 16, 16)
    assert photometric_loss(white * 1.5, white, torch.ones(1, 1, 16, 16)).abs().max() < 1e-5


def test_the_recognisers_gradient_is_clipped_to_a_share_of_the_photometric_one():
    g = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, 24, 24, generator=g, requires_grad=True)
    a, b = (torch.randn(2, 3, 24, 24, generator=g) for _ in range(2))

    def gradient(share, scale, sigma=0.0, photo=1.0):
        one, two = clip_recognizer_gradient(image, sigma, share)
        return torch.autograd.grad((photo * a * one + scale * b * two).sum(), image)[0]

    def rms(x):
        return x.square().mean((1, 2, 3)).sqrt()

    assert torch.allclose(gradient(0.0, 50.0), a + 50 * b, atol=1e-4)
    assert torch.allclose(gradient(0.5, 0.1), a + 0.1 * b, atol=1e-6)  # weak enough: untouched
    assert torch.allclose(rms(gradient(0.5, 50.0) - a), 0.5 * rms(a), rtol=1e-4)
    assert torch.allclose(gradient(0.5, 2.0, photo=0.0), 2 * b)
    smooth = gradient(0.5, 2.0, sigma=2.0, photo=0.0)
    assert (smooth[..., 1:] - smooth[..., :-1]).square().mean() < 0.3 * smooth.square().mean()


def test_optimiser_steps_have_the_set_rms_and_small_gradients_stay_small():
    step = RMSNormalisedMomentum(0.1)
    grad = torch.tensor([[1.0, 1e-3, 0.0], [100.0, 0.1, 0.0]])
    change = step(grad)
    assert torch.allclose(change.square().mean(1).sqrt(), torch.full((2,), 0.1), atol=1e-5)
    assert torch.allclose(change[0], change[1], atol=1e-6)
    assert change[0, 1].abs() < 2e-3 * change[0, 0].abs()


def test_the_trust_region_leaves_near_values_alone():
    value, centre = torch.full((2, 4), 0.1), torch.zeros(2, 4)
    value[1] = 3
    out = within(value, centre, 0.5)
    assert torch.equal(out[0], value[0]) and torch.allclose(out[1], torch.full((4,), 0.5))


def lit_disk(size=128):
    """The front half of a ball as a face: photo `[1, 3, S, S]`, its mask, normals, mesh, and what is above the nose."""
    y, x = torch.meshgrid(torch.linspace(1, -1, size), torch.linspace(-1, 1, size), indexing="ij")
    normal = F.normalize(torch.stack([x, y, (1 - x**2 - y**2).clamp(min=0.01).sqrt()])[None], dim=1)
    disk = (x**2 + y**2 < 0.8).float()[None, None]
    photo = 0.45 + 0.25 * normal[:, 2:3] * torch.tensor([1.0, 0.8, 0.7])[None, :, None, None]
    mesh = torch.zeros(1, 468, 2)
    mesh[0, 10], mesh[0, 152], mesh[0, 2] = size / 96 * torch.tensor([[48.0, 8], [48.0, 90], [48.0, 60]])
    return photo.clone(), disk, normal, above_nose(mesh, size)


def test_a_hand_over_the_face_is_masked():
    photo, skin, normal, upper = lit_disk(96)
    photo[..., 60:, :40] = torch.tensor([0.1, 0.1, 0.5])[None, :, None, None]
    _, ratio = skin_ratio(photo, skin, normal)
    hidden = strongly_different(ratio, skin, torch.zeros_like(skin), upper)
    assert hidden[..., 66:80, 20:34].mean() > 0.7
    assert hidden[..., 20:50, 30:66].mean() < 0.05


def hair_over(photo, disk, normal, upper, brows=None):
    """Hidden by hair `[1, 1, S, S]`, with a scalp in the upper sixth."""
    scalp = disk.clone()
    scalp[..., 24:, :] = 0
    face, features = disk - scalp, torch.zeros_like(disk) if brows is None else brows
    _, ratio = skin_ratio(photo, face, normal)
    return connected_hair(ratio, face, scalp, features, upper, strongly_different(ratio, face, features, upper))


BROWN_HAIR = torch.tensor([0.48, 0.36, 0.30])[
    None, :, None, None
]  # too bright to be told from a shadow by darkness alone


def test_a_fringe_is_hair_down_to_the_brows_and_a_dark_spot_is_not():
    photo, disk, normal, upper = lit_disk()
    photo[..., :24, :] = BROWN_HAIR
    photo[..., 24:56, 40:60] = BROWN_HAIR  # hangs down from the scalp,
    brows = torch.zeros_like(disk)
    brows[..., 44:50, 40:60] = 1  # and over a brow
    photo[..., 40:56, 78:90] = BROWN_HAIR  # alone in the middle of the forehead
    hidden = hair_over(photo, disk, normal, upper, brows)
    assert hidden[..., 28:54, 44:56].mean() > 0.95
    assert hidden[..., 40:56, 78:90].mean() < 0.05
    assert hidden[..., 70:110, 40:90].mean() == 0


def test_a_second_lamp_of_another_colour_is_no_hair():
    photo, disk, normal, upper = lit_disk()
    tint = torch.sigmoid(
        (torch.linspace(0, 1, 128) - 0.72) / 0.05
    )  # from the right, sooner than order-2 harmonics can follow
    lit = photo * (1 + tint * (torch.tensor([0.85, 0.97, 1.15])[None, :, None, None] - 1))
    assert hair_over(lit, disk, normal, upper).mean() == 0
    for hair in (lit[..., :24, :], lit[..., 24:60, 70:90]):  # hair where that light sets in is found all the same
        hair[:] = BROWN_HAIR
    assert hair_over(lit, disk, normal, upper)[..., 28:56, 74:86].mean() > 0.95


def test_what_hair_cuts_off_from_the_face_is_hair():
    disk, mesh = lit_disk()[1], torch.full((1, 468, 2), 64.0)
    hidden = torch.zeros_like(disk)
    hidden[..., 30:36, :] = 1  # a band of fringe; above it a bright lock
    found = enclosed(hidden, disk, mesh)
    assert torch.equal(found[..., :30, :], disk[..., :30, :]) and found[..., 30:, :].max() == 0
    hidden[..., 60:68] = 0
    assert enclosed(hidden, disk, mesh).max() == 0  # a gap leads there
    assert enclosed(torch.ones_like(disk), disk, mesh).max() == 0  # all is hidden: nothing to tell it by


def test_packing_keeps_the_shape_plane():
    texture, shape = torch.randn(2, 2, 8, 8), torch.randn(2, K)
    a, b = unpack_latent(pack_latent(texture, shape), K)
    assert torch.equal(a, texture) and torch.equal(b, shape)
