"""Train the shape encoder: from a photo to features that tell the shape of the head.

    python -m fitdiff_lab.train.shape_encoder --data DIR --latents DIR/latents --out runs/shape_encoder --minutes 29

Input: the photographs of fitdiff_lab.dataset.prepare, and the statistics of the activations that
`fitdiff_lab.dataset.latents --only features` writes. Output: a run folder (see fitdiff_lab.train.run). The encoder sees
the frozen recogniser's activation layers. The loss is the distance between two faces in mm, after the best rotation and
shift. Photos are augmented anew at each step. `fitdiff_lab.train.denoiser --shape-encoder` fits the linear prior on its
features. --minutes or --steps says how long it takes.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fitdiff_core.errors import UserError, command
from fitdiff_core.head import HeadModel, load_head
from fitdiff_core.identity import Recognizer, load_recognizer
from fitdiff_core.model.denoiser import DenoiserConfig, standardise
from fitdiff_core.model.shape_encoder import ShapeEncoder

from ..dataset.reading import Photos, Textures, read_json, split
from .run import (
    Budget,
    Every,
    Hyperparameters,
    Meter,
    Run,
    apply_step,
    arguments,
    learning_rate,
    load_state,
    optimizer_tensors,
    prefixed,
    resume,
    step_generator,
    without_prefix,
)
from .symmetry import mirror_matrix

EMA = 0.999  # of the averaged weights, a step


@dataclass(frozen=True)
class Augmentation:
    """How photos are changed, and two settings of the loss.

    scale, turn, shift: standard deviations of the crop's scale, rotation (radians) and shift (share of the crop's
        side).
    gamma, gain, tint: standard deviations of ln gamma, of ln gain of all channels, and of each channel.
    noise: largest standard deviation of the noise.
    blurred: share of the photos that are blurred with a 3 x 3 box.
    covered: share of the photos that are covered in part by a rectangle.
    coefficients: weight of the loss on the coefficients themselves; the face does not determine all of them.
    dropout: in the encoder.
    """

    scale: float = 0.03
    turn: float = 0.03
    shift: float = 0.0125
    gamma: float = 0.35
    gain: float = 0.15
    tint: float = 0.08
    noise: float = 0.02
    blurred: float = 0.3
    covered: float = 0.25
    coefficients: float = 0.5
    dropout: float = 0.2


@dataclass(frozen=True)
class ShapeEncoderOptions(Hyperparameters):
    """Hyperparameters of the shape encoder's training. augmentation: of the photos."""

    augmentation: Augmentation = field(default_factory=Augmentation)


def face_metric(head: HeadModel) -> Tensor:
    """`[K, K]` matrix G of the distance between faces.

    For coefficients that differ by d `[1, K]`, d G d^T is the mean squared distance in mm^2, after the small rotation
    and shift that minimise it.
    """
    face = head.vertex_region("face") > 0.5
    mean = head(torch.zeros(1, head.n_identity))[0, face].double() * 1000
    basis = head(torch.eye(head.n_identity))[:, face].double() * 1000 - mean
    axes, centred = torch.eye(3, dtype=torch.float64), mean - mean.mean(0)
    rigid = torch.stack(
        [a.expand_as(centred) for a in axes] + [torch.linalg.cross(a.expand_as(centred), centred) for a in axes]
    )
    q = torch.linalg.qr(rigid.flatten(1).T)[0]
    left = basis.flatten(1) - (basis.flatten(1) @ q) @ q.T
    return (left @ left.T / len(mean)).float()


def rms_distance(d: Tensor, metric: Tensor) -> Tensor:
    """Root mean square distance `[B]` in mm. d: `[B, K]` differences of coefficients. metric: `face_metric`."""
    return ((d @ metric) * d).sum(1).clamp(min=0).add(1e-2).sqrt()


def augment(crops: Tensor, c: Augmentation, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Change photos at random.

    crops: `[B, 3, S, S]` in 0..1.
    Returns changed photos of the same shape, and `[B]` bool: which ones are mirrored.
    """
    b, side = len(crops), crops.shape[-1]

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    def some(share: float) -> Tensor:
        return torch.rand(b, generator=generator) < share

    mirrored = some(0.5)
    x = torch.where(mirrored[:, None, None, None], crops.flip(3), crops)
    size, angle, shift = 1 + c.scale * normal(b), c.turn * normal(b), 2 * c.shift * normal(b, 2)
    cos, sin = size * angle.cos(), size * angle.sin()
    matrix = torch.stack([torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)], 1)
    x = F.grid_sample(
        x, F.affine_grid(matrix, list(x.shape), align_corners=False), padding_mode="border", align_corners=False
    )
    soft = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    x = torch.where(some(c.blurred)[:, None, None, None], soft, x)
    x = x.clamp(1e-4, 1) ** torch.exp(c.gamma * normal(b, 1, 1, 1))
    x = x * torch.exp(c.gain * normal(b, 1, 1, 1) + c.tint * normal(b, 3, 1, 1))
    x = x + c.noise * torch.rand(b, 1, 1, 1, generator=generator) * normal(*x.shape)
    for i in some(c.covered).nonzero()[:, 0]:
        w, h = (side * (0.13 + 0.34 * torch.rand(2, generator=generator))).int().tolist()
        left, top = (side * torch.rand(2, generator=generator) - torch.tensor([w, h]) / 2).int().clamp(min=0).tolist()
        x[i, :, top : top + h, left : left + w] = torch.rand(3, 1, 1, generator=generator)
    return x.clamp(0, 1), mirrored


class EncoderInput:
    """Photographs as the shape encoder sees them: the recogniser's normalised activation layers.

    photos: the prepared photographs. n_textures: skins of the same set. meta: of the encoded features, whose recogniser
    must be the same (else UserError).
    """

    def __init__(self, photos: Photos, n_textures: int, recognizer: Recognizer, meta: dict):
        self.crops, self.shape = photos.rows.all("crop"), torch.from_numpy(photos.shape)
        self.train, self.test = map(torch.from_numpy, split(photos.texture, n_textures))
        if recognizer.name != meta["recognizer"]:
            raise UserError(
                f"The latents are of {meta['recognizer']}, not of {recognizer.name}; give --recognizer the same one."
            )
        self.recognizer = recognizer.to(memory_format=torch.channels_last)
        self.mean, self.std = ([torch.tensor(v) for v in meta[k]] for k in ("activation_mean", "activation_std"))

    def layers(self, crops: Tensor) -> list[Tensor]:
        with torch.no_grad():
            layers = self.recognizer(crops.contiguous(memory_format=torch.channels_last)).activations
            return [
                standardise(a, m, s).contiguous(memory_format=torch.channels_last)
                for a, m, s in zip(layers, self.mean, self.std, strict=True)
            ]

    def photos(self, index: Tensor) -> Tensor:
        return self.crops[index].float() / 255


class Trained(nn.Module):
    """The shape encoder and, for the training, a linear layer that predicts the coefficients.

    The attributes' names are those of the state dict.
    """

    def __init__(self, c: DenoiserConfig):
        super().__init__()
        self.reader, self.guess = ShapeEncoder(c.activations, c.reader), nn.Linear(c.reader[-1], c.shape)

    def forward(self, layers: list[Tensor], dropout: float = 0.0) -> Tensor:
        return self.guess(F.dropout(self.reader(layers, dropout), dropout, training=dropout > 0)).float()


@torch.no_grad()
def held_out(model: Trained, data: EncoderInput, metric: Tensor, n: int = 400) -> dict[str, float]:
    """Mean distance in mm to the faces of up to n held-out people: of the prediction, and of the mean head."""
    index = data.test[torch.linspace(0, len(data.test) - 1, min(n, len(data.test))).long()]
    guess = torch.cat([model(data.layers(data.photos(i))) for i in index.split(64)])
    truth = data.shape[index]
    return {
        "shape_mm": float(rms_distance(guess - truth, metric).mean()),
        "mean_head_mm": float(rms_distance(truth, metric).mean()),
    }


def load_shape_encoder(folder) -> tuple[dict[str, Tensor], dict]:
    """(averaged weights of the shape encoder, status of the run). Raises UserError where the run has not finished."""
    tensors, status = load_state(f"{folder}/state.safetensors")
    if not status.get("finished"):
        raise UserError(
            f"The shape encoder's run in {folder} has not finished; run its training command again to resume it."
        )
    return without_prefix("ema.reader", tensors), status


def train(
    run: Run,
    data: EncoderInput,
    budget: Budget,
    config: DenoiserConfig,
    metric: Tensor,
    mirrors: Tensor,
    options: ShapeEncoderOptions,
) -> Trained:
    """Train the shape encoder of a run folder, or resume its training.

    run: the folder.
    data: photographs and shapes.
    budget: when to stop.
    config: of the denoiser that uses the encoder.
    metric: `[K, K]`, `face_metric`.
    mirrors: `[K, K]`, `mirror_matrix`.
    options: hyperparameters.
    Returns the averaged network.
    """
    c = options.augmentation
    torch.manual_seed(options.seed)
    model, ema = (Trained(config).to(memory_format=torch.channels_last) for _ in range(2))
    ema.load_state_dict(model.state_dict())
    ema.requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr, betas=(0.9, 0.99), weight_decay=0.05, fused=True)
    step = 0
    if state := resume(run, budget, model, optimizer):
        tensors, step = state
        ema.load_state_dict(without_prefix("ema", tensors))
    due, meter = Every(options.save_seconds), Meter(budget)
    while not budget.over(step):
        generator = step_generator(options.seed, step)
        index = data.train[torch.randint(len(data.train), (options.batch,), generator=generator)]
        crops, mirrored = augment(data.photos(index), c, generator)
        truth = torch.where(mirrored[:, None], data.shape[index] @ mirrors, data.shape[index])
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
            guess = model(data.layers(crops), c.dropout)
        d = guess - truth
        loss = rms_distance(d, metric).mean() + c.coefficients * d.square().mean()
        loss.backward()
        rate = learning_rate(options.lr, step, budget.progress(step), cooldown=0.6)
        norm = apply_step(optimizer, model.parameters(), rate, clip=2.0)
        step += 1
        keep = min(EMA, step / (step + 10))
        torch._foreach_lerp_(list(ema.parameters()), list(model.parameters()), 1 - keep)
        meter.add(float(loss.detach()), norm)
        if due() or budget.over(step):
            metrics = meter.log(run, step, rate, options.batch, lambda: held_out(ema, data, metric))
            run.save(
                {
                    **prefixed("model", model.state_dict()),
                    **prefixed("ema", ema.state_dict()),
                    **prefixed("optimizer", optimizer_tensors(optimizer)),
                },
                step=step,
                seconds=budget.seconds,
                finished=budget.over(step) and not budget.interrupted,
                metrics=metrics,
            )
            meter.restart()
    return ema


@command
def main(argv: list[str] | None = None) -> None:
    parser = arguments(
        "train.shape_encoder",
        __doc__,
        "runs/shape_encoder",
        lr=2e-3,
        batch=64,
        data="folder made by fitdiff_lab.dataset.prepare",
        init=False,
    )
    parser.add_argument(
        "--latents", required=True, help="folder made by fitdiff_lab.dataset.latents, for the statistics"
    )
    parser.add_argument(
        "--recognizer", default="built-in", help="the recogniser that the latents were made with (%(default)s)"
    )
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    meta = read_json(Path(args.latents) / "meta.json", "python -m fitdiff_lab.dataset.latents")
    photos, head, options = Photos(args.data), load_head(), ShapeEncoderOptions.of(args)
    data = EncoderInput(photos, len(Textures(args.data)), load_recognizer(args.recognizer), meta)
    config = DenoiserConfig(shape=head.n_identity, activations=tuple(len(m) for m in meta["activation_mean"]))
    settings = {  # the keys "reader" and "changes" are those of earlier runs
        "reader": list(config.reader),
        "changes": asdict(options.augmentation),
        "lr": args.lr,
        "batch": args.batch,
        "seed": args.seed,
        "precision": args.precision,
        "photos": len(photos),
        "features_of": meta["features_of"],
    }
    with torch.no_grad():
        metric, mirrors = face_metric(head), mirror_matrix(head)
    run, budget = Run(args.out, settings), Budget(args.minutes, args.steps).catch_signals()
    train(run, data, budget, config, metric, mirrors, options)


if __name__ == "__main__":
    sys.exit(main())
