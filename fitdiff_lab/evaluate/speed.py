"""Measure the seconds and the memory of a run, stage by stage, beside an older checkout.

    python -m fitdiff_lab.evaluate.speed [PHOTO] [--against DIR] [-n 7] [--threads 2] [--growth]

Cold: `python -m fitdiff_core PHOTO` in a process of its own, N times. With `--against` each round also runs the other
checkout, so a busy machine slows both; what counts is the ratio of the medians. Warm: the same steps a second time in
one process, as in a running ComfyUI. `--growth` adds the time by texture size, number of photos and batch, and a guided
step against the sum of its parts. Seconds are wall time, memory is the peak of the process.
"""

from __future__ import annotations

import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fitdiff_core.errors import UserError, command

from ..cli import command_parser

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "samples" / "eileen_collins.jpg"


def cold(checkout: Path, photo: Path, options: list[str], threads: int) -> dict[str, float]:
    """One run of a checkout's command line: seconds of each stage, `wall` of the whole process, peak `megabytes`."""
    with tempfile.TemporaryDirectory() as out:
        environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": str(threads)}
        start = time.perf_counter()
        child = subprocess.Popen(
            [sys.executable, "-m", "fitdiff_core", str(photo), "--out", out, *options],
            cwd=checkout,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            message = child.stderr.read().decode() if child.stderr else ""
            raise UserError(f"The run of {checkout} failed: {message.strip()}")
        seconds = json.loads((Path(out) / "report.json").read_text("utf-8"))["seconds"]
    return {**seconds, "wall": wall, "megabytes": usage.ru_maxrss / 1024}


def medians(runs: list[dict[str, float]]) -> dict[str, float]:
    """Median of each figure over runs."""
    names = dict.fromkeys(k for run in runs for k in run)
    return {k: statistics.median(run[k] for run in runs if k in run) for k in names}


def warm(photo: Path, threads: int, rounds: int) -> dict[str, float]:
    """Seconds of each stage with everything loaded: medians of the rounds after the first."""
    import torch

    from fitdiff_core.cli import Stopwatch
    from fitdiff_core.export import ExportOptions, write_avatar
    from fitdiff_core.heads import HeadSettings, fit_head, load_networks, make_head, preview
    from fitdiff_core.image import load_photo

    torch.set_num_threads(threads)
    networks, image, found = load_networks(), load_photo(photo), []
    with tempfile.TemporaryDirectory() as out:
        for i in range(rounds + 1):
            clock, start = Stopwatch(), time.perf_counter()
            settings = HeadSettings(seed=i, photo_detail=1.0)
            fitted = fit_head([image], networks, settings.guidance, stage=clock.stage)
            head = make_head([image], networks, fitted, settings, stage=clock.stage)
            with clock.stage("render"):
                preview(head, fitted.guidance, 512)
            with clock.stage("export"):
                write_avatar(Path(out) / "avatar.glb", head.avatar, ExportOptions("glb"))
            found.append({**clock, "wall": time.perf_counter() - start})
    return medians(found[1:])


def growth(photo: Path, threads: int) -> dict[str, float]:
    """Seconds by texture size, photos and batch, and a guided step over the sum of its parts."""
    import torch

    from fitdiff_core import pipeline
    from fitdiff_core.image import load_photo

    from .photos.step_cost import measure_step_cost

    torch.set_num_threads(threads)
    model, recognizer, image = pipeline.load_model(), pipeline.load_recognizer(), load_photo(photo)
    identity = pipeline.encode(image, recognizer)
    fitted = pipeline.fit_photos(image, model.head)

    def seconds(f, *args, **options) -> float:
        start = time.perf_counter()
        f(*args, **options)
        return time.perf_counter() - start

    found: dict[str, float] = {}
    for count in (1, 2, 4):
        guidance = pipeline.prepare_guidance(fitted * count, recognizer)
        found[f"guided, {count} photos"] = seconds(pipeline.sample, model, identity, guidance)
    for batch in (1, 8):
        found[f"unguided, batch of {batch}, each"] = seconds(pipeline.sample, model, identity, batch=batch) / batch
    latent, scene = pipeline.sample(model, identity, pipeline.prepare_guidance(fitted, recognizer), steps=4)
    for size in (512, 1024, 2048):
        avatar = pipeline.decode(model, latent, size)
        found[f"detail at {size}"] = seconds(pipeline.add_photo_detail, model, avatar, scene, image, identity=identity)
        found[f"relief at {size}"] = seconds(pipeline.add_skin_relief, avatar)
    found["guided step over its parts"] = measure_step_cost(photo)["ratio"]
    return found


def table(rows: dict[str, dict[str, float]]) -> str:
    """Markdown: a row for each figure, a column for each of `rows`; with two columns also the ratio first / second."""
    names = list(dict.fromkeys(k for row in rows.values() for k in row))
    ratio = len(rows) == 2
    lines = ["| | " + " | ".join(rows) + (" | ratio |" if ratio else " |"), "|---" * (len(rows) + 1 + ratio) + "|"]
    for name in names:
        values = [row.get(name) for row in rows.values()]
        cells = ["" if v is None else f"{v:.2f}" for v in values]
        if ratio:
            cells.append(f"{values[0] / values[1]:.2f}" if all(values) else "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


@command
def main(argv: list[str] | None = None) -> int:
    parser = command_parser("evaluate.speed", __doc__)
    parser.add_argument("photo", nargs="?", default=str(SAMPLE))
    parser.add_argument("--against", metavar="DIR", help="another checkout, measured in turn with this one")
    parser.add_argument("--options", default="", help="of this checkout's command line, as one text")
    parser.add_argument("--against-options", default="--photo-detail", help="of the other's (default: %(default)s)")
    parser.add_argument("-n", type=int, default=7, help="rounds (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="(default: %(default)s)")
    parser.add_argument("--growth", action="store_true", help="also by texture size, photos and batch")
    args = parser.parse_args(argv)
    photo = Path(args.photo).resolve()
    sides = {"this": (ROOT, shlex.split(args.options))}
    if args.against:
        sides["against"] = (Path(args.against).resolve(), shlex.split(args.against_options))
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for _ in range(args.n):
        for name, (checkout, options) in sides.items():
            runs[name].append(cold(checkout, photo, options, args.threads))
    print(f"Cold, medians of {args.n}, {args.threads} threads\n\n{table({k: medians(v) for k, v in runs.items()})}")
    print(f"\nWarm\n\n{table({'this': warm(photo, args.threads, max(1, args.n // 2))})}")
    if args.growth:
        print(f"\nGrowth\n\n{table({'this': growth(photo, args.threads)})}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
