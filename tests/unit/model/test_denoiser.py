"""The denoiser, what it does with a condition, and its training loop, on a small configuration."""

import json

import numpy as np
import pytest
import torch

from fitdiff_core.errors import UserError
from fitdiff_core.model.denoiser import Condition, Denoiser, DenoiserConfig, pack_latent, unpack_latent
from fitdiff_lab.dataset.reading import People
from fitdiff_lab.train import denoiser as training
from fitdiff_lab.train.run import Budget, Run

TINY = DenoiserConfig(
    latent=4,
    size=8,
    shape=10,
    embedding=12,
    activations=(4, 6, 8),
    widths=(16, 32, 32),
    heads=(2, 2),
    cond=16,
    emb=32,
    mlp=32,
)


def condition(n=1, seed=0):
    g = torch.Generator().manual_seed(seed)
    sizes = ((4, 9), (6, 5), (8, 3))
    return Condition(torch.randn(n, 12, generator=g), tuple(torch.randn(n, c, s, s, generator=g) for c, s in sizes))


@pytest.fixture
def model():
    """With random weights where training starts from zero, so that every path matters."""
    torch.manual_seed(0)
    model = Denoiser(TINY)
    for p in model.parameters():
        if not p.any():
            torch.nn.init.normal_(p, std=0.1)
    return model.eval()


def noisy(n=2, seed=1):
    return torch.randn(n, *Denoiser(TINY).latent_shape, generator=torch.Generator().manual_seed(seed))


def test_pack_round_trip():
    texture, shape = torch.randn(3, 4, 8, 8), torch.randn(3, 10)
    x = pack_latent(texture, shape)
    assert x.shape == (3, 5, 8, 8) and (x[:, -1].flatten(1)[:, 10:] == 0).all()
    back = unpack_latent(x, 10)
    assert torch.equal(back[0], texture) and torch.equal(back[1], shape)
    with pytest.raises(UserError, match="does not fit"):
        pack_latent(texture, torch.zeros(3, 65))


def test_untrained_network_returns_c_skip_x():
    x, sigma = noisy(), torch.tensor([0.5, 4.0])
    texture, shape = unpack_latent(x / (1 + sigma.view(-1, 1, 1, 1) ** 2), TINY.shape)
    out = Denoiser(TINY).eval()(x, sigma, condition())
    assert torch.allclose(out, pack_latent(texture, shape), atol=1e-6)


def test_condition_changes_texture_and_shape(model):
    x, sigma = noisy(), torch.ones(2)
    a, b, null = (unpack_latent(model(x, sigma, c), 10) for c in (condition(2, 3), condition(2, 4), None))
    for i in (0, 1):
        assert (a[i] - b[i]).abs().max() > 1e-3 and (a[i] - null[i]).abs().max() > 1e-3


def test_each_part_of_the_condition_matters(model):
    x, sigma, c = noisy(1), torch.ones(1), condition()
    base = model(x, sigma, c)
    for i in range(3):
        layers = tuple(a + (j == i) for j, a in enumerate(c.activations))
        assert (model(x, sigma, Condition(c.embedding, layers)) - base).abs().max() > 1e-4
    assert (model(x, sigma, Condition(c.embedding + 1, c.activations)) - base).abs().max() > 1e-4


def test_guidance_scale_extrapolates_from_the_null_condition(model):
    x, sigma, c = noisy(), torch.tensor([0.3, 3.0]), condition(2)
    null, full = model(x, sigma), model(x, sigma, c)
    assert torch.allclose(model(x, sigma, c, 2.5), null + 2.5 * (full - null), atol=1e-5)
    assert torch.equal(model(x, sigma, c, 0.0), null)


def test_dropped_entries_see_the_null_condition(model):
    x, sigma, c = noisy(), torch.ones(2), condition(2)
    model.train()
    out = model(x, sigma, c, drop=torch.tensor([True, False]))
    assert torch.allclose(out[0], model(x, sigma)[0], atol=1e-5)
    assert torch.allclose(out[1], model(x, sigma, c)[1], atol=1e-5)


def test_one_condition_serves_a_batch_and_is_prepared_once(model):
    x, sigma, c = noisy(), torch.ones(2), condition(1)
    out = model(x, sigma, c)
    twice = Condition(c.embedding.expand(2, -1), tuple(a.expand(2, -1, -1, -1) for a in c.activations))
    assert torch.allclose(out, model(x, sigma, twice), atol=1e-5)
    prepared = c.prepared[1]
    model(x, sigma, c)
    assert c.prepared[1] is prepared


def test_a_condition_is_prepared_anew_for_another_model(model):
    other, c = Denoiser(TINY).eval(), condition()
    x, sigma = noisy(1), torch.ones(1)
    model(x, sigma, c)
    assert torch.equal(other(x, sigma, c), other(x, sigma, condition()))


def test_a_condition_prepared_in_inference_mode_still_lets_gradients_through(model):
    c = condition()
    with torch.inference_mode():
        model(noisy(1), torch.ones(1), c)
    x = noisy(1).requires_grad_()
    model(x, torch.ones(1), c).square().sum().backward()
    assert x.grad.abs().sum() > 0


def test_batch_entries_do_not_mix(model):
    x, sigma, c = noisy(3), torch.tensor([0.1, 1.0, 10.0]), condition(3)
    one = Condition(c.embedding[1:2], tuple(a[1:2] for a in c.activations))
    assert torch.allclose(model(x, sigma, c)[1:2], model(x[1:2], sigma[1:2], one), atol=1e-5)


def test_gradient_reaches_every_parameter(model):
    model.train()
    drop = torch.tensor([True, False])
    model(noisy(), torch.ones(2), condition(2), drop=drop).square().sum().backward()
    assert [n for n, p in model.net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
    assert all(p.grad is None for p in model.reader.parameters())  # trained by train.shape_encoder only


def test_features_of_another_recogniser_are_refused(model):
    c = condition()
    for other in (Condition(torch.zeros(1, 512), c.activations), Condition(c.embedding, c.activations[:2])):
        with pytest.raises(UserError, match="recogniser"):
            model(noisy(1), torch.ones(1), other)


def test_element_weights_average_both_parts():
    w = training.element_weights(TINY, 0.3)
    error = pack_latent(torch.full((1, 4, 8, 8), 2.0), torch.full((1, 10), 5.0))
    assert float((w * error).mean()) == pytest.approx(0.7 * 2 + 0.3 * 5)


@pytest.fixture
def people(tmp_path):
    """Five people with three textures; the last texture is held out."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "latents.npy", rng.standard_normal((3, 4, 8, 8)).astype(np.float16))
    np.save(tmp_path / "texture.npy", np.array([0, 1, 0, 1, 2]))
    np.save(tmp_path / "shape.npy", rng.standard_normal((5, 10)).astype(np.float32))
    c = condition(5)
    np.save(tmp_path / "embedding.npy", c.embedding.numpy())
    for i, a in enumerate(c.activations):
        np.save(tmp_path / f"activation_{i}.npy", a.half().numpy())
    meta = {
        "recognizer": "test",
        "layers": 3,
        "embedding_mean": [0.0] * 12,
        "embedding_std": [1.0] * 12,
        "activation_mean": [[0.0] * a.shape[1] for a in c.activations],
        "activation_std": [[2.0] * a.shape[1] for a in c.activations],
        "latents_of": [1, 2.0, 3],
        "features_of": ["test", 5],
    }
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    return People(tmp_path)


def fit(folder, data, steps, of=None, lr=1e-3, batch=4, **options):
    budget = Budget(steps=of or steps)
    budget.over = lambda step: step >= steps
    return training.train(
        Run(folder, {}), data, budget, TINY, training.DenoiserOptions(lr, batch, bf16=False, **options)
    )


def test_held_out_people_share_no_texture_with_the_others(people):
    assert people.train.tolist() == [0, 1, 2, 3] and people.test.tolist() == [4]


def test_training_resumes_bit_exactly(tmp_path, people):
    one = fit(tmp_path / "one", people, 4)
    fit(tmp_path / "two", people, 2, of=4)
    two = fit(tmp_path / "two", people, 4)
    for name, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[name]), name
    loaded, status = training.load_denoiser(tmp_path / "two")
    assert status["recognizer"] == "test" and status["step"] == 4
    assert torch.equal(loaded.net.stem.weight, two.net.stem.weight)
    assert torch.equal(loaded.activation_std_1, torch.full((6,), 2.0))


@pytest.mark.parametrize(("steps", "times"), [(60, 2), pytest.param(400, 10, marks=pytest.mark.slow)])
def test_overfits_a_handful_of_people(tmp_path, people, steps, times):
    data = people
    options = training.TrainConfig(dropout=0.0, feature_noise=0.0)
    weight = training.element_weights(TINY, options.shape)

    def loss(model):
        return float(training.step_loss(model, data, options, weight, 256, torch.Generator().manual_seed(5)).detach())

    before = loss(training.new_denoiser(TINY, data.meta))
    after = loss(fit(tmp_path / "run", data, steps, lr=4e-3, batch=16, loss=options))
    assert after < before / times, (before, after)


def test_a_run_begins_with_the_weights_that_fit(tmp_path, people, model):
    from fitdiff_lab.train.run import Initial

    weights = {k: v for k, v in model.state_dict().items() if k != "net.stem.weight"}
    start = training.new_denoiser(TINY, people.meta)
    training.begin_with(start, Initial(weights, {}, {"from": "other"}))
    assert torch.equal(start.net.position, model.net.position)
    assert torch.equal(start.net.out.weight, model.net.out.weight)  # along the same modes
    assert torch.equal(start.activation_std_1, torch.full((6,), 2.0))
    start = training.new_denoiser(TINY, people.meta)
    start.prior.modes[0, 0] = 1.0
    training.begin_with(start, Initial(weights, {}, {"from": "other"}))
    assert torch.equal(start.net.position, model.net.position) and not start.net.out.weight.any()
    with pytest.raises(UserError, match="another architecture"):
        training.begin_with(start, Initial({"net.stem.bias": weights["net.stem.bias"]}, {}, {"from": "other"}))


def test_the_plane_fusion_mixes_shape_and_texture_too(people):
    from fitdiff_lab.experiments.fusion import PlaneDenoiser

    torch.manual_seed(0)
    model = training.new_denoiser(TINY, people.meta, PlaneDenoiser).eval()
    torch.nn.init.normal_(model.net.out.weight, std=0.1)
    x, sigma = noisy(1), torch.ones(1)
    moved = x.clone()
    moved[:, -1, 0, 0] += 1
    a, b = (unpack_latent(model(v, sigma), 10) for v in (x, moved))
    assert (a[0] - b[0]).abs().max() > 1e-4 and (a[1] - b[1]).abs().max() > 1e-4
