"""From prepared data to a checkpoint: both trainings, the encoding between them, and the release, on tiny networks."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from fitdiff_core.autoencoder import AutoencoderConfig, from_codes
from fitdiff_core.denoiser import Condition, DenoiserConfig
from fitdiff_core.errors import UserError
from fitdiff_core.train import autoencoder, denoiser, latents
from fitdiff_core.train.common import Budget, Run, learning_rate
from fitdiff_core.train.dataset import People, Textures
from fitdiff_core.train.prepare import SHARD
from fitdiff_core.train.release import release

torch.set_num_threads(1)
AE = AutoencoderConfig(size=64, latent=4, widths=(8, 16, 16), blocks=(1, 1, 1), head=8, detail=4)
DN = DenoiserConfig(latent=4, size=4, shape=10, embedding=12, activations=(4, 6, 8), widths=(16, 32, 32), heads=(2, 2),
                    cond=16, emb=32, mlp=32)
HEAD = SimpleNamespace(atlas_version="a1", n_identity=10, to=lambda device: None)


def recognizer(crop):
    """Deterministic features of a crop [B, 3, 30, 30]."""
    layers = [F.adaptive_avg_pool2d(crop, s).repeat(1, 3, 1, 1)[:, :c] for c, s in zip((4, 6, 8), (9, 5, 3), strict=True)]
    return SimpleNamespace(embedding=F.normalize(F.adaptive_avg_pool2d(crop, 2).flatten(1), dim=1), activations=tuple(layers))


recognizer.name = "test"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    g = torch.Generator().manual_seed(0)
    maps = F.interpolate(torch.rand(SHARD, 9, 4, 4, generator=g) * 255, (64, 64), mode="bilinear")
    save_file({"maps": maps.byte()}, folder / "textures-00000.safetensors")
    people = {"texture": torch.randint(SHARD, (SHARD,), generator=g), "shape": torch.randn(SHARD, 10, generator=g).half(),
              "crop": torch.randint(256, (SHARD, 3, 30, 30), generator=g, dtype=torch.uint8)}
    save_file(people, folder / "people-00000.safetensors")
    return folder


def train_autoencoder(folder, data, steps=2):
    autoencoder.train(Run(folder, {}), Textures(data), Budget(steps=steps), torch.ones(1, 64, 64), AE, lr=1e-3, batch=2,
                      cells=2, bf16=False)


def test_from_data_to_checkpoint(tmp_path, data):
    ae, dn, encoded = tmp_path / "ae", tmp_path / "dn", tmp_path / "latents"
    latents.encode(data, ae, encoded, recognizer, only="features")
    with pytest.raises(UserError, match="half made"):
        People(encoded)
    train_autoencoder(ae, data)
    latents.encode(data, ae, encoded, recognizer)

    people = People(encoded)
    texture, shape, embedding, activations = people.batch(np.array([7]))
    model, textures = autoencoder.load_autoencoder(ae), Textures(data)
    row = torch.tensor([people.texture[7]])
    assert torch.allclose(texture, model.encode(from_codes(textures.codes(row))), atol=0.05)
    assert shape.shape == (1, 10) and embedding.shape == (1, 12)
    net = denoiser.new_denoiser(DN, people.meta)
    normal = (torch.from_numpy(people.embedding) - net.embedding_mean) / net.embedding_std
    assert torch.allclose(normal.mean(0), torch.zeros(12), atol=1e-4) and torch.allclose(normal.std(0), torch.ones(12), atol=1e-3)
    layer = torch.from_numpy(people.activations[1].astype(np.float32))
    assert torch.allclose(layer.mean((0, 2, 3)), net.activation_mean_1, atol=1e-3)
    assert torch.allclose(layer.std((0, 2, 3)), net.activation_std_1, atol=1e-3)

    run = Run(dn, {"latents_of": people.meta["latents_of"]})
    trained = denoiser.train(run, people, Budget(steps=2), DN, lr=1e-3, batch=2, bf16=False)
    metadata = release(ae, dn, tmp_path / "fitdiff.safetensors", head=HEAD)
    assert metadata["training"]["autoencoder"]["steps"] == 2 and metadata["training"]["denoiser"]["held_out"]["texture"] > 0

    from fitdiff_core.checkpoint import load_model

    shipped = load_model(tmp_path / "fitdiff.safetensors", head=HEAD)
    assert shipped.recognizer == "test"
    x, cond = torch.randn(1, 5, 4, 4), Condition(embedding, activations)
    with torch.no_grad():
        assert torch.allclose(shipped.denoiser(x, torch.ones(1), cond), trained(x, torch.ones(1), cond), atol=1e-2)

    other = tmp_path / "other"
    train_autoencoder(other, data, steps=3)
    with pytest.raises(UserError, match="another autoencoder"):
        release(other, dn, tmp_path / "x.safetensors", head=HEAD)


def test_encoding_again_changes_nothing(tmp_path, data):
    ae, out = tmp_path / "ae", tmp_path / "latents"
    train_autoencoder(ae, data)
    latents.encode(data, ae, out, recognizer)
    before = {p.name: p.stat().st_mtime_ns for p in out.iterdir() if p.name.startswith(("latents", "activation"))}
    latents.encode(data, ae, out, recognizer)
    assert before == {name: (out / name).stat().st_mtime_ns for name in before}


class InterruptedAfterOneStep(Budget):
    def over(self, step):
        if step == 1:
            self._interrupt()
        return super().over(step)


def test_an_interrupted_run_saves_and_goes_on(tmp_path, data):
    run = Run(tmp_path / "ae", {})
    autoencoder.train(run, Textures(data), InterruptedAfterOneStep(steps=5), torch.ones(1, 64, 64), AE, lr=1e-3, batch=2,
                      cells=2, bf16=False)
    assert run.load()[1]["step"] == 1
    with pytest.raises(UserError, match="not finished"):
        autoencoder.load_autoencoder(run.folder)
    train_autoencoder(run.folder, data)
    assert run.load()[1]["step"] == 2 and autoencoder.load_autoencoder(run.folder).config == AE


def test_budget_and_learning_rate():
    with pytest.raises(UserError, match="--minutes"):
        Budget()
    assert Budget(steps=4).over(4) and not Budget(steps=4).over(3)
    spent = Budget(minutes=1, spent=61)
    assert spent.over(0) and spent.progress(0) == 1
    assert learning_rate(1.0, 0, 0.0) == pytest.approx(1 / 60) and learning_rate(1.0, 500, 0.2) == 1
    assert learning_rate(1.0, 500, 1.0) == pytest.approx(0.02)


def test_log_starts_a_new_header_for_new_columns(tmp_path):
    run = Run(tmp_path, {"a": 1})
    run.log(step=1, x=0.5)
    run.log(step=2, x=0.25)
    run.log(step=3, y=1.0)
    assert (tmp_path / "log.csv").read_text().split() == ["step,x", "1,0.5", "2,0.25", "step,y", "3,1"]
    assert json.loads((tmp_path / "config.json").read_text()) == {"a": 1}
