"""Without guidance: do two seeds agree on a person, and do two people differ?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from .common import mean


def seed_consistency(photos: Iterable[Path], out: Path, steps: int, recognisers: Sequence) -> dict:
    """Frontal portraits from two seeds of each photo's identity: is it one person, and another than the next photo's?

    Mean distance of the built-in recogniser (below 0.6: the same person, dlib's own calibration) and mean similarity by
    each recogniser, between two seeds of one identity and between two identities at one seed.
    """
    from fitdiff_core import pipeline
    from fitdiff_core.errors import UserError
    from fitdiff_core.image import load_photo, save_png

    model, recognizer = pipeline.load_model(), pipeline.load_recognizer()
    marks: list[list] = []
    files: list[list[Path]] = []
    for photo in photos:
        try:
            identity = pipeline.encode(load_photo(photo), recognizer)
            row, paths = [], []
            for seed in (0, 1):
                latent, scene = pipeline.sample(model, identity, seed=seed, steps=steps)
                image, _ = pipeline.render_avatar(pipeline.decode(model, latent), scene, 384)
                row.append(pipeline.encode(image, recognizer).embedding)
                paths.append(save_png(out / "seeds" / f"{photo.stem}_{seed}.png", image))
        except UserError:
            continue
        marks.append(row)
        files.append(paths)
    n = len(marks)
    others = [(i, j) for i in range(n) for j in range(i + 1, n)]
    result = {
        "identities": n,
        "two_seeds_distance": round(mean(float(recognizer.distance(a, b)) for a, b in marks), 3),
        "two_identities_distance": round(
            mean(float(recognizer.distance(marks[i][0], marks[j][0])) for i, j in others), 3
        ),
        "two_seeds": {},
        "two_identities": {},
    }
    for r in recognisers:
        seen = [[r.embed(f) for f in row] for row in files]
        result["two_seeds"][r.name] = round(mean(r.between(a, b) for a, b in seen), 3)
        result["two_identities"][r.name] = round(mean(r.between(seen[i][0], seen[j][0]) for i, j in others), 3)
    return result
