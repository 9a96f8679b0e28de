"""Train the delighting network: python -m fitdiff_lab.train.delighter --data DIR --out RUN --minutes 35

DIR holds `train` and `test`, folders of `fitdiff_lab.dataset.uv_photos`. New files in `train` are taken up as they
come. RUN gets `config.json`, `log.csv`, `state.safetensors`, and at the end `delighter.safetensors` (fp16).

Each step varies what it draws: another person's deviation from the prior, spoiled priors, more light, things before the
face that come from other pairs, exposure, noise, the mirror image.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from fitdiff_core.delight.classes import HIDING
from fitdiff_core.delight.network import COARSE, Delighted, Delighter, coarse_photo
from fitdiff_core.delight.unwrapping import SIZE
from fitdiff_core.errors import command
from fitdiff_core.head import load_head

from ..dataset.uv_photos import load_pairs
from .run import Budget, Every, Run, SmallTraining, arguments, save_small_network, step_generator

FORMAT = "fitdiff-delighter"
LOG_STEPS = 50
CLASS_WEIGHT = (1.0, 1.5, 1.0, 1.5, 0.5, 2.0, 2.5, 2.0)
LEAST_HIDDEN = 0.3  # share of a coarse texel under an occluder above which it gives no shading


@dataclass
class Batch:
    """colour: `[B, 3, 128, 128]` linear. seen, facing: `[B, 1, 128, 128]`. normal, albedo, prior: `[B, 3, 64, 64]`, the
    last two logarithms. classes: `[B, 128, 128]`."""

    colour: Tensor
    seen: Tensor
    facing: Tensor
    normal: Tensor
    albedo: Tensor
    prior: Tensor
    classes: Tensor

    @classmethod
    def take(cls, pairs: dict[str, Tensor], index: Tensor) -> Batch:
        """Rows of `load_pairs`."""
        p = {k: pairs[k][index] for k in ("colour", "seen", "facing", "normal", "albedo", "prior", "classes")}
        seen = p["seen"].float() / 255
        return cls(
            (p["colour"].float() / 255).square(),
            seen,
            p["facing"].float() / 255,
            p["normal"].float() / 127,
            p["albedo"].float(),
            p["prior"].float(),
            p["classes"][:, 0].long(),
        )

    def mirrored(self) -> Batch:
        """The mirror image."""
        flipped = [x.flip(-1) for x in vars(self).values()]
        flipped[3] = flipped[3] * torch.tensor([-1.0, 1, 1]).view(1, 3, 1, 1)
        return Batch(*flipped)


def up(x: Tensor) -> Tensor:
    return F.interpolate(x, (SIZE, SIZE), mode="bilinear", align_corners=False)


def hiding(classes: Tensor) -> Tensor:
    """1 where an occluder is, `[B, 1, 128, 128]`. classes: `[B, 128, 128]`."""
    return torch.isin(classes, torch.tensor(HIDING))[:, None].float()


def varied(pairs: dict[str, Tensor], size: int, mean: Tensor, g: torch.Generator) -> Batch:
    """A batch of `size` pairs, varied at random. mean: `[3, 64, 64]`, log albedo of the mean person."""
    n = len(pairs["seen"])

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g)

    def chance(p: float, other: Tensor, own: Tensor) -> Tensor:
        return torch.where(torch.rand(size, generator=g) < p, other, own)

    i = torch.randint(n, (size,), generator=g)
    b = Batch.take(pairs, i)
    # another person's deviation from the prior on this one's skin
    j = chance(0.25, torch.randint(n, (size,), generator=g), i)
    moved = b.prior + pairs["albedo"][j].float() - pairs["prior"][j].float()
    change = moved - b.albedo
    hidden = hiding(b.classes)
    # more light of any kind, exposure, white balance
    cells = int(torch.randint(3, 9, (1,), generator=g))
    field = F.interpolate(normal(size, 1, cells, cells), (COARSE, COARSE), mode="bicubic", align_corners=False)
    hard = 1.0 if torch.rand(1, generator=g) < 0.5 else 12.0
    soft = torch.sigmoid(field * hard + normal(size, 1, 1, 1)) * (torch.rand(size, 1, 1, 1, generator=g) < 0.3)
    light = -soft * 1.2 * torch.rand(size, 1, 1, 1, generator=g) + 0.05 * normal(size, 3, 1, 1)
    light = light + 0.2 * normal(size, 1, 1, 1)
    gain = (up(change) * (1 - hidden) + up(light)).exp()
    colour = (b.colour * gain * (0.02 * normal(size, 3, SIZE, SIZE)).exp()).clamp(0, 1)
    # things before the face, from another pair
    k = torch.randint(n, (size,), generator=g)
    other = Batch.take(pairs, k)
    taken = hiding(other.classes) * (other.seen > 0) * (torch.rand(size, 1, 1, 1, generator=g) < 0.3) * (b.seen > 0)
    colour = colour + taken * (other.colour * (0.3 * normal(size, 1, 1, 1)).exp() - colour)
    classes = torch.where(taken[:, 0] > 0.5, other.classes, b.classes)
    # priors that are wrong: of less or more character, of another tone, of a stranger
    spoiled = pairs["prior"][chance(0.06, torch.randint(n, (size,), generator=g), i)].float()
    tone = 0.12 * normal(size, 1, 1, 1) + 0.03 * normal(size, 3, 1, 1)
    spoiled = spoiled + tone * (torch.rand(size, 1, 1, 1, generator=g) < 0.3)
    # the first look at a photo knows nothing of the person
    spoiled = torch.where(torch.rand(size, 1, 1, 1, generator=g) < 0.15, mean.expand_as(spoiled), spoiled)
    b = Batch(colour * (b.seen > 0), b.seen, b.facing, b.normal, moved, spoiled, classes)
    return b.mirrored() if torch.rand(1, generator=g) < 0.5 else b


def face_weight() -> Tensor:
    """Weight of the coarse texels in the losses `[1, 1, 64, 64]`: the face, and a little of all else."""
    head = load_head()
    face = torch.stack([head.region(n, SIZE) for n in ("face", "nose", "lips", "brows", "eyelids")]).amax(0)
    face = face * (1 - head.region("eyes", SIZE)) * (1 - head.region("mouth_interior", SIZE))
    rest = torch.stack([head.region(n, SIZE) for n in ("ears", "neck")]).amax(0) * 0.2
    return F.avg_pool2d(torch.maximum(face, rest)[None, None], SIZE // COARSE)


def edges(x: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences along rows and columns."""
    return x[..., 2:] - x[..., :-2], x[..., 2:, :] - x[..., :-2, :]


def losses(answer: Delighted, b: Batch, weight: Tensor) -> dict[str, Tensor]:
    """The parts of the loss: albedo after one gain and raw, its edges, shading, classes, and the expected errors."""
    log, share = coarse_photo(b.colour, b.seen)
    seen = (share > 0).float()
    albedo = b.prior + answer.residual
    w = weight * (0.25 + 0.75 * seen)
    level = ((b.albedo - albedo) * w).sum((1, 2, 3), keepdim=True) / w.sum((1, 2, 3), keepdim=True) / 3
    # square roots: nearer to what is seen than logarithms, which dark texels would rule
    truth, raw, free = (x.clamp(-6, 0.5).div(2).exp() for x in (b.albedo, albedo, albedo + level.detach()))
    total = w.sum() * 3
    found = {
        "free": ((free - truth).abs() * w).sum() / total,
        "raw": ((raw - truth).abs() * w).sum() / total,
        "edges": sum(
            ((p - q).abs() * v).sum() / v.sum() / 3
            for p, q, v in zip(edges(free), edges(truth), (w[..., 1:-1], w[..., 1:-1, :]), strict=True)
        ),
    }
    hidden = F.avg_pool2d(hiding(b.classes), SIZE // COARSE)
    lit = seen * (hidden < LEAST_HIDDEN) * weight
    shading = (log - b.albedo).clamp(-4, 2)
    found["shading"] = ((answer.shading - shading).abs() * lit).sum() / lit.sum().clamp(min=1) / 3
    fine = (b.seen > 0).float() * (0.1 + F.interpolate(weight, (SIZE, SIZE)))
    entropy = F.cross_entropy(answer.classes, b.classes, torch.tensor(CLASS_WEIGHT), reduction="none")[:, None]
    found["classes"] = (entropy * fine).sum() / fine.sum()
    miss = [(x.detach() - b.albedo).abs().mean(1, keepdim=True) + 1e-2 for x in (albedo, b.prior)]
    found["errors"] = sum(
        (m * (-e).exp() + e).mean() for m, e in zip(miss, (answer.error, answer.prior_error), strict=True)
    )
    return found


PARTS = {"free": 1.0, "raw": 0.5, "edges": 1.0, "shading": 0.05, "classes": 0.06, "errors": 0.005}


@torch.no_grad()
def score(net: Delighter, pairs: dict[str, Tensor], weight: Tensor) -> dict[str, float]:
    """Figures on held-out pairs: albedo errors of prior and network, intersection over union of what hides the skin."""
    parts, one, both = [], 0.0, 0.0
    for index in torch.arange(len(pairs["seen"])).split(16):
        b = Batch.take(pairs, index)
        answer = net(b.colour, b.seen, b.facing, b.normal, b.prior)
        found = losses(answer, b, weight)
        none = Delighted(answer.residual * 0, answer.shading, answer.error, answer.prior_error, answer.classes)
        prior = losses(none, b, weight)
        parts.append([found["free"], found["raw"], prior["free"], prior["raw"], found["shading"], found["classes"]])
        mine, true = hiding(answer.classes.argmax(1)) * (b.seen > 0), hiding(b.classes) * (b.seen > 0)
        one, both = one + float(torch.maximum(mine, true).sum()), both + float((mine * true).sum())
    names = ("free", "raw", "prior free", "prior raw", "shading", "classes")
    return dict(zip(names, torch.tensor(parts).mean(0).tolist(), strict=True)) | {"hidden IoU": both / max(one, 1)}


def train(data: Path, run: Run, budget: Budget, batch: int, lr: float, seed: int, precision: str, save: float) -> None:
    """Train until the budget is spent; see the module."""
    pairs, test, weight = load_pairs(data / "train"), load_pairs(data / "test"), face_weight()
    net = Delighter()
    net.mean.copy_(pairs["prior"].float().mean(0))
    training, recent = SmallTraining(net, run, budget, lr), []
    tested = Delighter()
    due, look = Every(save), Every(180)

    def test_now() -> dict[str, float]:
        tested.load_state_dict(training.average)
        return score(tested.eval(), test, weight)

    while not budget.over(training.step):
        if look():
            pairs = load_pairs(data / "train")
        b = varied(pairs, batch, net.mean, step_generator(seed, training.step))
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            answer = net(b.colour, b.seen, b.facing, b.normal, b.prior)
        found = losses(answer, b, weight)
        training.apply(sum(PARTS[k] * v for k, v in found.items()))
        recent.append([float(found[k].detach()) for k in PARTS])
        if training.step % LOG_STEPS == 0:
            mean = torch.tensor(recent[-LOG_STEPS:]).mean(0).tolist()
            row = {"step": training.step, "seconds": budget.seconds, "pairs": len(pairs["seen"])}
            run.log(**row, **dict(zip(PARTS, mean, strict=True)))
        if due():
            print("held out", {k: round(v, 4) for k, v in test_now().items()}, flush=True)
            training.keep()
    training.keep()
    figures = test_now()
    print("held out", {k: round(v, 4) for k, v in figures.items()}, flush=True)
    about = {
        "steps": training.step,
        "minutes": round(budget.seconds / 60, 1),
        "pairs": len(pairs["seen"]),
        "seed": seed,
    }
    save_small_network(
        run.folder / "delighter.safetensors", FORMAT, net, training.average, about | {"held out": figures}
    )


@command
def main(argv: list[str] | None = None) -> int:
    p = arguments(
        "train.delighter",
        __doc__,
        "runs/delighter",
        2e-3,
        8,
        "folder with `train` and `test` of dataset.uv_photos",
        init=False,
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
