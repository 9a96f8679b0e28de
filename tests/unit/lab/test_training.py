"""From prepared data to a checkpoint: both trainings, the encoding between them, and the release, on tiny networks."""

import json

import numpy as np
import pytest
import torch

from fitdiff_core.errors import UserError
from fitdiff_core.model.autoencoder import AutoencoderConfig, from_codes
from fitdiff_core.model.denoiser import Condition
from fitdiff_lab.dataset import latents
from fitdiff_lab.dataset.reading import People, Textures
from fitdiff_lab.train import autoencoder, denoiser
from fitdiff_lab.train.release import write_release
from fitdiff_lab.train.run import Budget, Run, initial_weights, learning_rate
from tests.support.tiny_networks import AE, DN, HEAD
from tests.support.tiny_training import recognizer, train_autoencoder, train_denoiser


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
    assert torch.allclose(normal.mean(0), torch.zeros(12), atol=1e-4) and torch.allclose(
        normal.std(0), torch.ones(12), atol=1e-3
    )
    layer = torch.from_numpy(people.activations[1].astype(np.float32))
    assert torch.allclose(layer.mean((0, 2, 3)), net.activation_mean_1, atol=1e-3)
    assert torch.allclose(layer.std((0, 2, 3)), net.activation_std_1, atol=1e-3)

    trained = train_denoiser(dn, encoded, 2)
    metadata = write_release(ae, dn, tmp_path / "fitdiff.safetensors", head=HEAD)
    assert (
        metadata["training"]["autoencoder"]["steps"] == 2
        and metadata["training"]["denoiser"]["held_out"]["texture"] > 0
    )

    from fitdiff_core.model.checkpoint import load_model

    shipped = load_model(tmp_path / "fitdiff.safetensors", head=HEAD)
    assert shipped.recognizer == "test"
    x, cond = torch.randn(1, 5, 4, 4), Condition(embedding, activations)
    with torch.no_grad():
        assert torch.allclose(shipped.denoiser(x, torch.ones(1), cond), trained(x, torch.ones(1), cond), atol=1e-2)

    other = tmp_path / "other"
    train_autoencoder(other, data, steps=3)
    with pytest.raises(UserError, match="another autoencoder"):
        write_release(other, dn, tmp_path / "x.safetensors", head=HEAD)


def same(a, b):
    a, b = (dict(m.state_dict()) for m in (a, b))
    return {k for k in a if torch.equal(a[k], b[k])}, {k for k in a if not torch.equal(a[k], b[k])}


def test_a_run_begins_with_the_weights_of_another(tmp_path, data):
    old = train_autoencoder(tmp_path / "old", data)
    initial = initial_weights(tmp_path / "old", "autoencoder")
    assert initial.record["from"] == "old" and initial.record["steps"] == 2 and len(initial.record["id"]) == 12
    begun = train_autoencoder(tmp_path / "still", data, steps=1, lr=0.0, initial=initial)
    assert not same(old, begun)[1]
    trained = train_autoencoder(tmp_path / "new", data, initial=initial)
    assert len(same(old, trained)[1]) > 10
    status = Run(tmp_path / "new", {}).load()[1]
    assert status["step"] == 2
    # a run that has begun goes on with its own weights
    assert not same(trained, train_autoencoder(tmp_path / "new", data, initial=initial))[1]

    small = autoencoder.MapAutoencoder(AutoencoderConfig(**{**AE.__dict__, "head": 4}))
    with pytest.raises(UserError, match="old does not fit"):
        initial.load_into(small)
    with pytest.raises(UserError, match="--init"):
        initial_weights(tmp_path / "nowhere", "autoencoder")


def test_a_frozen_encoder_keeps_its_latents(tmp_path, data, capsys):
    ae, dn, encoded = tmp_path / "ae", tmp_path / "dn", tmp_path / "latents"
    assert (
        autoencoder.main(["--data", str(data), "--out", str(tmp_path / "x"), "--steps", "1", "--freeze-encoder"]) == 2
    )
    assert "--init" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
    old = train_autoencoder(ae, data)
    latents.encode(data, ae, encoded, recognizer)
    train_denoiser(dn, encoded, 1)
    write_release(ae, dn, tmp_path / "fitdiff.safetensors", head=HEAD)

    for source in (ae, tmp_path / "fitdiff.safetensors"):
        out = tmp_path / f"of_{source.name}"
        initial = initial_weights(source, "autoencoder")
        new = train_autoencoder(out, data, steps=3, initial=initial, freeze_encoder=True)
        start = autoencoder.MapAutoencoder(AE)
        initial.load_into(start)
        kept, changed = same(start, new)
        assert {k.split(".")[0] for k in changed} == {"decoder"}
        assert {k for k in kept if k.startswith("decoder")} == {"decoder.grain_quarter", "decoder.grain_half"}
        codes = Textures(data).codes(torch.arange(2))
        assert torch.allclose(new.posterior_mean(codes), old.posterior_mean(codes), atol=5e-3)
        # neither the latents nor the denoiser trained on them need to be made again
        before = (encoded / "latents.npy").stat().st_mtime_ns
        latents.encode(data, out, encoded, recognizer)
        assert (encoded / "latents.npy").stat().st_mtime_ns == before
        metadata = write_release(out, dn, tmp_path / "again.safetensors", head=HEAD)
        assert metadata["training"]["autoencoder"]["steps"] == 3


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
    train_autoencoder(run.folder, data, budget=InterruptedAfterOneStep(steps=5))
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
