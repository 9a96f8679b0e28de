"""Compare unguided heads of one photo and two seeds, and of two photos and one seed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from .common import mean


def seed_consistency(photos: Iterable[Path], out: Path, steps: int, recognisers: Sequence) -> dict:
    """Compare frontal portraits of unguided heads, two seeds for each photo.

    photos: files. out: folder; the portraits go to `seeds/`. steps: of the sampler. recognisers: to ask.
    Returns the mean distance by the built-in recogniser (below .6 means the same person: dlib's calibration) and the
    mean similarity by each recogniser, between two seeds of one identity and between two identities at one seed.
    """
    from fitdiff_core import pipeline
    from fitdiff_core.errors import UserError
    from fitdiff_core.image import load_photo, save_png

    model, recognizer = pipeline.load_model(), pipeline.load_recognizer()
    embeddings: list[list] = []
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
        embeddings.append(row)
        files.append(paths)
    n = len(embeddings)
    others = [(i, j) for i in range(n) for j in range(i + 1, n)]
    result = {
        "identities": n,
        "two_seeds_distance": round(mean(float(recognizer.distance(a, b)) for a, b in embeddings), 3),
        "two_identities_distance": round(
            mean(float(recognizer.distance(embeddings[i][0], embeddings[j][0])) for i, j in others), 3
        ),
        "two_seeds": {},
        "two_identities": {},
    }
    for r in recognisers:
        seen = [[r.embed(f) for f in row] for row in files]
        result["two_seeds"][r.name] = round(mean(r.between(a, b) for a, b in seen), 3)
        result["two_identities"][r.name] = round(mean(r.between(seen[i][0], seen[j][0]) for i, j in others), 3)
    return result
