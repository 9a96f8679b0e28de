"""The output of `evaluate.model`: figures with their references, the Markdown table, the contact sheets."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from fitdiff_core import pipeline
from fitdiff_core.errors import UserError
from fitdiff_core.image import linear_to_srgb, load_photo
from fitdiff_core.maps import TextureMaps

from .heldout import Viewer, stack_embeddings, to_pil
from .metrics import pairwise_mean
from .photos import SUFFIXES, contact_sheet

GROUP_COLUMNS = {
    "likeness_judge": "likeness, judge",
    "likeness_recognizer": "likeness, built-in",
    "ita_error": "ITA error, degrees",
    "shape_error": "shape error, mm",
}


def figure(
    what: str,
    unit: str,
    model: float,
    *,
    baseline: tuple[str, float] | None = None,
    best: tuple[str, float] | None = None,
    extra: dict[str, float] | None = None,
) -> dict:
    """One row of the table.

    what, unit: of the figure.
    model: its value.
    baseline: (name, value) of a method that knows nothing.
    best: (name, value) of the same measurement on the truth. The row's `ratio` is model / best.
    extra: other references by name.
    """
    row = {"what": what, "unit": unit, "model": model}
    if baseline:
        row |= {"baseline_is": baseline[0], "baseline": baseline[1]}
    if best:
        row |= {"best_is": best[0], "best": best[1], "ratio": model / best[1] if best[1] else float("nan")}
    if extra:
        row["extra"] = extra
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}


def groups(names: list[str], each: dict[str, Tensor], order: list[str] | None = None) -> dict[str, dict]:
    """Means over groups of people: {group: {"people": n, figure: mean}}.

    names: the group of each person. each: {figure: value of each person `[n]`}. order: of the groups, default sorted.
    """
    out = {}
    for name in sorted(set(names), key=order.index if order else None):
        pick = torch.tensor([n == name for n in names])
        out[name] = {"people": int(pick.sum())}
        out[name] |= {k: round(float(v[pick].nanmean()), 4) for k, v in each.items() if k in GROUP_COLUMNS}
    return out


def markdown(results: dict) -> str:
    """The content of `results.json` as Markdown tables."""
    s = results["settings"]
    lines = [
        f"Checkpoint {results['checkpoint']}; {s['people']} held-out people and as many samples of each kind, "
        f"seed {s['seed']}; {s['steps']} steps of {s['sampler']}, cfg {s['cfg']}; "
        f"{round(sum(results['seconds'].values()))} s.",
        "",
        "| figure | unit | model | knowing nothing | best possible | model / best |",
        "|---|---|---|---|---|---|",
    ]
    for row in results["figures"].values():
        known = [f"{row['baseline']:.3g} ({row['baseline_is']})"] if "baseline" in row else []
        known += [f"{v:.3g} ({k})" for k, v in row.get("extra", {}).items()]
        best = (f"{row['best']:.3g} ({row['best_is']})", f"{row['ratio']:.2f}") if "best" in row else ("", "")
        lines.append(
            f"| {row['what']} | {row['unit']} | **{row['model']:.3g}** | {', '.join(known)} | {best[0]} | {best[1]} |"
        )
    for title, table in results["groups"].items():
        columns = [k for k in GROUP_COLUMNS if any(k in row for row in table.values())]
        lines += [
            "",
            "| " + " | ".join([title, "people", *(GROUP_COLUMNS[k] for k in columns)]) + " |",
            "|" + "---|" * (len(columns) + 2),
        ]
        for name, row in table.items():
            lines.append("| " + " | ".join([name, str(row["people"]), *(f"{row[k]:.3g}" for k in columns)]) + " |")
    return "\n".join(lines) + "\n"


def tiles(maps: TextureMaps) -> list[Image.Image]:
    """Diffuse, specular and normal map of batch 1 as pictures.

    Slopes are multiplied by 4, to be visible.
    """
    steep = F.normalize(maps.normal * torch.tensor([4.0, 4.0, 1.0]).view(1, 3, 1, 1), dim=1)
    return [to_pil(linear_to_srgb(maps.diffuse)), to_pil(maps.specular), to_pil(steep * 0.5 + 0.5)]


def rows_of(images: Iterable[Image.Image], width: int) -> list[tuple[str, list[Image.Image]]]:
    """Rows of `width` pictures for `contact_sheet`."""
    images = list(images)
    return [("", images[i : i + width]) for i in range(0, len(images), width)]


def save_sheets(out: Path, pictures: list[Image.Image], maps: list[TextureMaps]) -> None:
    """Write samples_renders.jpg and samples_maps.jpg (diffuse, specular and normals of each)."""
    contact_sheet(rows_of(pictures, 6), out / "samples_renders.jpg")
    contact_sheet(rows_of([tile for m in maps for tile in tiles(m)], 6), out / "samples_maps.jpg")


def table_of_photos(folder: Path, out: Path, model, viewer: Viewer, s) -> dict:
    """Figures of unguided renders of real photos: likeness to the photo, and to the other photos.

    Writes photos_renders.jpg, and photos_private.jpg with each photo beside its render, which must not be published.
    s: `Settings`. Raises UserError where fewer than two photos have a face.
    """
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES) if folder.is_dir() else []
    pictures, originals, embeddings, faces, judged, judged_photos = [], [], [], [], [], []
    for path in paths:
        photo = load_photo(path)
        try:
            identity = pipeline.encode(photo, viewer.recognizer)
        except UserError:
            continue
        latent, _ = pipeline.sample(model, identity, seed=s.seed, steps=s.steps, cfg_scale=s.cfg, sampler=s.sampler)
        avatar = pipeline.decode(model, latent)
        image = viewer.portrait(avatar)
        pictures.append(to_pil(image))
        originals.append(to_pil(identity.crop).resize(pictures[-1].size))
        embeddings.append(viewer.embed(avatar, image))
        faces.append(identity.embedding[0])
        if viewer.judge:
            judged.append(viewer.judged(image))
            judged_photos.append(viewer.judged(to_pil(photo)))
    if len(pictures) < 2:
        raise UserError(f"Fewer than two photos with a face in {folder}; give a folder of portraits.")
    contact_sheet(rows_of(pictures, 6), out / "photos_renders.jpg")
    contact_sheet(
        rows_of([im for pair in zip(originals, pictures, strict=True) for im in pair], 6), out / "photos_private.jpg"
    )
    scales = [
        (
            "recognizer",
            "built-in recogniser",
            stack_embeddings(embeddings),
            stack_embeddings(faces),
            viewer.recognizer.similarity,
        )
    ]
    if viewer.judge:
        scales.insert(
            0,
            (
                "judge",
                "independent judge",
                stack_embeddings(judged),
                stack_embeddings(judged_photos),
                lambda x, y: (x * y).sum(-1),
            ),
        )
    rows = {}
    for key, name, render, photo, similarity in scales:
        square = similarity(render[:, None], photo[None])
        rows[f"photos_{key}"] = figure(
            f"{len(pictures)} real photos, unguided: likeness to the photo, {name}",
            "",
            float(square.diagonal().nanmean()),
            baseline=("another photo", pairwise_mean(square)),
        )
    return rows
