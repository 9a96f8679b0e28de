"""Losses and the guided denoiser: on a toy goal whose answer is known, and on a small real rendering chain."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from fitdiff_core.denoiser import pack_latent, unpack_latent
from fitdiff_core.diffusion import ddim, dpmpp_2m, sigmas
from fitdiff_core.errors import UserError
from fitdiff_core.guidance import Guidance, GuidanceWeights, GuidedDenoiser, PhotoObjective
from fitdiff_core.guidance.balance import balance
from fitdiff_core.guidance.guided import Descent, plain, within
from fitdiff_core.guidance.losses import identity_loss, landmark_loss, perceptual_loss, photometric_loss
from fitdiff_core.guidance.regions import occlusion
from fitdiff_core.guidance.tone import skin_tone, tone_loss
from fitdiff_core.guidance.unexplained import Unexplained, light_gain, without_broad_pull
from fitdiff_core.image import linear_to_srgb, srgb_to_linear
from fitdiff_core.maps import TextureMaps
from fitdiff_core.prior import LinearPrior
from fitdiff_core.render import Camera, Light
from fitdiff_core.scene import Scene

torch.set_num_threads(1)
K = 6


class PatchHead(torch.nn.Module):
    """A bulging 24 x 24 sheet that faces the camera: enough of a head to render, with 468 landmarks."""

    n_identity = K
    expression_names = tuple(f"action{i}" for i in range(52))
    region_names = ("face", "skin")

    def __init__(self, n=24):
        super().__init__()
        v, u = torch.meshgrid(torch.linspace(0, 1, n), torch.linspace(0, 1, n), indexing="ij")
        x, y = (u.flatten() - 0.5) * 0.16, (v.flatten() - 0.5) * 0.2
        z = 0.06 * torch.cos(x / 0.08 * 1.2) * torch.cos(y / 0.1 * 1.2)
        self.register_buffer("mean", torch.stack([x, y, z], 1))
        self.register_buffer("uv", torch.stack([u.flatten(), v.flatten()], 1) * 0.98 + 0.01)
        i = (torch.arange(n - 1)[:, None] * n + torch.arange(n - 1)).flatten()
        self.register_buffer(
            "triangles", torch.cat([torch.stack([i, i + 1, i + n], 1), torch.stack([i + 1, i + n + 1, i + n], 1)])
        )
        g = torch.Generator().manual_seed(0)
        c = self.mean[torch.randperm(n * n, generator=g)[: K + 52]]
        bump = torch.exp(-(self.mean[None] - c[:, None]).square().sum(2) / 0.002)
        self.register_buffer("basis", bump[..., None] * 0.003 * torch.randn(K + 52, 1, 3, generator=g))

    def forward(self, identity, expression=None, gaze=None):
        expression = identity.new_zeros(len(identity), 52) if expression is None else expression
        c = torch.cat([identity, expression.to(identity)], 1)
        return self.mean.to(c) + torch.einsum("bk,kvc->bvc", c, self.basis.to(c))

    def landmarks(self, vertices, which="mesh"):
        return vertices[:, :468]

    def landmark_weights(self, which):
        return torch.ones(468)

    def region(self, name, size=512):
        return torch.ones(size, size)


class TinyRecognizer(torch.nn.Module):
    name, dim, crop_size, same_threshold = "tiny", 8, 48, 0.6

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.a, self.b = torch.nn.Conv2d(3, 6, 5, 2), torch.nn.Conv2d(6, 8, 5, 2)
        self.requires_grad_(False)

    def matrix(self, mesh):
        return torch.tensor([[[0.75, 0, 0], [0, 0.75, 0]]]).to(mesh).expand(len(mesh), -1, -1)

    def crop(self, image, matrix):
        return F.interpolate(image, (48, 48), mode="bilinear", antialias=True)

    def forward(self, crop):
        a = torch.tanh(self.a(crop - 0.4))
        b = torch.tanh(self.b(a))
        return SimpleNamespace(embedding=F.normalize(b.mean((2, 3)), dim=1), activations=(a, b))

    def distance(self, a, b):
        return (a - b).norm(dim=1)


class TinyDecoder(torch.nn.Module):
    """[B, 2, 8, 8] -> a 9-channel map stack."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(4)
        self.mix = torch.nn.Conv2d(2, 9, 3, padding=1)
        self.requires_grad_(False)

    def decode(self, z, size=256):
        x = self.mix(F.interpolate(z, (32, 32), mode="bilinear"))
        flat = torch.zeros_like(x[:, :1])
        return torch.cat([0.3 + 0.2 * torch.tanh(x[:, :3]), 0.34 + 0 * x[:, 3:6], flat, flat, flat + 1], 1)


def scene_of(size=64):
    camera = Camera(torch.tensor([5.0]), torch.tensor([[0.05, 0.1, 0.0]]), torch.tensor([[0.0, 0.0, -0.8]]))
    return Scene(camera, Light.ambient(1), torch.zeros(1, 52), torch.zeros(1, 2), (size, size))


def tiny_model():
    denoiser = SimpleNamespace(prior=LinearPrior(latent=2, size=8, shape=K, modes=0, features=0))
    return SimpleNamespace(head=PatchHead(), autoencoder=TinyDecoder(), denoiser=denoiser)


@pytest.fixture(scope="module")
def chain():
    """A model, and guidance towards a render of a known latent and shape."""
    model = tiny_model()
    g = torch.Generator().manual_seed(5)
    z, s = torch.randn(1, 2, 8, 8, generator=g), torch.randn(1, K, generator=g)
    recognizer, scene = TinyRecognizer(), scene_of()
    blank = Guidance(
        torch.zeros(1, 3, 64, 64), torch.ones(1, 1, 64, 64), scene, torch.zeros(1, K), torch.zeros(1, 468, 2),
        torch.ones(468), recognizer, recognizer.matrix(torch.zeros(1, 468, 2)), torch.zeros(1, 8), (),
        torch.tensor([1.0, 1.0, 0.0, 0.0])[None, :, None, None].expand(1, 4, 32, 32),
    )
    from fitdiff_core.render import render

    maps = TextureMaps.from_stack(model.autoencoder.decode(z))
    vertices = model.head(s)
    out = render(vertices, model.head, maps, scene.camera, scene.light, size=(64, 64), background=(0.2, 0.3, 0.4))
    photo = linear_to_srgb(out.image).clamp(0, 1).detach()
    features = recognizer(recognizer.crop(photo, blank.matrix))
    guidance = replace(
        blank, photo=photo, mesh=scene.camera.project(model.head.landmarks(vertices), (64, 64)),
        embedding=features.embedding, activations=features.activations,
    )
    return SimpleNamespace(model=model, guidance=guidance, texture=z, shape=s)


def quadratic(target_texture, target_shape):
    def objective(texture, shape, scene):
        loss = (texture - target_texture).square().mean((1, 2, 3)) + (shape - target_shape).square().mean(1)
        return loss, scene, {"distance": loss}

    return objective


def toy(chain, **settings):
    """A denoiser whose data is a unit Gaussian (so D(x) = x / (1 + sigma^2)), guided to a fixed point."""
    target = torch.full((1, 2, 8, 8), 0.8), torch.full((1, K), -0.7)
    guidance = replace(chain.guidance, texture_step=0.1, shape_step=0.1, **settings)
    return GuidedDenoiser(lambda x, s: x / (1 + s.view(-1, 1, 1, 1) ** 2), chain.model, guidance, quadratic(*target))


def noise(batch, seed=0):
    return torch.randn(batch, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 80


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
    guided = toy(chain, inner_steps=50, trust=0.5)
    x, s = noise(1) / 80, torch.tensor([0.3])
    change = guided(x, s) - guided.denoise(x, s)
    free = 0.5 * 0.3 / 1.09**0.5
    assert change[:, :-1].square().mean().sqrt() == pytest.approx(free, rel=1e-3)
    assert guided(x, s)[:, -1].flatten()[K:].abs().max() == 0


@pytest.mark.parametrize("window", [(1.0, 2.0), (1.0, 1.0), (3.0, -1.0)])
def test_a_reversed_window_is_a_user_error(chain, window):
    with pytest.raises(UserError, match="sigma window"):
        replace(chain.guidance, sigma_window=window)


@pytest.mark.parametrize("bad", [{"identity": -1}, {"photometric": float("nan")}, {"landmark": "much"}])
def test_bad_weights_are_user_errors(bad):
    with pytest.raises(UserError, match=next(iter(bad))):
        GuidanceWeights(**bad)


def real(chain, batch=1, **settings):
    def denoise(x, s):
        return x / (1 + s.view(-1, 1, 1, 1) ** 2)

    return GuidedDenoiser(denoise, chain.model, replace(chain.guidance, **settings))


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
        guidance = replace(
            chain.guidance, photo=chain.guidance.photo.clone(), embedding=chain.guidance.embedding.clone(),
            recognizer=TinyRecognizer(),
        )
        model = tiny_model()
        assert guidance.photo.is_inference() and model.head.basis.is_inference()
        guided = GuidedDenoiser(lambda x, s: x / (1 + s.view(-1, 1, 1, 1) ** 2), model, guidance)
        found = ddim(guided, noise(1), sigmas(6))
    assert torch.allclose(found, expected, atol=1e-4)
    assert not plain(model.head).basis.is_inference()


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
    g = chain.guidance
    as64 = {n: getattr(g, n).double() for n in ("photo", "mask", "mesh", "mesh_weights", "matrix", "embedding", "regions")}
    scene = scene_of()
    scene = replace(
        scene, camera=scene.camera.to(torch.float64), expression=scene.expression.double() + 0.2,
        light=scene.light.to(torch.float64), gaze=scene.gaze.double(),
    )
    guidance = replace(
        g, **as64, activations=tuple(a.double() for a in g.activations), recognizer=TinyRecognizer().double(), scene=scene,
        recognizer_share=0.0, unexplained=Unexplained(share=0.0),  # else the gradient is not the plain one, on purpose
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


def shadowed(chain):
    """The chain's photo with a soft shadow over its left half, of another colour: as strong as a hard side light's."""
    ramp = torch.linspace(-3, 3, 64).sigmoid()
    gain = torch.stack([0.3 + 0.7 * ramp, 0.35 + 0.65 * ramp, 0.45 + 0.55 * ramp])[None, :, None]
    return replace(chain.guidance, photo=linear_to_srgb(srgb_to_linear(chain.guidance.photo) * gain)), gain


def test_a_shadow_is_taken_for_light_and_fine_detail_is_not():
    g, all_of_it = torch.Generator().manual_seed(2), Unexplained(share=1.0, sigma=0.05)
    render = 0.2 + 0.1 * torch.rand(1, 3, 64, 64, generator=g)
    ramp = torch.linspace(-2, 2, 64).sigmoid().expand(1, 3, 64, 64)
    skin = torch.zeros(1, 1, 64, 64)
    skin[..., 8:56, 8:56] = 1
    found = light_gain(render, linear_to_srgb(render * (0.4 + 0.5 * ramp)), skin, all_of_it)
    assert (found / (0.4 + 0.5 * ramp) - 1)[..., 16:48, 16:48].abs().max() < 0.08
    checks = 1 + 0.3 * ((torch.arange(64)[:, None] + torch.arange(64)) % 2 * 2 - 1.0)
    found = light_gain(render, linear_to_srgb(render * checks), skin, all_of_it)
    assert (found.log()[..., 16:48, 16:48] - checks.log().mean()).abs().max() < 0.03
    brow = skin.clone()
    brow[..., 28:36, 20:44] = 0
    dark = linear_to_srgb(render * torch.where(brow > 0, 0.8, 0.1))
    assert (light_gain(render, dark, brow, all_of_it)[..., 30:34, 30:34] - 0.8).abs().max() < 0.05


def test_the_broad_pull_on_the_skin_is_taken_off_the_gradient():
    g = torch.Generator().manual_seed(2)
    skin = torch.zeros(1, 1, 64, 64)
    skin[..., :48] = 1
    fine = torch.randn(1, 3, 64, 64, generator=g)
    image = torch.rand(1, 3, 64, 64, generator=g).requires_grad_(True)
    seen = without_broad_pull(image, skin, Unexplained(share=1.0))
    assert torch.equal(seen, image)
    (found,) = torch.autograd.grad(seen, image, fine + 2)
    assert abs(found[..., 12:36].mean()) < 0.1 and torch.equal(found[..., 48:], (fine + 2)[..., 48:])
    assert F.cosine_similarity(found[..., 12:36].flatten(), fine[..., 12:36].flatten(), dim=0) > 0.95


def test_a_shadow_no_longer_pulls_on_the_skin(chain):
    guidance, _ = shadowed(chain)
    left = {}
    for share in (0.0, 1.0):
        objective = PhotoObjective(
            chain.model.head, chain.model.autoencoder.decode,
            replace(guidance, weights=GuidanceWeights(0, 0, 1, 0), unexplained=Unexplained(share=share)),
        )
        texture = chain.texture.clone().requires_grad_(True)  # the true one: nothing should pull
        loss = objective(texture, chain.shape, guidance.scene)[0]
        left[share] = float(loss.detach()), float(torch.autograd.grad(loss.sum(), texture)[0].norm())
    assert left[1.0][0] < 0.4 * left[0.0][0] and left[1.0][1] < 0.6 * left[0.0][1], left


def test_masked_pixels_and_clipped_highlights_do_not_count():
    photo = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.5
    image, mask = photo.clone(), torch.ones(1, 1, 32, 32)
    image[..., :16] += 0.4
    mask[..., :16] = 0
    assert photometric_loss(image, photo, mask).abs().max() < 1e-5
    white = torch.ones(1, 3, 16, 16)
    assert photometric_loss(white * 1.5, white, torch.ones(1, 1, 16, 16)).abs().max() < 1e-5


def test_the_recogniser_is_held_to_a_share_of_the_photos_pull():
    g = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, 24, 24, generator=g, requires_grad=True)
    a, b = (torch.randn(2, 3, 24, 24, generator=g) for _ in range(2))

    def gradient(share, scale, sigma=0.0, photo=1.0):
        one, two = balance(image, sigma, share)
        return torch.autograd.grad((photo * a * one + scale * b * two).sum(), image)[0]

    def rms(x):
        return x.square().mean((1, 2, 3)).sqrt()

    assert torch.allclose(gradient(0.0, 50.0), a + 50 * b, atol=1e-4)
    assert torch.allclose(gradient(0.5, 0.1), a + 0.1 * b, atol=1e-6)  # weak enough: untouched
    assert torch.allclose(rms(gradient(0.5, 50.0) - a), 0.5 * rms(a), rtol=1e-4)
    assert torch.allclose(gradient(0.5, 2.0, photo=0.0), 2 * b)
    smooth = gradient(0.5, 2.0, sigma=2.0, photo=0.0)
    assert (smooth[..., 1:] - smooth[..., :-1]).square().mean() < 0.3 * smooth.square().mean()


def test_descent_steps_have_the_asked_size_and_keep_small_gradients_small():
    step = Descent(0.1)
    grad = torch.tensor([[1.0, 1e-3, 0.0], [100.0, 0.1, 0.0]])
    change = step(grad)
    assert torch.allclose(change.square().mean(1).sqrt(), torch.full((2,), 0.1), atol=1e-5)
    assert torch.allclose(change[0], change[1], atol=1e-6)
    assert change[0, 1].abs() < 2e-3 * change[0, 0].abs()


def test_within_leaves_near_values_alone():
    value, centre = torch.full((2, 4), 0.1), torch.zeros(2, 4)
    value[1] = 3
    out = within(value, centre, 0.5)
    assert torch.equal(out[0], value[0]) and torch.allclose(out[1], torch.full((4,), 0.5))


def test_a_hand_over_the_face_is_masked():
    y, x = torch.meshgrid(torch.linspace(1, -1, 96), torch.linspace(-1, 1, 96), indexing="ij")
    normal = torch.stack([x, y, (1 - x**2 - y**2).clamp(min=0.01).sqrt()])[None]
    normal = F.normalize(normal, dim=1)
    skin = (x**2 + y**2 < 0.8).float()[None, None]
    photo = (0.45 + 0.25 * normal[:, 2:3] * torch.tensor([1.0, 0.8, 0.7])[None, :, None, None]).clone()
    photo[..., 60:, :40] = torch.tensor([0.1, 0.1, 0.5])[None, :, None, None]
    mesh = torch.zeros(1, 468, 2)
    mesh[0, 10], mesh[0, 152], mesh[0, 2] = torch.tensor([[48.0, 8], [48.0, 90], [48.0, 60]])
    _, visible = occlusion(photo, skin, torch.zeros_like(skin), normal, torch.ones(1, 1, 96, 96), mesh)
    assert visible[..., 66:80, 20:34].mean() < 0.3
    assert visible[..., 20:50, 30:66].mean() > 0.95


def test_packing_keeps_the_shape_plane():
    texture, shape = torch.randn(2, 2, 8, 8), torch.randn(2, K)
    a, b = unpack_latent(pack_latent(texture, shape), K)
    assert torch.equal(a, texture) and torch.equal(b, shape)


def test_the_tone_of_the_skin_stays_where_the_prior_has_it(chain):
    """A photo of the same head in half the light: without the tone's loss the skin goes dark, with it the light does."""
    dark = replace(chain.guidance, photo=linear_to_srgb(srgb_to_linear(chain.guidance.photo) * 0.3), texture_step=0.1)
    drift = {}
    for weight in (0.0, 1.0):
        weights = GuidanceWeights(identity=1, perceptual=0.5, photometric=1, landmark=0, tone=weight)
        guided = real(chain, photo=dark.photo, weights=weights, texture_step=0.1)
        start = skin_tone(chain.model.autoencoder.decode(torch.zeros(1, 2, 8, 8)), guided.skin)  # the toy prior's mean
        texture, _ = unpack_latent(ddim(guided, noise(1), sigmas(20)), K)
        found = skin_tone(chain.model.autoencoder.decode(texture), guided.skin)
        drift[weight] = float((found - start).abs().mean())
    assert drift[1.0] < 0.04 and drift[1.0] < 0.4 * drift[0.0], drift


def test_tone_is_the_mean_log_albedo_of_the_skin():
    stack = torch.full((2, 9, 4, 4), 0.24)
    stack[1, :3, :, 2:] = 0.9
    skin = torch.zeros(1, 1, 4, 4)
    skin[..., :2] = 1
    assert torch.allclose(skin_tone(stack, skin), torch.tensor(0.25).log().expand(2, 3))
    assert torch.allclose(tone_loss(torch.zeros(1, 3), torch.full((1, 3), 0.1)), torch.ones(1))
