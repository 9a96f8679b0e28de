"""Train the network that corrects expressions.

    python -m fitdiff_lab.train.motion FRAMES --out motion.safetensors [--steps 1500]

FRAMES is the folder of `fitdiff_lab.dataset.performances`. One person in eight is held out; their mean error, before
and after the correction, is printed and kept in the file.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, fields, replace
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
from fitdiff_core.render.camera import rotation_matrix
from fitdiff_core.render.viewer_camera import axis_angle

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


@dataclass
class Truth:
    """weights `[F, 52]`, gaze `[F, 2]`, and what is missing of the fitted rotation `[F, 3]`"""

    weights: Tensor
    gaze: Tensor
    turn: Tensor


def load_clips(folder: Path, head: HeadModel) -> list[tuple[Seen, Truth]]:
    """Features and truth of each person; features are kept in `FOLDER/features`."""
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
        seen = Seen(**load_file(str(kept)))
        rest = rotation_matrix(data["rotation"].flatten(0, 1).double()) @ seen.rotation.double().mT
        turn = torch.stack([axis_angle(m) for m in rest]).float()
        people.append((seen, Truth(data["weights"].flatten(0, 1), data["gaze"].flatten(0, 1), turn)))
    if not people:
        raise UserError(f"{folder} holds no frames; make them with python -m fitdiff_lab.dataset.performances")
    return people


def rows_of(table, rows):
    """The rows of `Seen` or `Truth`."""
    return type(table)(**{f.name: getattr(table, f.name)[rows] for f in fields(table)})


def joined(people: list[tuple[Seen, Truth]]) -> tuple[Seen, Truth]:
    def together(tables):
        return type(tables[0])(**{f.name: torch.cat([getattr(t, f.name) for t in tables]) for f in fields(tables[0])})

    return together([p[0] for p in people]), together([p[1] for p in people])


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

    def __call__(self, seen: Seen, truth: Truth) -> tuple[Seen, Truth]:
        turned = replace(
            seen,
            fit=seen.fit[:, self.shapes],
            moved=seen.moved[:, self.points] * self.flip[:2],
            rotation=seen.rotation * self.flip[:, None] * self.flip,
            gaze=seen.gaze * self.flip[:2],
            eyes=seen.eyes.flip(1),
            mouth=seen.mouth.flip(2),
        )
        return turned, Truth(truth.weights[:, self.shapes], truth.gaze * self.flip[:2], -truth.turn * self.flip)


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


def batch_of(data: tuple[Seen, Truth], rows: Tensor, mirror: Mirror, g: torch.Generator) -> tuple[Seen, Truth]:
    seen, truth = (rows_of(table, rows) for table in data)
    if torch.rand((), generator=g) < 0.5:
        seen, truth = mirror(seen, truth)
    eyes = varied(seen.eyes.flatten(0, 1), g).reshape(seen.eyes.shape)
    noise = 0.4 * torch.randn(seen.moved.shape, generator=g)
    keep = (torch.rand(len(rows), generator=g) > 0.1).float()
    seen = replace(seen, eyes=eyes, mouth=varied(seen.mouth, g), moved=seen.moved + noise, sure=seen.sure * keep)
    return seen, truth


def errors(weights: Tensor, gaze: Tensor, turn: Tensor, truth: Truth, own: Tensor) -> dict[str, float]:
    """Mean errors: of shapes that show and of those that don't (own: `[52]`, without eyeLook), of gaze and rotation."""
    away, shows = (weights - truth.weights).abs()[:, own], truth.weights[:, own] > SHOWS
    return {
        "shown": round(float(away[shows].mean()), 4),
        "not_shown": round(float(away[~shows].mean()), 4),
        "gaze_degrees": round(float((gaze - truth.gaze).rad2deg().abs().mean()), 3),
        "turn_degrees": round(float((turn - truth.turn).norm(dim=1).rad2deg().mean()), 3),
    }


def train(data: tuple[Seen, Truth], held: tuple[Seen, Truth], head: HeadModel, steps: int, seed: int):
    """The network, and the errors before and after it on people that it was not trained on."""
    torch.manual_seed(seed)
    mirror, g = Mirror(head), torch.Generator().manual_seed(seed)
    own = torch.tensor([not name.startswith("eyeLook") for name in head.expression_names])
    seen, truth = held
    before = errors(seen.fit, seen.gaze * seen.sure[:, None], torch.zeros_like(truth.turn), truth, own)
    network = ExpressionNetwork()
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.03)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    for step in range(steps):
        given, true = batch_of(data, torch.randint(len(data[0].fit), (BATCH,), generator=g), mirror, g)
        weights, gaze, turn = network(given)
        loss = F.huber_loss(weights[:, own], true.weights[:, own], delta=0.15) * 10
        loss = loss + F.huber_loss(gaze, true.gaze, delta=0.1) * 4 + F.huber_loss(turn, true.turn, delta=0.05) * 8
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 250 == 249:
            found = network.train(False).read(seen)
            print(step + 1, f"{loss.item():.4f}", errors(*found, truth, own), flush=True)
            network.train()
    network.train(False)
    return network, before, errors(*network.read(seen), truth, own)


@command
def main(argv: list[str] | None = None) -> int:
    p = command_parser("train.motion", __doc__)
    p.add_argument("frames", type=Path)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--steps", type=int, default=1500)
    p.add_argument("--seed", type=int, default=0)
    args = p.parse_args(argv)
    torch.set_num_threads(1)
    head = load_head()
    people = load_clips(args.frames, head)
    test = [i for i in range(len(people)) if i % HELD_OUT == HELD_OUT - 1] or [len(people) - 1]
    rest = [p for i, p in enumerate(people) if i not in test] or people
    network, before, after = train(joined(rest), joined([people[i] for i in test]), head, args.steps, args.seed)
    about = {"people": len(people), "held_out": {"before": before, "after": after}}
    print(json.dumps(about))
    with atomic_path(args.out) as file:
        tensors = {k: v.half() for k, v in network.state_dict().items()}
        save_file(tensors, str(file), {"format": FORMAT, "training": json.dumps(about)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
