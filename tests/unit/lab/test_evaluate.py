"""The evaluation: its maths against closed forms and known answers, then one small run of the command."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from fitdiff_core.errors import UserError
from fitdiff_lab.evaluate import coverage, figures, metrics, report
from fitdiff_lab.evaluate import model as evaluate_model
from fitdiff_lab.evaluate.training_latents import training_latents
from fitdiff_lab.train import release
from tests.support.judge import JUDGE
from tests.support.paths import SAMPLE
from tests.support.tiny_networks import HEAD
from tests.support.tiny_training import recognizer, train_autoencoder, train_denoiser

D = torch.float64


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_psnr_of_known_errors():
    a = torch.zeros(3, 4, 4)
    assert metrics.psnr(a, a + 0.1) == pytest.approx(20.0, abs=1e-5)
    # a range of 2 on -1..1 codes and a peak of 1 on the same in 0..1 are one number
    assert metrics.psnr(a - 1, a * 2 - 0.8, 2) == pytest.approx(metrics.psnr(a, a + 0.1), abs=1e-5)
    b = a.clone()
    b[:, 0] = 0.1
    b[:, 1:] = 7.0
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[0] = True
    assert metrics.psnr(a, b, mask=mask) == pytest.approx(20.0, abs=1e-5)


@pytest.mark.parametrize("degrees", [1e-4, 0.5, 30.0, 120.0])
def test_mean_angle_of_known_angles(degrees):
    t = math.radians(degrees)
    a, b = torch.zeros(3, 2, 2, dtype=D), torch.zeros(3, 2, 2, dtype=D)
    a[2], b[2], b[0] = 3.0, math.cos(t), math.sin(t)
    b[:, 1] = torch.tensor([0.0, 1.0, 0.0])[:, None]  # left out by the mask
    mask = torch.tensor([[True, True], [False, False]])
    assert metrics.mean_angle(a, b, mask) == pytest.approx(degrees, rel=1e-6)


def test_frechet_of_known_gaussians():
    # diagonal covariances commute: |m1 - m2|^2 + sum (s1 - s2)^2
    m1, m2 = torch.tensor([1.0, 2.0, 3.0], dtype=D), torch.tensor([1.5, 0.0, 3.0], dtype=D)
    s1, s2 = torch.tensor([1.0, 2.0, 0.5], dtype=D), torch.tensor([3.0, 0.1, 0.5], dtype=D)
    expected = float((m1 - m2).square().sum() + (s1 - s2).square().sum())
    assert metrics.frechet_gaussians(m1, s1.square().diag(), m2, s2.square().diag()) == pytest.approx(
        expected, rel=1e-12
    )
    # rotating space changes nothing, but the matrices are full now
    q = torch.linalg.qr(torch.randn(3, 3, dtype=D, generator=generator())).Q
    turned = [q @ m for m in (m1, m2)], [q @ s.square().diag() @ q.T for s in (s1, s2)]
    (a, b), (c, d) = turned
    assert metrics.frechet_gaussians(a, c, b, d) == pytest.approx(expected, rel=1e-10)


def test_frechet_where_covariances_do_not_commute():
    # in two dimensions tr (AB)^(1/2) = sqrt(tr AB + 2 sqrt(det AB))
    a = torch.tensor([[2.0, 0.6], [0.6, 0.5]], dtype=D)
    b = torch.tensor([[1.0, -0.7], [-0.7, 3.0]], dtype=D)
    assert not torch.allclose(a @ b, b @ a)
    root = math.sqrt(float((a @ b).trace()) + 2 * math.sqrt(float(a.det() * b.det())))
    zero = torch.zeros(2, dtype=D)
    assert metrics.frechet_gaussians(zero, a, zero, b) == pytest.approx(
        float(a.trace() + b.trace()) - 2 * root, rel=1e-12
    )


def test_frechet_of_samples():
    g = generator()
    x = torch.randn(4000, 4, dtype=D, generator=g)
    y = torch.randn(4000, 4, dtype=D, generator=g) * 2 + 1
    assert metrics.frechet(x, x) == pytest.approx(0, abs=1e-9)
    assert metrics.frechet(x, y) == pytest.approx(4 * (1 + 1), rel=0.05)


def test_pca_finds_the_plane():
    g = generator()
    axes = torch.linalg.qr(torch.randn(50, 2, dtype=D, generator=g)).Q.T
    x = 5 + torch.randn(30, 2, dtype=D, generator=g) * torch.tensor([9.0, 2.0], dtype=D) @ axes
    pca = metrics.Pca.fit(x.float(), 2)
    assert torch.allclose(pca.axes @ pca.axes.T, torch.eye(2, dtype=D), atol=1e-9)
    assert torch.allclose(pca(x) @ pca.axes + pca.mean, x, atol=1e-4)
    assert pca(x).var(0)[0] > 5 * pca(x).var(0)[1]
    assert metrics.Pca.fit(x[:3], 64).axes.shape == (2, 50)


def test_nearest_and_pairwise():
    b = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    assert metrics.nearest(torch.tensor([[3.0, 0.0], [3.0, 4.0]]), b).tolist() == [3.0, 0.0]
    d = torch.tensor([[99.0, 1.0, float("nan")], [2.0, 99.0, 3.0], [float("nan"), 6.0, 99.0]])
    assert metrics.pairwise_mean(d) == 3.0


def test_lab_and_ita_of_known_colours():
    white, grey = metrics.lab(torch.ones(3)), metrics.lab(torch.full((3,), 0.18418652))
    assert torch.allclose(white, torch.tensor([100.0, 0, 0], dtype=D), atol=1e-9)
    assert torch.allclose(grey, torch.tensor([50.0, 0, 0], dtype=D), atol=1e-4)
    red = metrics.lab(torch.tensor([1.0, 0.0, 0.0]))
    assert torch.allclose(red, torch.tensor([53.2408, 80.0925, 67.2032], dtype=D), atol=0.02)
    # sRGB (0.8, 0.6, 0.5): L* 66.9, b* 20.1, so atan(16.9 / 20.1)
    skin = metrics.lab(torch.tensor([0.6038, 0.3185, 0.2140]))
    assert metrics.ita(torch.tensor([0.6038, 0.3185, 0.2140])) == pytest.approx(
        math.degrees(math.atan((float(skin[0]) - 50) / float(skin[2]))), abs=1e-9
    )
    assert 35 < float(metrics.ita(torch.tensor([0.6038, 0.3185, 0.2140]))) < 45
    names = [metrics.ita_class(v) for v in (60, 45, 30, 20, 0, -50, -90)]
    assert names == ["very light", "light", "intermediate", "tan", "brown", "dark", "dark"]


def test_rigid_alignment():
    g = generator()
    x = torch.randn(40, 3, dtype=D, generator=g)
    q = torch.linalg.qr(torch.randn(3, 3, dtype=D, generator=g)).Q
    q = q * q.det().sign()  # det +1
    moved = x @ q.T + torch.tensor([3.0, -2.0, 1.0])
    assert metrics.aligned_distance(moved, x) == pytest.approx(0, abs=1e-9)
    assert metrics.aligned_distance(1.3 * moved, x, scale=True) == pytest.approx(0, abs=1e-9)
    centred = x - x.mean(0)
    assert metrics.aligned_distance(1.3 * moved, x) == pytest.approx(float(0.3 * centred.norm(dim=1).mean()), rel=1e-9)
    mirrored = x * torch.tensor([-1.0, 1.0, 1.0])
    assert metrics.aligned_distance(mirrored, x) > 0.1  # no rotation makes a mirror image


def test_likeness_knows_who_is_who():
    truth = torch.eye(4, dtype=D)
    own = truth.clone()
    own[3] = torch.nan  # no face found
    r, each = figures.likeness(own, truth, truth, lambda x, y: (x * y).sum(-1))
    assert r["own"] == r["ceiling"] == r["identified"] == 1 and r["other_person"] == r["other_sample"] == 0
    assert r["chance"] == pytest.approx(1 / 3) and each[:3].tolist() == [1, 1, 1] and bool(each[3].isnan())
    swapped = truth[[1, 0, 2, 3]]
    r, _ = figures.likeness(swapped, truth, truth, lambda x, y: (x * y).sum(-1))
    assert r["own"] == r["identified"] == 0.5


def test_training_latents_must_be_the_checkpoints(tmp_path):
    np.save(tmp_path / "latents.npy", np.arange(90, dtype=np.float16).reshape(5, 2, 3, 3))
    (tmp_path / "meta.json").write_text(json.dumps({"latents_of": [10, 2.5, 5]}))
    model = SimpleNamespace(metadata={"training": {"denoiser": {"latents_of": [10, 2.5, 5]}}})
    train, held_out, words = training_latents(model, None, tmp_path)
    assert train.shape == (4, 18) and held_out[0].tolist() == list(range(72, 90)) and words == "all 4 training textures"
    model.metadata["training"]["denoiser"]["latents_of"] = [11, 2.5, 5]
    with pytest.raises(UserError, match="another autoencoder"):
        training_latents(model, None, tmp_path)


def test_training_textures_encoded_here_are_those_of_train_latents(tmp_path, data):
    from fitdiff_lab.dataset import latents
    from fitdiff_lab.dataset.reading import Textures
    from fitdiff_lab.train import autoencoder

    train_autoencoder(tmp_path / "ae", data)
    latents.encode_textures(Textures(data), autoencoder.load_autoencoder(tmp_path / "ae"), tmp_path, bf16=False)
    stored = torch.from_numpy(np.load(tmp_path / "latents.npy")).flatten(1).float()
    model = SimpleNamespace(autoencoder=autoencoder.load_autoencoder(tmp_path / "ae"))
    train, held_out, words = training_latents(model, data, None)
    assert torch.allclose(torch.cat([train, held_out]), stored, atol=2e-3, rtol=1e-2) and words.startswith("125 of 125")


def test_a_copy_of_the_training_set_is_found():
    g = generator()
    training, fresh = torch.randn(200, 30, generator=g), torch.randn(20, 30, generator=g)

    def heads(latent):
        return SimpleNamespace(latent=latent)

    same = figures.memorisation(heads(training[:20] + 0.01), training, fresh, "test")["nearest_training"]
    new = figures.memorisation(heads(torch.randn(20, 30, generator=g)), training, fresh, "test")["nearest_training"]
    assert same["ratio"] < 0.05 and 0.8 < new["ratio"] < 1.25


def test_release_carries_the_evaluation_of_its_own_weights(tmp_path, data):
    from fitdiff_lab.dataset import latents

    ae, dn, encoded = tmp_path / "ae", tmp_path / "dn", tmp_path / "latents"
    train_autoencoder(ae, data)
    latents.encode(data, ae, encoded, recognizer)
    train_denoiser(dn, encoded, 1)
    path = tmp_path / "fitdiff.safetensors"
    assert "evaluation" not in release.write_release(ae, dn, path, head=HEAD)["training"]

    from fitdiff_core.model.checkpoint import load_model

    model = load_model(path, head=HEAD)
    rows = {"shape": report.figure("shape", "mm", 1.23456, baseline=("mean head", 2.0))}
    results = {
        "weights": release.fingerprint(model.autoencoder, model.denoiser),
        "settings": {"people": 8},
        "figures": rows,
        "groups": {},
    }
    (tmp_path / "results.json").write_text(json.dumps(results))
    metadata = release.write_release(ae, dn, path, head=HEAD, evaluation=tmp_path / "results.json")
    assert metadata["training"]["evaluation"] == {
        "settings": {"people": 8},
        "figures": {"shape": {"model": 1.2346, "baseline": 2.0}},
        "groups": {},
    }
    (tmp_path / "results.json").write_text(json.dumps(results | {"weights": "0" * 12}))
    with pytest.raises(UserError, match="evaluate this checkpoint"):
        release.write_release(ae, dn, path, head=HEAD, evaluation=tmp_path / "results.json")


def test_coverage_counts_everybody():
    text = coverage.table([(60.0, 20.0, 0.9), (60.0, 30.0, 0.9), (-60.0, 80.0, 0.1), (0.0, 50.0, 0.2)])
    rows = {
        line.split("|")[1].strip(): [v.strip() for v in line.split("|")[2:-1]]
        for line in text.splitlines()
        if "|" in line
    }
    assert rows["very light (above 55)"] == ["25", "25", "0", "0", "0", "0", "50"]
    assert rows["dark (up to -30)"] == ["0", "0", "0", "0", "0", "25", "25"]
    assert rows["all tones"][-1] == "100" and "50 % with feminine" in text


@pytest.mark.parametrize(
    "argv, words",
    [
        (["--people", "2"], "at least 6"),
        (["--checkpoint", "nowhere.safetensors"], "No FitDiff weights"),
    ],
)
def test_errors_a_user_can_mend(tmp_path, capsys, argv, words):
    assert evaluate_model.main([*argv, "--out", str(tmp_path), "--threads", "1"]) == 2
    assert words in capsys.readouterr().err


def test_training_seed_is_refused(tmp_path):
    (tmp_path / "settings.json").write_text(json.dumps({"seed": 900, "size": 512}))
    with pytest.raises(UserError, match="another --seed"):
        evaluate_model.evaluate_checkpoint(tmp_path, evaluate_model.Settings(), data=tmp_path)


@pytest.mark.slow
def test_the_command_on_the_shipped_checkpoint(tmp_path, capsys):
    (tmp_path / "judge.py").write_text(JUDGE)
    photos = tmp_path / "photos"
    photos.mkdir()
    with Image.open(SAMPLE) as im:
        im.save(photos / "a.png")
        im.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(photos / "b.png")
    out = tmp_path / "out"
    argv = [
        "--people",
        "6",
        "--steps",
        "2",
        "--threads",
        "1",
        "--judge",
        str(tmp_path / "judge.py"),
        "--photos",
        str(photos),
    ]
    assert evaluate_model.main([*argv, "--out", str(out)]) == 0
    results = json.loads((out / "results.json").read_text())
    f = results["figures"]
    assert all(math.isfinite(row["model"]) for row in f.values())
    for key in ("likeness_recognizer", "likeness_judge"):
        assert f[key]["best"] > f[key]["baseline"]  # the same head in other light is nearer than another head
        assert f[key]["best"] <= 1
    for key in ("diffuse_psnr", "diffuse_skin_psnr", "specular_psnr"):
        assert f[key]["model"] > f[key]["baseline"] > 10  # the autoencoder knows more than the mean map
    assert 0 < f["shape_error_scaled"]["model"] <= f["shape_error"]["model"] < 10
    assert f["shape_error"]["baseline"] < f["shape_error"]["extra"]["another person"]
    assert 0 < f["ita_error"]["baseline"] < f["ita_error"]["extra"]["another person"]
    for key in ("frechet_face", "frechet_latent", "diversity", "identified_judge", "photos_judge", "photos_recognizer"):
        assert key in f
    assert sum(row["people"] for row in results["groups"]["age"].values()) == 6
    assert "nearest_training" not in f  # asks for --data or --latents
    table = (out / "table.md").read_text()
    assert table.strip() in capsys.readouterr().out and all(row["what"] in table for row in f.values())
    for name, width, height in (
        ("samples_renders", 12, 1),
        ("samples_maps", 12, 2),
        ("photos_renders", 4, 1),
        ("photos_private", 8, 1),
    ):
        with Image.open(out / f"{name}.jpg") as sheet:
            assert sheet.size == (width * 256, height * 256)

    from fitdiff_core.pipeline import load_model

    model = load_model()
    assert release.read_evaluation(out / "results.json", release.fingerprint(model.autoencoder, model.denoiser))
