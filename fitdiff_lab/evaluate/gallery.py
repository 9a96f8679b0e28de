"""Draw the moving pictures of docs/gallery.md: python -m fitdiff_lab.evaluate.gallery AVATAR --out docs

AVATAR: a file of `fitdiff --save-avatar`. Writes `turntable.webp`, the head turning in the studio, and `lights.webp`, a
lamp that goes round the head. Takes about a minute.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

from PIL import Image

from fitdiff_core import pipeline
from fitdiff_core.avatar_file import load_avatar
from fitdiff_core.errors import command
from fitdiff_core.render import Camera, Light
from fitdiff_core.render.panoramas import named_light
from fitdiff_core.render.rig import combine_lights, directional_light
from fitdiff_core.scene import Scene

from ..cli import command_parser
from .heldout import to_pil

FRAMES, SIDE, MILLISECONDS = 20, 320, 100
SWING = 55.0  # degrees to each side


def camera(yaw: float) -> Camera:
    """A portrait's camera, `yaw` degrees to the subject's left."""
    return Camera.orbit(yaw, 3.0, 0.78, 20.0, (0.0, 0.008, 0.02))


def frames(avatar, scene: Scene, out: Path) -> None:
    """Write both films."""
    phases = [2 * math.pi * i / FRAMES for i in range(FRAMES)]
    studio, dim = named_light("studio"), Light.ambient(1).scaled(0.18)
    views = [(camera(SWING * math.sin(p)), studio) for p in phases]
    lamps = [directional_light(math.degrees(p), 25.0, (3.0, 2.8, 2.5)) for p in phases]
    lights = [(camera(-18.0), combine_lights(lamp, dim)) for lamp in lamps]
    for name, shots in (("turntable", views), ("lights", lights)):
        pictures: list[Image.Image] = []
        for lens, light in shots:
            pictures.append(to_pil(pipeline.photograph(avatar, scene, SIDE, light, lens)[0]))
        pictures[0].save(
            out / f"{name}.webp", save_all=True, append_images=pictures[1:], duration=MILLISECONDS, loop=0, quality=55
        )


@command
def main(argv: list[str] | None = None) -> int:
    parser = command_parser("evaluate.gallery", __doc__)
    parser.add_argument("avatar")
    parser.add_argument("--out", default="docs", help="folder (default: %(default)s)")
    args = parser.parse_args(argv)
    avatar, scene = load_avatar(args.avatar)
    frames(avatar, scene or Scene.portrait(1), Path(args.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
