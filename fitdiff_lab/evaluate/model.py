"""Measure a checkpoint on held-out synthetic people.

    python -m fitdiff_lab.evaluate.model --out DIR [--judge FILE] [--data DIR]

Output: one table of reconstruction, sample quality, and how well unguided samples match a photo. Each figure has a
baseline (the score of a method that knows nothing) and the best value that the same measurement can give. DIR gets
`results.json`, `table.md`, `samples_renders.jpg` and `samples_maps.jpg`. Takes minutes on two CPU cores.

The people come from seeds of their own (--seed), never from the training set's. There are three groups of --people
each. Group A is reconstructed, photographed and sampled. Group B is compared with A: what two halves of the data score.
Group C gives the axes of the feature spaces, so that neither the samples nor A nor B have an advantage.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from fitdiff_core import pipeline
from fitdiff_core.errors import UserError, command
from fitdiff_core.files import write_json
from fitdiff_core.model.checkpoint import FitDiffModel
from fitdiff_core.model.denoiser import unpack_latent
from fitdiff_core.model.samplers import SAMPLERS
from fitdiff_core.sampling import SampleSettings

from ..cli import command_parser
from ..dataset.prepare import DatasetGenerator
from ..dataset.reading import read_json
from ..train.release import fingerprint
from .figures import memorisation, obedience, reconstruction, sample_quality
from .heads import Heads, measure_heads
from .heldout import HeldOut, Viewer, make_people
from .metrics import ITA_CLASSES, ita_class
from .photos import load_judge
from .report import groups, markdown, save_sheets, table_of_photos
from .training_latents import training_latents

TRUE_LIGHT, OTHER_LIGHT = "studio", "outdoor"  # the key lights come from opposite sides, with different colours
BATCH = 8  # samples that are drawn at once


@dataclass
class Settings:
    """people: in each group, and samples of each kind.

    seed: of the people. The others are those of `pipeline.sample`.
    """

    people: int = 48
    seed: int = 900
    steps: int = 20
    sampler: str = "dpmpp_2m"
    cfg: float = SampleSettings.cfg_scale
    variation: float = SampleSettings.variation


@torch.no_grad()
def encode_people(model: FitDiffModel, people: HeldOut, label: str) -> Tensor:
    """Texture latents `[n, C, h, w]`. label: of the progress bar."""
    return torch.cat(
        [model.autoencoder.encode(people.stack(i)) for i in tqdm(range(len(people)), label, leave=False, disable=None)]
    )


def draw(model: FitDiffModel, s: Settings, recognizer=None, people: HeldOut | None = None, seed: int = 0) -> Tensor:
    """Packed latents `[people, C + 1, h, w]`: samples of the photographed people, or unconditional without `people`."""
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
    """Yields avatars of batch 1, decoded one by one to save memory (the maps of one are 9 MB)."""
    for latent in tqdm(latents, label, leave=False, disable=None):
        yield pipeline.decode(model, latent[None])


class _Stages:
    """Seconds of each stage, printed when it ends."""

    def __init__(self):
        self.start, self.seconds = time.monotonic(), {}

    def done(self, stage: str) -> None:
        self.seconds[stage] = round(time.monotonic() - self.start - sum(self.seconds.values()), 1)
        print(f"{stage}: {self.seconds[stage]} s", file=sys.stderr, flush=True)


class _Evaluation:
    """One evaluation: the model, the people, and what is measured on them."""

    def __init__(self, s: Settings, model: FitDiffModel, judge, threads: int):
        self.s, self.model = s, model
        self.generator = DatasetGenerator(s.seed, model.autoencoder.config.size)
        torch.set_num_threads(threads)  # the generator sets one thread
        self.viewer = Viewer(self.generator.recognizer, judge)
        self.cheek = self.generator.skin.regions["cheek"] > 0.5
        self.threads = threads

    def make_people(self) -> None:
        n = self.s.people
        self.people = {k: make_people(self.generator, i * n, n, k == "A", f"people {k}") for i, k in enumerate("ABC")}
        torch.set_num_threads(self.threads)

    def encode(self) -> dict:
        """Encode all people. Returns the figures of the reconstruction."""
        self.codes = {k: encode_people(self.model, p, f"latents {k}") for k, p in self.people.items()}
        return reconstruction(self.model, self.people["A"], self.codes["A"], self.generator.skin.canvas.skin)

    def _truth(self, k: str, light: str, judged: bool) -> Heads:
        indices = tqdm(range(self.s.people), f"portraits {k}", leave=False, disable=None)
        avatars = (self.people[k].avatar(i) for i in indices)
        return measure_heads(avatars, self.codes[k], self.viewer, self.cheek, light, judged)

    def portraits(self) -> None:
        self.a, self.b, self.c = (self._truth(k, TRUE_LIGHT, k == "A") for k in "ABC")
        self.turned = self._truth("A", OTHER_LIGHT, True)

    def _samples(self, drawn: Tensor, light: str, judged: bool, keep: int = 0) -> Heads:
        texture = unpack_latent(drawn, self.model.head.n_identity)[0]
        avatars = decoded(self.model, drawn, "decoding")
        return measure_heads(avatars, texture, self.viewer, self.cheek, light, judged, keep)

    def unconditional(self, out: Path, training: tuple[Tensor, Tensor, str] | None) -> dict:
        """Figures of unconditional samples; writes their sheets. training: as `training_latents` returns it."""
        sampled = self._samples(draw(self.model, self.s, seed=self.s.seed), TRUE_LIGHT, False, keep=48)
        figures = sample_quality(sampled, self.a, self.b, self.c, self.viewer)
        if training is not None:
            figures |= memorisation(sampled, *training)
        save_sheets(out, sampled.pictures, sampled.maps)
        return figures

    def conditional(self) -> tuple[dict, dict]:
        """Figures of samples of the photographed people, and each person's values."""
        seed = self.s.seed + 1_000_000
        drawn = draw(self.model, self.s, self.generator.recognizer, self.people["A"], seed=seed)
        return obedience(self.model, self._samples(drawn, OTHER_LIGHT, True), self.a, self.turned, self.viewer)

    def groups(self, each: dict) -> dict:
        """Means of each person's values by skin tone and by age."""
        ages = ["18-34" if v < 35 else "35-54" if v < 55 else "55-80" for v in self.people["A"].age.tolist()]
        tones = [ita_class(v) for v in self.a.ita.tolist()]
        order = [name for _, name in ITA_CLASSES]
        return {"skin tone (ITA)": groups(tones, each, order), "age": groups(ages, each)}


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
    """Measure a checkpoint and write all results into a folder.

    out: the folder.
    s: settings.
    checkpoint: file, default the shipped one.
    judge_path: Python file with a class Judge.
    photos: folder of real photos, for unguided renders.
    data, latents: folder of the prepared or encoded training set, for the search of copies.
    threads: of torch.
    Returns what `results.json` holds. Raises UserError on wrong input.
    """
    if s.people < 6:
        raise UserError("--people must be at least 6: covariances of fewer samples mean nothing.")
    made_by = "python -m fitdiff_lab.dataset.prepare"
    if data is not None and (used := read_json(data / "settings.json", made_by)["seed"]) == s.seed:
        raise UserError(f"Seed {used} made the training set; give another --seed to test on people it does not hold.")
    stages = _Stages()
    model, judge = pipeline.load_model(checkpoint), load_judge(judge_path) if judge_path else None
    run = _Evaluation(s, model, judge, threads)
    training = None if data is None and latents is None else training_latents(model, data, latents)
    stages.done("start")
    run.make_people()
    stages.done("people")
    figures = run.encode()
    stages.done("reconstruction")
    run.portraits()
    stages.done("portraits")
    figures |= run.unconditional(out, training)
    stages.done("unconditional")
    obeyed, each = run.conditional()
    figures |= obeyed
    stages.done("conditional")
    if photos is not None:
        figures |= table_of_photos(photos, out, model, run.viewer, s)
        stages.done("photos")
    results = {
        "checkpoint": model.id,
        "weights": fingerprint(model.autoencoder, model.denoiser),
        "settings": vars(s) | {"batch": BATCH, "lights": [TRUE_LIGHT, OTHER_LIGHT], "judge": judge is not None},
        "figures": figures,
        "groups": run.groups(each),
        "seconds": stages.seconds,
    }
    write_json(out / "results.json", results)
    (out / "table.md").write_text(markdown(results))
    return results


@command
def main(argv: list[str] | None = None) -> int:
    p = command_parser("evaluate.model", __doc__)
    d = Settings()
    p.add_argument("--checkpoint", help="default: the shipped one")
    p.add_argument("--out", type=Path, default=Path("evaluation"), help="folder of the results (%(default)s)")
    p.add_argument("--people", type=int, default=d.people, help="in each group, and samples of each kind (%(default)s)")
    p.add_argument("--seed", type=int, default=d.seed, help="of the held-out people (%(default)s)")
    p.add_argument("--steps", type=int, default=d.steps, help="of the sampler (%(default)s)")
    p.add_argument("--sampler", choices=sorted(SAMPLERS), default=d.sampler, help="(%(default)s)")
    p.add_argument("--cfg", type=float, default=d.cfg, help="scale of the classifier-free guidance (%(default)s)")
    p.add_argument(
        "--variation",
        type=float,
        default=d.variation,
        help="noise scale of samples of a photographed person (%(default)s)",
    )
    p.add_argument("--judge", help="Python file with a class Judge (see fitdiff_lab.evaluate.photos)")
    p.add_argument("--photos", type=Path, help="folder of real photos: measure unguided renders of them too")
    p.add_argument(
        "--data",
        type=Path,
        help="folder of fitdiff_lab.dataset.prepare: search its textures for near copies of samples",
    )
    p.add_argument(
        "--latents",
        type=Path,
        help="folder of fitdiff_lab.dataset.latents: the same search over all its textures, faster",
    )
    p.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads (%(default)s)")
    a = p.parse_args(argv)
    a.out.mkdir(parents=True, exist_ok=True)
    settings = Settings(a.people, a.seed, a.steps, a.sampler, a.cfg, a.variation)
    results = evaluate_checkpoint(a.out, settings, a.checkpoint, a.judge, a.photos, a.data, a.latents, a.threads)
    print(markdown(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
