"""Draw pictures of random heads and of the 52 expressions for the documentation.

    python -m fitdiff_lab.assets.head.sheets [--out docs] [--head FILE]

Output: head_random.jpg and head_expressions.jpg. Takes about a minute.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from fitdiff_core.errors import command
from fitdiff_core.head.model import HeadModel, load_head
from fitdiff_core.image import linear_to_srgb
from fitdiff_core.render import Camera, Light, render

from ...cli import command_parser
from ...synthetic.skin import SkinGenerator

GREY = (0.16, 0.17, 0.19)


def portrait(head: HeadModel, vertices: Tensor, maps, size: int, yaw: float, fov: float, target) -> Image.Image:
    """One picture of `size` x `size` px, rendered at twice the size.

    yaw, fov: degrees. target: of the camera, metres.
    """
    camera = Camera.orbit(yaw, 3.0, 0.9, fov, target)
    with torch.no_grad():
        out = render(vertices, head, maps, camera, Light.studio(), (2 * size, 2 * size), background=GREY)
    pixels = (linear_to_srgb(out.image)[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0)
    return Image.fromarray(pixels.numpy()).resize((size, size), Image.LANCZOS)


def tile(pictures: list[Image.Image], columns: int, names: tuple[str, ...] | None = None) -> Image.Image:
    """A sheet of pictures of one size, with a name below each."""
    w, h = pictures[0].size
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * w, rows * h), tuple(int(255 * linear_to_srgb(torch.tensor(c))) for c in GREY))
    draw = ImageDraw.Draw(sheet)
    for i, picture in enumerate(pictures):
        x, y = i % columns * w, i // columns * h
        sheet.paste(picture, (x, y))
        if names:
            draw.text((x + 4, y + h - 14), names[i], fill=(235, 235, 235))
    return sheet


def random_heads(head: HeadModel, skins: SkinGenerator, count: int = 24, size: int = 200) -> Image.Image:
    """A sheet of random heads with random skins."""
    generator = torch.Generator().manual_seed(11)
    pictures = []
    for i in range(count):
        vertices = head(torch.randn(1, head.n_identity, generator=generator))
        yaw = (-28.0, 0.0, 28.0)[i % 3]
        pictures.append(portrait(head, vertices, skins.sample(100 + i)[0], size, yaw, 20.0, (0.0, -0.03, 0.0)))
    return tile(pictures, 8)


def expressions(head: HeadModel, skins: SkinGenerator, size: int = 168) -> Image.Image:
    """A sheet of all expressions on the mean head."""
    maps = skins.sample(3)[0]
    none = torch.zeros(1, head.n_identity)
    names = head.expression_names
    weights = torch.eye(len(names))
    weights[names.index("mouthClose"), names.index("jawOpen")] = (
        1  # in ARKit, mouthClose closes the lips of an open jaw
    )
    pictures = [portrait(head, head(none, w[None]), maps, size, 8.0, 14.5, (0.0, -0.03, 0.03)) for w in weights]
    return tile(pictures, 9, names)


@command
def main(argv: list[str] | None = None) -> int:
    p = command_parser("assets.head.sheets", __doc__)
    p.add_argument("--out", type=Path, default=Path("docs"), help="folder (%(default)s)")
    p.add_argument("--head", type=Path, help="head file (default: the shipped one)")
    args = p.parse_args(argv)
    head = load_head(args.head)
    skins = SkinGenerator(head, 512)
    args.out.mkdir(parents=True, exist_ok=True)
    random_heads(head, skins).save(args.out / "head_random.jpg", quality=88)
    expressions(head, skins).save(args.out / "head_expressions.jpg", quality=88)
    return 0


if __name__ == "__main__":
    sys.exit(main())
