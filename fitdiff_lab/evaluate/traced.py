"""`python -m fitdiff_lab.evaluate.traced AVATAR --out DIR`: our pictures beside Blender Cycles, of the same GLB.

Cycles traces paths: light between surfaces, lamps of finite size, Burley's subsurface scattering. Its GLB is the one
that Export writes. It has the same camera, harmonics and lamps. Needs Blender: on the path, or FITDIFF_BLENDER, a
blender executable or a Python that has the `bpy` package (`pip install bpy`).
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from fitdiff_core.avatar import Avatar
from fitdiff_core.avatar_file import load_avatar
from fitdiff_core.errors import UserError, command
from fitdiff_core.export.glb import write_glb
from fitdiff_core.hair.picture import render_passes_with_hair, render_with_hair
from fitdiff_core.image import linear_to_srgb
from fitdiff_core.portrait.lamps import HALF_ANGLE
from fitdiff_core.portrait.scatter import profile_radius
from fitdiff_core.render import Camera
from fitdiff_core.render.light import Light
from fitdiff_core.render.panoramas import named_light
from fitdiff_core.render.tone import film
from fitdiff_core.scene import Scene

from ..cli import command_parser
from .metrics import lab

SCRIPT = Path(__file__).with_name("traced_scene.py")
LIGHTS = ("studio", "side", "outdoor")
SCATTERING = ("Skin",)  # materials
YAW = 22.0  # degrees, of the camera


def blender() -> list[str]:
    """How to run a script in Blender. Raises UserError where there is none."""
    named = os.environ.get("FITDIFF_BLENDER") or shutil.which("blender")
    if not named:
        raise UserError(
            "There is no Blender here. Install it, or `pip install bpy` in a Python of its own and name that "
            "Python in FITDIFF_BLENDER; then run this again."
        )
    return [named] if "python" in Path(named).name else [named, "-b", "--factory-startup", "--python"]


def cycles_radius(albedo: Tensor) -> list[float]:
    """Subsurface radius `[3]` of Cycles' Burley method, metres, that gives the profile of `portrait.scatter`."""
    d = profile_radius(albedo)
    shape = 1.9 - albedo + 3.5 * (albedo - 0.8) ** 2  # of Cycles' closure
    return (4 * math.pi * d * shape).tolist()


def trace(glb: Path, camera: Camera, light: Light, albedo: Tensor, side: int, samples: int, folder: Path) -> Tensor:
    """Linear radiance and coverage `[1, 4, side, side]` by Cycles, row 0 at the top."""
    stem = folder / "cycles"
    table = {
        "glb": str(glb),
        "exr": f"{stem}.exr",
        "pixels": f"{stem}.npy",
        "side": side,
        "samples": samples,
        "denoise": True,
        "scatter": True,
        "scattering": SCATTERING,
        "radius": cycles_radius(albedo),
        "lamp_angle": 2 * HALF_ANGLE,
        "sh": light.sh[0].tolist(),
        "lamps": [
            {"direction": d, "color": c}
            for d, c in zip(light.direction[0].tolist(), light.color[0].tolist(), strict=True)
        ],
        "camera": {
            "fov": 2 * math.atan(1 / float(camera.focal[0])),
            "position": camera.position()[0].tolist(),
            "axes": camera.matrix()[0].tolist(),
        },
    }
    plan = folder / "cycles.json"
    plan.write_text(json.dumps(table))
    done = subprocess.run(
        [*blender(), str(SCRIPT), "--", str(plan)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""},
    )
    if done.returncode or not Path(table["pixels"]).is_file():
        raise UserError(f"Blender failed:\n{done.stdout[-1500:]}{done.stderr[-1500:]}")
    pixels = torch.from_numpy(np.load(table["pixels"]).copy())
    for name in ("exr", "pixels"):
        Path(table[name]).unlink()
    plan.unlink()
    return pixels.flip(0).permute(2, 0, 1)[None]


def skin_mask(avatar: Avatar, scene: Scene, camera: Camera, size: int) -> Tensor:
    """Skin that both pictures show for sure `[1, 1, size, size]` bool: no eyes, mouth, hair, lashes or outline."""
    passes, _ = render_passes_with_hair(avatar, replace(scene, camera=camera), (size, size), False)
    reach = max(1, size // 170)
    other = 1 - passes.skin
    return torch.nn.functional.max_pool2d(other, 2 * reach + 1, 1, reach) < 0.01


def compare(
    avatar: Avatar, scene: Scene, lights: tuple[str, ...], side: int, samples: int, folder: Path
) -> dict[str, dict]:
    """Both pictures in each light, side by side in `folder`, and their distance on the skin."""
    folder.mkdir(parents=True, exist_ok=True)
    blender()
    glb = write_glb(folder / "avatar.glb", avatar, None, False, scene)
    camera = Camera.orbit(YAW, 3.0)
    skin = skin_mask(avatar, scene, camera, side)
    table = {}
    for name in lights:
        light = replace(named_light(name), shadows=True)
        ours, cover = render_with_hair(avatar, scene, camera, light, (side, side))
        albedo = avatar.maps.diffuse[0].flatten(1).median(1).values.clamp(0.02, 0.9)
        theirs = trace(glb, camera, light, albedo, side, samples, folder)
        pair = [film(ours), film(theirs[:, :3])]
        a, b = (lab(x.permute(0, 2, 3, 1))[skin[:, 0]] for x in pair)
        gain = float(((a[:, 0].mean() + 16) / (b[:, 0].mean() + 16)) ** 3)
        table[name] = {
            "dE": round(float((a - b).norm(dim=1).mean()), 2),
            "dL": round(float((a - b)[:, 0].mean()), 2),
            "da": round(float((a - b)[:, 1].mean()), 2),
            "db": round(float((a - b)[:, 2].mean()), 2),
            "dE after one gain": round(
                float((a - lab((pair[1] * gain).clamp(0, 1).permute(0, 2, 3, 1))[skin[:, 0]]).norm(dim=1).mean()), 2
            ),
        }
        save_pair(folder / f"{name}.png", pair, [cover, theirs[:, 3:]])
        print(name, table[name], flush=True)
    return table


def save_pair(path: Path, pair: list[Tensor], covers: list[Tensor]) -> None:
    """Ours on the left, Cycles on the right, over grey."""
    shown = [linear_to_srgb((p + 0.05 * (1 - c.clamp(0, 1))).clamp(0, 1)) for p, c in zip(pair, covers, strict=True)]
    picture = torch.cat(shown, 3)[0].permute(1, 2, 0)
    image = Image.fromarray((picture.numpy() * 255 + 0.5).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for k, label in enumerate(("FitDiff", "Cycles")):
        draw.text((8 + k * image.width // 2, 8), label, fill=(230, 230, 230))
    image.save(path)


@command
def main(argv: list[str] | None = None) -> int:
    parser = command_parser("evaluate.traced", __doc__)
    parser.add_argument("avatar", type=Path, help="a file of `--save-avatar`")
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures and figures.json")
    parser.add_argument("--size", type=int, default=512, help="pixels a side")
    parser.add_argument("--samples", type=int, default=48, help="paths of a pixel")
    parser.add_argument("--lights", nargs="+", default=list(LIGHTS), help="presets or panoramas")
    args = parser.parse_args(argv)
    avatar, scene = load_avatar(args.avatar)
    neutral = Scene.portrait()
    if scene is not None:
        neutral = replace(neutral, expression=scene.expression, gaze=scene.gaze)
    table = compare(avatar[0], neutral, tuple(args.lights), args.size, args.samples, args.out)
    mean = round(sum(row["dE"] for row in table.values()) / len(table), 2)
    (args.out / "figures.json").write_text(json.dumps({"skin": table, "mean dE": mean}, indent=2))
    print(f"mean dE on skin: {mean}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
