"""`python -m fitdiff_core PHOTO [PHOTO ...]`: a person's photo, or several, become a folder with a GLB head, its maps and a preview."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .errors import UserError, out_of_memory

if TYPE_CHECKING:  # torch is imported under the clock
    from .avatar import Avatar
    from .guidance import Guidance
    from .scene import Scene

DEFAULTS = {"steps": 50, "sampler": "ddim", "texture_size": 512, "render_size": 512, "which": "largest"}


class Stopwatch(dict):
    """Seconds per stage, by name."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self[name] = round(self.get(name, 0.0) + time.perf_counter() - start, 3)


def parse(argv: list[str] | None) -> argparse.Namespace:
    p = argparse.ArgumentParser("fitdiff_core", description=__doc__, allow_abbrev=False)
    p.add_argument(
        "photo", nargs="*", help="a photo with a face, or several of one person; left out, a new person is sampled"
    )
    p.add_argument("--out", default="fitdiff_out", help="folder to write (default: %(default)s)")
    p.add_argument("--seed", type=int, default=0, help="the same seed gives the same head (default: %(default)s)")
    p.add_argument("--steps", type=int, help=f"diffusion steps (default: {DEFAULTS['steps']})")
    p.add_argument("--no-guidance", action="store_true", help="sample from the identity alone: quicker, less alike")
    p.add_argument(
        "--photo-detail",
        nargs="?",
        const=1.0,
        default=0.0,
        type=float,
        metavar="STRENGTH",
        help="add the (first) photo's own detail where it is seen well, 0 to 1 (default: off; without a number: 1)",
    )
    p.add_argument(
        "--mask",
        action="append",
        metavar="FILE",
        help="picture of a photo's size, white where it may be used (default: hair and hands are found); with several photos one for each",
    )
    p.add_argument("--device", default="cpu", help="cpu, cuda, mps, ... (default: %(default)s)")
    export = p.add_argument_group("files")
    export.add_argument(
        "--format", default="glb", metavar="F,F", help="mesh files: glb, obj, ply, usdz (default: %(default)s)"
    )
    export.add_argument("--expression", choices=("neutral", "photo"), default="neutral", help="photo: as in the photo")
    export.add_argument("--no-blendshapes", action="store_true", help="a GLB without the 52 ARKit morph targets")
    export.add_argument(
        "--normals", choices=("up", "down"), default="up", help="green of the normal map; down for Unreal"
    )
    export.add_argument(
        "--unit", choices=("metres", "centimetres"), default="metres", help="of obj, ply and usdz; a GLB is in metres"
    )
    export.add_argument("--map-bits", type=int, choices=(8, 16), default=8, help="bits a channel of the maps' PNGs")
    p.add_argument("--config", help="JSON file with further settings; see docs/cli.md")
    args = p.parse_intermixed_args(argv)  # photos before and after the flags
    if not 0 <= args.photo_detail <= 1:
        raise UserError(f"--photo-detail must be from 0 to 1 (got {args.photo_detail}).")
    if args.photo_detail and (not args.photo or args.no_guidance):
        raise UserError("--photo-detail needs a photo that the head is fitted to: give one, without --no-guidance.")
    if args.mask and (len(args.mask) != len(args.photo) or args.no_guidance):
        raise UserError(
            f"--mask is for photos that the head is fitted to, one for each: {len(args.mask)} masks, {len(args.photo)} photos."
        )
    if args.seed < 0:
        raise UserError(f"--seed must not be negative (got {args.seed}).")
    return args


def read_config(args: argparse.Namespace) -> dict:
    """Defaults, then the config file, then the flags. Raises UserError for unknown keys and wrong types."""
    from .pipeline import CFG, VARIATION  # not before `make` has started the clock: torch comes with it

    config = DEFAULTS | {
        "cfg_scale": CFG,
        "variation": VARIATION,
        "checkpoint": None,
        "recognizer": "built-in",
        "weights": {},
        "sigma_window": None,
    }
    if args.config:
        try:
            given = json.loads(Path(args.config).read_text("utf-8"))
        except (OSError, ValueError, RecursionError) as e:
            raise UserError(f"Cannot read the config {args.config} as JSON: {e}") from e
        if not isinstance(given, dict):
            raise UserError(f"The config {args.config} must hold one JSON object.")
        if unknown := sorted(set(given) - set(config)):
            raise UserError(
                f"Unknown setting in {args.config}: {', '.join(unknown)}. Known: {', '.join(sorted(config))}."
            )
        config.update(given)
    if args.steps is not None:
        config["steps"] = args.steps
    for key in ("steps", "texture_size", "render_size"):
        if type(config[key]) is not int or not 1 <= config[key] <= 8192:
            raise UserError(f"{key} must be a whole number from 1 to 8192 (got {config[key]!r}).")
    if not is_number(config["cfg_scale"]):
        raise UserError(f"cfg_scale must be a number (got {config['cfg_scale']!r}).")
    if not is_number(config["variation"]) or not 0 <= config["variation"] <= 1:
        raise UserError(f"variation must be a number from 0 to 1 (got {config['variation']!r}).")
    for key in ("checkpoint", "recognizer", "sampler"):
        if not isinstance(config[key], str) and not (key == "checkpoint" and config[key] is None):
            raise UserError(f"{key} must be text (got {config[key]!r}).")
    if not isinstance(config["weights"], dict):
        raise UserError(f'weights must be an object such as {{"identity": 1.0}} (got {config["weights"]!r}).')
    window = config["sigma_window"]
    if window is not None and not (isinstance(window, list) and len(window) == 2 and all(map(is_number, window))):
        raise UserError(f"sigma_window must be two numbers, [start, end] (got {window!r}).")
    return config


def is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e9


def check_out(out: Path) -> None:
    """UserError where files could not be written there: better now than after the sampling."""
    nearest = next((p for p in (out, *out.absolute().parents) if p.exists()), out)
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(
            f"Cannot write into --out {out}: {nearest} is not a folder with write permission. Choose another."
        )


def progress_bar(total: int):
    from tqdm import tqdm

    return tqdm(total=total, desc="sampling", unit="step", disable=not sys.stderr.isatty(), leave=False)


class Made(NamedTuple):
    """What the main job leaves in memory. A scene and a guidance for each photo (without one a portrait's scene and no
    guidance); report: as in `report.json`."""

    avatar: Avatar
    scenes: list[Scene]
    guidance: list[Guidance]
    report: dict


def run(args: argparse.Namespace) -> dict:
    """Do the main job and return the report that is also written as `report.json`."""
    return make(args).report


def make(args: argparse.Namespace) -> Made:
    """`run`, with the head and its scene kept: the benchmark looks at them from other sides."""
    clock = Stopwatch()
    with clock.stage("import"):
        import torch

        from . import __version__, pipeline
        from .export import ExportOptions, format_error, write_avatar, write_maps
        from .guidance import GuidanceWeights, describe_stranger
        from .image import load_photo, save_png, write_atomic
        from .render import Light
    config, formats = read_config(args), [name.strip() for name in args.format.split(",")]
    units = [args.unit if formats == ["glb"] or name != "glb" else "metres" for name in formats]
    if wrong := next(filter(None, map(format_error, formats, units)), None):
        raise UserError(wrong)
    try:
        torch.zeros(1, device=args.device).item()
    except (RuntimeError, AssertionError) as e:
        raise UserError(
            f"The device '{args.device}' cannot be used here ({str(e).splitlines()[0]}); try --device cpu."
        ) from e
    out = Path(args.out)
    check_out(out)

    with clock.stage("load"):
        photos = [load_photo(path).to(args.device) for path in args.photo]
        masks = [load_photo(path).mean(1, keepdim=True).to(args.device) for path in args.mask or []] or None
        model = pipeline.load_model(config["checkpoint"], args.device)
        recognizer = pipeline.load_recognizer(config["recognizer"], args.device)
    identity, guidance, warnings = None, [], []
    if photos:
        with clock.stage("identity"):
            conditioner = recognizer
            if recognizer.name != model.recognizer:
                conditioner = pipeline.load_recognizer(model.recognizer, args.device)
            identity = pipeline.encode(photos, conditioner, config["which"])
        with clock.stage("scene"):
            try:
                weights = GuidanceWeights(**config["weights"])
            except TypeError as e:
                raise UserError(f"Unknown guidance weight in the config: {e}.") from e
            window = config["sigma_window"] and tuple(config["sigma_window"])
            guidance = pipeline.prepare_photos(photos, model, recognizer, weights, window, config["which"], masks=masks)
            names = [f"{os.path.basename(p)} (photo {i} of {len(photos)})" for i, p in enumerate(args.photo, 1)]
            warnings = [describe_stranger(names[i], names[k], share) for i, k, share in pipeline.strangers(guidance)]
        for line in warnings:
            print(f"warning: {line}", file=sys.stderr)

    with clock.stage("sample"), progress_bar(config["steps"]) as bar:
        latent, scenes = pipeline.sample_scenes(
            model,
            identity,
            None if args.no_guidance else guidance or None,
            args.seed,
            config["steps"],
            config["cfg_scale"],
            sampler=config["sampler"],
            callback=lambda i, n, denoised: bar.update(),
            variation=config["variation"],
        )
    if guidance and args.no_guidance:
        scenes = [g.scene for g in guidance]
    with clock.stage("decode"):
        avatar = pipeline.decode(model, latent, config["texture_size"])
    if args.photo_detail:
        with clock.stage("detail"):
            avatar = pipeline.add_photo_detail(
                model,
                avatar,
                scenes[0],
                photos[0],
                masks and masks[0],
                args.photo_detail,
                identity=identity,
                seed=args.seed,
            ).avatar
    with clock.stage("render"):
        size, side_light = config["render_size"], Light.preset("side").to(args.device)
        images = [pipeline.render_avatar(avatar, scene, size)[0] for scene in scenes]
        relit = [pipeline.render_avatar(avatar, scene, size, light=side_light)[0] for scene in scenes]
        crops = [torch.nn.functional.interpolate(g.photo, (size, size), mode="bicubic").clamp(0, 1) for g in guidance]
        columns = [crops, images, relit] if crops else [images, relit]
    similarity = []
    if guidance:
        with clock.stage("similarity"):
            similarity = [round(g.similarity(image), 4) for g, image in zip(guidance, images, strict=True)]
    with clock.stage("export"):
        out.mkdir(parents=True, exist_ok=True)
        save_png(out / "render.png", torch.cat([torch.cat(column, 2) for column in columns], 3))
        flip, posed = args.normals == "down", scenes[0] if args.expression == "photo" else None
        write_maps(out, avatar.maps, flip, args.map_bits)
        for name, unit in zip(formats, units, strict=True):
            options = ExportOptions(
                name,
                flip_green=flip,
                unit=unit,
                map_files=f"{args.map_bits}-bit" if name in ("obj", "ply") else "none",
                blendshapes=not args.no_blendshapes,
            )
            write_avatar(out / f"avatar.{name}", avatar, options, posed)

    report = {
        "photo": os.path.basename(args.photo[0]) if args.photo else None,
        "photos": [
            {"photo": os.path.basename(p), "similarity": s} for p, s in zip(args.photo, similarity, strict=True)
        ],
        "warnings": warnings,
        "seed": args.seed,
        "steps": config["steps"],
        "guided": bool(guidance) and not args.no_guidance,
        "photo_detail": args.photo_detail,
        "similarity": {recognizer.name: similarity[0]} if similarity else {},
        "seconds": dict(clock, total=round(sum(clock.values()), 3)),
        "checkpoint": model.id,
        "device": str(args.device),
        "versions": {"fitdiff": __version__, "torch": torch.__version__, "python": platform.python_version()},
    }
    write_atomic(out / "report.json", (json.dumps(report, indent=2) + "\n").encode())
    return Made(avatar, scenes, guidance, report)


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 2 user error (one line on stderr), 130 interrupted."""
    try:
        args = parse(argv)
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
    alike = "".join(f", similarity {v:.2f} ({k})" for k, v in report["similarity"].items())
    print(
        f"{args.out}: avatar.{args.format.replace(',', ', avatar.')} and maps in {report['seconds']['total']:.0f} s{alike}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
