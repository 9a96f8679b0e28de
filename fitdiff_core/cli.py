"""`fitdiff PHOTO [PHOTO ...]`: photos of one person become a folder with a GLB head, its maps and a preview.
`fitdiff drive AVATAR VIDEO` animates a head; see `fitdiff drive --help`."""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from . import drive_cli
from .cli_arguments import parse
from .cli_checks import check_device, check_out, is_avatar
from .config import guidance_settings, read_config, sample_settings
from .each_cli import run_each
from .errors import UserError, out_of_memory
from .memory import share_heap

if TYPE_CHECKING:  # torch is imported under the clock
    from torch import Tensor

    from .avatar import Avatar
    from .guidance import Guidance
    from .heads import Head, HeadSettings, Networks
    from .scene import Scene


class Stopwatch(dict):
    """Seconds per stage, by name. Stages may run side by side, so their sum can be more than `total`."""

    def __init__(self) -> None:
        super().__init__()
        self.start = time.perf_counter()

    @property
    def total(self) -> float:
        """Seconds since the watch was made."""
        return time.perf_counter() - self.start

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self[name] = round(self.get(name, 0.0) + time.perf_counter() - start, 3)


class Inputs(NamedTuple):
    """What a run works on: photos `[1, 3, H, W]`, a mask `[1, 1, H, W]` for each or None, and the networks.

    networks: None where an avatar file is loaded
    """

    photos: list[Tensor]
    masks: list[Tensor] | None
    networks: Networks | None


class Made(NamedTuple):
    """What a run leaves in memory. A scene and a guidance for each photo; without a photo a portrait's scene and no
    guidance. report: as in `report.json`."""

    avatar: Avatar
    scenes: list[Scene]
    guidance: list[Guidance]
    report: dict


def progress_bar(total: int):
    from tqdm import tqdm

    return tqdm(total=total, desc="sampling", unit="step", disable=not sys.stderr.isatty(), leave=False)


@cache
def networks_of(checkpoint: str | None, recognizer: str, device: str) -> Networks:
    """The networks, loaded once for all photos of a call."""
    from .heads import load_networks

    return load_networks(checkpoint, recognizer, device)


def load(args: argparse.Namespace, config: dict[str, Any]) -> Inputs:
    """Read the photos and masks, and load the networks."""
    from .image import load_photo

    if args.photo and is_avatar(args.photo[0]):
        return Inputs([], None, None)
    photos = [load_photo(path).to(args.device) for path in args.photo]
    masks = [load_photo(path).mean(1, keepdim=True).to(args.device) for path in args.mask or []] or None
    return Inputs(photos, masks, networks_of(config["checkpoint"], config["recognizer"], args.device))


def head_settings(args: argparse.Namespace, config: dict[str, Any]) -> HeadSettings:
    """Settings of the head from flags and config."""
    from .heads import HeadSettings

    sampling, guidance = sample_settings(config), guidance_settings(config)
    return HeadSettings(
        seed=args.seed,
        guided=not args.no_guidance,
        photo_detail=args.photo_detail,
        texture_size=config["texture_size"],
        hair=args.hair,
        sampling=sampling,
        guidance=guidance,
        skin_relief=args.skin_relief,
    )


def photo_warnings(paths: list[str], guidance: list[Guidance]) -> list[str]:
    """What hides much of the face in each photo, and which photos seem to show another person than the others."""
    from .guidance import describe_outlier, identity_outliers

    names = [f"{os.path.basename(p)} (photo {i} of {len(paths)})" for i, p in enumerate(paths, 1)]
    found = identity_outliers(guidance)
    hidden = [line for n, g in zip(names, guidance, strict=True) for line in g.target.photo.describe_hidden(n)]
    return hidden + [describe_outlier(names[i], names[k], share) for i, k, share in found]


def export(args: argparse.Namespace, out: Path, formats: list[tuple[str, str]], avatar: Avatar, scene: Scene) -> None:
    """Write the maps and a mesh file for each (format, unit)."""
    from .export import ExportOptions, write_avatar, write_maps

    flip, posed = args.normals == "down", scene if args.expression == "photo" else None
    write_maps(out, avatar.maps, flip, args.map_bits)
    levels = {"full": [""], "light": ["light"], "both": ["", "light"]}[args.lod]
    for (name, unit), level in ((f, level) for f in formats for level in (levels if f[0] == "glb" else [""])):
        options = ExportOptions(
            name,
            flip_green=flip,
            unit=unit,
            map_files=f"{args.map_bits}-bit" if name in ("obj", "ply") else "none",
            blendshapes=not args.no_blendshapes,
            rig=not args.no_rig,
            visemes=args.visemes,
            light=level == "light",
        )
        stem = "avatar_light" if level and args.lod == "both" else "avatar"
        write_avatar(out / f"{stem}.{name}", avatar, options, posed)


def mesh_formats(args: argparse.Namespace) -> list[tuple[str, str]]:
    """(format, unit) of each mesh file. Raises UserError for an unknown format, or a unit that it cannot have."""
    from .export import format_error

    names = [name.strip() for name in args.format.split(",")]
    formats = [(name, args.unit if names == ["glb"] or name != "glb" else "metres") for name in names]
    if wrong := next(filter(None, (format_error(*f) for f in formats)), None):
        raise UserError(wrong)
    return formats


def run(args: argparse.Namespace) -> dict:
    """Make the head, write its files, and return the report that is also written as `report.json`."""
    return make(args).report


def make(args: argparse.Namespace) -> Made:
    """`run`, with the head and its scenes kept: evaluations look at them from other sides."""
    clock = Stopwatch()
    with clock.stage("import"):
        from .avatar_file import SUFFIX, save_avatar
        from .export.viewer import script, write_viewer
        from .files import write_atomic
        from .heads import preview
        from .image import save_png
    config, formats = read_config(args.config, args.steps, args.face), mesh_formats(args)
    check_device(args.device)
    out = Path(args.out)
    check_out(out)
    if args.viewer:
        script()  # a plain `pip install` lacks the page's parts: said before the sampling

    settings = head_settings(args, config)
    with clock.stage("load"):
        inputs = load(args, config)
    head, guidance, warnings = find_head(args, config, settings, inputs, clock)
    for line in head.notes:
        print(f"note: {line}", file=sys.stderr)
    avatar, scenes, notes = head

    def write() -> None:
        with clock.stage("export"):
            out.mkdir(parents=True, exist_ok=True)
            export(args, out, formats, avatar, scenes[0])
            if args.viewer:
                write_viewer(out / "viewer.html", avatar, scenes[0].detach())
            if args.save_avatar:
                save_avatar(out / f"head{SUFFIX}", avatar, scenes[0].detach())

    with clock.stage("render"):
        picture, images = preview(head, guidance, config["render_size"], args.light, write)
    save_png(out / "render.png", picture)
    similarity = []
    if guidance:
        with clock.stage("similarity"):
            similarity = [round(g.target.similarity(image), 4) for g, image in zip(guidance, images, strict=True)]
    shown = [(g.target.photo.shown(), g.target.photo.hidden()) for g in guidance]
    report = make_report(args, config, inputs, similarity, shown, [*warnings, *notes], clock)
    write_atomic(out / "report.json", (json.dumps(report, indent=2) + "\n").encode())
    return Made(avatar, scenes, guidance, report)


def find_head(
    args: argparse.Namespace, config: dict[str, Any], settings: HeadSettings, inputs: Inputs, clock: Stopwatch
) -> tuple[Head, list[Guidance], list[str]]:
    """The head of the photos, of nobody, or of an avatar file; the guidance of each photo; warnings about them."""
    from . import pipeline
    from .heads import Head, fit_head, make_head

    photos, masks, networks = inputs
    if networks is None:
        with clock.stage("load"):
            avatar, scenes = load_head_file(args.photo[0], args.device)
        if args.hair != "auto":  # else as it was saved
            avatar, _ = pipeline.add_hair(avatar, args.hair, seed=args.seed)
        return Head(avatar, scenes), [], []
    fitted = fit_head(photos, networks, settings.guidance, config["which"], masks=masks, stage=clock.stage)
    warnings = photo_warnings(args.photo, fitted.guidance) if photos else []
    for line in warnings:
        print(f"warning: {line}", file=sys.stderr)
    with progress_bar(config["steps"]) as bar:
        head = make_head(photos, networks, fitted, settings, masks, clock.stage, lambda i, n, denoised: bar.update())
    return head, fitted.guidance, warnings


def load_head_file(path: str, device: str) -> tuple[Avatar, list[Scene]]:
    """The head of an avatar file, and its scene or a studio portrait. Raises UserError for a batch."""
    from .avatar_file import load_avatar
    from .scene import Scene

    avatar, scene = load_avatar(path, device=device)
    if len(avatar) != 1 or (scene is not None and len(scene) != 1):
        raise UserError(f"{path} holds {len(avatar)} heads; the command line takes files of one head.")
    return avatar, [scene or Scene.portrait(1, device)]


def rounded(shares: dict[str, float]) -> dict[str, float]:
    """Shares to three digits."""
    return {name: round(share, 3) for name, share in shares.items()}


def make_report(
    args: argparse.Namespace,
    config: dict[str, Any],
    inputs: Inputs,
    similarity: list[float],
    shown: list[tuple[dict[str, float], dict[str, float]]],
    warnings: list[str],
    clock: Stopwatch,
) -> dict[str, Any]:
    """What `report.json` holds. similarity: of each photo to its render, by the guiding recogniser.
    shown: for each photo, how much of the whole face it shows (`FittedPhoto.shown`), and what share of the face's side
    in view each kind of thing hides."""
    import torch

    from . import __version__

    networks = inputs.networks
    return {
        "photo": os.path.basename(args.photo[0]) if args.photo and networks else None,
        **({} if networks else {"avatar": os.path.basename(args.photo[0])}),
        "photos": [
            {"photo": os.path.basename(p), "similarity": s, "face": rounded(face), "hidden": rounded(hidden)}
            for p, s, (face, hidden) in zip(args.photo if networks else [], similarity, shown, strict=True)
        ],
        "warnings": warnings,
        "seed": args.seed,
        "steps": config["steps"],
        "guided": bool(inputs.photos) and not args.no_guidance,
        "photo_detail": args.photo_detail,
        "skin_relief": args.skin_relief,
        "hair": args.hair,
        "similarity": {networks.recognizer.name: similarity[0]} if networks and similarity else {},
        "seconds": dict(clock, total=round(clock.total, 3)),
        **({"checkpoint": networks.model.id} if networks else {}),
        "device": str(args.device),
        "versions": {"fitdiff": __version__, "torch": torch.__version__, "python": platform.python_version()},
    }


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 some photos of --each failed, 2 user error (one line on stderr), 130 interrupted."""
    # Threads that wait by spinning take the core from those they wait for: on a busy machine a step takes 30 times as
    # long. Threads that sleep at once make an idle machine a quarter slower. So they spin for some microseconds.
    # OpenMP reads this when torch is loaded.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    share_heap()
    argv = sys.argv[1:] if argv is None else argv
    try:
        if argv[:1] == ["drive"]:
            print(drive_cli.run(argv[1:]))
            return 0
        args = parse(argv)
        if args.each:
            return run_each(args, run)
        report = run(args)
    except UserError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as e:
        if not out_of_memory(e):
            raise
        print(
            "error: out of memory; lower texture_size or render_size, close other programs, or use --device cpu",
            file=sys.stderr,
        )
        return 2
    except OSError as e:
        print(f"error: {e}; check free space and permissions of --out", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    similarity = "".join(f", similarity {v:.2f} ({k})" for k, v in report["similarity"].items())
    files = f"avatar.{args.format.replace(',', ', avatar.')}"
    print(f"{args.out}: {files} and maps in {report['seconds']['total']:.0f} s{similarity}")
    return 0


def command() -> int:
    """`main` as a process of its own. It ends at once: the system takes its memory back."""
    status = main()
    gc.freeze()  # else the interpreter looks for cycles in all of it, .3 s
    return status
