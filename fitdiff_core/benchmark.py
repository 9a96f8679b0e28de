"""`python -m fitdiff_core.benchmark PHOTOS --out DIR`: the main job over a folder of photos, as a person would run it.

Each photo goes through the command line in a process of its own (so that seconds and peak memory are a user's), guided
and unguided; a random identity rendered in the photo's scene is the floor. Writes `contact.jpg` (photo | guided | relit
| unguided | random), `renders.jpg` (the same without the photo), `results.json` and a table on stdout. `--judge FILE` names a Python file with a class `Judge` whose
`similarity(photo, render)` returns a cosine and whose `embed(photo)` returns a unit vector or None where it finds no
face: a recogniser that took no part in the guidance.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from PIL import Image, ImageDraw

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
PANEL = 256


def run_cli(photo: Path, out: Path, extra: list[str]) -> dict:
    """One run of the command line -> exit status, last line of stderr, wall seconds, peak memory in MB."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "fitdiff_core", str(photo), "--out", str(out), *extra], stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    )
    error = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    peak = usage.ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)
    line = error.strip().splitlines()[-1] if error.strip() else ""
    return {"exit": process.returncode, "error": line, "wall": time.perf_counter() - start, "peak_mb": peak}


def panels(folder: Path) -> list[Image.Image]:
    """`render.png` cut into its square panels: photo, render, relit."""
    with Image.open(folder / "render.png") as im:
        side = im.height
        return [im.crop((i * side, 0, (i + 1) * side, side)).convert("RGB") for i in range(im.width // side)]


def random_renders(photos: Iterable[Path], out: Path, steps: int) -> dict[str, Path]:
    """A new identity for each photo, rendered in the photo's scene."""
    from . import pipeline
    from .errors import UserError
    from .image import load_photo, save_png

    model, recognizer = pipeline.load_model(), pipeline.load_recognizer()
    done = {}
    for i, photo in enumerate(photos):
        try:
            guidance = pipeline.prepare_guidance(load_photo(photo), model, recognizer)
        except UserError:
            continue
        latent, _ = pipeline.sample(model, seed=1000 + i, steps=steps)
        image, _ = pipeline.render_avatar(pipeline.decode(model, latent), guidance.scene, 512)
        done[photo.name] = save_png(out / "random" / f"{photo.stem}.png", image)
    return done


def consistency(photos: Iterable[Path], out: Path, steps: int, judge) -> dict:
    """Unguided portraits from two seeds of each photo's identity: is it one person, and another than the next photo's?

    Mean distance of the built-in recogniser (below 0.6: the same person, dlib's own calibration) and mean cosine of the
    judge, between two seeds of one identity and between two identities at one seed.
    """
    from . import pipeline
    from .errors import UserError
    from .image import load_photo, save_png

    model, recognizer = pipeline.load_model(), pipeline.load_recognizer()
    embeddings: list[list[torch.Tensor]] = []
    files: list[list[Path]] = []
    for photo in photos:
        try:
            identity = pipeline.encode(load_photo(photo), recognizer)
            row, paths = [], []
            for seed in (0, 1):
                latent, scene = pipeline.sample(model, identity, seed=seed, steps=steps)
                image, _ = pipeline.render_avatar(pipeline.decode(model, latent), scene, 384)
                row.append(pipeline.encode(image, recognizer).embedding)
                paths.append(save_png(out / "seeds" / f"{photo.stem}_{seed}.png", image))
        except UserError:
            continue
        embeddings.append(row)
        files.append(paths)
    n = len(embeddings)
    others = [(i, j) for i in range(n) for j in range(i + 1, n)]
    result = {
        "identities": n,
        "two_seeds_distance": round(mean(float(recognizer.distance(a, b)) for a, b in embeddings), 3),
        "two_identities_distance": round(
            mean(float(recognizer.distance(embeddings[i][0], embeddings[j][0])) for i, j in others), 3
        ),
    }
    if judge:
        marks = [[judge.embed(str(f)) for f in row] for row in files]

        def cosine(a, b) -> float:
            return float("nan") if a is None or b is None else float(a @ b)

        result["two_seeds_judge"] = round(mean(cosine(a, b) for a, b in marks), 3)
        result["two_identities_judge"] = round(mean(cosine(marks[i][0], marks[j][0]) for i, j in others), 3)
    return result


def load_judge(path: str):
    spec = importlib.util.spec_from_file_location("judge", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Judge()


def contact_sheet(rows: list[tuple[str, list[Image.Image]]], path: Path) -> None:
    columns = max(len(images) for _, images in rows)
    half = (len(rows) + 1) // 2  # two photos side by side keep the sheet readable
    sheet = Image.new("RGB", (2 * columns * PANEL, half * PANEL))
    draw = ImageDraw.Draw(sheet)
    for i, (label, images) in enumerate(rows):
        x, y = (i // half) * columns * PANEL, (i % half) * PANEL
        for k, image in enumerate(images):
            sheet.paste(image.resize((PANEL, PANEL), Image.Resampling.LANCZOS), (x + k * PANEL, y))
        draw.text((x + 4, y + 4), label, fill=(255, 255, 0))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, quality=88)


def mean(values: Iterable[float]) -> float:
    finite = [v for v in values if v == v]
    return statistics.fmean(finite) if finite else float("nan")


def benchmark(photos: list[Path], out: Path, steps: int, jobs: int, judge_path: str | None) -> dict:
    """Run everything and return what `results.json` holds."""
    modes = {"guided": ["--steps", str(steps)], "unguided": ["--steps", str(steps), "--no-guidance"]}
    results: dict[str, dict] = {p.name: {} for p in photos}
    with ThreadPoolExecutor(jobs) as pool:
        for mode, extra in modes.items():
            outs = [out / mode / p.stem for p in photos]
            for photo, r in zip(photos, pool.map(run_cli, photos, outs, [extra] * len(photos)), strict=True):
                results[photo.name][mode] = r
                print(f"{mode:9} {photo.name:40} exit {r['exit']} {r['wall']:6.1f} s {r['peak_mb']:6.0f} MB {r['error']}", flush=True)
    torch.set_num_threads(1)
    good = [p for p in photos if results[p.name]["guided"]["exit"] == 0 == results[p.name]["unguided"]["exit"]]
    random = random_renders(good, out, steps)
    judge = load_judge(judge_path) if judge_path else None
    rows = []
    for photo in good:
        guided, plain = panels(out / "guided" / photo.stem), panels(out / "unguided" / photo.stem)
        renders = {"guided": guided[1], "unguided": plain[1], "random": Image.open(random[photo.name]).convert("RGB")}
        label = photo.stem[:16]
        if judge:
            scores = {k: float(judge.similarity(str(photo), im)) for k, im in renders.items()}
            results[photo.name]["judge"] = scores
            label = "  ".join(f"{v:.2f}" for v in scores.values())
        rows.append((label, [guided[0], guided[1], guided[2], renders["unguided"], renders["random"]]))
    if rows:
        contact_sheet(rows, out / "contact.jpg")
        # photos one may measure on are seldom photos one may publish
        contact_sheet([(label, images[1:]) for label, images in rows], out / "renders.jpg")
    summary = {"photos": len(photos), "finished": len(good), "steps": steps, "jobs": jobs}
    for mode in modes:
        runs = [r[mode] for r in results.values() if r[mode]["exit"] == 0]
        if runs:
            summary[mode] = {
                "median_wall_s": round(statistics.median(r["wall"] for r in runs), 1),
                "max_peak_mb": round(max(r["peak_mb"] for r in runs)),
            }
    if judge:
        scored = [r["judge"] for r in results.values() if "judge" in r]
        summary["judge_mean"] = {k: round(mean(s[k] for s in scored), 3) for k in ("guided", "unguided", "random")}
        summary["judge_guided_at_least_0.2"] = sum(s["guided"] >= 0.2 for s in scored)
        summary["judge_no_face"] = {k: sum(s[k] != s[k] for s in scored) for k in ("guided", "unguided", "random")}
    summary["consistency"] = consistency(good, out, steps, judge)
    return {"summary": summary, "photos": results}


def main() -> None:
    p = argparse.ArgumentParser("fitdiff_core.benchmark", description=__doc__)
    p.add_argument("photos", type=Path, help="folder of photos")
    p.add_argument("--out", type=Path, default=Path("benchmark_out"))
    p.add_argument("--steps", type=int, default=50)
    p.add_argument("--jobs", type=int, default=1, help="photos at once; times are a user's only at 1")
    p.add_argument("--judge", help="Python file with a class Judge")
    p.add_argument("--limit", type=int, help="only the first N photos")
    args = p.parse_args()
    photos = sorted(q for q in args.photos.iterdir() if q.suffix.lower() in SUFFIXES)[: args.limit]
    report = benchmark(photos, args.out, args.steps, args.jobs, args.judge)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "results.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report["summary"], indent=2))


if __name__ == "__main__":
    main()
