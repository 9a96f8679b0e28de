"""The linear prior: exact where everything is Gaussian, found where it was planted."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fitdiff_core import sampling
from fitdiff_core.model.denoiser import Condition, Denoiser, DenoiserConfig, pack_latent, unpack_latent
from fitdiff_core.model.linear_prior import MEAN_LIMIT, LinearPrior, pooled_features
from fitdiff_core.model.samplers import ddim, sigmas
from fitdiff_lab.train.linear_prior import set_modes, set_prior

CONFIG = DenoiserConfig(
    latent=4,
    size=8,
    shape=5,
    embedding=6,
    activations=(3, 4, 7),
    widths=(16, 16, 16),
    heads=(1, 1),
    cond=8,
    emb=16,
    mlp=16,
    modes=3,
    cells=(2, 1, 2),
    reader=(4, 4, 4, 5),
)
FEATURES = 6 + 3 * 4 + 4 * 1 + 7 * 4 + 5


def activations(n: int, g: torch.Generator) -> tuple[torch.Tensor, ...]:
    return tuple(torch.randn(n, c, s, s, generator=g) for c, s in zip(CONFIG.activations, (8, 6, 4), strict=True))


def condition(n: int, g: torch.Generator) -> Condition:
    return Condition(torch.randn(n, 6, generator=g), activations(n, g))


def planted(seed: int = 0) -> tuple[Denoiser, torch.Generator]:
    """An untrained denoiser with a random prior; what its modes leave has the same variance everywhere."""
    g = torch.Generator().manual_seed(seed)
    model = Denoiser(CONFIG).eval()
    p = model.prior
    p.weight[:, : -CONFIG.reader[-1]] = torch.empty(8, FEATURES - CONFIG.reader[-1]).normal_(0, 0.1, generator=g)
    p.bias.normal_(0, 0.3, generator=g)
    p.variance.uniform_(0.2, 0.9, generator=g)
    p.texture_mean.normal_(generator=g)
    p.modes.copy_(torch.linalg.qr(torch.randn(256, 3, generator=g))[0].T)
    p.modes_std.copy_(torch.tensor([20.0, 5.0, 1.0]))
    p.rest_variance.fill_(0.4)
    return model, g


def test_untrained_network_gives_the_gaussian_posterior():
    """The network starts at zero, so what is left is E[x0 | x, photo] = m + S (S + sigma^2)^-1 (x - m), in float64."""
    model, g = planted()
    p, cond, sigma = model.prior, condition(2, g), torch.tensor([0.4, 30.0])
    x = torch.randn(2, 5, 8, 8, generator=g) * sigma.view(2, 1, 1, 1)
    with torch.no_grad():
        given, free = model(x, sigma, cond), model(x, sigma)
    read = model.prior_features(cond.embedding, list(cond.activations))
    modes = p.modes.double()
    for out, mean, variance in (
        (given, read.double() @ p.weight.double().T + p.bias.double(), p.variance.double()),
        (free, torch.zeros(2, 8, dtype=torch.float64), torch.ones(8, dtype=torch.float64)),
    ):
        texture, shape = unpack_latent(out, 5)
        noisy_texture, noisy_shape = unpack_latent(x.double(), 5)
        covariance = modes.T @ torch.diag(variance[:3] * p.modes_std.double() ** 2) @ modes
        covariance += 0.4 * (torch.eye(256, dtype=torch.float64) - modes.T @ modes)
        for i in range(2):
            centre = p.texture_mean.double().flatten() + (mean[i, :3] * p.modes_std.double()) @ modes
            gain = covariance @ torch.linalg.inv(covariance + sigma[i].double() ** 2 * torch.eye(256))
            expected = centre + gain @ (noisy_texture[i].flatten() - centre)
            assert torch.allclose(texture[i].double().flatten(), expected, atol=2e-4)
            k = variance[3:] / (variance[3:] + sigma[i].double() ** 2)
            assert torch.allclose(shape[i].double(), mean[i, 3:] + k * (noisy_shape[i] - mean[i, 3:]), atol=1e-5)


def test_network_output_counts_in_posterior_deviations():
    """correct() spreads unit noise to the posterior covariance S sigma^2 / (S + sigma^2)."""
    model, g = planted(1)
    p, sigma = model.prior, torch.full((4000,), 2.0)
    zero = torch.zeros(4000, 4, 8, 8)
    posterior = p.posterior(zero, torch.zeros(4000, 5), sigma, p.unconditional())
    texture, shape = p.correct(posterior, torch.randn(zero.shape, generator=g), torch.randn(4000, 5, generator=g))
    spread = ((texture - posterior.texture).flatten(1) @ p.modes.T).std(0)
    variance = p.modes_std**2
    assert torch.allclose(spread, (variance * 4 / (variance + 4)).sqrt(), rtol=0.05)
    rest = p.split(texture - posterior.texture)[1].square().mean() * 256 / 253
    assert float(rest) == pytest.approx(0.4 * 4 / 4.4, rel=0.03)
    assert torch.allclose((shape - posterior.shape).std(0), torch.full((5,), 0.8**0.5), rtol=0.05)


def test_dropped_condition_is_the_unconditional_prior():
    model, g = planted(2)
    model.train()
    x, sigma, cond = torch.randn(2, 5, 8, 8, generator=g), torch.ones(2), condition(2, g)
    out, free = model(x, sigma, cond, drop=torch.tensor([True, False])), model(x, sigma)
    assert torch.allclose(out[0], free[0], atol=1e-5) and not torch.allclose(out[1], free[1], atol=1e-2)


def test_the_mean_is_clamped_for_features_out_of_range():
    prior = LinearPrior(2, 4, 3, 2, 5)
    prior.weight.fill_(10.0)
    assert prior.conditional(torch.full((1, 5), 9.0)).mean.abs().max() == MEAN_LIMIT


def test_fit_finds_planted_modes_and_relations():
    g = torch.Generator().manual_seed(3)
    n = 3000
    embedding, acts = torch.randn(n, 6, generator=g), activations(n, g)
    read = pooled_features(embedding, list(acts), CONFIG.cells)
    read = read / read.std(0)
    assert read.shape[1] == FEATURES - CONFIG.reader[-1]
    true = torch.randn(7, read.shape[1], generator=g) * (0.8 / read.shape[1] ** 0.5)
    noise = torch.full((7,), 0.6)
    true[6], noise[6] = 0, 1.0  # the photo says nothing of the last coefficient
    wanted = read @ true.T + noise * torch.randn(n, 7, generator=g)
    modes = torch.linalg.qr(torch.randn(256, 2, generator=g))[0].T
    latents = (wanted[:, :2] * torch.tensor([12.0, 6.0])) @ modes + 0.3 * torch.randn(n, 256, generator=g) + 1.5
    data = SimpleNamespace(
        latents=latents.view(n, 4, 8, 8).numpy(),
        embedding=embedding.numpy(),
        activations=[a.numpy() for a in acts],
        shape=wanted[:, 2:].numpy(),
        texture=np.arange(n),
        train=np.arange(n),
        test=np.arange(0),
    )
    data.batch = lambda i: (None, None, embedding[i], tuple(a[i] for a in acts))
    model = Denoiser(CONFIG)
    explained, prior = set_prior(model, data), model.prior
    overlap = (prior.modes[:2] @ modes.T).abs()
    assert (overlap.diagonal() > 0.99).all()
    assert torch.allclose(prior.modes_std[:2], torch.tensor([12.0, 6.0]), rtol=0.1)
    assert float(prior.rest_variance.mean()) == pytest.approx(0.09, rel=0.1)
    assert torch.allclose(prior.texture_mean, torch.full((4, 8, 8), 1.5), atol=0.6)
    # a ridge of 1.5 shrinks white features to 0.4 of their size, which leaves 0.41 of the planted 0.64;
    # real features lie in few directions
    told = torch.tensor([0, 1, 3, 4, 5, 6])
    assert (explained[told] > 0.3).all() and explained[7] < 0.1
    assert (prior.variance[told] < 0.8).all() and prior.variance[7] > 0.9


def test_gradient_goes_through_the_linear_denoiser():
    """Against autograd through the posterior mean, for somebody whose photo was seen."""
    model, g = planted(4)
    p, sigma = model.prior, torch.tensor([1.5])
    texture = torch.randn(1, 4, 8, 8, generator=g).requires_grad_(True)
    shape = torch.randn(1, 5, generator=g).requires_grad_(True)
    out = p.posterior(texture, shape, sigma, p.conditional(torch.zeros(1, FEATURES)))
    pull = torch.randn(1, 4, 8, 8, generator=g), torch.randn(1, 5, generator=g)
    expected = torch.autograd.grad([out.texture, out.shape], [texture, shape], pull)
    for found, wanted in zip(p.gradient(*pull, 1.5), expected, strict=True):
        assert torch.allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("noise_scale", [0.0, 0.3])
def test_scaled_noise_becomes_the_mean_and_a_share_of_the_deviation(noise_scale):
    """The sampler is linear in its noise where the denoiser is: only the noise of modes and shape is scaled."""
    model, g = planted()
    cond, levels = condition(1, g), sigmas(40)
    start = torch.randn(1, 5, 8, 8, generator=g)
    start[:, 4:].view(1, -1)[:, 5:] = 0  # what the plane of the shape does not hold
    scaled = sampling.scale_noise(
        SimpleNamespace(denoiser=model, head=SimpleNamespace(n_identity=5)), start, noise_scale
    )

    def sampled(noise):
        with torch.no_grad():
            texture, shape = unpack_latent(ddim(lambda x, s: model(x, s, cond), noise * levels[0], levels), 5)
        a, rest = model.prior.split(texture - model.prior.texture_mean)
        return torch.cat([a, shape], 1), rest

    (full, detail), (found, kept) = sampled(start), sampled(scaled)
    texture, shape = unpack_latent(start, 5)
    quiet = pack_latent(model.prior.split(texture)[1], torch.zeros_like(shape))
    mean, _ = sampled(quiet)
    assert torch.allclose(found, mean + noise_scale * (full - mean), atol=2e-3)
    assert torch.allclose(kept, detail, atol=2e-3)
    read = model.prior_features(cond.embedding, list(cond.activations))
    likeliest = model.prior.conditional(read).mean * torch.cat([model.prior.modes_std, torch.ones(5)])
    assert torch.allclose(mean, likeliest, rtol=0.02, atol=0.02)


def test_signs_of_the_modes_are_those_of_the_weights_a_run_begins_with():
    g = torch.Generator().manual_seed(6)
    latents = torch.randn(60, 256, generator=g) * torch.linspace(4, 0.1, 256)
    data = SimpleNamespace(latents=latents.view(60, 4, 8, 8).numpy())
    first, again = Denoiser(CONFIG), Denoiser(CONFIG)
    plain = set_modes(first, data)
    turned = first.prior.modes * torch.tensor([1.0, -1.0, 1.0])[:, None]
    coefficients = set_modes(again, data, turned)
    torch.testing.assert_close(again.prior.modes, turned)
    torch.testing.assert_close(coefficients, plain * torch.tensor([1.0, -1.0, 1.0]))


def test_the_most_likely_texture_is_the_posterior_mean_of_pure_noise():
    g = torch.Generator().manual_seed(3)
    prior = LinearPrior(latent=4, size=8, shape=5, modes=3, features=6)
    prior.weight.normal_(generator=g)
    prior.texture_mean.normal_(generator=g)
    prior.modes.copy_(torch.linalg.qr(torch.randn(256, 3, generator=g))[0].T)
    prior.modes_std.copy_(torch.tensor([3.0, 2.0, 1.0]))
    gaussian = prior.conditional(torch.randn(2, 6, generator=g))
    noisy = torch.zeros(2, 4, 8, 8), torch.zeros(2, 5)
    expected = prior.posterior(*noisy, torch.tensor([1e6, 1e6]), gaussian).texture
    assert torch.allclose(prior.most_likely_texture(gaussian), expected, atol=1e-4)
