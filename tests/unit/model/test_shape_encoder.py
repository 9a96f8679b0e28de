"""The shape encoder: its training data, that it learns, and what the prior gets from it and from a mirrored photo."""

from types import SimpleNamespace

import pytest
import torch

from fitdiff_core.errors import UserError
from fitdiff_core.identity import Features, PhotoFeatures
from fitdiff_core.model.denoiser import Condition, Denoiser, DenoiserConfig
from fitdiff_lab.evaluate.metrics import aligned_distance
from fitdiff_lab.train import denoiser, shape_encoder
from fitdiff_lab.train.run import Budget, Run
from fitdiff_lab.train.symmetry import mirror_matrix

STILL = shape_encoder.Augmentation(
    scale=0, turn=0, shift=0, gamma=0, gain=0, tint=0, noise=0, blurred=0, covered=0, dropout=0
)
TINY = DenoiserConfig(
    latent=4,
    size=4,
    shape=2,
    embedding=6,
    activations=(3, 3, 3),
    widths=(16, 16, 16),
    heads=(1, 1),
    cond=8,
    emb=16,
    mlp=16,
    modes=2,
    cells=(2, 1, 2),
    reader=(8, 8, 8, 16),
)


@pytest.mark.slow
def test_mirrored_coefficients_give_the_mirrored_head(head):
    shape = torch.randn(4, head.n_identity, generator=torch.Generator().manual_seed(0))
    there, back = head(shape), head(shape @ mirror_matrix(head)) * torch.tensor([-1.0, 1.0, 1.0])
    face = (head.vertex_region("face") > 0.5).nonzero()[:, 0]
    off = torch.stack([torch.cdist(a[face], b[face]).min(1).values for a, b in zip(there, back, strict=True)])
    plain = torch.stack(
        [
            torch.cdist(a[face] * torch.tensor([-1.0, 1.0, 1.0]), b[face]).min(1).values
            for a, b in zip(there, there, strict=True)
        ]
    )
    assert off.mean() < 4e-4 < plain.mean()  # m; vertices are 2 mm apart


def test_the_metric_is_the_distance_after_alignment(head):
    g = torch.Generator().manual_seed(1)
    a, b = torch.randn(2, 3, head.n_identity, generator=g).unbind()
    with torch.no_grad():
        metric = shape_encoder.face_metric(head)
        face = head.vertex_region("face") > 0.5
        found = shape_encoder.rms_distance(a - b, metric)
        for i in range(3):
            mine, true = (head(x[i : i + 1])[0, face] * 1000 for x in (a, b))
            mean = aligned_distance(mine, true)
            assert mean < float(found[i]) < 1.35 * mean  # a root mean square is above a mean


def test_augmentation_mirrors_the_photo_and_stays_in_range():
    g = torch.Generator().manual_seed(2)
    crops = torch.rand(16, 3, 30, 30, generator=g)
    same, mirrored = shape_encoder.augment(crops, STILL, g)
    assert 0 < int(mirrored.sum()) < 16
    torch.testing.assert_close(
        same, torch.where(mirrored[:, None, None, None], crops.flip(3), crops), atol=1e-4, rtol=0
    )
    changed, _ = shape_encoder.augment(crops, shape_encoder.Augmentation(), g)
    assert changed.shape == crops.shape and 0 <= changed.min() and changed.max() <= 1
    assert (changed - crops).abs().mean() > 0.05


class Spots:
    """Photos of one bright spot each, whose place is the shape: nothing that an average over cells tells well."""

    def __init__(self, n=256, side=24):
        g = torch.Generator().manual_seed(3)
        self.shape = torch.rand(n, 2, generator=g) * 2 - 1
        at = (self.shape * 0.3 + 0.5) * side
        pixels = torch.arange(side) + 0.5
        x, y = (torch.exp(-(pixels - at[:, i : i + 1]).square() / 8) for i in (0, 1))
        self.images = (y[:, :, None] * x[:, None])[:, None].expand(-1, 3, -1, -1)
        self.train, self.test = torch.arange(n - 32), torch.arange(n - 32, n)

    def photos(self, index):
        return self.images[index]

    def layers(self, crops):
        return [torch.nn.functional.adaptive_avg_pool2d(crops, n) for n in (12, 6, 3)]


def fit(folder, data, steps):
    flip = torch.diag(torch.tensor([-1.0, 1.0]))  # a mirrored spot lies on the other side
    options = shape_encoder.ShapeEncoderOptions(lr=4e-3, batch=16, bf16=False, augmentation=STILL)
    return shape_encoder.train(Run(folder, {}), data, Budget(steps=steps), TINY, 9 * torch.eye(2), flip, options)


@pytest.mark.slow
def test_training_learns_positions_and_resumes(tmp_path):
    data = Spots()
    fit(tmp_path, data, 3)
    model = fit(tmp_path, data, 160)
    figures = shape_encoder.held_out(model, data, 9 * torch.eye(2))
    assert figures["shape_mm"] < 0.3 * figures["mean_head_mm"], figures
    weights, status = shape_encoder.load_shape_encoder(tmp_path)
    assert status["step"] == 160 and status["metrics"]["shape_mm"] == pytest.approx(figures["shape_mm"], rel=1e-4)
    torch.testing.assert_close(weights["join.weight"], model.reader.join.weight)
    run = Run(tmp_path, {})
    tensors, status = run.load()
    run.save(tensors, **status | {"finished": False})
    with pytest.raises(UserError, match="has not finished"):
        shape_encoder.load_shape_encoder(tmp_path)


def seen(n: int, g: torch.Generator) -> Condition:
    return Condition(torch.randn(n, 6, generator=g), tuple(torch.randn(n, 3, s, s, generator=g) for s in (9, 5, 3)))


def test_training_the_denoiser_leaves_the_shape_encoder_unchanged(tmp_path):
    g = torch.Generator().manual_seed(4)
    cond, n = seen(40, g), 40
    data = SimpleNamespace(
        latents=torch.randn(n, 4, 4, 4, generator=g).numpy(),
        shape=torch.randn(n, 2, generator=g).numpy(),
        embedding=cond.embedding.numpy(),
        activations=[a.numpy() for a in cond.activations],
        texture=torch.arange(n).numpy(),
        train=torch.arange(36).numpy(),
        test=torch.arange(36, n).numpy(),
        meta={
            "embedding_mean": [0.0] * 6,
            "embedding_std": [1.0] * 6,
            "activation_mean": [[0.0] * 3] * 3,
            "activation_std": [[1.0] * 3] * 3,
            "recognizer": "test",
        },
    )
    data.batch = lambda i: (
        torch.from_numpy(data.latents[i]),
        torch.from_numpy(data.shape[i]),
        cond.embedding[i],
        tuple(a[i] for a in cond.activations),
    )
    weights = {k: torch.randn(v.shape, generator=g) * 0.1 for k, v in Denoiser(TINY).reader.state_dict().items()}
    flip = torch.diag(torch.tensor([-1.0, 1.0]))
    options = denoiser.DenoiserOptions(lr=1e-2, batch=4, bf16=False)
    start = denoiser.Start(shape_encoder=weights, mirror=flip)
    trained = denoiser.train(Run(tmp_path, {}), data, Budget(steps=3), TINY, options, start)
    for model in (trained, denoiser.load_denoiser(tmp_path)[0]):
        for k, v in model.reader.state_dict().items():
            torch.testing.assert_close(v, weights[k])
        torch.testing.assert_close(model.prior.mirror, flip)
    assert trained.prior.weight[:, -16:].abs().sum() > 0


def test_photos_and_their_mirror_images_tell_of_the_shape_alone():
    g = torch.Generator().manual_seed(5)
    model = Denoiser(TINY).eval()
    model.prior.weight.normal_(0, 0.02, generator=g)
    model.prior.mirror.copy_(torch.diag(torch.tensor([-1.0, 1.0])))
    average, *photos = (seen(2, g) for _ in range(5))
    weights = torch.tensor([0.25, 1.0]), torch.tensor([0.75, 0.0])  # of two photos, in each of two identities
    features = [Features(c.embedding, c.activations) for c in photos]
    views = tuple(PhotoFeatures(*features[2 * i : 2 * i + 2], w) for i, w in enumerate(weights))
    a, *single = (model.prepare(x).gaussian.mean for x in (average, *photos))
    c = model.prepare(Condition(average.embedding, average.activations, views)).gaussian.mean
    torch.testing.assert_close(c[:, :2], a[:, :2])
    told = [(x[:, 2:] + y[:, 2:] * torch.tensor([-1.0, 1.0])) / 2 for x, y in (single[:2], single[2:])]
    torch.testing.assert_close(c[:, 2:], weights[0][:, None] * told[0] + weights[1][:, None] * told[1])
