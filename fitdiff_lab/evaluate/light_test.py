"""Is the light gone? python -m fitdiff_lab.evaluate.light_test --out DIR [--people 12] [--steps 50]

Held-out synthetic people, photographed by another renderer (Mitsuba 3: `pip install mitsuba`) under hard side light and
under coloured light, go through the whole guided pipeline. Measured against their known maps and shape: the diffuse albedo,
beside what plain unwrapping of the same photo gives (through the true mesh and the true camera), how far the two lights'
albedos of one person differ, and the shape. DIR gets `results.json`, `table.md`, `contact.jpg` and `photos/`, which a later
run takes up again.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from fitdiff_core import pipeline
from fitdiff_core.avatar import Avatar
from fitdiff_core.errors import UserError, command
from fitdiff_core.fitting.crop import crop_image
from fitdiff_core.image import linear_to_srgb, load_photo, save_png, srgb_to_linear
from fitdiff_core.maps import TextureMaps
from fitdiff_core.model.autoencoder import from_codes
from fitdiff_core.render import Camera
from fitdiff_core.scene import Scene

from ..dataset.prepare import DatasetGenerator
from ..synthetic.background import random_background
from ..synthetic.scenes import random_expression
from ..train.release import fingerprint
from ..train.run import write_json
from .albedo import difference, errors, skin_texels, unwrap
from .heldout import HeldOut, make_people, to_pil
from .light_report import markdown, save_sheet, summary
from .metrics import aligned_distance
from .mitsuba_scene import Lamp, Lighting, head_in_mitsuba, load_mitsuba, render_scene

WHITE = math.pi  # irradiance that makes a white Lambert surface 1
FRAME = 0.32  # metres that a photo is high at the head
LUMA = (0.2126, 0.7152, 0.0722)


@dataclass
class Settings:
    people: int = 12
    seed: int = 7700
    steps: int = 50
    size: int = 512
    samples: int = 36  # a pixel, for each source of light
    guided: bool = True
    photo_detail: bool = False


@dataclass
class Sitting:
    """One person's pose: everything of a photo but its light, which alone differs between their two pictures."""

    camera: Camera
    expression: Tensor
    gaze: Tensor
    side: float  # +1: the key light comes from the subject's left


def lightings(side: float) -> dict[str, Lighting]:
    """The two lights, mirrored for every other person."""

    def lamp(yaw: float, pitch: float, colour: tuple[float, float, float], radius: float) -> Lamp:
        return Lamp(side * yaw, pitch, tuple(WHITE * c for c in colour), radius=radius)

    return {
        "hard side light": Lighting((lamp(65, 15, (1.0, 1.0, 1.0), 0.03),), (0.08, 0.08, 0.08)),
        "coloured light": Lighting(
            (lamp(-35, 25, (1.0, 0.62, 0.34), 0.08), lamp(60, 5, (0.12, 0.25, 0.55), 0.15)), (0.05, 0.05, 0.05)
        ),
    }


def sitting(head, seed: int, row: int) -> Sitting:
    """A mild pose: yaw within 20 degrees, pitch within 6, a third to all of a mood's expression, eyes on the lens."""
    rng = np.random.default_rng([seed, row, 21])
    yaw, pitch, distance = rng.uniform(-20, 20), rng.uniform(-6, 6), math.exp(rng.uniform(math.log(0.6), math.log(1.6)))
    fov = math.degrees(2 * math.atan(FRAME / 2 / (distance - 0.03)))
    gaze = torch.tensor([[math.radians(yaw), math.radians(pitch)]]) * 0.9
    expression = 0.6 * random_expression(head.expression_names, rng)
    return Sitting(Camera.orbit(yaw, pitch, distance, fov, (0.0, -0.012, 0.03)), expression, gaze, 1.0 - 2 * (row % 2))


def take_photo(
    mi, avatar: Avatar, pose: Sitting, light: Lighting, s: Settings, row: int, folder: Path, name: str
) -> Path:
    """Render, expose and save one photo as an 8-bit sRGB PNG; one that was made before of the same things is kept."""
    vertices = posed(avatar, pose)
    parts = (pose.camera.focal, pose.camera.rotation, pose.camera.translation, vertices, avatar.maps.stack())
    digest = hashlib.sha256(repr((light, s.size, s.samples, row)).encode())
    for part in parts:
        digest.update(part.numpy().tobytes())
    path = folder / f"{row:02d}_{name.replace(' ', '_')}_{digest.hexdigest()[:8]}.png"
    if not path.exists():
        size = (s.size, s.size)
        shapes = head_in_mitsuba(mi, vertices[0], avatar.head, avatar.maps)
        rgba = render_scene(mi, shapes, pose.camera, light, size, s.samples)
        background = random_background(np.random.default_rng([s.seed, row, 22]), size) * 0.4
        save_png(path, develop(rgba, background, face_box(avatar.head, vertices, pose.camera, size)))
    return path


def develop(rgba: Tensor, background: Tensor, box: tuple[int, int, int, int]) -> Tensor:
    """Linear `[1, 4, H, W]` -> sRGB photo: exposed for the face as a camera does it, a dark one darker yet not by all of it.
    No white balance: the light's colour stays in the picture. What is too bright is clipped.

    box: (x0, y0, x1, y1) of the face.
    """
    x0, y0, x1, y1 = box
    face = rgba[..., y0:y1, x0:x1]
    luminance = (face[:, :3] * torch.tensor(LUMA).view(1, 3, 1, 1)).sum() / face[:, 3].sum().clamp(min=1)
    gain = 0.21 * (luminance / 0.25) ** 0.3 / luminance
    image = rgba[:, :3] * gain + (1 - rgba[:, 3:]) * background
    return linear_to_srgb(image).clamp(0, 1)


def posed(avatar: Avatar, pose: Sitting) -> Tensor:
    return avatar.head(avatar.shape, pose.expression, pose.gaze)


def face_box(head, vertices: Tensor, camera: Camera, size: tuple[int, int]) -> tuple[int, int, int, int]:
    points = camera.project(head.landmarks(vertices, "68"), size)[0]
    (x0, y0), (x1, y1) = points.amin(0).long().tolist(), points.amax(0).long().tolist()
    return max(x0, 0), max(y0, 0), min(max(x1, x0 + 2), size[1]), min(max(y1, y0 + 2), size[0])


@dataclass
class Reconstruction:
    avatar: Avatar
    scene: Scene
    seconds: float


def reconstruct(model, recognizer, photo: Tensor, s: Settings) -> Reconstruction:
    """The pipeline as a user runs it, with its defaults; unguided, only the photo's identity is used."""
    start = time.perf_counter()
    identity = pipeline.encode(photo, recognizer)
    guidance = pipeline.prepare_guidance(photo, model, recognizer)
    latent, scene = pipeline.sample(model, identity, guidance if s.guided else None, seed=0, steps=s.steps)
    avatar = pipeline.decode(model, latent)
    if s.photo_detail:
        avatar = pipeline.add_photo_detail(model, avatar, scene, photo, identity=identity).avatar
    return Reconstruction(avatar, scene if s.guided else guidance.scene, round(time.perf_counter() - start, 1))


def shape_errors(head, shape: Tensor, truth: Tensor) -> dict[str, float]:
    """Neutral heads of coefficients `[1, K]`: mean vertex distance on the face in mm, ours and the mean head's, after
    rotation and translation, and with scale besides."""
    face = head.vertex_region("face") > 0.5
    mine, mean, true = (head(x)[0, face] * 1000 for x in (shape, torch.zeros_like(shape), truth))
    return {
        f"{name}{'_scaled' if scale else ''}": aligned_distance(x, true, scale)
        for name, x in (("shape", mine), ("mean_head", mean))
        for scale in (False, True)
    }


def measure(photo: Tensor, found: Reconstruction, truth: Avatar, pose: Sitting, mean: Tensor, skin: Tensor):
    """-> (figures of one photo, ours and unwrapped colours `[N, 3]` of the texels seen, unwrapped atlas for the sheet)."""
    size = truth.maps.size[0]
    unwrapped, seen = unwrap(srgb_to_linear(photo), posed(truth, pose), truth.head, pose.camera, size)
    at = seen & skin
    true, ours, plain, average = (
        x[0, :, at].T for x in (truth.maps.diffuse, found.avatar.maps.diffuse, unwrapped, mean)
    )
    row = {
        "texels": int(at.sum()),
        "ours": errors(ours, true),
        "unwrapped": errors(plain, true),
        "mean map": errors(average, true),
    }
    return row | shape_errors(truth.head, found.avatar.shape, truth.shape), (ours, plain), unwrapped


def panels(photo: Tensor, found: Reconstruction, truth: Avatar, unwrapped: Tensor) -> list[Image.Image]:
    """photo | our render in the photo's light | true albedo | our albedo | unwrapped."""
    side = 256
    crop = crop_image(photo, found.scene.crop * (side / found.scene.size[0]), side).image
    render, _ = pipeline.render_avatar(found.avatar, found.scene, side)
    colours = (truth.maps.diffuse, found.avatar.maps.diffuse, unwrapped)
    maps = [linear_to_srgb(F.interpolate(x.clamp(0, 1), (side, side), mode="area")) for x in colours]
    return [to_pil(x) for x in (crop, render, *maps)]


def run_light_test(out: Path, s: Settings, checkpoint: str | None = None, threads: int = 1) -> dict:
    """Photograph, reconstruct, measure; write everything into `out` and return what `results.json` holds. UserError on wrong
    input, and where Mitsuba is missing."""
    if s.people < 1:
        raise UserError("--people must be at least 1.")
    if s.photo_detail and not s.guided:
        raise UserError("--photo-detail needs the scene that guidance finds; leave out --no-guidance.")
    mi = load_mitsuba(threads)
    model, recognizer = pipeline.load_model(checkpoint), pipeline.load_recognizer()
    generator = DatasetGenerator(s.seed, model.autoencoder.config.size)
    torch.set_num_threads(threads)  # a DatasetGenerator sets one
    people = make_people(generator, 0, s.people, False, "people")
    skin = skin_texels(model.head, model.autoencoder.config.size)
    mean = mean_albedo(model)
    photos = photograph_all(mi, people, s, out / "photos")
    rows, pairs, sheet = [], [], []
    for i in range(s.people):
        truth, pose, seen = people.avatar(i), sitting(model.head, s.seed, i), []
        for light, path in photos[i].items():
            photo = load_photo(path)
            row = {"person": i, "light": light}
            try:
                found = reconstruct(model, recognizer, photo, s)
            except UserError as e:  # no face found
                rows.append(row | {"error": str(e)})
                continue
            figures, colours, unwrapped = measure(photo, found, truth, pose, mean, skin)
            rows.append(row | figures | {"seconds": found.seconds})
            seen.append(colours)
            sheet.append(panels(photo, found, truth, unwrapped))
            print(
                f"person {i + 1}, {light}: albedo {figures['ours']['e76']:.1f} (unwrapped {figures['unwrapped']['e76']:.1f}), "
                f"shape {figures['shape']:.2f} mm, {found.seconds:.0f} s",
                file=sys.stderr,
                flush=True,
            )
        if len(seen) == 2:
            (ours_a, plain_a), (ours_b, plain_b) = seen
            pairs.append({"person": i, "ours": difference(ours_a, ours_b), "unwrapped": difference(plain_a, plain_b)})
    results = {
        "settings": asdict(s),
        "checkpoint": model.id,
        "weights": fingerprint(model.autoencoder, model.denoiser),
        "mitsuba": mi.__version__,
        "figures": summary(rows, pairs),
        "photos": rows,
        "pairs": pairs,
    }
    write_json(out / "results.json", results)
    (out / "table.md").write_text(markdown(results))
    save_sheet(sheet, out / "contact.jpg")
    return results


@torch.no_grad()
def mean_albedo(model) -> Tensor:
    """`[1, 3, S, S]` linear: the training set's mean map."""
    return TextureMaps.from_stack(from_codes(model.autoencoder.map_mean[None])).diffuse


def photograph_all(mi, people: HeldOut, s: Settings, folder: Path) -> list[dict[str, Path]]:
    """[{light: file}] of everybody, all before the first is measured: the long part resumes photo by photo."""
    folder.mkdir(parents=True, exist_ok=True)
    out = []
    for i in range(len(people)):
        pose = sitting(people.head, s.seed, i)
        out.append(
            {
                name: take_photo(mi, people.avatar(i), pose, light, s, i, folder, name)
                for name, light in lightings(pose.side).items()
            }
        )
        print(f"photos of person {i + 1} of {len(people)}", file=sys.stderr, flush=True)
    return out


@command
def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(
        prog="python -m fitdiff_lab.evaluate.light_test",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    d = Settings()
    p.add_argument("--checkpoint", help="default: the shipped one")
    p.add_argument("--out", type=Path, default=Path("light_test"))
    p.add_argument("--people", type=int, default=d.people, help=f"({d.people})")
    p.add_argument("--seed", type=int, default=d.seed, help=f"of the held-out people ({d.seed})")
    p.add_argument("--steps", type=int, default=d.steps, help=f"of the sampler ({d.steps})")
    p.add_argument("--size", type=int, default=d.size, help=f"side of the photos, pixels ({d.size})")
    p.add_argument("--samples", type=int, default=d.samples, help=f"a pixel, for each source of light ({d.samples})")
    p.add_argument("--no-guidance", action="store_true", help="the identity-conditioned prior alone, for comparison")
    p.add_argument("--photo-detail", action="store_true", help="add the photo's own detail to the maps")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    a = p.parse_args(argv)
    settings = Settings(a.people, a.seed, a.steps, a.size, a.samples, not a.no_guidance, a.photo_detail)
    results = run_light_test(a.out, settings, a.checkpoint, a.threads)
    print(markdown(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
