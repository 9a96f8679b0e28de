"""Train the hair segmenter: python -m fitdiff_lab.train.hair_segmenter --data VIEWS --out RUN --minutes 40

VIEWS is a file of `fitdiff_lab.dataset.hair_masks`. Every 16th view is held out. RUN gets `config.json`, `log.csv`,
`state.safetensors`, and at the end `hair_segmenter.safetensors` (fp16).

Each step moves, turns and scales the views, mirrors them, and changes colour, light and sharpness of the picture, and
the colour of the hair alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from fitdiff_core.errors import command
from fitdiff_core.filters import gaussian_blur
from fitdiff_core.hair.photo import SIDE
from fitdiff_core.hair.segmenter import HairSegmenter

from ..dataset.hair_masks import load_views
from .run import Budget, Every, Run, SmallTraining, arguments, save_small_network, step_generator

HELD_OUT = 16  # every so many views
LOG_STEPS = 50


def moved(planes: Tensor, mask: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Views `[B, C, S, S]` and masks `[B, 1, S, S]` moved, turned, scaled and mirrored at random, `SIDE` px."""
    n = len(planes)
    scale = torch.empty(n).uniform_(0.6, 1.15, generator=g) * SIDE / planes.shape[-1]
    angle = torch.randn(n, generator=g) * 0.15
    flip = torch.where(torch.rand(n, generator=g) < 0.5, -1.0, 1.0)
    shift = torch.randn(n, 2, generator=g) * 0.06
    cos, sin = scale * angle.cos(), scale * angle.sin()
    theta = torch.stack([torch.stack([cos * flip, -sin], 1), torch.stack([sin * flip, cos], 1)], 1)
    grid = F.affine_grid(torch.cat([theta, shift[..., None]], 2), [n, 1, SIDE, SIDE], align_corners=False)
    both = F.grid_sample(torch.cat([planes, mask], 1), grid, padding_mode="zeros", align_corners=False)
    return both.split([planes.shape[1], 1], 1)


def recoloured(planes: Tensor, mask: Tensor, g: torch.Generator) -> Tensor:
    """Views with another exposure, white balance, contrast, sharpness, noise, and hair of another colour."""
    n = len(planes)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g)

    def sometimes(p: float) -> Tensor:
        return (torch.rand(n, 1, 1, 1, generator=g) < p).float()

    image, valid = planes[:, :3] / 2 + 0.5, planes[:, 3:4]
    dye = (sometimes(0.5) * (0.6 * normal(n, 1, 1, 1) + 0.15 * normal(n, 3, 1, 1))).exp()
    image = image * (1 + mask * (dye - 1))
    field = F.interpolate(normal(n, 1, 4, 4), image.shape[-2:], mode="bicubic", align_corners=False)
    image = image * (0.25 * normal(n, 1, 1, 1) + 0.1 * normal(n, 3, 1, 1) + sometimes(0.4) * 0.3 * field).exp()
    grey = image.mean(1, keepdim=True)
    image = torch.lerp(image, grey.expand_as(image), sometimes(0.12))
    middle = image.mean((1, 2, 3), keepdim=True)
    image = middle + (image - middle) * (0.2 * normal(n, 1, 1, 1)).exp()
    image = torch.lerp(image, gaussian_blur(image, 1.2), sometimes(0.3))
    image = image + 0.03 * sometimes(0.5) * normal(*image.shape)
    return torch.cat([(image.clamp(0, 1) - 0.5) * 2 * valid, planes[:, 3:]], 1)


def loss_of(logits: Tensor, mask: Tensor, valid: Tensor) -> Tensor:
    """Cross entropy and soft Dice over the part of the view that the photo fills."""
    entropy = F.binary_cross_entropy_with_logits(logits, mask, reduction="none")
    found = torch.sigmoid(logits) * valid
    both = (found * mask).sum((1, 2, 3))
    dice = 1 - (2 * both + 20) / (found.sum((1, 2, 3)) + (mask * valid).sum((1, 2, 3)) + 20)
    return (entropy * valid).sum() / valid.sum().clamp(min=1) + 0.3 * dice.mean()


@torch.no_grad()
def score(net: HairSegmenter, planes: Tensor, mask: Tensor) -> dict[str, float]:
    """Median and mean intersection over union of held-out views, cut to the segmenter's size."""
    edge = (planes.shape[-1] - SIDE) // 2
    planes, mask = (x[..., edge : edge + SIDE, edge : edge + SIDE] for x in (planes, mask))
    found = torch.cat([net(p) for p in planes.split(8)]) > 0
    true, valid = mask > 0.5, planes[:, 3:4] > 0.5
    both = (found & true & valid).sum((1, 2, 3)).float()
    either = ((found | true) & valid).sum((1, 2, 3)).float()
    iou = (both + 1) / (either + 1)
    return {"median IoU": float(iou.median()), "mean IoU": float(iou.mean())}


def train(data: Path, run: Run, budget: Budget, batch: int, lr: float, seed: int, precision: str, save: float) -> None:
    """Train until the budget is spent; see the module."""
    views = load_views(data)
    planes, mask = views["planes"], views["mask"]
    held = torch.arange(len(planes)) % HELD_OUT == HELD_OUT - 1
    test = planes[held].float(), mask[held].float() / 255
    planes, mask = planes[~held], mask[~held]
    net = HairSegmenter()
    training, recent = SmallTraining(net, run, budget, lr), []
    tested, due = HairSegmenter(), Every(save)

    def keep() -> dict[str, float]:
        training.keep()
        tested.load_state_dict(training.average)
        figures = score(tested.eval(), *test)
        print("held out", {k: round(v, 4) for k, v in figures.items()}, flush=True)
        return figures

    while not budget.over(training.step):
        g = step_generator(seed, training.step)
        index = torch.randint(len(planes), (batch,), generator=g)
        x, y = moved(planes[index].float(), mask[index].float() / 255, g)
        x = recoloured(x, y, g)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits = net(x)
        loss = loss_of(logits.float(), y, x[:, 3:4])
        training.apply(loss)
        recent.append(float(loss.detach()))
        if training.step % LOG_STEPS == 0:
            run.log(step=training.step, seconds=budget.seconds, loss=sum(recent[-LOG_STEPS:]) / LOG_STEPS)
        if due():
            keep()
    figures = keep()
    about = {"steps": training.step, "minutes": round(budget.seconds / 60, 1), "views": len(planes), "seed": seed}
    save_small_network(
        run.folder / "hair_segmenter.safetensors", "fitdiff-hair", net, training.average, about | figures
    )


@command
def main(argv: list[str] | None = None) -> int:
    p = arguments(
        "train.hair_segmenter", __doc__, "runs/hair_segmenter", 2e-3, 8, "file of dataset.hair_masks", init=False
    )
    a = p.parse_args(argv)
    torch.set_num_threads(a.threads)
    config = {"data": Path(a.data).name, "lr": a.lr, "batch": a.batch, "seed": a.seed, "precision": a.precision}
    budget = Budget(a.minutes, a.steps).catch_signals()
    run = Run(a.out, config)
    train(Path(a.data), run, budget, a.batch, a.lr, a.seed, a.precision, a.save_seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
