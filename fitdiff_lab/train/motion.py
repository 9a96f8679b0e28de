"""Train the network that corrects expressions.

    python -m fitdiff_lab.train.motion FRAMES --out motion.safetensors [--steps 2500]

FRAMES is the folder of `fitdiff_lab.dataset.performances`. One person in eight is held out; their mean error, before
and after the correction, is printed and kept in the file.
"""

from __future__ import annotations

import json
import sys
from dataclasses import fields, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from fitdiff_core.errors import UserError, command
from fitdiff_core.files import atomic_path
from fitdiff_core.fitting.gaze import limited
from fitdiff_core.head import HeadModel, load_head
from fitdiff_core.motion.looks import look_weights
from fitdiff_core.motion.network import FORMAT, ExpressionNetwork, Seen
from fitdiff_core.motion.patches import POINTS, cut_patches
from fitdiff_core.motion.read import FilmFit, cut_eyes
from fitdiff_core.motion.track import mirrored_points

from ..cli import command_parser

HELD_OUT = 8  # of so many people, one
BATCH, RATE = 64, 2e-3
SHIFT = 1.6  # px that patches are moved at most
SHOWS = 0.1  # weight from which a shape counts as visible


def clip_features(head: HeadModel, frames: Tensor, meshes: Tensor) -> Seen:
    """What the network is given of a clip, as `read_motion` finds it. frames: `[F, 3, H, W]` uint8"""
    pictures = frames.float() / 255
    fit = FilmFit(head, meshes)
    gaze, sure = fit.gazes([cut_eyes(f, m) for f, m in zip(pictures, meshes, strict=True)])
    gaze = limited(gaze)
    fit.refit(look_weights(gaze * sure[:, None], head.expression_names))
    patches = [cut_patches(f, m) for f, m in zip(pictures, meshes, strict=True)]
    return Seen(
        fit.poses.expression.float(),
        fit.moved().float(),
        fit.poses.rotation.float(),
        gaze,
        sure,
        torch.stack([eyes for eyes, _ in patches]),
        torch.stack([mouth for _, mouth in patches]),
    )


def load_clips(folder: Path, head: HeadModel) -> list[tuple[Seen, Tensor, Tensor]]:
    """(features, true weights, true gaze) of each person; features are kept in `FOLDER/features`."""
    cache, people = folder / "features", []
    cache.mkdir(exist_ok=True)
    for path in sorted(folder.glob("*.safetensors")):
        kept = cache / path.name
        data = load_file(str(path))
        if not kept.exists():
            clips = [clip_features(head, f, m) for f, m in zip(data["frames"], data["mesh"], strict=True)]
            with atomic_path(kept) as file:
                save_file({f.name: torch.cat([getattr(c, f.name) for c in clips]) for f in fields(Seen)}, str(file))
            print(f"features of {path.name}", flush=True)
        people.append((Seen(**load_file(str(kept))), data["weights"].flatten(0, 1), data["gaze"].flatten(0, 1)))
    if not people:
        raise UserError(f"{folder} holds no frames; make them with python -m fitdiff_lab.dataset.performances")
    return people


def joined(people: list[tuple[Seen, Tensor, Tensor]]) -> tuple[Seen, Tensor, Tensor]:
    seen = Seen(**{f.name: torch.cat([getattr(p[0], f.name) for p in people]) for f in fields(Seen)})
    return seen, torch.cat([p[1] for p in people]), torch.cat([p[2] for p in people])


def swapped_names(names: tuple[str, ...]) -> Tensor:
    """For each shape the one of the other side, `[52]`."""

    def other(name: str) -> str:
        if "Left" in name:
            return name.replace("Left", "Right")
        return name.replace("Right", "Left")

    return torch.tensor([names.index(other(name)) for name in names])


class Mirror:
    """The mirror image of what the network is given, and of the truth."""

    def __init__(self, head: HeadModel):
        self.shapes = swapped_names(head.expression_names)
        opposite = mirrored_points(head).tolist()
        self.points = torch.tensor([POINTS.index(opposite[p]) for p in POINTS])
        self.flip = torch.tensor([-1.0, 1.0, 1.0])

    def __call__(self, seen: Seen, weights: Tensor, gaze: Tensor) -> tuple[Seen, Tensor, Tensor]:
        turned = replace(
            seen,
            fit=seen.fit[:, self.shapes],
            moved=seen.moved[:, self.points] * self.flip[:2],
            rotation=seen.rotation * self.flip[:, None] * self.flip,
            gaze=seen.gaze * self.flip[:2],
            eyes=seen.eyes.flip(1),
            mouth=seen.mouth.flip(2),
        )
        return turned, weights[:, self.shapes], gaze * self.flip[:2]


def varied(patches: Tensor, generator: torch.Generator) -> Tensor:
    """Patches `[N, h, w]` moved, scaled, blurred and with noise, each in its own way."""
    n, h, w = patches.shape
    rand = lambda *shape: torch.rand(*shape, generator=generator) * 2 - 1  # noqa: E731
    theta = torch.zeros(n, 2, 3)
    size = torch.tensor([w / 2, h / 2])
    turn, scale = rand(n) * 0.06, 1 + rand(n) * 0.08
    theta[:, 0, 0] = theta[:, 1, 1] = scale
    theta[:, 0, 1], theta[:, 1, 0] = turn * h / w, -turn * w / h
    theta[:, :, 2] = rand(n, 2) * SHIFT / size
    x = F.grid_sample(patches[:, None], F.affine_grid(theta, [n, 1, h, w], align_corners=False),
                      padding_mode="border", align_corners=False)[:, 0]  # fmt: skip
    soft = F.avg_pool2d(x[:, None], 3, 1, 1, count_include_pad=False)[:, 0]
    x = torch.lerp(x, soft, torch.rand(n, 1, 1, generator=generator))
    return (x * (1 + 0.3 * rand(n, 1, 1)) + 0.02 * torch.randn(x.shape, generator=generator)).clamp(0, 1)


def batch_of(data: tuple[Seen, Tensor, Tensor], rows: Tensor, mirror: Mirror, g: torch.Generator):
    seen, weights, gaze = data
    part = Seen(**{f.name: getattr(seen, f.name)[rows] for f in fields(Seen)}), weights[rows], gaze[rows]
    if torch.rand((), generator=g) < 0.5:
        part = mirror(*part)
    seen = part[0]
    n = len(rows)
    eyes = varied(seen.eyes.flatten(0, 1), g).reshape(seen.eyes.shape)
    noise = 0.4 * torch.randn(seen.moved.shape, generator=g)
    keep = (torch.rand(n, 1, generator=g) > 0.1).float()
    seen = replace(seen, eyes=eyes, mouth=varied(seen.mouth, g), moved=seen.moved + noise, sure=seen.sure * keep[:, 0])
    return seen, part[1], part[2]


def errors(weights: Tensor, gaze: Tensor, true: Tensor, look: Tensor, own: Tensor) -> dict[str, float]:
    """Mean errors: of shapes that show and of those that don't (own: `[52]`, without eyeLook), and of the gaze."""
    away, shows = (weights - true).abs()[:, own], true[:, own] > SHOWS
    return {
        "shown": round(float(away[shows].mean()), 4),
        "not_shown": round(float(away[~shows].mean()), 4),
        "gaze_degrees": round(float((gaze - look).rad2deg().abs().mean()), 3),
    }


@command
def main(argv: list[str] | None = None) -> int:
    p = command_parser("train.motion", __doc__)
    p.add_argument("frames", type=Path)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--steps", type=int, default=2500)
    p.add_argument("--seed", type=int, default=0)
    args = p.parse_args(argv)
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    head = load_head()
    people, mirror = load_clips(args.frames, head), Mirror(head)
    test = [p for i, p in enumerate(people) if i % HELD_OUT == HELD_OUT - 1] or people[-1:]
    data, held = joined([p for p in people if not any(p is t for t in test)] or people), joined(test)
    own = torch.tensor([not name.startswith("eyeLook") for name in head.expression_names])
    before = errors(held[0].fit, held[0].gaze * held[0].sure[:, None], held[1], held[2], own)
    network, g = ExpressionNetwork(), torch.Generator().manual_seed(args.seed)
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=args.steps)
    for step in range(args.steps):
        rows = torch.randint(len(data[1]), (BATCH,), generator=g)
        seen, true, look = batch_of(data, rows, mirror, g)
        weights, gaze = network(seen)
        loss = F.huber_loss(weights[:, own], true[:, own], delta=0.15) * 10 + F.huber_loss(gaze, look, delta=0.1) * 4
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 250 == 249:
            with torch.no_grad():
                found = network.train(False).read(held[0])
            print(step + 1, f"{loss.item():.4f}", errors(*found, held[1], held[2], own), flush=True)
            network.train()
    network.train(False)
    after = errors(*network.read(held[0]), held[1], held[2], own)
    print(json.dumps({"people": len(people), "before": before, "after": after}))
    about = {"people": len(people), "held_out": {"before": before, "after": after}}
    with atomic_path(args.out) as file:
        tensors = {k: v.half() for k, v in network.state_dict().items()}
        save_file(tensors, str(file), {"format": FORMAT, "training": json.dumps(about)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
