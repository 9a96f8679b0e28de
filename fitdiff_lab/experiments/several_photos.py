"""Measure what more photos of a person contribute.

    python -m fitdiff_lab.experiments.several_photos [--people 6] [--steps 30] [--out FILE]

Input: held-out synthetic people, each photographed from the front and from 30 degrees on both sides, each time in
another light and with another expression. Output: errors of shape and albedo for one photo, for three photos whose
identities are averaged while only the front guides, and for two or three photos that all guide. Takes about a minute
for each person and way.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fitdiff_core import pipeline
from fitdiff_core.avatar import Avatar
from fitdiff_core.errors import UserError, command
from fitdiff_core.files import write_json
from fitdiff_core.render import Camera
from fitdiff_core.scene import Scene

from ..cli import command_parser
from ..dataset.prepare import DatasetGenerator
from ..evaluate.albedo import errors, skin_texels
from ..evaluate.heldout import HeldOut, make_people
from ..evaluate.light_test import shape_errors
from ..synthetic.people import random_person
from ..synthetic.photograph import take_photograph
from ..synthetic.scenes import random_expression, random_light

SIZE = 384  # side of the photos, px
YAWS = {"front": 0.0, "left": -30.0, "right": 30.0}
# {way: (photos of the identity, photos of the guidance)}
WAYS = {
    "front": (("front",), ("front",)),
    "left": (("left",), ("left",)),
    "right": (("right",), ("right",)),
    "three averaged, front guides": (("front", "left", "right"), ("front",)),
    "front and right": (("front", "right"), ("front", "right")),
    "all three": (("front", "left", "right"), ("front", "left", "right")),
}


def take_photos(people: HeldOut, generator: DatasetGenerator, row: int) -> dict[str, Tensor]:
    """{view: sRGB `[1, 3, SIZE, SIZE]`} of person number `row`, with draws of its own for each."""
    avatar, attributes, out = people.avatar(row), random_person(generator.texture_seed(row)), {}
    for k, (name, yaw) in enumerate(YAWS.items()):
        rng = np.random.default_rng([generator.seed, row, 31 + k])
        distance = math.exp(rng.uniform(math.log(0.6), math.log(1.6)))
        fov = math.degrees(2 * math.atan(0.16 / (distance - 0.03)))
        pitch = float(rng.uniform(-6, 6))
        camera = Camera.orbit(yaw, pitch, distance, fov, (0.0, -0.012, 0.03))
        gaze = torch.tensor([[math.radians(yaw), math.radians(pitch)]]) * 0.9
        expression = random_expression(people.head.expression_names, rng)
        out[name] = take_photograph(
            avatar, Scene(camera, random_light(rng, camera), expression, gaze, (SIZE, SIZE)), rng, attributes
        )
    return out


def figures(found: Avatar, truth: Avatar, skin: Tensor) -> dict[str, float]:
    """Errors of shape (mm) and albedo (CIE76). "_gain": after the best gain, because a photo does not tell its
    exposure.

    skin: `[S, S]` bool, texels that count.
    """
    albedo = errors(*(x.maps.diffuse[0, :, skin].T for x in (found, truth)))
    shape = shape_errors(truth.head, found.shape, truth.shape)
    return {
        "shape": shape["shape"],
        "mean_head": shape["mean_head"],
        "e76": albedo["e76"],
        "e76_gain": albedo["e76_gain"],
    }


def compare_photo_counts(
    people: int = 6,
    seed: int = 7700,
    steps: int = 30,
    checkpoint: str | None = None,
    log: Callable[[str], None] = print,
) -> dict:
    """Run the comparison.

    people: number. seed: of the people. steps: of the sampler. checkpoint: default the shipped one. log: of progress.
    Returns {"rows": one for each person and way, "mean": figures of each way, ...}. Raises UserError on wrong input.
    """
    if people < 1:
        raise UserError("--people must be at least 1.")
    model, recognizer = pipeline.load_model(checkpoint), pipeline.load_recognizer()
    generator = DatasetGenerator(seed, model.autoencoder.config.size)
    truth = make_people(generator, 0, people, False, "people")
    skin, rows = skin_texels(model.head, model.autoencoder.config.size), []
    for i in range(people):
        photos = take_photos(truth, generator, i)
        try:
            faces = pipeline.find_faces(list(photos.values()))
            fitted = pipeline.fit_photos(list(photos.values()), model.head, faces)
            face = dict(zip(photos, faces, strict=True))
            guidance = dict(zip(photos, pipeline.prepare_guidance(fitted, recognizer), strict=True))
        except UserError as e:
            log(f"person {i + 1} left out: {e}")
            continue
        for way, (known, guiding) in WAYS.items():
            start = time.perf_counter()
            identity = pipeline.encode([photos[k] for k in known], recognizer, [face[k] for k in known])
            latent, _ = pipeline.sample(model, identity, [guidance[k] for k in guiding], seed=0, steps=steps)
            seconds = time.perf_counter() - start
            row = figures(pipeline.decode(model, latent), truth.avatar(i), skin)
            rows.append({"person": i, "way": way, **row, "seconds": seconds})
            log(f"person {i + 1}, {way}: shape {row['shape']:.2f} mm, albedo {row['e76']:.1f}, {seconds:.0f} s")
    kinds = ("shape", "mean_head", "e76", "e76_gain", "seconds")
    mean = (
        {way: {k: round(statistics.fmean(r[k] for r in rows if r["way"] == way), 3) for k in kinds} for way in WAYS}
        if rows
        else {}
    )
    return {"people": people, "seed": seed, "steps": steps, "checkpoint": model.id, "rows": rows, "mean": mean}


@command
def main(argv: list[str] | None = None) -> int:
    p = command_parser("experiments.several_photos", __doc__)
    p.add_argument("--checkpoint", help="default: the shipped one")
    p.add_argument("--people", type=int, default=6, help="number of people (%(default)s)")
    p.add_argument("--seed", type=int, default=7700, help="of the held-out people (%(default)s)")
    p.add_argument("--steps", type=int, default=30, help="of the sampler (%(default)s)")
    p.add_argument("--out", type=Path, help="also write all figures to this JSON file")
    a = p.parse_args(argv)
    results = compare_photo_counts(
        a.people, a.seed, a.steps, a.checkpoint, lambda line: print(line, file=sys.stderr, flush=True)
    )
    if a.out:
        write_json(a.out, results)
    print("| photos | shape, mm | mean head, mm | albedo, CIE76 | after a gain | s |\n|---|---|---|---|---|---|")
    for way, m in results["mean"].items():
        print(
            f"| {way} | {m['shape']:.2f} | {m['mean_head']:.2f} | {m['e76']:.1f} | {m['e76_gain']:.1f} "
            f"| {m['seconds']:.0f} |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
