"""The map autoencoder and its training loop, on a small configuration."""

import json
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from fitdiff_core.errors import UserError
from fitdiff_core.head.teeth import patch_mask
from fitdiff_core.model.autoencoder import AutoencoderConfig, MapAutoencoder, from_codes, remove_spikes, to_codes
from fitdiff_lab.dataset.reading import Textures
from fitdiff_lab.dataset.shards import SHARD, encode_maps
from fitdiff_lab.experiments.quantiser import QuantisedAutoencoder, Quantiser, QuantiserConfig
from fitdiff_lab.train import autoencoder as training
from fitdiff_lab.train import autoencoder_losses
from fitdiff_lab.train.run import Budget, Run

TINY = AutoencoderConfig(size=64, latent=4, widths=(8, 16, 16), blocks=(1, 1, 1), head=8, detail=4)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return MapAutoencoder(TINY)


def random_maps(n=2, size=64, seed=0):
    g = torch.Generator().manual_seed(seed)
    albedo = F.interpolate(torch.rand(n, 6, 8, 8, generator=g), (size, size), mode="bicubic").clamp(0, 1)
    slope = F.interpolate(torch.randn(n, 2, 8, 8, generator=g) * 0.2, (size, size), mode="bilinear")
    return torch.cat([albedo, F.normalize(torch.cat([slope, torch.ones(n, 1, size, size)], 1), dim=1)], 1)


def test_codes_round_trip():
    maps = random_maps()
    assert torch.allclose(from_codes(to_codes(maps)), maps, atol=1e-6)
    assert to_codes(maps).abs().max() <= 1


def test_latents_and_maps_have_the_promised_shapes(model):
    z = model.encode(random_maps())
    assert z.shape == (2, 4, 4, 4)
    assert model.decode(z).shape == (2, 9, 64, 64)
    assert model.decode(z, 32).shape == (2, 9, 32, 32)


def test_shrinking_the_large_image_gives_the_small_one(model):
    model.map_mean.copy_(to_codes(random_maps(1))[0])
    z = torch.randn(1, 4, 4, 4)
    large, small = to_codes(model.decode(z)), to_codes(model.decode(z, 32))
    inside = (small[:, :6] > -0.99).all(1, keepdim=True) & (F.max_pool2d(-large[:, :6], 2) < 0.99).all(1, keepdim=True)
    teeth = (
        F.max_pool2d(patch_mask(64)[None, None].float(), 2) > 0
    )  # its edges fall between the texels of so small an atlas
    inside &= ~(teeth | patch_mask(32))
    assert inside.any()
    assert ((F.avg_pool2d(large, 2) - small).abs() * inside).max() < 1e-5


def test_the_latent_holds_no_teeth(model):
    maps = random_maps()
    other = torch.where(patch_mask(64), 1 - maps, maps)
    assert not torch.equal(other, maps) and torch.equal(model.encode(other), model.encode(maps))
    assert not torch.equal(model.encode(1 - maps), model.encode(maps))


def test_albedo_is_not_negative_and_decode_is_deterministic(model):
    z = 5 * torch.randn(1, 4, 4, 4)
    assert model.decode(z)[:, :6].min() >= 0
    assert torch.equal(model.decode(z), model.decode(z))


def test_gradient_reaches_the_latent_and_every_parameter(model):
    z = torch.randn(1, 4, 4, 4, requires_grad=True)
    model.decode(z, 32).square().sum().backward()
    assert torch.isfinite(z.grad).all() and z.grad.abs().min() > 0
    r = model(to_codes(random_maps()), noise=torch.randn(2, 4, 4, 4))
    (r.full.square().mean() + r.half.square().mean()).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_crops_know_where_they_are():
    """A window of the atlas decodes like the atlas there, away from the cut."""
    model = MapAutoencoder(AutoencoderConfig(**{**TINY.__dict__, "size": 256}))
    torch.nn.init.normal_(model.decoder.position)
    model.map_mean.normal_()
    z = torch.randn(1, 4, 16, 16)
    full, half = model._decode(z, None, detail=True)
    crop, crop_half = model._decode(z[:, :, 1:, 2:], torch.tensor([[1, 2]]), detail=True)
    assert torch.allclose(crop[..., 96:, 96:], full[..., 112:, 128:], atol=1e-5)
    assert torch.allclose(crop_half[..., 48:, 48:], half[..., 56:, 64:], atol=1e-5)
    elsewhere, _ = model._decode(z[:, :, 1:, 2:], torch.tensor([[0, 0]]), detail=True)
    assert not torch.allclose(elsewhere[..., 96:, 96:], full[..., 112:, 128:], atol=1e-2)


def test_wrong_sizes_say_what_is_wrong(model):
    with pytest.raises(UserError, match="resize"):
        model.encode(torch.zeros(1, 9, 32, 32))
    with pytest.raises(UserError, match="another model"):
        model.decode(torch.zeros(1, 5, 4, 4))
    with pytest.raises(UserError, match="not 48"):
        model.decode(torch.zeros(1, 4, 4, 4), 48)


def test_grain_loss_prefers_detail_in_the_wrong_place_to_none():
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 1, 9, 64, 64, generator=g)

    def distance(x):
        return (autoencoder_losses.local_energy(x) - autoencoder_losses.local_energy(a)).abs().mean()

    assert distance(b) < 0.2 * distance(torch.zeros_like(a))


def test_texel_weights_favour_the_face():
    masks = {"skin": torch.ones(512, 512), "face": F.pad(torch.ones(256, 256), (128,) * 4)}
    head = SimpleNamespace(region_names=tuple(masks), region=lambda name, size: masks[name])
    w = training.texel_weights(head)
    assert w.shape == (1, 512, 512) and w.mean().item() == pytest.approx(1, abs=1e-5)
    assert w[0, 256, 256] > 2 * w[0, 0, 0]


@pytest.fixture
def textures(tmp_path):
    n = 4  # of one shard's rows; the others repeat them
    rows = torch.arange(SHARD) % n
    save_file({"maps": encode_maps(random_maps(n, seed=1))[rows].contiguous()}, tmp_path / "textures-00000.safetensors")
    return Textures(tmp_path)


def test_textures_are_read_as_codes(textures):
    codes = textures.codes(torch.tensor([0, 5]))
    assert torch.allclose(codes, to_codes(random_maps(4, seed=1))[[0, 1]], atol=1 / 127)
    window = textures.codes(torch.tensor([0, 5]), torch.tensor([[16, 0], [32, 16]]), 32)
    assert torch.equal(window[1], codes[1, :, 32:64, 16:48])
    assert len(textures) == SHARD and 0 < textures.n_train < SHARD


def fit(folder, data, steps, of=None, **options):
    """Train `steps` steps of a run of `of` steps."""
    run = Run(folder, {})
    budget = Budget(steps=of or steps)
    budget.over = lambda step: step >= steps
    budget.interrupted = of is not None  # the latent's statistics are those of a finished run
    torch.manual_seed(1)
    options = training.AutoencoderOptions(batch=4, cells=2, bf16=False, **options)
    return training.train(run, data, budget, torch.ones(1, 64, 64), TINY, options)


VQ = QuantiserConfig(codes=8, groups=2)


@pytest.mark.parametrize("quantiser", [None, VQ])
def test_training_learns_resumes_bit_exactly_and_records(tmp_path, textures, quantiser):
    one = fit(tmp_path / "one", textures, 4, lr=1e-3, quantiser=quantiser)
    fit(tmp_path / "two", textures, 2, of=4, lr=1e-3, quantiser=quantiser)
    two = fit(tmp_path / "two", textures, 4, lr=1e-3, quantiser=quantiser)
    for name, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[name]), name
    log = (tmp_path / "two" / "log.csv").read_text().splitlines()
    assert log[0].startswith("step,minutes,lr,loss") and [r.split(",")[0] for r in log[1:]] == ["2", "4"]
    assert {"psnr_diffuse", "psnr_specular", "psnr_normal"} < set(log[0].split(","))
    if quantiser:
        assert log[0].endswith(",perplexity") and 1 <= float(log[-1].split(",")[-1]) <= 8
        with pytest.raises(UserError, match="without --codebook"):
            training.load_autoencoder(tmp_path / "one")
        return
    loaded = training.load_autoencoder(tmp_path / "one")
    z = loaded.encode(from_codes(textures.codes(torch.arange(4))))
    assert torch.allclose(z.std((0, 2, 3)), torch.ones(4), atol=0.1)


def test_codes_are_the_nearest_and_gradients_pass_straight_through(textures):
    torch.manual_seed(0)
    model = QuantisedAutoencoder(TINY, VQ).train()
    codes = textures.codes(torch.arange(3))
    first = model(codes)
    model.eval()
    mean = model._posterior(codes, None)[0]
    code = model.quantiser(mean)
    book = model.quantiser.codebook
    for g in range(2):
        rows = mean[:, 2 * g : 2 * g + 2].permute(0, 2, 3, 1).reshape(-1, 2)
        distance = torch.cdist(rows, book[g])
        wanted = book[g][distance.argmin(1)].reshape(3, 4, 4, 2).permute(0, 3, 1, 2)
        assert torch.allclose(code[:, 2 * g : 2 * g + 2], wanted)
    r = model(codes)
    assert torch.allclose(r.full, model._decode(code, None, detail=True)[0], atol=1e-5)
    assert r.commitment.item() == pytest.approx(0.25 * (mean - code).square().mean().item(), rel=1e-5)
    assert first.full.shape == codes.shape
    r.full.square().mean().backward()
    weight = model.encoder.tail[2].weight.grad
    assert weight[:4].abs().sum() > 0 and not weight[4:].any()  # the variance is not used


def test_codes_find_the_clusters_and_unused_ones_move():
    """Eight far clusters, all codes begun on the first of them: each cluster gets a code."""
    g = torch.Generator().manual_seed(0)
    centres = 10 * torch.randn(8, 2, generator=g)
    q = Quantiser(QuantiserConfig(codes=16, decay=0.8, dead=0.3), 2).train()

    def batch(upto):
        which = torch.randint(upto, (1, 16, 16), generator=g)
        return (centres[which] + 0.05 * torch.randn(1, 16, 16, 2, generator=g)).permute(0, 3, 1, 2)

    q(batch(1))
    q.eval()
    z = batch(8)
    assert (q(z) - z).square().mean() > 10
    q.train()
    for _ in range(60):
        q(batch(8))
    q.eval()
    z = batch(8)
    assert (q(z) - z).square().mean() < 0.02
    assert len(q.nearest(z)[1].unique()) >= 8


def test_groups_that_do_not_divide_the_latent_are_refused():
    with pytest.raises(UserError, match="4 channels"):
        QuantisedAutoencoder(TINY, QuantiserConfig(codes=8, groups=3))


@pytest.mark.parametrize("quantiser", [None, QuantiserConfig(codes=32, groups=2)])
def test_overfits_a_few_textures(tmp_path, textures, quantiser):
    model = MapAutoencoder(TINY)
    training.set_map_statistics(model, textures)
    before = training.held_out_psnr(model, textures)  # the held-out rows repeat the training rows here
    after = training.held_out_psnr(fit(tmp_path / "run", textures, 300, lr=3e-3, quantiser=quantiser), textures)
    assert after["diffuse"] > before["diffuse"] + 3 and after["normal"] > before["normal"] + 1.5, (before, after)


def test_unfinished_or_foreign_runs_are_refused(tmp_path):
    with pytest.raises(UserError, match="train first"):
        training.load_autoencoder(tmp_path)
    Run(tmp_path, {"lr": 1}).save({"model.x": torch.zeros(1)}, step=1, finished=False)
    with pytest.raises(UserError, match="not finished"):
        training.load_autoencoder(tmp_path)
    with pytest.raises(UserError, match="lr"):
        Run(tmp_path, {"lr": 2})
    assert json.loads((tmp_path / "config.json").read_text()) == {"lr": 1}
    (tmp_path / "state.safetensors").write_bytes(b"broken")
    with pytest.raises(UserError, match="not a readable"):
        Run(tmp_path, {"lr": 1}).load()


def test_a_shrunk_latent_lies_between_the_mean_latent_and_its_own():
    torch.manual_seed(0)
    model = MapAutoencoder(TINY).eval()
    model.latent_mean.normal_()
    codes = torch.rand(3, 9, TINY.size, TINY.size)
    with torch.no_grad():
        whole, out = model(codes), model(codes, keep=torch.tensor([1.0, 0.0, 0.0]))
    assert torch.allclose(out.full[0], whole.full[0], atol=1e-5)
    assert torch.allclose(out.full[1], out.full[2], atol=1e-5) and not torch.allclose(
        out.full[1], whole.full[1], atol=1e-3
    )


def test_a_share_of_the_latents_is_shrunk():
    keep = torch.cat([training.draw_shrink(50, step, 0, 0.3) for step in range(40)])
    assert 0.25 < float((keep < 1).float().mean()) < 0.35 and float(keep.min()) < 0.05
    assert torch.equal(training.draw_shrink(4, 7, 0, 0.3), training.draw_shrink(4, 7, 0, 0.3))


def test_spikes_in_the_middle_of_cell_edges_are_taken_off_the_normals_and_nothing_else():
    g = torch.Generator().manual_seed(0)
    maps = torch.rand(2, 9, 64, 64, generator=g)
    maps[:, 6:8] = 0.01 * torch.randn(2, 2, 64, 64, generator=g)
    smooth = maps.clone()
    assert torch.equal(remove_spikes(smooth), smooth)
    spikes = [
        (slice(15, 17), slice(7, 9)),
        (slice(7, 9), slice(31, 33)),
        (slice(0, 1), slice(39, 41)),
        (slice(23, 25), slice(0, 1)),
    ]
    for rows, columns in spikes:
        maps[:, 6, rows, columns] = 0.4
    out = remove_spikes(maps)
    for rows, columns in spikes:
        assert out[:, 6, rows, columns].abs().max() < 0.02
    changed = (out != smooth).any(1)
    for rows, columns in spikes:
        changed[:, rows, columns] = False
    assert not changed.any() and torch.equal(out[:, :6], maps[:, :6])
    maps[:, 6, 20:22, 20:22] = 0.4  # elsewhere it is detail
    assert torch.equal(remove_spikes(maps)[:, 6, 20:22, 20:22], maps[:, 6, 20:22, 20:22])
