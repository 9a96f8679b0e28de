"""Measure what each part of the guidance contributes.

    python -m fitdiff_lab.evaluate.photos.ablation PHOTOS --judge FILE --out DIR

Each variant (`variants.py`) makes the head of each photo, in this one process. Output: `table.md`, `results.json`, and
`renders.jpg` (renders of the first photos, a column for each variant). Takes the time of one run for each photo and
variant. `variants/NAME.json` is written after each photo, so the same command goes on where it stopped. Rows with other
steps, another checkpoint or other constants of the guidance are measured again. After a change of the guidance's code,
use another folder.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from fitdiff_core import pipeline
from fitdiff_core.avatar import Avatar
from fitdiff_core.errors import UserError, command
from fitdiff_core.guidance import Guidance, GuidanceSettings, GuidanceWeights, PhotoObjective
from fitdiff_core.guidance.losses import PHOTOMETRIC_SCALE
from fitdiff_core.identity import Identity
from fitdiff_core.image import load_photo, save_png
from fitdiff_core.model.checkpoint import FitDiffModel
from fitdiff_core.model.denoiser import unpack_latent
from fitdiff_core.sampling import SampleSettings
from fitdiff_core.scene import Scene

from .common import arguments, cell, default_values, mean, photos_in, plain, write_json
from .likeness import recognisers, score
from .modes import VIEWS
from .sheet import contact_sheet
from .variants import VARIANTS, Variant
from .views import render_looks

SHOWN = 6  # photos on the sheet
BASE = "full"


def photometric(model: FitDiffModel, guidance: Guidance, latent: Tensor, scene: Scene) -> float:
    """Mean sRGB difference 0..1 between render and photo on the visible skin, with the shipped weights."""
    only = guidance.with_settings(weights=GuidanceWeights(0, 0, 1, 0))
    objective = PhotoObjective(model.head, lambda z: model.autoencoder.decode(z, size=256), only)
    with torch.no_grad():
        _, _, terms = objective(*unpack_latent(latent, model.head.n_identity), scene)
    return float(terms["photometric"]) * PHOTOMETRIC_SCALE


def make_head(
    model: FitDiffModel, variant: Variant, identity: Identity, guidance: Guidance, steps: int
) -> tuple[Tensor, Avatar, Scene, float]:
    """Latent, avatar, scene, and the seconds for sampling and decoding."""
    start = time.perf_counter()
    with variant.gradient(model):
        latent, scene = pipeline.sample(
            model,
            identity,
            variant.guidance(guidance),
            seed=0,
            steps=steps,
            cfg_scale=variant.cfg,
            variation=variant.variation,
        )
    avatar = pipeline.decode(model, latent)
    return latent, avatar, scene, time.perf_counter() - start


class Ablation:
    """Runs the variants. It loads each model once and prepares each photo once.

    judges: Python files. packs: `.onnx` files or pack folders.
    """

    def __init__(self, photos: list[Path], out: Path, steps: int, judges: Sequence[str], packs: Sequence[str] = ()):
        self.photos, self.out, self.steps = photos, out, steps
        self.known = recognisers(judges, packs)
        self.model, self.recognizer = pipeline.load_model(), pipeline.load_recognizer()
        self._prepared: dict[Path, tuple[Identity, Guidance] | str] = {}

    def prepared(self, photo: Path) -> tuple[Identity, Guidance] | str:
        """Identity and guidance of a photo, or the reason why there is none."""
        if photo not in self._prepared:
            try:
                image = load_photo(photo)
                faces = pipeline.find_faces(image)
                (guidance,) = pipeline.prepare_guidance(
                    pipeline.fit_photos(image, self.model.head, faces), self.recognizer
                )
                self._prepared[photo] = pipeline.encode(image, self.recognizer, faces), guidance
            except UserError as e:
                self._prepared[photo] = str(e)
        return self._prepared[photo]

    def settings(self, variant: Variant) -> dict:
        """What a row depends on, as JSON. Rows that were measured with other settings are measured again."""
        return plain(
            {
                "checkpoint": self.model.id,
                "steps": max(1, round(variant.steps * self.steps)),
                "cfg": variant.cfg,
                "variation": variant.variation,
                "recognisers": [r.name for r in self.known],
                "shipped": default_values(GuidanceSettings),
            }
        )

    def measure(self, name: str, photo: Path, variant: Variant, steps: int) -> dict:
        """The row of one photo and variant; saves the renders."""
        prepared = self.prepared(photo)
        if isinstance(prepared, str):
            return {"error": prepared}
        latent, avatar, scene, seconds = make_head(self.model, variant, *prepared, steps)
        row = {
            "seconds": round(seconds, 2),
            "photometric": round(photometric(self.model, prepared[1], latent, scene), 5),
        }
        for view, image in render_looks(avatar, scene).items():
            path = save_png(self.out / "renders" / name / f"{photo.stem}_{view}.png", image)
            row[view] = score(photo, path, self.known)
        return row

    def run(self, name: str) -> dict:
        """{photo's name: row} of one variant. Rows on disk with the same settings are kept."""
        variant, path = VARIANTS[name], self.out / "variants" / f"{name}.json"
        settings = self.settings(variant)
        rows: dict[str, dict] = {}
        if path.is_file():
            old = json.loads(path.read_text("utf-8"))
            if old["settings"] == settings:
                rows = old["photos"]
        for photo in tqdm(self.photos, name, leave=False, disable=None):
            if photo.name not in rows:
                rows[photo.name] = self.measure(name, photo, variant, settings["steps"])
                write_json(path, {"settings": settings, "photos": rows})
        return plain({p.name: rows[p.name] for p in self.photos})


def summarise(rows: dict[str, dict], recogniser_names: list[str]) -> dict:
    """Means over the photos in which a face was found.

    "sides" is the mean of left and right. "no_face" counts the renders in which the first recogniser found no face.
    """
    good = [r for r in rows.values() if "error" not in r]
    first = recogniser_names[0]
    views = {"pose": ["pose"], "sides": ["left", "right"], "relit": ["relit"]}
    out = {
        "photos": len(good),
        "seconds": mean(r["seconds"] for r in good),
        "photometric": mean(r["photometric"] for r in good),
    }
    for name in recogniser_names:
        out[name] = {k: mean(r[v][name] for r in good for v in names) for k, names in views.items()}
    out["no_face"] = sum(r[v][first] is None for r in good for names in views.values() for v in names)
    return out


def change(rows: dict[str, dict], base: dict[str, dict], recogniser: str) -> tuple[float, float]:
    """Mean gain of likeness against `base` on the same photos and views, and its standard error over photos.

    A photo counts with the views in which the recogniser finds a face in both renders.
    """
    gains = []
    for photo, row in rows.items():
        if "error" in row:
            continue
        pairs = [(row[v][recogniser], base[photo][v][recogniser]) for v in VIEWS]
        gain = mean(a - b for a, b in pairs if a is not None and b is not None)
        if gain == gain:
            gains.append(gain)
    error = statistics.stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else float("nan")
    return mean(gains), error


def markdown(report: dict) -> str:
    """The content of `results.json` as a Markdown table."""
    s = report["settings"]
    names = s["recognisers"]
    views = [f"{n}, {v}" for n in names for v in ("pose", "±20°", "relit")]
    header = ["variant", *views, f"{names[0]}, change", "no face", "photometric, sRGB/255", "s a photo"]
    lines = [
        f"Checkpoint {s['checkpoint']}, {s['steps']} steps unless noted, seed 0, {s['photos']} photos. Means; "
        f"{names[-1]} took part in the guidance. No face: renders of all views in which {names[0]} found no face; "
        "they are in no mean. Change: against the shipped guidance over all views, with the standard error over "
        "photos. Seconds are of sampling and decoding.",
        "",
        "| " + " | ".join(header) + " |",
        "|" + "---|" * len(header),
    ]
    for name, row in report["variants"].items():
        marks = [cell(row[n][v]) for n in names for v in ("pose", "sides", "relit")]
        what = VARIANTS[name].what + (f" ({row['steps']})" if VARIANTS[name].steps != 1 else "")
        gain, error = row["change"]
        other = "" if name == BASE or gain != gain else f"{gain:+.3f} ± {cell(error, 3)}"
        cells = [what, *marks, other, str(row["no_face"]), cell(255 * row["photometric"], 1), cell(row["seconds"], 1)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def sheet(photos: list[Path], out: Path, names: list[str]) -> None:
    """Write renders.jpg: the first photos at their pose and lit from the other side, a column for each variant."""
    rows = []
    for photo in photos:
        for view in ("pose", "relit"):
            paths = [out / "renders" / n / f"{photo.stem}_{view}.png" for n in names]
            if len(rows) < 2 * SHOWN and all(p.is_file() for p in paths):
                images = []
                for path in paths:
                    with Image.open(path) as im:
                        images.append(im.convert("RGB"))
                rows.append(("", images))
    if rows:
        contact_sheet(rows, out / "renders.jpg", names, 1)


def run_ablation(
    photos: list[Path],
    out: Path,
    names: Sequence[str] = tuple(VARIANTS),
    steps: int = SampleSettings.steps,
    judges: Sequence[str] = (),
    packs: Sequence[str] = (),
) -> dict:
    """Run variants and write all results into a folder.

    out: the folder. names: of the variants. steps: of the sampler. judges, packs: as in `Ablation`.
    Returns what `results.json` holds. Raises UserError for unknown names.
    """
    if unknown := sorted(set(names) - set(VARIANTS)):
        raise UserError(f"Unknown variant {', '.join(unknown)}; choose among {', '.join(VARIANTS)}.")
    runner = Ablation(photos, out, steps, judges, packs)
    known = [r.name for r in runner.known]
    found, base = {}, None
    for name in sorted(names, key=lambda n: n != BASE):  # the others are compared with it
        rows = runner.run(name)
        base = rows if name == BASE else base
        gain = change(rows, base, known[0]) if base else (float("nan"), float("nan"))
        row = summarise(rows, known) | {"change": gain, "steps": runner.settings(VARIANTS[name])["steps"]}
        found[name] = row
        print(f"{name:18} {known[0]} {cell(row[known[0]]['pose'])} {cell(row['seconds'], 1)} s a photo", flush=True)
    settings = {"checkpoint": runner.model.id, "steps": steps, "photos": len(photos), "recognisers": known}
    report = {"settings": settings, "variants": found}
    write_json(out / "results.json", report)
    (out / "table.md").write_text(markdown(report), "utf-8")
    sheet(photos, out, list(found))
    return report


@command
def main(argv: list[str] | None = None) -> int:
    p = arguments("evaluate.photos.ablation", __doc__, "ablation_out")
    p.add_argument("--only", metavar="NAME,..", help=f"variants to run, of {', '.join(VARIANTS)}; default all")
    args = p.parse_args(argv)
    names = args.only.split(",") if args.only else list(VARIANTS)
    run_ablation(photos_in(args.photos, args.limit), args.out, names, args.steps, args.judge, args.recognizer)
    print((args.out / "table.md").read_text("utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
