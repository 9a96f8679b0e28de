"""Run one photo through the command line's code in a process of its own, then render the head from other sides.

    python -m fitdiff_lab.evaluate.photos.worker VIEWS_DIR [--random SEED] -- ARGUMENTS OF python -m fitdiff_core

Until it prints DONE it does only what a user's run does, so that seconds and peak memory are those of a user. Then it
renders the head into VIEWS_DIR (`views.looks`) and writes `views.json`. --random: also a new person of that seed in the
photo's scene, into VIEWS_DIR/random. It prints LEAVING last: to end a process takes time too (up to seconds with
torch), so `run_worker` adds the time from there to the end. `python -m fitdiff_lab.evaluate.photos` starts it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fitdiff_core.cli import Made, make, parse
from fitdiff_core.errors import command

from ...cli import command_parser

DONE, LEAVING = "fitdiff benchmark: done, peak MB", "fitdiff benchmark: leaving"


def peak_mb() -> float:
    """Highest resident memory of this process so far, MB."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024**2 if sys.platform == "darwin" else 1024)


def run_worker(photo: Path, out: Path, extra: list[str], random_seed: int | None = None) -> dict:
    """Start a worker and wait for it.

    photo: the photo. out: folder of the run. extra: more options of the command line. random_seed: of a new person.
    Returns {"exit": status, "error": last line of stderr, "wall": seconds, "peak_mb": MB}; the last two are of the
    user's part and missing where it failed.
    """
    random = [] if random_seed is None else ["--random", str(random_seed)]
    command = [
        sys.executable,
        "-m",
        "fitdiff_lab.evaluate.photos.worker",
        str(out / "views"),
        *random,
        "--",
        str(photo),
        "--out",
        str(out),
        *extra,
    ]
    start, left, result = time.perf_counter(), 0.0, {}
    with tempfile.TemporaryFile("w+") as errors:  # a pipe that is not read would block the worker
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        for line in process.stdout:
            if line.startswith(DONE):
                result = {"wall": time.perf_counter() - start, "peak_mb": float(line.removeprefix(DONE))}
            elif line.startswith(LEAVING):
                left = time.perf_counter()
        code = process.wait()
        if code == 0:
            result["wall"] += time.perf_counter() - left
        errors.seek(0)
        lines = errors.read().strip().splitlines()
    return {"exit": code, "error": lines[-1] if code and lines else "", **result}


def save_views(made: Made, folder: Path) -> None:
    """Render the head from other sides and in another light, and write views.json."""
    from fitdiff_core.image import save_png

    from .common import write_json
    from .views import face_centre, light_from, render_looks, yaw

    for name, image in render_looks(made.avatar, made.scenes[0]).items():
        save_png(folder / f"{name}.png", image)
    fitted = made.guidance[0].scene
    write_json(
        folder / "views.json",
        {
            "yaw": round(yaw(fitted, face_centre(made.avatar, fitted)), 1),
            "light_from": [round(v, 3) for v in light_from(made.scenes[0].light)[0].tolist()],
        },
    )


def save_random(made: Made, folder: Path, args: argparse.Namespace, seed: int) -> None:
    """Render a new person in the photo's scene: the baseline of the likeness."""
    from fitdiff_core import pipeline
    from fitdiff_core.config import read_config
    from fitdiff_core.image import save_png

    from .views import render_looks

    config = read_config(args.config, args.steps)
    model = pipeline.load_model(config["checkpoint"], args.device)
    latent, _ = pipeline.sample(model, seed=seed, steps=config["steps"], sampler=config["sampler"])
    avatar = pipeline.decode(model, latent, config["texture_size"])
    for name, image in render_looks(avatar, made.guidance[0].scene).items():
        save_png(folder / f"{name}.png", image)


@command
def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    cut = argv.index("--") if "--" in argv else len(argv)
    p = command_parser("evaluate.photos.worker", __doc__)
    p.add_argument("views", type=Path, help="folder of the renders")
    p.add_argument("--random", type=int, metavar="SEED", help="render a new person of this seed too")
    own = p.parse_args(argv[:cut])
    args = parse(argv[cut + 1 :])
    made = make(args)
    print(f"{DONE} {peak_mb():.1f}", flush=True)
    if made.guidance:
        save_views(made, own.views)
        if own.random is not None:
            save_random(made, own.views / "random", args, own.random)
    print(LEAVING, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
