"""Measure how much of a photo's light remains in the albedo.

    python -m fitdiff_lab.evaluate.light_test --out DIR [--people 12] [--steps 20]

Input: held-out synthetic people. Another renderer (Mitsuba 3: `pip install mitsuba`) photographs them in hard side
light and in coloured light. The guided pipeline reconstructs each photo. Output, against the known maps and shape: the
error of the diffuse albedo, with plain unwrapping of the same photo as reference (true mesh, true camera); the
difference between the albedos of one person in both lights; and the error of the shape. DIR gets `results.json`,
`table.md`, `contact.jpg` and `photos/`, whose pictures a later run uses again. Takes about a minute for each photo.
"""

from __future__ import annotations

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
from fitdiff_core.files import write_json
from fitdiff_core.fitting.crop import crop_image
from fitdiff_core.image import LUMINANCE, linear_to_srgb, load_photo, save_png, srgb_to_linear
from fitdiff_core.maps import TextureMaps
from fitdiff_core.model.autoencoder import from_codes
from fitdiff_core.render import Camera
from fitdiff_core.sampling import SampleSettings
from fitdiff_core.scene import Scene

from ..cli import command_parser
from ..dataset.prepare import DatasetGenerator
from ..synthetic.background import random_background
from ..synthetic.scenes import random_expression
from ..train.release import fingerprint
from .albedo import difference, errors, skin_texels, unwrap
from .heldout import HeldOut, make_people, to_pil
from .light_report import markdown, save_sheet, summary
from .metrics import aligned_distance
from .mitsuba_scene import Lamp, Lighting, head_in_mitsuba, load_mitsuba, render_scene

WHITE = math.pi  # irradiance at which a white Lambert surface has radiance 1
FRAME = 0.32  # height of the photo at the head, metres


@dataclass
class Settings:
    """Settings of a run."""

    people: int = 12
    seed: int = 7700  # of the people
    steps: int = SampleSettings.steps  # of the sampler
    size: int = 512  # side of the photos, px
    samples: int = 36  # of a pixel, for each light source
    guided: bool = True
    photo_detail: bool = False


@dataclass
class Sitting:
    """What the two photos of a person share: all but the light."""

    camera: Camera
    expression: Tensor
    gaze: Tensor
    side: float  # +1: the key light comes from the subject's left, -1: from the right


def lightings(side: float) -> dict[str, Lighting]:
    """The two lights by name. side: +1, or -1 for the mirrored ones."""

    def lamp(yaw: float, pitch: float, colour: tuple[float, float, float], radius: float) -> Lamp:
        return Lamp(side * yaw, pitch, tuple(WHITE * c for c in colour), radius=radius)

    return {
        "hard side light": Lighting((lamp(65, 15, (1.0, 1.0, 1.0), 0.03),), (0.08, 0.08, 0.08)),
        "coloured light": Lighting(
            (lamp(-35, 25, (1.0, 0.62, 0.34), 0.08), lamp(60, 5, (0.12, 0.25, 0.55), 0.15)), (0.05, 0.05, 0.05)
        ),
    }


def sitting(head, seed: int, row: int) -> Sitting:
    """A random mild pose of person number `row`: yaw up to 20 degrees, pitch up to 6, eyes on the lens."""
    rng = np.random.default_rng([seed, row, 21])
    yaw, pitch, distance = rng.uniform(-20, 20), rng.uniform(-6, 6), math.exp(rng.uniform(math.log(0.6), math.log(1.6)))
    fov = math.degrees(2 * math.atan(FRAME / 2 / (distance - 0.03)))
    gaze = torch.tensor([[math.radians(yaw), math.radians(pitch)]]) * 0.9
    expression = 0.6 * random_expression(head.expression_names, rng)
    return Sitting(Camera.orbit(yaw, pitch, distance, fov, (0.0, -0.012, 0.03)), expression, gaze, 1.0 - 2 * (row % 2))


def take_photo(
    mi, avatar: Avatar, pose: Sitting, light: Lighting, s: Settings, row: int, folder: Path, name: str
) -> Path:
    """Render, expose and save one photo as an 8-bit sRGB PNG. A photo that was made before with the same input is kept.

    mi: Mitsuba. row: number of the person. name: of the light. Returns the file.
    """
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
    """From a linear picture to an sRGB photo `[1, 3, H, W]`.

    The exposure is that of a camera: dark faces come out darker, but less than their luminance. There is no white
    balance, so the light's colour stays in the picture. Values above 1 are clipped.

    rgba: `[1, 4, H, W]` linear, colours times coverage.
    background: `[1, 3, H, W]` linear.
    box: (x0, y0, x1, y1) of the face, px.
    """
    x0, y0, x1, y1 = box
    face = rgba[..., y0:y1, x0:x1]
    luminance = (face[:, :3] * torch.tensor(LUMINANCE).view(1, 3, 1, 1)).sum() / face[:, 3].sum().clamp(min=1)
    gain = 0.21 * (luminance / 0.25) ** 0.3 / luminance
    image = rgba[:, :3] * gain + (1 - rgba[:, 3:]) * background
    return linear_to_srgb(image).clamp(0, 1)


def posed(avatar: Avatar, pose: Sitting) -> Tensor:
    """Vertices `[1, V, 3]` of the avatar in a pose."""
    return avatar.head(avatar.shape, pose.expression, pose.gaze)


def face_box(head, vertices: Tensor, camera: Camera, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """(x0, y0, x1, y1) px around the 68 landmarks, cut to the picture. size: (H, W)."""
    points = camera.project(head.landmarks(vertices, "68"), size)[0]
    (x0, y0), (x1, y1) = points.amin(0).long().tolist(), points.amax(0).long().tolist()
    return max(x0, 0), max(y0, 0), min(max(x1, x0 + 2), size[1]), min(max(y1, y0 + 2), size[0])


@dataclass
class Reconstruction:
    """What the pipeline makes of one photo, and how long it takes."""

    avatar: Avatar
    scene: Scene
    seconds: float


def reconstruct(model, recognizer, photo: Tensor, s: Settings) -> Reconstruction:
    """Run the pipeline with its defaults. Without guidance it uses the photo's identity only."""
    start = time.perf_counter()
    faces = pipeline.find_faces(photo)
    identity = pipeline.encode(photo, recognizer, faces)
    fitted = pipeline.fit_photos(photo, model.head, faces)
    guidance = pipeline.prepare_guidance(fitted, recognizer) if s.guided else None
    latent, scene = pipeline.sample(model, identity, guidance, seed=0, steps=s.steps)
    avatar = pipeline.decode(model, latent)
    if s.photo_detail:
        avatar = pipeline.add_photo_detail(model, avatar, scene, photo, identity=identity).avatar
    return Reconstruction(avatar, scene if s.guided else fitted[0].scene, round(time.perf_counter() - start, 1))


def shape_errors(head, shape: Tensor, truth: Tensor) -> dict[str, float]:
    """Mean vertex distance on the face to the true head, in mm, of the found head and of the mean head.

    shape, truth: coefficients `[1, K]`; the heads are neutral. They are aligned by rotation and translation; the
    figures that end in "_scaled" by scale too.
    """
    face = head.vertex_region("face") > 0.5
    mine, mean, true = (head(x)[0, face] * 1000 for x in (shape, torch.zeros_like(shape), truth))
    return {
        f"{name}{'_scaled' if scale else ''}": aligned_distance(x, true, scale)
        for name, x in (("shape", mine), ("mean_head", mean))
        for scale in (False, True)
    }


def measure(photo: Tensor, found: Reconstruction, truth: Avatar, pose: Sitting, mean: Tensor, skin: Tensor):
    """Figures of one photo.

    mean: `[1, 3, S, S]` albedo of the mean map. skin: `[S, S]` bool, texels that count.
    Returns the figures, the colours `[N, 3]` of the texels seen (found, unwrapped), and the unwrapped atlas.
    """
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
    """A row of the sheet: photo, render in the photo's light, true albedo, found albedo, unwrapped photo."""
    side = 256
    crop = crop_image(photo, found.scene.crop * (side / found.scene.size[0]), side).image
    render, _ = pipeline.render_avatar(found.avatar, found.scene, side)
    colours = (truth.maps.diffuse, found.avatar.maps.diffuse, unwrapped)
    maps = [linear_to_srgb(F.interpolate(x.clamp(0, 1), (side, side), mode="area")) for x in colours]
    return [to_pil(x) for x in (crop, render, *maps)]


def run_light_test(out: Path, s: Settings, checkpoint: str | None = None, threads: int = 1) -> dict:
    """Photograph, reconstruct and measure; write all results into a folder.

    out: the folder. checkpoint: file, default the shipped one. threads: of torch and Mitsuba.
    Returns what `results.json` holds. Raises UserError on wrong input, and where Mitsuba is missing.
    """
    if s.people < 1:
        raise UserError("--people must be at least 1.")
    if s.photo_detail and not s.guided:
        raise UserError("--photo-detail needs the scene that guidance finds; leave out --no-guidance.")
    mi = load_mitsuba(threads)
    model, recognizer = pipeline.load_model(checkpoint), pipeline.load_recognizer()
    generator = DatasetGenerator(s.seed, model.autoencoder.config.size)
    torch.set_num_threads(threads)  # the generator sets one thread
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
            print(_progress(rows[-1]), file=sys.stderr, flush=True)
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


def _progress(row: dict) -> str:
    return (
        f"person {row['person'] + 1}, {row['light']}: albedo {row['ours']['e76']:.1f} "
        f"(unwrapped {row['unwrapped']['e76']:.1f}), shape {row['shape']:.2f} mm, {row['seconds']:.0f} s"
    )


@torch.no_grad()
def mean_albedo(model) -> Tensor:
    """`[1, 3, S, S]` linear: diffuse albedo of the training set's mean map."""
    return TextureMaps.from_stack(from_codes(model.autoencoder.map_mean[None])).diffuse


def photograph_all(mi, people: HeldOut, s: Settings, folder: Path) -> list[dict[str, Path]]:
    """Photograph all people: [{light: file}].

    It takes long and resumes photo by photo, so it runs before the measuring.
    """
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
    p = command_parser("evaluate.light_test", __doc__)
    d = Settings()
    p.add_argument("--checkpoint", help="default: the shipped one")
    p.add_argument("--out", type=Path, default=Path("light_test"), help="folder of the results (%(default)s)")
    p.add_argument("--people", type=int, default=d.people, help="(%(default)s)")
    p.add_argument("--seed", type=int, default=d.seed, help="of the held-out people (%(default)s)")
    p.add_argument("--steps", type=int, default=d.steps, help="of the sampler (%(default)s)")
    p.add_argument("--size", type=int, default=d.size, help="side of the photos, pixels (%(default)s)")
    p.add_argument("--samples", type=int, default=d.samples, help="of a pixel, for each light source (%(default)s)")
    p.add_argument(
        "--no-guidance", action="store_true", help="for comparison: the identity-conditioned model without guidance"
    )
    p.add_argument("--photo-detail", action="store_true", help="add the photo's own detail to the maps")
    p.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads (%(default)s)")
    a = p.parse_args(argv)
    settings = Settings(a.people, a.seed, a.steps, a.size, a.samples, not a.no_guidance, a.photo_detail)
    results = run_light_test(a.out, settings, a.checkpoint, a.threads)
    print(markdown(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
