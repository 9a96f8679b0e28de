"""Count the skin tones and ages of the synthetic people.

    python -m fitdiff_lab.evaluate.coverage [--data DIR] [--people 600]

Output: a Markdown table of skin tone (individual typology angle of the cheek's finished albedo) against age, in
percent. With --data it counts the skins of a folder of fitdiff_lab.dataset.prepare; without it, it draws people and
paints their skins, .2 s each.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from tqdm import tqdm

from fitdiff_core.errors import UserError, command
from fitdiff_core.head import load_head

from ..cli import command_parser
from ..dataset.shards import SHARD, TextureShards, decode_maps
from ..synthetic.regions import Regions
from ..synthetic.skin import SkinGenerator
from ..synthetic.uv_canvas import UVCanvas
from .heldout import cheek_ita
from .metrics import ITA_CLASSES, ita_class

AGES = ((18, 25), (25, 35), (35, 45), (45, 55), (55, 65), (65, 81))
Person = tuple[float, float, float]  # ITA in degrees, age in years, how feminine the attributes are (0..1)


def made(n: int, seed: int, size: int = 256) -> Iterator[Person]:
    """Draw and paint n people. size: side of the maps, texels."""
    skin = SkinGenerator(load_head(), size)
    cheek = skin.regions["cheek"] > 0.5
    for i in tqdm(range(n), "skins", leave=False, disable=None):
        maps, a = skin.sample(seed * 10_000_019 + i)
        yield cheek_ita(maps.stack(), cheek), a.age, a.feminine


def stored(folder: Path, n: int) -> Iterator[Person]:
    """Up to n skins of a prepared folder, at even distances."""
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
    """Shares in percent as a Markdown table: a row for each tone, a column for each age."""
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
        f"\n\nPercent of {n} people. "
        f"ITA from {angles.min():.0f} to {angles.max():.0f} degrees, median {angles.median():.0f}; "
        f"{100 * feminine / n:.0f} % with feminine attributes, the rest masculine.\n"
    )


@command
def main(argv: list[str] | None = None) -> int:
    p = command_parser("evaluate.coverage", __doc__)
    p.add_argument("--data", type=Path, help="folder of fitdiff_lab.dataset.prepare")
    p.add_argument("--people", type=int, default=600, help=f"how many to count (%(default)s); a shard has {SHARD}")
    p.add_argument("--seed", type=int, default=900, help="of people drawn without --data (%(default)s)")
    p.add_argument("--threads", type=int, default=1, help="CPU threads (%(default)s)")
    a = p.parse_args(argv)
    torch.set_num_threads(a.threads)
    if a.people < 1:
        raise UserError("--people must be at least 1.")
    print(table(list(stored(a.data, a.people) if a.data else made(a.people, a.seed))), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
