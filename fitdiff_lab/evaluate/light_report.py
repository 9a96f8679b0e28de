"""The output of `light_test`: means with their goals, the Markdown table, the contact sheet."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from .photos import mean

ALBEDO_GOAL, DIFFERENCE_GOAL = 0.5, 0.25  # share of the value of plain unwrapping
SHAPE_GOAL_MM, SHAPE_GOAL = 2.0, 0.6  # and share of the value of the mean head
SCALES = (  # key, name
    ("e76", "CIE76"),
    ("e76_gain", "CIE76 after one gain"),
    ("e2000", "CIEDE2000"),
    ("e2000_gain", "CIEDE2000 after one gain"),
)


def _row(
    what: str, unit: str, ours: float, reference: tuple[str, float], goal: float | None = None, **others: float
) -> dict:
    """One row of the table.

    `ratio` is ours / reference. With a goal, `met` says whether the ratio is at most the goal.
    """
    name, value = reference
    row = {
        "what": what,
        "unit": unit,
        "ours": ours,
        "reference_is": name,
        "reference": value,
        "ratio": ours / value if value else float("nan"),
        **others,
    }
    row = {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}
    return row if goal is None else row | {"goal": goal, "met": row["ratio"] <= goal}


def summary(photos: list[dict], pairs: list[dict]) -> dict[str, dict]:
    """Figures by name, from the rows of all photos and of each person's pair.

    Photos without a face are only counted.
    """
    good = [p for p in photos if "error" not in p]
    out = {}
    lights = list(dict.fromkeys(p["light"] for p in good))
    for key, scale in SCALES:
        goal = ALBEDO_GOAL if key.startswith("e76") else None
        for light in (None, *lights):
            chosen = [p for p in good if light in (None, p["light"])]
            ours, plain, average = (mean(p[k][key] for p in chosen) for k in ("ours", "unwrapped", "mean map"))
            name = f"albedo_{key}" + (f"_{light.replace(' ', '_')}" if light else "")
            out[name] = _row(
                f"albedo error, {light or 'both lights'}, {scale}",
                "Delta E",
                ours,
                ("unwrapped", plain),
                goal,
                mean_map=average,
            )
        if pairs:
            ours, plain = (mean(p[k][key] for p in pairs) for k in ("ours", "unwrapped"))
            out[f"difference_{key}"] = _row(
                f"albedo of one light against the other's, {scale}",
                "Delta E",
                ours,
                ("unwrapped", plain),
                DIFFERENCE_GOAL if key.startswith("e76") else None,
            )
    for suffix, how in (("", "rotation and translation"), ("_scaled", "rotation, translation and scale")):
        ours, reference = (mean(p[f"{k}{suffix}"] for p in good) for k in ("shape", "mean_head"))
        row = _row(
            f"shape, mean vertex distance on the face after {how}", "mm", ours, ("mean head", reference), SHAPE_GOAL
        )
        out[f"shape{suffix}"] = row | {"goal_mm": SHAPE_GOAL_MM, "met": row["met"] and row["ours"] <= SHAPE_GOAL_MM}
    out["found"] = {"photos": len(photos), "faces": len(good)}
    return out


def markdown(results: dict) -> str:
    """The content of `results.json` as a Markdown table."""
    s, figures = results["settings"], dict(results["figures"])
    found = figures.pop("found")
    options = ["guided" if s["guided"] else "unguided", *(["photo detail"] if s["photo_detail"] else [])]
    lines = [
        f"Checkpoint {results['checkpoint']}; {s['people']} held-out people, seed {s['seed']}, "
        f"two photos each of {s['size']} px by Mitsuba {results['mitsuba']}; "
        f"{s['steps']} steps, {', '.join(options)}; "
        f"a face was found in {found['faces']} of {found['photos']} photos.",
        "",
        "Albedo: linear colours of the face's skin texels seen in the photo, unchanged or after the best gain for each "
        "(a photo does not tell its exposure). Unwrapped: the photo's colours through the true mesh and camera. "
        "Mean map: the training set's mean albedo, the same for all people.",
        "",
        "| figure | unit | ours | reference | mean map | ours / reference | goal |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in figures.values():
        average = f"{row['mean_map']:.2f}" if "mean_map" in row else ""
        goal = ""
        if "goal" in row:
            limit = f"{row['goal']:g}" + (f", {row['goal_mm']:g} mm" if "goal_mm" in row else "")
            goal = f"{limit}: {'met' if row['met'] else 'missed'}"
        lines.append(
            f"| {row['what']} | {row['unit']} | **{row['ours']:.2f}** | "
            f"{row['reference']:.2f} ({row['reference_is']}) | {average} | {row['ratio']:.2f} | {goal} |"
        )
    return "\n".join(lines) + "\n"


def save_sheet(rows: Iterable[list[Image.Image]], path: Path) -> None:
    """Write the contact sheet. rows: pictures of one size, a row for each photo."""
    rows = list(rows)
    if not rows:
        return
    side = rows[0][0].width
    sheet = Image.new("RGB", (max(map(len, rows)) * side, len(rows) * side))
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            sheet.paste(image, (x * side, y * side))
    sheet.save(path, quality=88)
