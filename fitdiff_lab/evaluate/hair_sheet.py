"""`python -m fitdiff_lab.evaluate.hair_sheet [--out docs]`: the hair presets on three heads, from four sides."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from fitdiff_core.avatar import Avatar
from fitdiff_core.errors import command
from fitdiff_core.hair.presets import PRESETS
from fitdiff_core.head.model import load_head
from fitdiff_core.pipeline import render_avatar
from fitdiff_core.render import Camera
from fitdiff_core.scene import Scene

from ..assets.head.sheets import GREY
from ..cli import command_parser
from ..synthetic.skin import SkinGenerator

VIEWS = (0.0, 40.0, 90.0, 180.0)  # degrees to the subject's left
SEEDS = (102, 107, 111)  # of the heads and their skins
COLUMNS = 2  # presets side by side
LABEL = 16  # pixels


def heads(size: int = 512) -> list[Avatar]:
    """Three people with skins of the generator."""
    head, found = load_head(), []
    skins = SkinGenerator(head, size)
    for seed in SEEDS:
        shape = torch.randn(1, head.n_identity, generator=torch.Generator().manual_seed(seed)) * 0.8
        found.append(Avatar(head, shape, skins.sample(seed)[0]))
    return found


def views(avatar: Avatar, size: int) -> Image.Image:
    """One head from all sides."""
    tiles = []
    for yaw in VIEWS:
        camera = Camera.orbit(yaw, 3.0, 1.2, 23.0, (0.0, -0.045, 0.0))
        picture, _ = render_avatar(avatar, Scene.portrait(1), size, camera=camera, background=GREY)
        tiles.append((picture[0] * 255).round().byte().permute(1, 2, 0))
    return Image.fromarray(torch.cat(tiles, 1).numpy())


def sheet(names: list[str], size: int) -> Image.Image:
    """Rows of presets; each preset is on one of the three heads, in turn."""
    people = heads()
    rows = -(-len(names) // COLUMNS)
    wide, high = len(VIEWS) * size, size + LABEL
    page = Image.new("RGB", (COLUMNS * wide, rows * high), (40, 42, 46))
    draw = ImageDraw.Draw(page)
    for i, name in enumerate(names):
        x, y = i % COLUMNS * wide, i // COLUMNS * high
        page.paste(views(people[i % len(people)].with_hair(PRESETS[name]), size), (x, y + LABEL))
        draw.text((x + 4, y + 2), name, fill=(235, 235, 235))
    return page


@command
def main(argv: list[str] | None = None) -> int:
    p = command_parser("evaluate.hair_sheet", __doc__)
    p.add_argument("--out", type=Path, default=Path("docs"))
    p.add_argument("--size", type=int, default=200, help="pixels of one view (default: %(default)s)")
    p.add_argument("--styles", nargs="*", default=list(PRESETS), help="presets (default: all)")
    args = p.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    sheet(args.styles, args.size).save(args.out / "hair_presets.jpg", quality=86)
    return 0


if __name__ == "__main__":
    sys.exit(main())
