"""Measure a checkpoint on held-out synthetic people: python -m fitdiff_lab.evaluate.model --out DIR [--judge FILE] [--data DIR]

One table: reconstruction, sample quality, and how well unguided samples obey a photo, every figure beside a baseline
(what knowing nothing scores) and the best that the same measurement can give. DIR gets `results.json`, `table.md`,
`samples_renders.jpg`, `samples_maps.jpg`. Minutes on two CPU cores.

People come from seeds of their own (`--seed`), never the training set's. Three groups of `--people` each: A is
reconstructed, photographed and sampled back; B is the other half of the data, for the floors; C only gives the axes of
the feature spaces, so that neither the samples nor A nor B are favoured.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from fitdiff_core import pipeline
from fitdiff_core.errors import UserError, command
from fitdiff_core.model.autoencoder import MAPS, to_codes
from fitdiff_core.model.checkpoint import FitDiffModel
from fitdiff_core.model.denoiser import unpack_latent
from fitdiff_core.model.samplers import SAMPLERS

from ..dataset.prepare import DatasetGenerator
from ..dataset.reading import read_json
from ..train.release import fingerprint
from ..train.run import write_json
from .heldout import HeldOut, Viewer, cheek_ita, make_people, stack_embeddings, to_pil
from .metrics import ITA_CLASSES, Pca, aligned_distance, frechet, ita_class, mean_angle, nearest, pairwise_mean, psnr
from .photos import load_judge
from .report import figure, groups, markdown, save_sheets, table_of_photos
from .training_latents import training_latents

TRUE_LIGHT, OTHER_LIGHT = "studio", "outdoor"  # keys from opposite sides, of different colour
BATCH = 8
RELIEF = 4  # texels: pores and single hairs are finer, folds and wrinkles coarser


@dataclass
class Settings:
    people: int = 48
    seed: int = 900
    steps: int = 20
    sampler: str = "dpmpp_2m"
    cfg: float = pipeline.CFG
    variation: float = pipeline.VARIATION


@dataclass
class Heads:
    """What is kept of n heads, drawn or sampled. latent `[n, C h w]`, marks `[n, D]`, shape `[n, K]`, ita `[n]`;
    judged `[n, J]` with NaN where the judge saw no face; pictures and map thumbnails for the sheets."""

    latent: Tensor
    marks: Tensor
    shape: Tensor
    ita: Tensor
    judged: Tensor | None = None
    pictures: list = field(default_factory=list)
    maps: list = field(default_factory=list)


def look(avatars, latents: Tensor, viewer: Viewer, cheek: Tensor, light: str, judge: bool, keep: int = 0) -> Heads:
    """Render every avatar (an iterable of batches of 1) and take its measures; the first `keep` also leave pictures."""
    marks, shapes, angles, judged, pictures, maps = [], [], [], [], [], []
    for avatar in avatars:
        image = viewer.portrait(avatar, light)
        marks.append(viewer.embed(avatar, image))
        shapes.append(avatar.shape[0])
        angles.append(cheek_ita(avatar.maps.stack(), cheek))
        if judge and viewer.judge:
            judged.append(viewer.judged(image))
        if len(pictures) < keep:
            pictures.append(to_pil(image))
            maps.append(avatar.maps.resize(256))
    return Heads(
        latents.flatten(1),
        torch.stack(marks),
        torch.stack(shapes),
        torch.tensor(angles),
        stack_embeddings(judged) if judged else None,
        pictures,
        maps,
    )


@torch.no_grad()
def encode_people(model: FitDiffModel, people: HeldOut, label: str) -> Tensor:
    return torch.cat(
        [model.autoencoder.encode(people.stack(i)) for i in tqdm(range(len(people)), label, leave=False, disable=None)]
    )


def draw(model: FitDiffModel, s: Settings, recognizer=None, people: HeldOut | None = None, seed: int = 0) -> Tensor:
    """Latents `[people, C + 1, h, w]`, in batches: of the photographed people, or unconditional."""
    out = []
    for i in tqdm(range(0, s.people, BATCH), "sampling", leave=False, disable=None):
        n = min(BATCH, s.people - i)
        identity = None if people is None else people.identity(recognizer, i, i + n)
        out.append(
            pipeline.sample(
                model,
                identity,
                seed=seed + i,
                steps=s.steps,
                cfg_scale=s.cfg,
                batch=n,
                sampler=s.sampler,
                variation=s.variation,
            )[0]
        )
    return torch.cat(out)


def decoded(model: FitDiffModel, latents: Tensor, label: str):
    """Avatars of batch 1, decoded one by one: nine maps of 512 texels are 9 MB."""
    for latent in tqdm(latents, label, leave=False, disable=None):
        yield pipeline.decode(model, latent[None])


@torch.no_grad()
def reconstruction(model: FitDiffModel, people: HeldOut, latents: Tensor, skin: Tensor) -> dict:
    """Maps through the autoencoder, at full size. skin `[S, S]` bool: atlas texels of the skin."""
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
    """Unconditional samples against the data, in two feature spaces."""
    dims = max(2, min(64, len(a.marks) // 3))
    out = {}
    for key, what in (("marks", "recogniser's embedding of portraits"), ("latent", "autoencoder's latents")):
        space = Pca.fit(getattr(c, key), dims)
        s, x, y = (space(getattr(h, key)) for h in (sampled, a, b))
        out[f"frechet_{'face' if key == 'marks' else 'latent'}"] = figure(
            f"Frechet distance samples to data, {what}, {space.axes.shape[0]} axes",
            "squared",
            (frechet(s, x) + frechet(s, y)) / 2,
            best=("two halves of the data", frechet(x, y)),
        )

    def spread(h: Heads) -> float:
        return pairwise_mean(viewer.recognizer.distance(h.marks[:, None], h.marks[None]).double())

    out["diversity"] = figure(
        "diversity: mean distance between two samples, built-in recogniser",
        "",
        spread(sampled),
        best=("data", (spread(a) + spread(b)) / 2),
    )
    return out


def memorisation(sampled: Heads, training: Tensor, held_out: Tensor, source: str) -> dict:
    """How near samples lie to training textures `[M, D]`, against how near held-out textures of the same set `[H, D]` do.

    Small ratios mean copies. Smoother textures lie nearer to everything, so a little below 1 is no proof of any.
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
    """Unit vectors `[n, D]` of samples (other light), truth, truth (other light) -> mean similarities, and each sample's."""
    mine, light = (similarity(x[:, None], truth[None]) for x in (own, truth_other_light))
    seen = ~mine.isnan().all(1) & ~mine.isnan().all(0)  # the judge may find no face in a sample or a portrait
    found = mine[seen][:, seen].argmax(1) == torch.arange(int(seen.sum()))
    return {
        "own": float(mine.diagonal().nanmean()),
        "other_sample": pairwise_mean(mine),
        "ceiling": float(light.diagonal().nanmean()),
        "stranger": pairwise_mean(light),
        "identified": float(found.double().mean()),
        "chance": 1 / max(1, int(seen.sum())),
    }, mine.diagonal()


def obedience(model: FitDiffModel, own: Heads, truth: Heads, turned: Heads, viewer: Viewer) -> tuple[dict, dict]:
    """Samples of the photographed people against the truth -> (figures, {name: each person's value `[n]`})."""
    out, each = {}, {}
    scales = [("recognizer", "built-in recogniser", lambda h: h.marks, viewer.recognizer.similarity)]
    if viewer.judge:
        scales.insert(0, ("judge", "independent judge", lambda h: h.judged, lambda x, y: (x * y).sum(-1)))
    for key, name, marks, similarity in scales:
        r, each[f"likeness_{key}"] = likeness(marks(own), marks(truth), marks(turned), similarity)
        out[f"likeness_{key}"] = figure(
            f"likeness to the photographed person, {name}",
            "",
            r["own"],
            baseline=("another person", r["stranger"]),
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
    faces = model.head.vertex_region("face") > 0.5
    vertices = [model.head(h)[:, faces] * 1000 for h in (own.shape, truth.shape, torch.zeros(1, model.head.n_identity))]
    for scale in (False, True):

        def error(x, y, scale=scale) -> Tensor:
            return torch.tensor([aligned_distance(p, q, scale) for p, q in zip(x, y, strict=True)])

        mine, mean = error(*vertices[:2]), error(vertices[2].expand_as(vertices[1]), vertices[1])
        stranger = error(vertices[1].roll(1, 0), vertices[1])
        name = "shape_error" + ("_scaled" if scale else "")
        each[name] = mine
        how = "rotation, translation and scale" if scale else "rotation and translation"
        out[name] = figure(
            f"shape, mean vertex distance on the face after {how}",
            "mm",
            float(mine.mean()),
            baseline=("mean head", float(mean.mean())),
            extra={"another person": float(stranger.mean())},
        )
    return out, each


def evaluate_checkpoint(
    out: Path,
    s: Settings,
    checkpoint: str | None = None,
    judge_path: str | None = None,
    photos: Path | None = None,
    data: Path | None = None,
    latents: Path | None = None,
    threads: int = 1,
) -> dict:
    """Measure, write everything into `out` and return what `results.json` holds. UserError on wrong input."""
    if s.people < 6:
        raise UserError("--people must be at least 6: covariances of fewer samples mean nothing.")
    if data is not None and (used := read_json(data / "settings.json", "train.prepare")["seed"]) == s.seed:
        raise UserError(f"Seed {used} made the training set; give another --seed to test on people it does not hold.")
    start = time.monotonic()
    seconds: dict[str, float] = {}

    def done(stage: str) -> None:
        seconds[stage] = round(time.monotonic() - start - sum(seconds.values()), 1)
        print(f"{stage}: {seconds[stage]} s", file=sys.stderr, flush=True)

    model, judge = pipeline.load_model(checkpoint), load_judge(judge_path) if judge_path else None
    generator = DatasetGenerator(s.seed, model.autoencoder.config.size)
    torch.set_num_threads(threads)  # a DatasetGenerator sets one
    training = None if data is None and latents is None else training_latents(model, data, latents)
    viewer = Viewer(generator.recognizer, judge)
    cheek, skin, n = generator.skin.regions["cheek"] > 0.5, generator.skin.canvas.skin, s.people
    done("start")
    people = {k: make_people(generator, i * n, n, k == "A", f"people {k}") for i, k in enumerate("ABC")}
    torch.set_num_threads(threads)
    done("people")
    codes = {k: encode_people(model, p, f"latents {k}") for k, p in people.items()}
    figures = reconstruction(model, people["A"], codes["A"], skin)
    done("reconstruction")

    def truth(k: str, light: str, judged: bool) -> Heads:
        avatars = (people[k].avatar(i) for i in tqdm(range(n), f"portraits {k}", leave=False, disable=None))
        return look(avatars, codes[k], viewer, cheek, light, judged)

    a, b, c = truth("A", TRUE_LIGHT, True), truth("B", TRUE_LIGHT, False), truth("C", TRUE_LIGHT, False)
    turned = truth("A", OTHER_LIGHT, True)
    done("portraits")
    drawn = draw(model, s, seed=s.seed)
    texture = unpack_latent(drawn, model.head.n_identity)[0]
    sampled = look(decoded(model, drawn, "decoding"), texture, viewer, cheek, TRUE_LIGHT, False, keep=48)
    figures |= sample_quality(sampled, a, b, c, viewer)
    if training is not None:
        figures |= memorisation(sampled, *training)
    save_sheets(out, sampled.pictures, sampled.maps)
    done("unconditional")
    drawn = draw(model, s, generator.recognizer, people["A"], seed=s.seed + 1_000_000)
    texture = unpack_latent(drawn, model.head.n_identity)[0]
    own = look(decoded(model, drawn, "decoding"), texture, viewer, cheek, OTHER_LIGHT, True)
    obeyed, each = obedience(model, own, a, turned, viewer)
    figures |= obeyed
    done("conditional")
    if photos is not None:
        figures |= table_of_photos(photos, out, model, viewer, s)
        done("photos")
    ages = ["18-34" if v < 35 else "35-54" if v < 55 else "55-80" for v in people["A"].age.tolist()]
    tones = [ita_class(v) for v in a.ita.tolist()]
    order = [name for _, name in ITA_CLASSES]
    results = {
        "checkpoint": model.id,
        "weights": fingerprint(model.autoencoder, model.denoiser),
        "settings": vars(s) | {"batch": BATCH, "lights": [TRUE_LIGHT, OTHER_LIGHT], "judge": judge is not None},
        "figures": figures,
        "groups": {"skin tone (ITA)": groups(tones, each, order), "age": groups(ages, each)},
        "seconds": seconds,
    }
    write_json(out / "results.json", results)
    (out / "table.md").write_text(markdown(results))
    return results


@command
def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(
        prog="python -m fitdiff_lab.evaluate.model",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    d = Settings()
    p.add_argument("--checkpoint", help="default: the shipped one")
    p.add_argument("--out", type=Path, default=Path("evaluation"))
    p.add_argument("--people", type=int, default=d.people, help=f"in each group, and samples of each kind ({d.people})")
    p.add_argument("--seed", type=int, default=d.seed, help=f"of the held-out people ({d.seed})")
    p.add_argument("--steps", type=int, default=d.steps)
    p.add_argument("--sampler", choices=sorted(SAMPLERS), default=d.sampler)
    p.add_argument("--cfg", type=float, default=d.cfg)
    p.add_argument(
        "--variation", type=float, default=d.variation, help=f"of samples of a photographed person ({d.variation})"
    )
    p.add_argument("--judge", help="Python file with a class Judge (see fitdiff_lab.evaluate.photos)")
    p.add_argument("--photos", type=Path, help="folder of real photos: unguided renders of them too")
    p.add_argument(
        "--data", type=Path, help="folder of train.prepare: its textures are searched for near copies of samples"
    )
    p.add_argument(
        "--latents", type=Path, help="folder of train.latents: the same search over all its textures, quicker"
    )
    p.add_argument("--threads", type=int, default=os.cpu_count())
    a = p.parse_args(argv)
    a.out.mkdir(parents=True, exist_ok=True)
    settings = Settings(a.people, a.seed, a.steps, a.sampler, a.cfg, a.variation)
    results = evaluate_checkpoint(a.out, settings, a.checkpoint, a.judge, a.photos, a.data, a.latents, a.threads)
    print(markdown(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
