"""The linear prior of the shape: exact where everything is Gaussian, found where it was planted."""

from types import SimpleNamespace

import numpy as np
import torch

from fitdiff_core.denoiser import Condition, Denoiser, DenoiserConfig, pack_latent, unpack_latent
from fitdiff_core.train.anchor import set_anchor

CONFIG = DenoiserConfig(
    latent=4, size=8, shape=5, embedding=6, activations=(3, 4, 7), widths=(16, 16, 16), heads=(1, 1), cond=8, emb=16, mlp=16,
    anchor=2,
)


def activations(n: int, g: torch.Generator) -> tuple[torch.Tensor, ...]:
    return tuple(torch.randn(n, c, s, s, generator=g) for c, s in zip(CONFIG.activations, (8, 6, 4), strict=True))


def test_untrained_network_gives_the_gaussian_posterior():
    """The network starts at zero, so what is left is E[s | x, photo] for s ~ N(mean, variance), x = s + sigma n."""
    g = torch.Generator().manual_seed(0)
    model = Denoiser(CONFIG).eval()
    model.anchor.normal_(generator=g)
    model.anchor_bias.normal_(generator=g)
    model.anchor_variance.uniform_(0.2, 0.9, generator=g)
    acts = activations(2, g)
    x, sigma = torch.randn(2, 5, 8, 8, generator=g), torch.tensor([0.4, 3.0])
    with torch.no_grad():
        texture, shape = unpack_latent(model(x, sigma, Condition(torch.randn(2, 6, generator=g), acts)), 5)
        _, free = unpack_latent(model(x, sigma), 5)
    pooled = torch.nn.functional.adaptive_avg_pool2d(acts[2], 2).flatten(1)
    mean = (pooled @ model.anchor.T + model.anchor_bias).double()
    noisy, var, s2 = unpack_latent(x, 5)[1].double(), model.anchor_variance.double(), sigma.double()[:, None] ** 2
    assert torch.allclose(shape.double(), (mean / var + noisy / s2) / (1 / var + 1 / s2), atol=1e-5)
    assert torch.allclose(free.double(), noisy / (1 + s2), atol=1e-5)
    assert torch.allclose(texture, unpack_latent(x, 5)[0] / (1 + sigma**2)[:, None, None, None], atol=1e-5)


def test_dropped_condition_is_the_unconditional_prior():
    g = torch.Generator().manual_seed(1)
    model = Denoiser(CONFIG).train()
    model.anchor.normal_(generator=g)
    x, sigma = torch.randn(2, 5, 8, 8, generator=g), torch.ones(2)
    cond = Condition(torch.randn(2, 6, generator=g), activations(2, g))
    out = model(x, sigma, cond, drop=torch.tensor([True, False]))
    free = model(x, sigma)
    assert torch.allclose(out[0], free[0], atol=1e-5) and not torch.allclose(out[1], free[1], atol=1e-2)


def test_fit_finds_a_planted_relation():
    g = torch.Generator().manual_seed(2)
    n = 3000
    acts = activations(n, g)
    pooled = torch.nn.functional.adaptive_avg_pool2d(acts[2], 2).flatten(1)
    true = torch.randn(5, pooled.shape[1], generator=g) / pooled.std() / pooled.shape[1] ** 0.5 * 0.8
    noise = torch.tensor([0.6, 0.6, 0.6, 0.6, 1.0])
    true[4] = 0  # the photo says nothing of the last coefficient
    shape = pooled @ true.T + noise * torch.randn(n, 5, generator=g)
    data = SimpleNamespace(
        activations=[a.numpy() for a in acts], shape=shape.numpy(), texture=np.arange(n), train=np.arange(n), test=np.arange(0)
    )
    model = Denoiser(CONFIG)
    model.activation_std_2.fill_(float(pooled.std()))  # unit variance, as the ridge expects
    explained = set_anchor(model, data)
    # the ridge shrinks white features to a quarter, which leaves 0.28 of the planted 0.64; real ones lie in few directions
    assert (explained[:4] > 0.18).all() and explained[4] < 0.1
    assert (model.anchor_variance[:4] < 0.9).all() and model.anchor_variance[4] > 0.9


def test_anchor_lives_in_the_shape_plane_alone():
    g = torch.Generator().manual_seed(3)
    model = Denoiser(CONFIG).eval()
    cond = Condition(torch.randn(1, 6, generator=g), activations(1, g))
    x, sigma = pack_latent(torch.randn(1, 4, 8, 8, generator=g), torch.randn(1, 5, generator=g)), torch.ones(1)
    with torch.no_grad():
        before = model(x, sigma, cond)
        model.anchor_bias.fill_(2.0)
        after = model(x, sigma, Condition(cond.embedding, cond.activations))
    assert torch.equal(before[:, :-1], after[:, :-1]) and not torch.equal(before, after)
