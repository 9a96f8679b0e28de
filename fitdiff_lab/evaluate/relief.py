"""`python -m fitdiff_lab.evaluate.relief [--out DIR]`: what the relief of the skin changes, and how long it takes.

For three people with skins of the generator, and for each size of the maps: mean absolute change of a picture, 0..1,
by the normals of the maps without relief (against flat ones), and by the relief. Pictures: the whole face and a
close-up of the cheek, both under a lamp from the side. Seconds are the process' own time on one thread.
"""

from __future__ import annotations

import json
import math
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from fitdiff_core.avatar import Avatar
from fitdiff_core.errors import command
from fitdiff_core.image import save_png
from fitdiff_core.maps import TextureMaps
from fitdiff_core.pipeline import add_skin_relief, render_avatar
from fitdiff_core.render import Camera, Light
from fitdiff_core.render.light import toward
from fitdiff_core.scene import Scene

from ..cli import command_parser
from .hair_sheet import heads

SPOTS = {  # metres across, yaw and pitch of the camera, yaw of the grazing lamp, all degrees
    "cheek": (0.05, 30.0, 0.0, -30.0),
    "nose": (0.05, 25.0, 5.0, 77.0),
    "lips": (0.06, 15.0, -2.0, 77.0),
    "brow": (0.055, 15.0, 0.0, 86.0),
    "face": (0.22, 20.0, 0.0, 80.0),
}


def camera(avatar: Avatar, spot: str) -> Camera:
    """A camera that shows a spot of the first head's face."""
    p = avatar.head.landmarks(avatar.vertices())[0]
    targets = {
        "cheek": 0.35 * p[14] + 0.35 * p[35] + 0.3 * p[54],
        "nose": p[30],
        "lips": (p[51] + p[57]) / 2,
        "brow": (p[24] + p[44]) / 2,
        "face": p[30],
    }
    wide, yaw, pitch, _ = SPOTS[spot]
    distance = 0.8 if spot == "face" else 0.5
    fov = 2 * math.degrees(math.atan(wide / 2 / distance))
    return Camera.orbit(yaw, pitch, distance, fov, tuple(targets[spot].tolist()))


def lamp(spot: str) -> Light:
    """One lamp that grazes a spot, and little other light."""
    soft, yaw = Light.preset("ambient"), torch.tensor([math.radians(SPOTS[spot][3])])
    return Light(soft.sh * 0.12, toward(yaw, torch.tensor([0.25]))[None], torch.tensor([[[3.3, 3.1, 2.8]]]))


def picture(avatar: Avatar, spot: str, light: Light, size: int) -> Tensor:
    """sRGB `[3, size, size]`."""
    return render_avatar(avatar, Scene.portrait(1), size, light, camera(avatar, spot))[0][0]


def flat(avatar: Avatar) -> Avatar:
    """The head with a flat normal map."""
    normal = torch.zeros_like(avatar.maps.normal)
    normal[:, 2] = 1
    return replace(avatar, maps=TextureMaps(avatar.maps.diffuse, avatar.maps.specular, normal))


def measure(people: list[Avatar], size: int, pixels: int) -> dict[str, float]:
    """Seconds a head, and mean changes of pictures."""
    figures: dict[str, list[float]] = {}
    for avatar in people:
        plain = replace(avatar, maps=avatar.maps.resize(size))
        start = time.process_time()
        relief = add_skin_relief(plain)
        figures.setdefault("seconds", []).append(time.process_time() - start)
        for spot, light in (("face", Light.preset("side")), ("cheek", lamp("cheek"))):
            before, without, after = (picture(a, spot, light, pixels) for a in (flat(plain), plain, relief))
            figures.setdefault(f"{spot}: maps' normals", []).append(float((without - before).abs().mean()))
            figures.setdefault(f"{spot}: relief", []).append(float((after - without).abs().mean()))
    # the first head also pays for building tables that are kept
    figures["seconds"] = figures["seconds"][1:] or figures["seconds"]
    return {k: round(sum(v) / len(v), 5) for k, v in figures.items()}


def sheet(avatar: Avatar, pixels: int) -> Tensor:
    """Rows: grazing lamp and studio light; columns: spots."""
    rows = [
        torch.cat([picture(avatar, spot, light or lamp(spot), pixels) for spot in SPOTS], 2)
        for light in (None, Light.studio())
    ]
    return torch.cat(rows, 1)[None]


@command
def main(argv: list[str] | None = None) -> int:
    p = command_parser("evaluate.relief", __doc__)
    p.add_argument("--sizes", nargs="*", type=int, default=[512, 1024], help="of the maps (default: %(default)s)")
    p.add_argument("--pixels", type=int, default=512, help="side of the pictures (default: %(default)s)")
    p.add_argument("--people", type=int, default=3, help="1 to 3 (default: %(default)s)")
    p.add_argument("--out", type=Path, help="folder for close-ups of the first head at each size")
    args = p.parse_args(argv)
    torch.set_num_threads(1)
    people = heads()[: args.people]
    for size in args.sizes:
        print(size, json.dumps(measure(people, size, args.pixels)))
        if args.out:
            args.out.mkdir(parents=True, exist_ok=True)
            save_png(args.out / f"relief_{size}.png", sheet(add_skin_relief(people[0], texture_size=size), args.pixels))
    return 0


if __name__ == "__main__":
    sys.exit(main())
