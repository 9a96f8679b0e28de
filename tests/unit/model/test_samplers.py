"""Samplers against a model whose exact answer is known: data ~ N(mu, s^2), whose denoiser and ODE have closed forms."""

import math

import pytest
import torch

from fitdiff_core.errors import UserError
from fitdiff_core.model.samplers import (
    GUIDED,
    SAMPLERS,
    SIGMA_MAX,
    SIGMA_MIN,
    ddim,
    dpmpp_2m,
    edm_loss,
    lognormal_sigmas,
    sigmas,
    uniform_logsnr_sigmas,
)

MU, S = 0.7, 0.5


def gaussian(x, sigma):
    """E[x0 | x] of data N(MU, S^2)."""
    v = sigma.to(x).view(-1, *[1] * (x.ndim - 1)) ** 2
    return (S * S * x + v * MU) / (S * S + v)


def exact(x, sigma_start, sigma_end):
    """The probability-flow ODE moves a point along its quantile."""
    spread = lambda s: math.sqrt(S * S + s * s)  # noqa: E731
    return MU + (x - MU) * spread(sigma_end) / spread(sigma_start)


def error(sampler, steps, sigma_end=0.05):
    x = torch.linspace(-3, 3, 7, dtype=torch.float64)[:, None] * 10
    levels = torch.exp(torch.linspace(math.log(10.0), math.log(sigma_end), steps + 1, dtype=torch.float64))
    return float((sampler(gaussian, x, levels) - exact(x, 10.0, sigma_end)).abs().max())


@pytest.mark.parametrize(("sampler", "order"), [(ddim, 1), (dpmpp_2m, 2)])
def test_convergence_order(sampler, order):
    coarse, fine = error(sampler, 80), error(sampler, 160)
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_single_image_is_recovered_exactly(name):
    target = torch.randn(2, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    out = SAMPLERS[name](lambda x, s: target, torch.randn_like(target) * 400, sigmas(7).double())
    assert torch.allclose(out, target, atol=1e-12)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_step_is_linear_in_x_for_a_constant_denoiser(name):
    x, target = torch.full((1, 1), 5.0, dtype=torch.float64), torch.full((1, 1), 2.0, dtype=torch.float64)
    out = SAMPLERS[name](lambda x, s: target, x, torch.tensor([3.0, 1.0, 0.6], dtype=torch.float64))
    assert float(out) == pytest.approx(2 + 3 * 0.6 / 3)


@pytest.mark.parametrize(("name", "tolerance"), [("ddim", 0.08), ("dpmpp_2m", 0.02)])
def test_samples_have_the_distribution_of_the_data(name, tolerance):
    x = torch.randn(20000, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 80
    out = SAMPLERS[name](gaussian, x, sigmas(50, sigma_max=80).double())
    assert float(out.mean()) == pytest.approx(MU, abs=0.02)
    assert float(out.std()) == pytest.approx(S, rel=tolerance)


@pytest.mark.parametrize("name", SAMPLERS)
def test_callback_sees_each_step_and_may_stop(name):
    seen = []

    def stop(i, n, x, denoised):
        seen.append((i, n, tuple(denoised.shape)))
        if i == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        SAMPLERS[name](gaussian, torch.ones(2, 5), sigmas(6), stop)
    assert seen == [(i, 6, (2, 5)) for i in range(3)]


@pytest.mark.parametrize("name", SAMPLERS)
def test_batch_entries_do_not_mix(name):
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64) * 80
    levels = sigmas(9).double()
    together = SAMPLERS[name](gaussian, x, levels)
    assert torch.equal(together[1:2], SAMPLERS[name](gaussian, x[1:2], levels))


@pytest.mark.parametrize("spacing", ["logsnr", "karras"])
def test_sigmas_fall_from_max_to_min_to_zero(spacing):
    s = sigmas(12, 0.02, 80, spacing)
    assert s.shape == (13,) and s[-1] == 0
    assert torch.allclose(s[[0, -2]], torch.tensor([80.0, 0.02]))
    assert (s.diff() < 0).all()
    assert sigmas(1, spacing=spacing).tolist() == [400, 0]


def test_bad_schedules_are_refused():
    for arguments in ((0,), (5, 1.0, 0.5), (5, 0.0, 1.0), (5, 0.1, 1.0, "even")):
        with pytest.raises(UserError):
            sigmas(*arguments)


def test_training_sigmas():
    g = torch.Generator().manual_seed(0)
    s = lognormal_sigmas(20000, 0.3, 1.6, g).log()
    assert float(s.mean()) == pytest.approx(0.3, abs=0.05) and float(s.std()) == pytest.approx(1.6, abs=0.05)
    u = uniform_logsnr_sigmas(64, 0.02, 80, g).log()
    assert (u.diff() > 0).all() and u.min() >= math.log(0.02) and u.max() <= math.log(80.001)


def test_edm_loss_is_one_for_an_untrained_network_at_every_sigma():
    """EDM's wrapper with F = 0 predicts c_skip x; on unit-variance data its weighted error is 1."""
    g = torch.Generator().manual_seed(3)
    x0, noise = torch.randn(6, 40000, generator=g), torch.randn(6, 40000, generator=g)
    sigma = torch.tensor([0.02, 0.1, 0.5, 2.0, 10.0, 80.0])
    loss = edm_loss(lambda x, s: x / (1 + s.view(-1, 1) ** 2), x0, sigma, noise)
    assert torch.allclose(loss, torch.ones(6), atol=0.03)


def test_edm_loss_weights_elements():
    x0, weight = torch.zeros(1, 4), torch.tensor([[4.0, 0, 0, 0]])
    loss = edm_loss(lambda x, s: torch.tensor([[1.0, 9, 9, 9]]), x0, torch.ones(1), torch.zeros(1, 4), weight)
    assert float(loss) == pytest.approx(2.0)


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 8, 20, 50, 200])
def test_guided_levels_fall_and_most_lie_where_a_photo_acts(steps):
    levels = sigmas(steps, spacing="guided")
    assert len(levels) == steps + 1 and (levels.diff() < 0).all()
    assert levels[0] == pytest.approx(SIGMA_MAX) and levels[-1] == 0
    inside = ((levels <= GUIDED[0] * 1.001) & (levels >= GUIDED[1] * 0.999)).sum()
    assert inside >= 0.75 * steps - 2
    if steps > 1:
        assert levels[-2] == pytest.approx(SIGMA_MIN)
