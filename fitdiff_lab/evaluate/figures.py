"""The figures of `evaluate.model`: reconstruction, sample quality, copies of training data, likeness to the photo."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from fitdiff_core.model.autoencoder import MAPS, to_codes
from fitdiff_core.model.checkpoint import FitDiffModel

from .heads import Heads
from .heldout import HeldOut, Viewer
from .metrics import Pca, aligned_distance, frechet, mean_angle, nearest, pairwise_mean, psnr
from .report import figure

RELIEF = 4  # texels; pores and single hairs are finer, folds and wrinkles are coarser


@torch.no_grad()
def reconstruction(model: FitDiffModel, people: HeldOut, latents: Tensor, skin: Tensor) -> dict:
    """Figures of the autoencoder at full size. latents: of the people. skin: `[S, S]` bool, texels of the skin."""
    rows: dict[str, list] = {}
    mean = model.autoencoder.map_mean
    for i, latent in enumerate(tqdm(latents, "reconstruction", leave=False, disable=None)):
        truth = to_codes(people.stack(i))[0]
        for name, codes in (("model", to_codes(model.autoencoder.decode(latent[None]))[0]), ("mean", mean)):
            for k, kind in enumerate(MAPS):
                a, b = codes[3 * k : 3 * k + 3], truth[3 * k : 3 * k + 3]
                rows.setdefault(f"{kind} {name}", []).append(psnr(a, b, 2))
                rows.setdefault(f"{kind} skin {name}", []).append(psnr(a, b, 2, skin))
            rows.setdefault(f"angle {name}", []).append(mean_angle(codes[6:], truth[6:], skin))
            a, b = F.avg_pool2d(codes[6:], RELIEF), F.avg_pool2d(truth[6:], RELIEF)
            rows.setdefault(f"relief {name}", []).append(mean_angle(a, b, skin[::RELIEF, ::RELIEF]))
    value = {k: sum(v) / len(v) for k, v in rows.items()}
    out = {}
    for kind in MAPS:
        for where in ("", " skin"):
            out[f"{kind}{where} psnr".replace(" ", "_")] = figure(
                f"reconstruction, {kind}{where and ', skin only'}",
                "dB",
                value[f"{kind}{where} model"],
                baseline=("mean map", value[f"{kind}{where} mean"]),
            )
    for key, name, what in (
        ("normal_angle", "angle", "normals"),
        ("relief_angle", "relief", "normals without pores (4 x 4 means)"),
    ):
        out[key] = figure(
            f"reconstruction, {what} on skin",
            "degrees",
            value[f"{name} model"],
            baseline=("mean map", value[f"{name} mean"]),
        )
    return out


def sample_quality(sampled: Heads, a: Heads, b: Heads, c: Heads, viewer: Viewer) -> dict:
    """Figures of unconditional samples against the data: Frechet distances in two feature spaces, and diversity."""
    dims = max(2, min(64, len(a.embedding) // 3))
    out = {}
    for key, what in (("embedding", "recogniser's embedding of portraits"), ("latent", "autoencoder's latents")):
        space = Pca.fit(getattr(c, key), dims)
        s, x, y = (space(getattr(h, key)) for h in (sampled, a, b))
        out[f"frechet_{'face' if key == 'embedding' else 'latent'}"] = figure(
            f"Frechet distance samples to data, {what}, {space.axes.shape[0]} axes",
            "squared",
            (frechet(s, x) + frechet(s, y)) / 2,
            best=("two halves of the data", frechet(x, y)),
        )

    def spread(h: Heads) -> float:
        return pairwise_mean(viewer.recognizer.distance(h.embedding[:, None], h.embedding[None]).double())

    out["diversity"] = figure(
        "diversity: mean distance between two samples, built-in recogniser",
        "",
        spread(sampled),
        best=("data", (spread(a) + spread(b)) / 2),
    )
    return out


def memorisation(sampled: Heads, training: Tensor, held_out: Tensor, source: str) -> dict:
    """Distance of samples to the nearest training texture, against the distance of held-out textures.

    training: `[M, D]` latents. held_out: `[H, D]` latents of the same set. source: description of the training
    textures. A small ratio means copies. Smooth textures are nearer to everything, so a ratio a little below 1 does not
    prove copies.
    """
    space = Pca.fit(training[torch.linspace(0, len(training) - 1, min(512, len(training))).long()].float(), 64)
    rows = torch.cat([space(part.float()) for part in training.split(512)])
    near, normal = (nearest(space(x.float()), rows).median() for x in (sampled.latent, held_out))
    return {
        "nearest_training": figure(
            f"nearest of {source}, median distance over {space.axes.shape[0]} axes of the latents",
            "",
            float(near),
            best=("held-out textures", float(normal)),
        )
    }


def likeness(own: Tensor, truth: Tensor, truth_other_light: Tensor, similarity) -> tuple[dict[str, float], Tensor]:
    """Mean similarities of samples to people, and each sample's similarity `[n]` to its own person.

    own: `[n, D]` unit vectors of the samples, rendered in another light.
    truth, truth_other_light: `[n, D]` of the true heads in both lights.
    similarity: of two tensors `[..., D]`.
    """
    mine, light = (similarity(x[:, None], truth[None]) for x in (own, truth_other_light))
    seen = ~mine.isnan().all(1) & ~mine.isnan().all(0)  # the judge may find no face in a sample or a portrait
    found = mine[seen][:, seen].argmax(1) == torch.arange(int(seen.sum()))
    return {
        "own": float(mine.diagonal().nanmean()),
        "other_sample": pairwise_mean(mine),
        "ceiling": float(light.diagonal().nanmean()),
        "other_person": pairwise_mean(light),
        "identified": float(found.double().mean()),
        "chance": 1 / max(1, int(seen.sum())),
    }, mine.diagonal()


def obedience(model: FitDiffModel, own: Heads, truth: Heads, turned: Heads, viewer: Viewer) -> tuple[dict, dict]:
    """Compare samples of the photographed people with the truth.

    own: the samples in another light. truth, turned: the true heads in both lights.
    Returns the figures, and {name: value of each person `[n]`}.
    """
    out, each = {}, {}
    scales = [("recognizer", "built-in recogniser", lambda h: h.embedding, viewer.recognizer.similarity)]
    if viewer.judge:
        scales.insert(0, ("judge", "independent judge", lambda h: h.judged, lambda x, y: (x * y).sum(-1)))
    for key, name, vectors, similarity in scales:
        r, each[f"likeness_{key}"] = likeness(vectors(own), vectors(truth), vectors(turned), similarity)
        out[f"likeness_{key}"] = figure(
            f"likeness to the photographed person, {name}",
            "",
            r["own"],
            baseline=("another person", r["other_person"]),
            best=("same head, other light", r["ceiling"]),
            extra={"these samples to the others": r["other_sample"]},
        )
        out[f"identified_{key}"] = figure(
            f"samples most alike to their own person, {name}",
            "share",
            r["identified"],
            baseline=("chance", r["chance"]),
        )
    each["ita_error"] = (own.ita - truth.ita).abs()
    off = (truth.ita[:, None] - truth.ita[None]).abs()
    out["ita_error"] = figure(
        "skin tone, mean absolute error of the cheek's ITA",
        "degrees",
        float(each["ita_error"].mean()),
        baseline=("population mean", float((truth.ita - truth.ita.mean()).abs().mean())),
        extra={"another person": pairwise_mean(off)},
    )
    shape_figures, shape_each = shape_obedience(model, own, truth)
    return out | shape_figures, each | shape_each


def shape_obedience(model: FitDiffModel, own: Heads, truth: Heads) -> tuple[dict, dict]:
    """The shape's part of `obedience`."""
    out, each = {}, {}
    faces = model.head.vertex_region("face") > 0.5
    vertices = [model.head(h)[:, faces] * 1000 for h in (own.shape, truth.shape, torch.zeros(1, model.head.n_identity))]
    for scale in (False, True):

        def error(x, y, scale=scale) -> Tensor:
            return torch.tensor([aligned_distance(p, q, scale) for p, q in zip(x, y, strict=True)])

        mine, mean = error(*vertices[:2]), error(vertices[2].expand_as(vertices[1]), vertices[1])
        other = error(vertices[1].roll(1, 0), vertices[1])
        name = "shape_error" + ("_scaled" if scale else "")
        each[name] = mine
        how = "rotation, translation and scale" if scale else "rotation and translation"
        out[name] = figure(
            f"shape, mean vertex distance on the face after {how}",
            "mm",
            float(mine.mean()),
            baseline=("mean head", float(mean.mean())),
            extra={"another person": float(other.mean())},
        )
    return out, each
