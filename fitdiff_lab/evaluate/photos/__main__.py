"""Run the main job on a folder of photos, as a user does, and measure likeness, time and memory.

    python -m fitdiff_lab.evaluate.photos PHOTOS --out DIR [--judge FILE]

Each photo goes through the command line's code in a process of its own, so that seconds and peak memory are those of a
user. It runs three times: guided, guided with --photo-detail, and with --no-guidance. Another person in the photo's
scene is the baseline. Each head is rendered at the photo's pose, from both sides, and lit from the other side; each
recogniser gives the likeness to the photo. Takes one to two minutes for each photo.

Output: `report.html` (everything), `contact.jpg` (photos and renders), `renders.jpg` (without the photos),
`results.json` and `table.md`. --judge names a Python file with a class `Judge`: a recogniser that takes no part in the
guidance. `similarity(photo, render)` returns a cosine; `embed(photo)` returns a unit vector, or None where it finds no
face. The first judge decides which photos are worst.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from fitdiff_core.errors import command
from fitdiff_core.sampling import SampleSettings

from .common import arguments, cell, photos_in, write_json
from .modes import DETAIL, GUIDED, MODES, RANDOM, RUNS, UNGUIDED, VIEWS
from .sheet import contact_sheet
from .worker import run_worker

# columns of the sheets: mode, view
COLUMNS = (*((GUIDED, v) for v in VIEWS), (DETAIL, "pose"), (DETAIL, "relit"), (UNGUIDED, "pose"), (RANDOM, "pose"))


def run_all(photos: list[Path], out: Path, steps: int, jobs: int) -> dict[str, dict]:
    """Run each photo in each mode: {photo's name: {"yaw": None, "runs": {mode: ...}, "likeness": {}}}.

    jobs: at once.
    """
    results = {p.name: {"yaw": None, "runs": {}, "likeness": {}} for p in photos}

    def one(mode: str, i: int) -> dict:
        # the other person is rendered in the unguided run's scene: both are fitted to the landmarks only
        seed = 1000 + i if mode == UNGUIDED else None
        return run_worker(photos[i], out / mode / photos[i].stem, ["--steps", str(steps), *RUNS[mode]], seed)

    with ThreadPoolExecutor(jobs) as pool:
        for mode in RUNS:
            for photo, r in zip(photos, pool.map(one, [mode] * len(photos), range(len(photos))), strict=True):
                if r["exit"] == 0:
                    r["seconds"] = json.loads((out / mode / photo.stem / "report.json").read_text())["seconds"]
                results[photo.name]["runs"][mode] = r
                took = f"{r['wall']:6.1f} s {r['peak_mb']:6.0f} MB" if "wall" in r else ""
                print(f"{mode:9} {photo.name:40} exit {r['exit']} {took} {r['error']}", flush=True)
    return results


def view_files(out: Path, photo: Path, runs: dict) -> dict[str, dict[str, Path]]:
    """{mode: {view: PNG}} of the modes that finished."""
    folders = {m: out / m / photo.stem / "views" for m in RUNS if runs[m]["exit"] == 0}
    if UNGUIDED in folders:
        folders[RANDOM] = folders[UNGUIDED] / "random"
    return {m: {v: folder / f"{v}.png" for v in VIEWS} for m, folder in folders.items()}


def photo_crop(out: Path, photo: Path, runs: dict) -> Image.Image | None:
    """The photo's crop as the guidance sees it: the first panel of `render.png`. None where no mode finished."""
    for mode in RUNS:
        if runs[mode]["exit"] == 0:
            with Image.open(out / mode / photo.stem / "render.png") as im:
                return im.crop((0, 0, im.height, im.height)).convert("RGB")
    return None


def load(files: dict[str, dict[str, Path]]) -> dict[str, dict[str, Image.Image]]:
    """Read the files of `view_files`."""
    pictures = {}
    for mode, views in files.items():
        for view, path in views.items():
            with Image.open(path) as im:
                pictures.setdefault(mode, {})[view] = im.convert("RGB")
    return pictures


def benchmark(
    photos: list[Path],
    out: Path,
    steps: int = SampleSettings.steps,
    jobs: int = 1,
    judges: Sequence[str] = (),
    packs: Sequence[str] = (),
) -> dict:
    """Run all photos, measure them and write all results into a folder.

    out: the folder.
    steps: of the sampler.
    jobs: photos at once. Times are a user's only at 1.
    judges: Python files with a class Judge.
    packs: more recognisers to ask, `.onnx` files or pack folders.
    Returns what `results.json` holds.
    """
    # imported here, because this module must not import torch
    from .likeness import recognisers
    from .summary import markdown, summarise

    known = recognisers(judges, packs)  # before the runs, so that a judge that cannot be loaded is reported at once
    results = run_all(photos, out, steps, jobs)

    import torch

    from fitdiff_core.pipeline import load_model

    from .consistency import seed_consistency
    from .page import write_page

    torch.set_num_threads(1)
    blocks, rows = measure_views(photos, out, results, known)
    out.mkdir(parents=True, exist_ok=True)
    if rows:
        titles = [f"{m}, {v}" for m, v in COLUMNS]
        contact_sheet(rows, out / "contact.jpg", ["photo", *titles], 1)
        # photos that may be measured can seldom be published, nor can their names
        contact_sheet([(labels[1:], images[1:]) for labels, images in rows], out / "renders.jpg", titles, 1)
    asked = [{"name": r.name, "guided": r.guided} for r in known]
    summary = summarise(results, asked)
    good = [p for p in photos if all(r["exit"] == 0 for r in results[p.name]["runs"].values())]
    summary["consistency"] = seed_consistency(good, out, steps, known)
    settings = {"checkpoint": load_model().id, "steps": steps, "jobs": jobs, "recognisers": asked}
    report = {"settings": settings, "summary": summary, "photos": results}
    write_json(out / "results.json", report)
    (out / "table.md").write_text(markdown(report), "utf-8")
    write_page(out / "report.html", report, blocks)
    return report


def measure_views(photos: list[Path], out: Path, results: dict[str, dict], known: Sequence) -> tuple[list[str], list]:
    """Add likeness and yaw to `results`. known: recognisers. Returns the page's HTML blocks and the sheet's rows."""
    from . import page
    from .likeness import score

    blocks, rows = [], []
    for photo in photos:
        found = results[photo.name]
        files = view_files(out, photo, found["runs"])
        pictures = load(files)
        if files:
            first = next(iter(files.values()))["pose"].parent / "views.json"
            found["yaw"] = json.loads(first.read_text())["yaw"]
        for mode in (m for m in MODES if m in files):
            found["likeness"][mode] = {view: score(photo, path, known) for view, path in files[mode].items()}
        crop = photo_crop(out, photo, found["runs"])
        blocks.append(page.block(photo.name, found, pictures, crop))
        if len(files) == len(MODES):
            labels = [cell(found["likeness"][m][v][known[0].name]) for m, v in COLUMNS]
            rows.append(([photo.stem[:32], *labels], [crop, *(pictures[m][v] for m, v in COLUMNS)]))
    return blocks, rows


@command
def main(argv: list[str] | None = None) -> int:
    p = arguments("evaluate.photos", __doc__, "benchmark_out")
    p.add_argument("--jobs", type=int, default=1, help="photos at once; times are a user's only at 1 (%(default)s)")
    args = p.parse_args(argv)
    benchmark(photos_in(args.photos, args.limit), args.out, args.steps, args.jobs, args.judge, args.recognizer)
    print((args.out / "table.md").read_text("utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
