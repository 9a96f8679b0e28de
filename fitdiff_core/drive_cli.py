"""`fitdiff drive AVATAR VIDEO`: what a face does in a video, put on a head: an animated GLB, and frames if asked."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .cli_checks import check_device, check_light, check_out
from .errors import UserError

if TYPE_CHECKING:
    from .avatar import Avatar
    from .motion import Motion
    from .scene import Scene

PICTURES = ("none", "png", "webp")


def parse(argv: list[str]) -> argparse.Namespace:
    """Command-line arguments. Raises UserError for values that cannot work."""
    from .motion.motion import TURNS

    p = argparse.ArgumentParser("fitdiff drive", description=__doc__, allow_abbrev=False)
    p.add_argument("avatar", help="a .safetensors file of --save-avatar or FitDiff Save Avatar")
    p.add_argument(
        "video", help="a video (needs PyAV: pip install av), an animated WebP or GIF, or a folder of pictures"
    )
    p.add_argument("--out", default="drive_out", help="folder to write (default: %(default)s)")
    p.add_argument("--fps", type=float, help="frames a second (default: the video's; 25 for a folder)")
    p.add_argument(
        "--strength", type=float, default=1.0, help="factor of the expression, 0 to 2 (default: %(default)s)"
    )
    p.add_argument(
        "--head",
        choices=[t.replace(" ", "-") for t in TURNS],
        default=TURNS[0].replace(" ", "-"),
        help="turn of the head: as-filmed, added (what it turns from its usual way, on top of the avatar's own scene), "
        "or still (default: %(default)s)",
    )
    p.add_argument(
        "--steadiness", type=float, default=1.0, help="0 (as measured) to 10: how much is smoothed (default: 1)"
    )
    p.add_argument("--face", default="largest", metavar="WHICH", help="which face of the first frame; as for photos")
    p.add_argument(
        "--pictures", choices=PICTURES, default="none", help="also render each frame: png files, or one webp"
    )
    p.add_argument("--size", type=int, default=512, help="side of a rendered frame, pixels (default: %(default)s)")
    p.add_argument("--light", metavar="NAME", help="light of the frames (default: that of the avatar's scene)")
    p.add_argument("--device", default="cpu", help="cpu, cuda, mps, ... (default: %(default)s)")
    args = p.parse_args(argv)
    if not 0 <= args.strength <= 2:
        raise UserError(f"--strength must be from 0 to 2 (got {args.strength}).")
    if not 64 <= args.size <= 4096:
        raise UserError(f"--size must be from 64 to 4096 pixels (got {args.size}).")
    if args.light is not None:
        check_light(args.light)
    return args


def run(argv: list[str]) -> str:
    """Read the motion, write the files, and return what there is to say in one line."""
    args = parse(argv)
    from .avatar_file import load_avatar
    from .face import load_detector, parse_choice
    from .film import open_film
    from .motion import read_motion
    from .scene import Scene

    check_device(args.device)
    check_out(Path(args.out))
    parse_choice(args.face)
    avatar, scene = load_avatar(args.avatar, device=args.device)
    if len(avatar) != 1 or (scene is not None and len(scene) != 1):
        raise UserError(f"{args.avatar} holds {len(avatar)} heads; the command line takes files of one head.")
    film = open_film(args.video, args.fps)
    start = time.perf_counter()
    motion = read_motion(
        film.frames, avatar.head, film.fps, load_detector(device=args.device), args.face, args.steadiness, film.count
    )
    seconds = {"read": round(time.perf_counter() - start, 2)}
    for line in motion.notes:
        print(f"warning: {line}", file=sys.stderr)
    motion = motion.stronger(args.strength).turning(args.head.replace("-", " "))
    write(args, avatar, scene or Scene.portrait(1, args.device), motion, seconds)
    speed = len(motion) / max(seconds["read"], 1e-3)
    return f"{args.out}: driven.glb, {len(motion)} frames ({motion.seconds:.1f} s); read at {speed:.1f} frames a second"


def write(args: argparse.Namespace, avatar: Avatar, scene: Scene, motion: Motion, seconds: dict[str, float]) -> None:
    """The files of a run. seconds: gets what each part took"""
    from .export import write_glb
    from .files import write_json

    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    write_glb(out / "driven.glb", avatar, motion=motion)
    seconds["export"] = round(time.perf_counter() - start, 2)
    write_json(out / "motion.json", motion_table(motion, avatar.head.expression_names))
    if args.pictures != "none":
        start = time.perf_counter()
        write_pictures(out, avatar, scene, motion, args)
        seconds["render"] = round(time.perf_counter() - start, 2)
    report = {
        "avatar": Path(args.avatar).name,
        "video": Path(args.video).name,
        "frames": len(motion),
        "fps": motion.fps,
        "seen": len(motion) if motion.seen is None else int(motion.seen.sum()),
        "warnings": list(motion.notes),
        "seconds": seconds,
    }
    write_json(out / "report.json", report)


def motion_table(motion: Motion, names: tuple[str, ...]) -> dict[str, Any]:
    """The motion as a JSON table: names of the shapes, and for each frame weights, turn and gaze in degrees."""
    round_ = lambda x, n: json.loads(json.dumps([[round(v, n) for v in row] for row in x.tolist()]))  # noqa: E731
    return {
        "fps": motion.fps,
        "names": list(names),
        "weights": round_(motion.weights, 4),
        "turn": round_(motion.turn.rad2deg(), 3),
        "gaze": round_(motion.gaze.rad2deg(), 3),
    }


def write_pictures(out: Path, avatar: Avatar, scene: Scene, motion: Motion, args: argparse.Namespace) -> None:
    """Each frame rendered: `frames/00000.png` ..., or `driven.webp`."""
    from dataclasses import replace

    from PIL import Image

    from .files import atomic_path
    from .image import save_png
    from .pictures import each_picture
    from .pipeline import photograph
    from .render.panoramas import named_light

    if args.light is not None:
        scene = replace(scene, light=named_light(args.light).to(args.device))
    pictures: list[Image.Image] = []
    if args.pictures == "png":
        (out / "frames").mkdir(exist_ok=True)
    for i, (head, one) in enumerate(each_picture(avatar, motion.scenes(scene.detach()))):
        picture, _ = photograph(head, one, args.size)
        if args.pictures == "png":
            save_png(out / "frames" / f"{i:05d}.png", picture)
        else:
            pixels = (picture[0] * 255 + 0.5).byte().permute(1, 2, 0).cpu().numpy()
            pictures.append(Image.fromarray(pixels))
    if pictures:
        with atomic_path(out / "driven.webp") as file:
            pictures[0].save(
                file,
                "WEBP",
                save_all=True,
                append_images=pictures[1:],
                duration=round(1000 / motion.fps),
                loop=0,
                quality=80,
            )
