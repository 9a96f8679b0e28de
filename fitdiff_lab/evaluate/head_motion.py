"""`python -m fitdiff_lab.evaluate.head_motion [--out docs] [--heads 20]`: how lids, lips, teeth and jaw move.

Measures random heads, and draws a sheet: a blink, an opening jaw, lips that stay shut while the jaw opens, the visemes,
and eyes that look around. Figures:

lids: the widest gap between the lids' edges at eyeBlink = 1, mm; at most 0 is shut
lips: how much deeper than at rest the inner lips cross at t * (jawOpen + mouthClose), t in steps of .1, mm
rest: how deep they cross at rest, which is a part of the person's shape, mm
teeth: vertices of teeth outside lips and cheeks, the most of any single expression at weight 1
jaw: how far the tip of the chin is apart when the jaw's joint and when jawOpen = 1 opens the mouth, mm
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from fitdiff_core.avatar import Avatar
from fitdiff_core.errors import command
from fitdiff_core.head import HeadModel
from fitdiff_core.head.corrections import full_expressions, posed
from fitdiff_core.head.inner_mouth import TEETH
from fitdiff_core.head.joints import turned_jaw
from fitdiff_core.head.lids import lid_gap, lids_of
from fitdiff_core.head.model import load_head
from fitdiff_core.head.visemes import VISEMES, mixture
from fitdiff_core.head.whole import whole_head
from fitdiff_core.pipeline import render_avatar
from fitdiff_core.render import Camera
from fitdiff_core.render.rasterizer import rasterize
from fitdiff_core.scene import Scene

from ..assets.head.sheets import GREY
from ..cli import command_parser
from ..synthetic.skin import SkinGenerator

MM = 1000.0
AXIS, REACH = 0.02, 0.12  # z of an axis within the jaw; radius and half height that the map of the skin holds
MAP, CLEAR = 384, 0.0003  # its side, and metres within which a tooth counts as inside
PEOPLE = (102, 117)  # seeds of the sheet's heads
LABEL = 14


def weights(head: HeadModel, actions: dict[str, float]) -> Tensor:
    """Expression `[1, 52]` float64 of ARKit's names; a name without Left or Right stands for both."""
    out = torch.zeros(1, head.n_expression, dtype=torch.float64)
    for action, value in actions.items():
        for name in (action, f"{action}Left", f"{action}Right"):
            if name in head.expression_names:
                out[0, head.expression_names.index(name)] = value
    return out


def lids_apart(head: HeadModel, shape: Tensor) -> float:
    """mm. shape: `[1, K]` float64."""
    shut = posed(head, shape, weights(head, {"eyeBlink": 1.0}))[0]
    return MM * max(float(lid_gap(shut, lids).max()) for lids in lids_of(head))


def lips_cross(head: HeadModel, shape: Tensor) -> tuple[float, float]:
    """(mm deeper than at rest at worst, mm at rest) of one person."""
    rest, deepest = _lip_gap(head, head(shape)), 0.0
    for k in range(1, 11):
        together = posed(head, shape, weights(head, {"jawOpen": k / 10, "mouthClose": k / 10}))
        deepest = max(deepest, float((rest - _lip_gap(head, together)).max()))
    return MM * deepest, MM * max(0.0, -float(rest.min()))


def _lip_gap(head: HeadModel, vertices: Tensor) -> Tensor:
    points = head.landmarks(vertices)[0]
    return points[[61, 62, 63], 1] - points[[67, 66, 65], 1]


def teeth_outside(head: HeadModel, shape: Tensor) -> Iterator[tuple[str, int]]:
    """(expression, vertices of teeth outside the skin) for each single expression at weight 1.

    The outer skin is drawn into a map of radius over angle and height about an axis within the jaw. Where it covers a
    tooth's place, the tooth must lie deeper.
    """
    whole = whole_head(head)
    inside = head.vertex_region("mouth_interior") > 0.5
    tri = head.triangles
    skin = tri[(tri < head.teeth_rows.start).all(1) & ~inside[tri].any(1)]
    rows = torch.arange(head.teeth_rows.start, head.teeth_rows.stop)
    if whole.mouth is not None:
        rows = torch.cat([rows, whole.parts["Mouth"].start + torch.nonzero(whole.mouth.kind == TEETH)[:, 0]])
    lips = head.landmarks(head(shape))[0, 60:68].mean(0)
    each = torch.eye(head.n_expression, dtype=torch.float64)
    for i, (name, at) in enumerate(zip(head.expression_names, full_expressions(head, shape), strict=True)):
        one = each[i : i + 1]
        vertices = whole.around(at[None], shape, one)[0]
        angle, height, radius = _around(vertices, float(lips[1]))
        place = torch.stack([angle, height, -radius, torch.ones_like(radius)], 1).float()
        front = skin[(angle[skin].abs() < 0.95).all(1)]
        drawn = rasterize(place[None], front, (MAP, MAP))[0]
        column, row = (((x[rows] + 1) / 2 * MAP).long().clamp(0, MAP - 1) for x in (angle, height))
        found = drawn[row, column]
        yield name, int(((found[:, 3] > 0) & (radius[rows] > -found[:, 2] + CLEAR / REACH)).sum())


def _around(vertices: Tensor, height: float) -> tuple[Tensor, Tensor, Tensor]:
    """Angle -1..1 (to the sides), height and radius in units of REACH of vertices `[V, 3]`."""
    x, y, z = vertices.unbind(1)
    return torch.atan2(x, z - AXIS) / (math.pi / 2), (y - height) / REACH, torch.hypot(x, z - AXIS) / REACH


def chins_apart(head: HeadModel, shape: Tensor) -> float:
    """mm between the tip of the chin moved by the joint and by the blendshape."""
    tip = int(head.landmark_ids[8])
    by_shape = posed(head, shape, weights(head, {"jawOpen": 1.0}))[0, tip]
    return MM * float((turned_jaw(head, shape)[tip] - by_shape).norm())


def figures(head: HeadModel, people: int) -> dict[str, float]:
    """The worst of random heads, of a normal distribution with unit deviation."""
    worst: dict[str, float] = {"lids": -9.0, "lips": 0.0, "rest": 0.0, "teeth": 0.0, "jaw": 0.0}
    for seed in range(people):
        shape = torch.randn(1, head.n_identity, generator=torch.Generator().manual_seed(seed)).double()
        lips, rest = lips_cross(head, shape)
        teeth = max(teeth_outside(head, shape), key=lambda found: found[1])
        print(seed, f"lids {lids_apart(head, shape):.2f}, lips {lips:.2f}, rest {rest:.2f}, teeth {teeth}", flush=True)
        values = lids_apart(head, shape), lips, rest, float(teeth[1]), chins_apart(head, shape)
        worst = {name: round(max(worst[name], v), 3) for name, v in zip(worst, values, strict=True)}
    return worst


def strips(head: HeadModel) -> dict[str, list[tuple[str, dict[str, float], tuple[float, float]]]]:
    """Rows of the sheet: (label, expression, gaze) of each picture."""
    ahead = (0.0, 0.0)
    steps = [0.0, 0.25, 0.5, 0.75, 1.0]
    look = {"ahead": ahead, "left": (0.4, 0.0), "right": (-0.4, 0.0), "up": (0.0, 0.3), "down": (0.0, -0.4)}
    down = {"down": {"eyeLookDown": 0.8}, "up": {"eyeLookUp": 0.8}}
    return {
        "blink": [(f"eyeBlink {w}", {"eyeBlink": w}, ahead) for w in steps],
        "look": [(name, down.get(name, {}), gaze) for name, gaze in look.items()],
        "jaw": [(f"jawOpen {w}", {"jawOpen": w}, ahead) for w in steps],
        "shut": [(f"jawOpen + mouthClose {w}", {"jawOpen": w, "mouthClose": w}, ahead) for w in steps],
        "mouth": [
            ("smile", {"mouthSmile": 1, "jawOpen": 0.15}, ahead),
            ("laugh", {"mouthSmile": 0.8, "jawOpen": 0.35, "mouthUpperUp": 0.5}, ahead),
            ("shout", {"jawOpen": 0.8, "mouthUpperUp": 0.6, "mouthLowerDown": 0.6}, ahead),
            ("tongueOut", {"jawOpen": 0.4, "tongueOut": 1}, ahead),
            ("pucker", {"mouthPucker": 1}, ahead),
        ],
        **{
            f"visemes {k}": [
                (name.removeprefix("viseme_"), mixture(name, head.expression_names), ahead)
                for name in list(VISEMES)[5 * k : 5 * k + 5]
            ]
            for k in range(3)
        },
    }


def sheet(head: HeadModel, size: int) -> Image.Image:
    """Each row from the front and, beside it, from the side; the people take turns."""
    skins, rows, people = SkinGenerator(head, 1024), strips(head), []
    for seed in PEOPLE:
        shape = torch.randn(1, head.n_identity, generator=torch.Generator().manual_seed(seed)) * 0.8
        people.append(Avatar(head, shape, skins.sample(seed)[0]))
    page = Image.new("RGB", (10 * size, len(rows) * (size + LABEL)), (40, 42, 46))
    draw = ImageDraw.Draw(page)
    for r, (name, cells) in enumerate(rows.items()):
        avatar = people[r % len(people)]
        marks = head.landmarks(avatar.vertices())[0]
        eyes = name in ("blink", "look")
        at = (marks[36:48] if eyes else marks[[48, 54, 57, 8]]).mean(0).tolist()
        for side, yaw in enumerate((0.0, 40.0)):
            camera = Camera.orbit(yaw, 0.0, 0.9, 7.5 if eyes else 8.5, tuple(at))
            for c, (label, actions, gaze) in enumerate(cells):
                scene = replace(
                    Scene.portrait(1),
                    expression=weights(head, actions).float(),
                    gaze=torch.tensor([gaze], dtype=torch.float32),
                )
                picture, _ = render_avatar(avatar, scene, size, camera=camera, background=GREY)
                tile = Image.fromarray((picture[0] * 255).round().byte().permute(1, 2, 0).numpy())
                x, y = (5 * side + c) * size, r * (size + LABEL)
                page.paste(tile, (x, y + LABEL))
                draw.text((x + 4, y + 1), label, fill=(235, 235, 235))
    return page


@command
def main(argv: list[str] | None = None) -> int:
    p = command_parser("evaluate.head_motion", __doc__)
    p.add_argument("--out", type=Path, default=Path("docs"))
    p.add_argument("--size", type=int, default=200, help="pixels of one picture (default: %(default)s)")
    p.add_argument("--heads", type=int, default=20, help="random heads to measure; 0 for the sheet only")
    args = p.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    head = load_head()
    sheet(head, args.size).save(args.out / "head_motion.jpg", quality=87)
    if args.heads:
        print(json.dumps(figures(head, args.heads)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
