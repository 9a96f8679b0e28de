"""Whom the synthetic data covers: python -m fitdiff_lab.evaluate.coverage [--data DIR] [--people 600]

Prints Markdown: skin tone (individual typology angle of the cheek's albedo, measured on the finished texture) against
age, as shares of all people. With --data the textures of a train.prepare folder are counted; without, people are drawn
and their skins made on the spot.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from tqdm import tqdm

from fitdiff_core.errors import UserError, command
from fitdiff_core.head import load_head

from ..dataset.shards import SHARD, TextureShards, decode_maps
from .heldout import cheek_ita
from .metrics import ITA_CLASSES, ita_class

AGES = ((18, 25), (25, 35), (35, 45), (45, 55), (55, 65), (65, 81))
Person = tuple[float, float, float]  # ITA in degrees, age in years, how feminine the attributes are (0..1)


def made(n: int, seed: int, size: int = 256) -> Iterator[Person]:
    """n people drawn and painted now."""
    from ..synthetic.skin import SkinGenerator

    skin = SkinGenerator(load_head(), size)
    cheek = skin.regions["cheek"] > 0.5
    for i in tqdm(range(n), "skins", leave=False, disable=None):
        maps, a = skin.sample(seed * 10_000_019 + i)
        yield cheek_ita(maps.stack(), cheek), a.age, a.feminine


def stored(folder: Path, n: int) -> Iterator[Person]:
    """Up to n textures of a train.prepare folder, evenly spread."""
    from ..synthetic.regions import Regions
    from ..synthetic.uv_canvas import UVCanvas

    rows = TextureShards(folder)
    with safe_open(rows.paths[0], "pt") as f:
        names = f.metadata()["names"].split(",")
    cheek = Regions(UVCanvas(load_head(), rows.row("maps", 0).shape[-1]))["cheek"] > 0.5
    for i in tqdm(
        torch.linspace(0, len(rows) - 1, min(n, len(rows))).long().tolist(), "textures", leave=False, disable=None
    ):
        numbers = dict(zip(names, rows.row("attributes", i).tolist(), strict=True))
        yield cheek_ita(decode_maps(rows.row("maps", i)[None]), cheek), numbers["age"], numbers["feminine"]


def table(people: list[Person]) -> str:
    """Shares in percent, tones down, ages across."""
    n = len(people)
    count = {(tone, band): 0 for _, tone in ITA_CLASSES for band in AGES}
    for angle, age, _ in people:
        band = next((b for b in AGES if b[0] <= age < b[1]), AGES[-1])
        count[ita_class(angle), band] += 1
    lines = [
        "| skin tone (ITA) | " + " | ".join(f"{a}-{b - 1}" for a, b in AGES) + " | all ages |",
        "|" + "---|" * (len(AGES) + 2),
    ]
    for bound, tone in ITA_CLASSES:
        row = [count[tone, band] for band in AGES]
        limits = (
            f"{tone} (above {bound:.0f})" if tone != ITA_CLASSES[-1][1] else f"{tone} (up to {ITA_CLASSES[-2][0]:.0f})"
        )
        lines.append(f"| {limits} | " + " | ".join(f"{100 * v / n:.0f}" for v in [*row, sum(row)]) + " |")
    total = [sum(count[tone, band] for _, tone in ITA_CLASSES) for band in AGES]
    lines.append("| all tones | " + " | ".join(f"{100 * v / n:.0f}" for v in [*total, n]) + " |")
    feminine = sum(p[2] > 0.5 for p in people)
    angles = torch.tensor([p[0] for p in people])
    return "\n".join(lines) + (
        f"\n\nPercent of {n} people. ITA from {angles.min():.0f} to {angles.max():.0f} degrees, median {angles.median():.0f}; "
        f"{100 * feminine / n:.0f} % with feminine attributes, the rest masculine.\n"
    )


@command
def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(
        prog="python -m fitdiff_lab.evaluate.coverage",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--data", type=Path, help="folder of train.prepare")
    p.add_argument("--people", type=int, default=600, help=f"how many to count (600); a shard of --data has {SHARD}")
    p.add_argument("--seed", type=int, default=900, help="of people drawn without --data")
    p.add_argument("--threads", type=int, default=1)
    a = p.parse_args(argv)
    torch.set_num_threads(a.threads)
    if a.people < 1:
        raise UserError("--people must be at least 1.")
    print(table(list(stored(a.data, a.people) if a.data else made(a.people, a.seed))), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
