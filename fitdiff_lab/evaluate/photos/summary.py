"""Means, worst cases and tables of the results."""

from __future__ import annotations

import statistics

from .common import FRONTAL, cell, mean
from .modes import GUIDED, MODES, RUNS, VIEWS, WHAT

ALL = "all photos"
SUBSETS = {ALL: float("inf"), f"frontal to {FRONTAL:.0f}°": FRONTAL}  # largest |yaw|


def missing(value: float | None) -> bool:
    return value is None or value != value


def mean_likeness(photos: list[dict], recogniser: str) -> dict[str, dict[str, dict]]:
    """{mode: {view: {"mean", "no_face"}}} over photos, by one recogniser."""
    table = {}
    for mode in MODES:
        values = {v: [p["likeness"][mode][v][recogniser] for p in photos if mode in p["likeness"]] for v in VIEWS}
        table[mode] = {
            v: {"mean": round(mean(row), 3), "no_face": sum(map(missing, row))} for v, row in values.items() if row
        }
    return {mode: row for mode, row in table.items() if row}


def stages(runs: list[dict]) -> dict[str, dict[str, float]]:
    """{stage: mean seconds and share of their sum} of finished runs. Python's start and end are not included."""
    names = list(dict.fromkeys(name for r in runs for name in r["seconds"] if name != "total"))
    seconds = {name: mean(r["seconds"].get(name, 0.0) for r in runs) for name in names}
    whole = sum(seconds.values())
    return {n: {"seconds": round(s, 2), "share": round(s / whole, 3) if whole else 0.0} for n, s in seconds.items()}


def cost(photos: list[dict], mode: str) -> dict:
    """Wall time, peak memory and stages of one mode."""
    runs = [p["runs"][mode] for p in photos if p["runs"].get(mode, {}).get("exit") == 0]
    if not runs:
        return {"finished": 0}
    return {
        "finished": len(runs),
        "median_wall_s": round(statistics.median(r["wall"] for r in runs), 1),
        "max_peak_mb": round(max(r["peak_mb"] for r in runs)),
        "stages": stages(runs),
    }


def worst(results: dict[str, dict], recogniser: str, n: int = 5) -> list[dict]:
    """The n photos whose guided head has the least likeness at the photo's pose; first those without a face."""
    rows = [
        {"photo": name, "likeness": p["likeness"][GUIDED]["pose"][recogniser], "yaw": p["yaw"]}
        for name, p in results.items()
        if GUIDED in p["likeness"]
    ]
    return sorted(rows, key=lambda r: -2.0 if missing(r["likeness"]) else r["likeness"])[:n]


def summarise(results: dict[str, dict], recognisers: list[dict]) -> dict:
    """The figures of all photos.

    results: {photo's name: {"yaw", "runs", "likeness"}}. recognisers: [{"name", "guided"}]; the first decides the
        worst.
    """
    everybody = list(results.values())
    seen = [p for p in everybody if p["likeness"]]
    subsets = {}
    for name, limit in SUBSETS.items():
        chosen = [p for p in seen if abs(p["yaw"]) <= limit]
        subsets[name] = {
            "photos": len(chosen),
            "likeness": {r["name"]: mean_likeness(chosen, r["name"]) for r in recognisers},
        }
    finished = sum(all(p["runs"].get(m, {}).get("exit") == 0 for m in RUNS) for p in everybody)
    return {
        "photos": len(everybody),
        "finished": finished,
        "subsets": subsets,
        "cost": {m: cost(everybody, m) for m in RUNS},
        "worst": worst(results, recognisers[0]["name"]),
    }


def label(recogniser: dict) -> str:
    return recogniser["name"] + (
        " (took part in the guidance)" if recogniser["guided"] else " (took no part in the guidance)"
    )


def likeness_rows(table: dict[str, dict]) -> list[list[str]]:
    """Header and rows of one recogniser's likeness. "0.71 (2)" means that it found no face in two renders."""
    rows = [["likeness, mean", *VIEWS.values()]]
    for mode, views in table.items():
        cells = [cell(v["mean"]) + (f" ({v['no_face']})" if v["no_face"] else "") for v in views.values()]
        rows.append([WHAT[mode], *cells])
    return rows


def cost_rows(costs: dict[str, dict], photos: int) -> list[list[str]]:
    rows = [["", *(WHAT[m] for m in costs)]]
    rows.append(["finished", *(f"{c['finished']} of {photos}" for c in costs.values())])
    rows.append(
        ["wall time, median", *(f"{c['median_wall_s']:.1f} s" if c["finished"] else "–" for c in costs.values())]
    )
    rows.append(["peak memory, worst", *(f"{c['max_peak_mb']} MB" if c["finished"] else "–" for c in costs.values())])
    names = list(dict.fromkeys(n for c in costs.values() for n in c.get("stages", {})))
    for name in names:
        parts = [c.get("stages", {}).get(name) for c in costs.values()]
        rows.append([f"stage: {name}", *(f"{s['seconds']:.1f} s, {s['share']:.0%}" if s else "–" for s in parts)])
    return rows


def worst_rows(rows: list[dict]) -> list[list[str]]:
    found = [
        [r["photo"], "no face" if missing(r["likeness"]) else f"{r['likeness']:.2f}", f"{round(r['yaw'])}°"]
        for r in rows
    ]
    return [["worst guided photos", "likeness", "yaw"], *found]


def consistency_rows(c: dict) -> list[list[str]]:
    rows = [[f"without guidance, {c['identities']} identities", "distance, built-in", *c["two_seeds"]]]
    for key, what in (("two_seeds", "two seeds of one identity"), ("two_identities", "two identities, same seed")):
        rows.append([what, cell(c[f"{key}_distance"]), *(cell(v) for v in c[key].values())])
    return rows


def sections(report: dict) -> list[tuple[str, list[list[str]]]]:
    """(title, table) of each part of the report; the first row of a table is its header."""
    s, settings = report["summary"], report["settings"]
    found = []
    for r in settings["recognisers"]:
        for name, subset in s["subsets"].items():
            title = f"{label(r)}: {name}, {subset['photos']}"
            found.append((title, likeness_rows(subset["likeness"][r["name"]])))
    found.append(("Seconds and memory of the command line", cost_rows(s["cost"], s["photos"])))
    if s["worst"]:
        found.append((f"Least alike, by {settings['recognisers'][0]['name']}", worst_rows(s["worst"])))
    found.append(("One identity, two seeds", consistency_rows(s["consistency"])))
    return found


def markdown(report: dict) -> str:
    """The content of `results.json` as Markdown tables."""
    lines = [head(report), ""]
    for title, (header, *rows) in sections(report):
        lines += [f"{title}:", "", "| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
        lines += ["| " + " | ".join(row) + " |" for row in rows] + [""]
    return "\n".join(lines)


def head(report: dict) -> str:
    s = report["settings"]
    return (
        f"Checkpoint {s['checkpoint']}, {s['steps']} steps, seed 0, "
        f"{s['jobs']} photo{'s' if s['jobs'] > 1 else ''} at a time. "
        "In brackets: renders in which the recogniser found no face; they are not in the mean."
    )
