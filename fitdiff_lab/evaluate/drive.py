"""Measure how well a motion is read from a video.

    python -m fitdiff_lab.evaluate.drive --out DIR [--person 3] [--seconds 10] [--fps 25]

An invented person talks, blinks, turns the head and looks around (`synthetic.performance`). Another renderer films it
(Mitsuba 3: `pip install mitsuba`); noise and JPEG compression are added. `read_motion` reads the film. DIR gets the
frames, which a later run uses again, `results.json`, and `frames.jpg`: film above, driven head below. Figures:

shown: mean error of the weights where they show (truth above .1), without eyeLook, which the gaze covers
used: mean error over all frames of the shapes that show at some time; others: of the rest
turn, gaze: mean error in degrees. turn_steady: without the constant part
flicker: largest change of a weight from frame to frame while the face is still; flicker_mean: the mean
fps: frames a second of reading, by the time of one CPU; wall: by the clock. draw: seconds of one rendered frame, 256 px
"""

from __future__ import annotations

import io
import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fitdiff_core.avatar import Avatar
from fitdiff_core.errors import command
from fitdiff_core.face import load_detector
from fitdiff_core.files import write_json
from fitdiff_core.head import HeadModel, load_head
from fitdiff_core.head.corrections import posed
from fitdiff_core.image import save_png
from fitdiff_core.motion import Motion, read_motion
from fitdiff_core.pipeline import photograph
from fitdiff_core.render import Camera
from fitdiff_core.render.camera import rotation_matrix
from fitdiff_core.render.viewer_camera import axis_angle
from fitdiff_core.scene import Scene

from ..cli import command_parser
from ..synthetic.background import random_background
from ..synthetic.performance import performance, still_frames
from ..synthetic.skin import SkinGenerator
from .light_test import WHITE, develop, face_box
from .mitsuba_scene import Lamp, Lighting, head_in_mitsuba, load_mitsuba, render_scene

SIZE, SAMPLES = 320, 5  # side of a frame, px; samples of a pixel for each light
NOISE, QUALITY = 2.5, 85  # of the camera, in 255ths; of the JPEG compression
SHOWS, USED = 0.1, 0.15
LIGHT = Lighting((Lamp(40, 20, (WHITE * 0.8,) * 3, radius=0.12),), (0.25, 0.25, 0.28))
SHEET = 8  # frames on the sheet


def film(head: HeadModel, motion: Motion, person: int, folder: Path) -> tuple[list[Path], Avatar]:
    """Frames of the person in motion, rendered where they are missing; and the person."""
    maps = SkinGenerator(head, 512).sample(person)[0]
    shape = torch.randn(1, head.n_identity, generator=torch.Generator().manual_seed(person)) * 0.8
    files = [folder / f"{i:04d}.png" for i in range(len(motion))]
    size, box = (SIZE, SIZE), None
    camera = Camera.orbit(0.0, 0.0, 0.9, 16.0, (0.0, -0.012, 0.03))
    background = random_background(np.random.default_rng([person, 22]), size) * 0.4
    turn = rotation_matrix(motion.turn)
    for i, file in enumerate(files):
        vertices = posed(head, shape, motion.weights[i : i + 1], motion.gaze[i : i + 1]) @ turn[i].T
        box = box or face_box(head, vertices, camera, size)
        if not file.exists():
            mi = load_mitsuba(1)
            rgba = render_scene(mi, head_in_mitsuba(mi, vertices[0], head, maps), camera, LIGHT, size, SAMPLES)
            save_png(file, develop(rgba, background, box))
    return files, Avatar(head, shape, maps)


def camera_frames(files: list[Path], seed: int = 0) -> Iterator[Tensor]:
    """The frames as a camera stores them."""
    rng = np.random.default_rng(seed)
    for file in files:
        pixels = np.asarray(Image.open(file).convert("RGB"), np.float32)
        data = io.BytesIO()
        noisy = (pixels + rng.normal(0, NOISE, pixels.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(data, "JPEG", quality=QUALITY)
        yield torch.from_numpy(np.asarray(Image.open(data), np.float32) / 255).permute(2, 0, 1)


def figures(found: Motion, truth: Motion, names: tuple[str, ...]) -> dict[str, float]:
    """See the module."""
    own = torch.tensor([not name.startswith("eyeLook") for name in names])
    away, true = (found.weights - truth.weights).abs()[:, own], truth.weights[:, own]
    used, still = true.amax(0) > USED, still_frames(truth)[1:]
    change = (found.weights[1:] - found.weights[:-1]).abs()[still]
    turns = rotation_matrix(found.turn.double()) @ rotation_matrix(truth.turn.double()).mT
    u, _, v = torch.linalg.svd(turns.mean(0))
    degrees = lambda m: float(torch.stack([axis_angle(x).norm() for x in m]).mean().rad2deg())  # noqa: E731
    gaze = (found.gaze - truth.gaze).rad2deg().abs().mean(0)
    return {
        "shown": float(away[true > SHOWS].mean()),
        "used": float(away[:, used].mean()),
        "others": float(away[:, ~used].mean()),
        "turn": degrees(turns),
        "turn_steady": degrees(turns @ (u @ v).mT),
        "gaze_yaw": float(gaze[0]),
        "gaze_pitch": float(gaze[1]),
        "flicker": float(change.max()) if len(change) else math.nan,
        "flicker_mean": float(change.mean()) if len(change) else math.nan,
    }


def worst_shapes(found: Motion, truth: Motion, names: tuple[str, ...], count: int = 12) -> dict[str, list[float]]:
    """Mean error, largest truth and correlation of the shapes with the largest errors."""
    away = (found.weights - truth.weights).abs().mean(0)
    rows = {}
    for i in away.argsort(descending=True)[:count].tolist():
        a, b = found.weights[:, i].double(), truth.weights[:, i].double()
        spread = float(a.std() * b.std())
        together = float(((a - a.mean()) * (b - b.mean())).mean()) / spread if spread > 1e-9 else math.nan
        rows[names[i]] = [round(float(away[i]), 3), round(float(b.max()), 2), round(together, 2)]
    return rows


def sheet(files: list[Path], avatar: Avatar, found: Motion, side: int) -> tuple[Image.Image, float]:
    """Film above, the person's own head driven by the motion below; seconds of one drawing."""
    page = Image.new("RGB", (SHEET * side, 2 * side))
    picks = np.linspace(0.04 * len(files), len(files) - 1, SHEET).round().astype(int)
    base = Scene.portrait()
    base.camera = Camera.orbit(0.0, 0.0, 0.9, 16.0, (0.0, -0.012, 0.03))
    scenes, start = found.scenes(base), 0.0
    for k, i in enumerate(picks.tolist()):
        page.paste(Image.open(files[i]).resize((side, side)), (k * side, 0))
        now = time.process_time()
        picture, _ = photograph(avatar, scenes[i], side)
        start += time.process_time() - now
        pixels = (picture[0] * 255).round().byte().permute(1, 2, 0).numpy()
        page.paste(Image.fromarray(pixels), (k * side, side))
    return page, start / SHEET


@command
def main(argv: list[str] | None = None) -> int:
    p = command_parser("evaluate.drive", __doc__)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument(
        "--person", type=int, default=3, help="seed of the person and of what it does (default: %(default)s)"
    )
    p.add_argument("--seconds", type=float, default=10.0)
    p.add_argument("--fps", type=float, default=25.0)
    args = p.parse_args(argv)
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    head, detector = load_head(), load_detector()
    truth = performance(head.expression_names, args.seconds, args.fps, args.person)
    files, avatar = film(head, truth, args.person, args.out)
    frames = list(camera_frames(files))
    wall, start = time.perf_counter(), time.process_time()
    found = read_motion(frames, head, args.fps, detector)
    spent, wall = time.process_time() - start, time.perf_counter() - wall
    page, draw = sheet(files, avatar, found, 256)
    page.save(args.out / "frames.jpg", quality=88)
    results = figures(found, truth, head.expression_names)
    results |= {"fps": len(found) / spent, "wall": len(found) / wall, "draw": draw}
    results = {name: round(value, 4) for name, value in results.items()}
    worst = worst_shapes(found, truth, head.expression_names)
    write_json(
        args.out / "results.json", {"frames": len(found), **results, "shapes": worst, "notes": list(found.notes)}
    )
    print(json.dumps(results, indent=1))
    for name, row in worst.items():
        print(f"  {name:22} error {row[0]:.3f}  largest {row[1]:.2f}  correlation {row[2]:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
