"""Train the map autoencoder.

    python -m fitdiff_lab.train.autoencoder --data DIR --out runs/ae --minutes 40

Input: the skins of fitdiff_lab.dataset.prepare. Output: a run folder (see fitdiff_lab.train.run). It trains on random
crops and now and then on whole atlases. Losses: L1, differences of gradients, a small KL term, and the local energy of
fine detail. The last one is needed because a latent cell cannot code every pore and hair: the decoder makes such detail
from fixed noise. All losses are in units of each channel's spread around the mean map. --codebook N trains the same
networks with a discrete latent, for comparison. --minutes or --steps says how long it takes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from fitdiff_core.errors import UserError, command
from fitdiff_core.head import load_head
from fitdiff_core.model.autoencoder import FACTOR, MAPS, AutoencoderConfig, MapAutoencoder, crop_field

from ..dataset.reading import Textures
from ..experiments.quantiser import QuantisedAutoencoder, QuantiserConfig
from .autoencoder_losses import LossWeights, losses, texel_weights
from .run import (
    Budget,
    Every,
    Hyperparameters,
    Initial,
    Meter,
    Run,
    apply_step,
    arguments,
    config_of,
    initial_weights,
    learning_rate,
    load_state,
    optimizer_tensors,
    prefixed,
    resume,
    step_generator,
    without_prefix,
)


@dataclass(frozen=True)
class AutoencoderOptions(Hyperparameters):
    """Hyperparameters of the autoencoder's training.

    cells: side of a training crop in latent cells (16 texels each).
    weights: of the losses.
    freeze_encoder: train the decoder only, so that latents of the initial encoder stay valid.
    quantiser: a discrete latent in place of the KL one.
    """

    cells: int = 16
    weights: LossWeights = field(default_factory=LossWeights)
    freeze_encoder: bool = False
    quantiser: QuantiserConfig | None = None


def draw_batch(
    data: Textures, step: int, seed: int, batch: int, cells: int, latent: int, full_every: int = 8
) -> tuple[Tensor, Tensor | None, Tensor]:
    """The batch of one step: random crops or, every `full_every` steps, whole atlases with about as many texels.

    batch: crops. cells: side of a crop in latent cells. latent: channels of the latent.
    Returns codes `[B, 9, H, W]`, the crops' origins `[B, 2]` in latent cells (None for whole atlases), and unit noise
    of the latent's shape.
    """
    g = step_generator(seed, step)
    n = data.size // FACTOR
    if cells >= n or step % full_every == full_every - 1:
        b = max(1, round(batch * (cells / n) ** 2))
        codes, origin = data.codes(torch.randint(data.n_train, (b,), generator=g)), None
    else:
        index = torch.randint(data.n_train, (batch,), generator=g)
        origin = torch.randint(n - cells + 1, (batch, 2), generator=g)
        codes = data.codes(index, origin * FACTOR, cells * FACTOR)
    return codes, origin, torch.randn(len(codes), latent, *(s // FACTOR for s in codes.shape[-2:]), generator=g)


def draw_shrink(n: int, step: int, seed: int, share: float) -> Tensor:
    """`[n]` the part of each latent that is kept at this step: 1, or a random 0..1 for a share of the samples."""
    chosen, keep = torch.rand(2, n, generator=step_generator(seed + 1, step))
    return torch.where(chosen < share, keep, 1.0)


@torch.no_grad()
def set_map_statistics(model: MapAutoencoder, data: Textures, n: int = 400) -> None:
    """Set the mean map and each channel's spread around it, from up to n training textures."""
    index = torch.linspace(0, data.n_train - 1, min(n, data.n_train)).long()
    total, squares = 0.0, 0.0
    for i in index:
        codes = data.codes(i[None])[0].double()
        total, squares = total + codes, squares + codes.square()
    mean = total / len(index)
    variance = (squares / len(index) - mean.square()).clamp(min=0).mean((1, 2))
    model.map_mean.copy_(mean)
    model.map_std.copy_(variance.sqrt().clamp(min=0.02))


@torch.no_grad()
def set_latent_statistics(model: MapAutoencoder, data: Textures, n: int = 200) -> None:
    """Set the mean and standard deviation of each latent channel, from up to n training textures."""
    index = torch.linspace(0, data.n_train - 1, min(n, data.n_train)).long()
    z = torch.cat([model.posterior_mean(data.codes(i[None])) for i in index])
    model.latent_mean.copy_(z.mean((0, 2, 3)))
    model.latent_std.copy_(z.std((0, 2, 3)).clamp(min=1e-3))


def held_out_codes(data: Textures, n: int) -> Iterator[Tensor]:
    """Up to n held-out atlases `[1, 9, S, S]`."""
    return (data.codes(torch.tensor([i])) for i in range(data.n_train, min(data.n_train + n, len(data))))


@torch.no_grad()
def held_out_psnr(model: MapAutoencoder, data: Textures, n: int = 6) -> dict[str, float]:
    """Mean PSNR of each map in dB over up to n held-out atlases. It is of the codes, whose range is 2."""
    model.eval()
    errors = []
    for codes in held_out_codes(data, n):
        errors.append((model(codes).full - codes).square().mean((0, 2, 3)).view(3, 3).mean(1))
    model.train()
    psnr = 10 * torch.log10(4 / torch.stack(errors)).mean(0)
    return dict(zip(MAPS, psnr.tolist(), strict=True))


def load_autoencoder(folder) -> MapAutoencoder:
    """The autoencoder of a finished run folder, in evaluation mode.

    Raises UserError where the run is missing or not finished.
    """
    tensors, status = load_state(f"{folder}/state.safetensors")
    if not status.get("finished"):
        raise UserError(
            f"The autoencoder run in {folder} has not finished; run its training command again to resume it."
        )
    if "quantiser" in status:
        raise UserError(
            f"The autoencoder in {folder} is vector-quantised, which is for comparison only; train one without "
            "--codebook."
        )
    model = MapAutoencoder(config_of(AutoencoderConfig, status))
    model.load_state_dict(without_prefix("model", tensors))
    return model.eval()


def encoder_key(status: dict) -> list:
    """Identifies an encoder and its latents: [steps, seconds] of the run that trained it. status: of the run."""
    return status.get("encoder") or [status["step"], status["seconds"]]


def kept_encoder(initial: Initial | None) -> list:
    """The key of the encoder that --freeze-encoder keeps. Raises UserError where there is no trained encoder."""
    if initial is None or not initial.status.get("finished"):
        raise UserError(
            "--freeze-encoder keeps a trained encoder: give --init a finished run or a released checkpoint."
        )
    return encoder_key(initial.status)


class _Training:
    """One run: the model, its optimiser, and the steps."""

    def __init__(
        self,
        data: Textures,
        texel: Tensor,
        config: AutoencoderConfig,
        options: AutoencoderOptions,
        initial: Initial | None,
    ):
        self.data, self.texel, self.config, self.options = data, texel, config, options
        quantiser = options.quantiser
        torch.manual_seed(options.seed)
        self.model = QuantisedAutoencoder(config, quantiser) if quantiser else MapAutoencoder(config)
        self.model.to(memory_format=torch.channels_last)
        self.kind = {"encoder": kept_encoder(initial)} if options.freeze_encoder else {}
        if quantiser:
            self.kind["quantiser"] = asdict(quantiser)
        self.model.encoder.requires_grad_(not options.freeze_encoder)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.trained, lr=options.lr, betas=(0.9, 0.98), weight_decay=1e-4, fused=True
        )

    def begin(self, run: Run, budget: Budget, initial: Initial | None) -> int:
        """Load a run that stopped, or the weights of a new one. Returns the step."""
        step = 0
        if state := resume(run, budget, self.model, self.optimizer):
            step = state[1]
        elif initial:
            initial.load_into(self.model)
        if not state and not self.options.freeze_encoder:
            set_map_statistics(self.model, self.data)
        return step

    def backward(self, step: int) -> dict[str, Tensor]:
        """The loss terms of one step, and their gradients in the parameters."""
        model, o = self.model, self.options
        codes, origin, noise = draw_batch(self.data, step, o.seed, o.batch, o.cells, self.config.latent)
        keep = draw_shrink(len(codes), step, o.seed, o.weights.shrunk)
        w = crop_field(self.texel, origin, codes.shape[-2:], FACTOR)
        with torch.autocast("cpu", torch.bfloat16, enabled=o.bf16):
            whole = codes.contiguous(memory_format=torch.channels_last)
            r = model(whole, origin, noise) if o.quantiser else model(whole, origin, noise, keep)
        if not o.quantiser:
            mean = crop_field(model.map_mean, origin, codes.shape[-2:], FACTOR)
            codes = torch.lerp(mean, codes, keep.view(-1, 1, 1, 1))
        terms = losses(r, codes, model.map_std, w, o.weights)
        terms["loss"].backward()
        return terms

    def held_out(self) -> tuple[dict[str, float], dict[str, float]]:
        """PSNR of each map, and the codebooks' perplexity where there are any."""
        psnr = held_out_psnr(self.model, self.data)
        return psnr, {
            "perplexity": self.model.perplexity(held_out_codes(self.data, 6))
        } if self.options.quantiser else {}

    def save(self, run: Run, **status) -> None:
        tensors = {
            **prefixed("model", self.model.state_dict()),
            **prefixed("optimizer", optimizer_tensors(self.optimizer)),
        }
        run.save(tensors, architecture=asdict(self.config), **self.kind, **status)


def train(
    run: Run,
    data: Textures,
    budget: Budget,
    texel: Tensor,
    config: AutoencoderConfig,
    options: AutoencoderOptions,
    initial: Initial | None = None,
) -> MapAutoencoder:
    """Train the autoencoder of a run folder, or resume its training.

    run: the folder.
    data: skins.
    budget: when to stop.
    texel: `[1, S, S]` weight of each texel (`texel_weights`).
    config: architecture.
    options: hyperparameters.
    initial: weights and statistics that a new run begins with.
    """
    t = _Training(data, texel, config, options, initial)
    step = t.begin(run, budget, initial)
    due, meter = Every(options.save_seconds), Meter(budget)
    while not budget.over(step):
        terms = t.backward(step)
        rate = learning_rate(options.lr, step, budget.progress(step))
        norm = apply_step(t.optimizer, t.trained, rate, clip=2.0)
        meter.add(*(float(v.detach()) for v in terms.values()), norm)
        step += 1
        if due() or budget.over(step):
            psnr, use = t.held_out()
            means = dict(zip([*terms, "norm"], meter.means(), strict=True))
            figures = {f"psnr_{k}": v for k, v in psnr.items()}
            run.log(step=step, minutes=budget.seconds / 60, lr=rate, **means, **figures, **use)
            meter.restart()
            t.save(run, step=step, seconds=budget.seconds, finished=False, psnr=psnr)
    if not budget.interrupted:
        psnr = held_out_psnr(t.model, data, 16)
        if not options.freeze_encoder:
            set_latent_statistics(t.model, data)
        t.save(run, step=step, seconds=budget.seconds, finished=True, psnr=psnr)
    return t.model


def run_settings(
    config: AutoencoderConfig, options: AutoencoderOptions, initial: Initial | None, precision: str
) -> dict:
    """What config.json of a run keeps."""
    settings = {
        "architecture": asdict(config),
        "loss": asdict(options.weights),
        "lr": options.lr,
        "batch": options.batch,
        "cells": options.cells,
        "seed": options.seed,
        "precision": precision,
    }
    if initial:
        settings["init"] = initial.record
    if options.freeze_encoder:
        settings["frozen_encoder"] = kept_encoder(initial)
    if options.quantiser:
        settings["quantiser"] = asdict(options.quantiser)
    return settings


@command
def main(argv: list[str] | None = None) -> None:
    parser = arguments(
        "train.autoencoder", __doc__, "runs/ae", lr=8e-4, batch=4, data="folder made by fitdiff_lab.dataset.prepare"
    )
    parser.add_argument(
        "--cells", type=int, default=16, help="side of a training crop in latent cells of 16 texels (%(default)s)"
    )
    parser.add_argument(
        "--freeze-encoder",
        action="store_true",
        help="with --init: train the decoder only; latents of the initial encoder stay valid",
    )
    parser.add_argument(
        "--codebook",
        type=int,
        default=0,
        metavar="N",
        help="for comparison: a vector-quantised latent with N codes in place of the KL one (%(default)s: KL)",
    )
    parser.add_argument(
        "--groups",
        type=int,
        default=1,
        help="with --codebook: codes of a cell, each for a part of its channels (%(default)s)",
    )
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    if args.init and args.codebook:
        raise UserError("--codebook trains from scratch, for comparison only; leave out --init.")
    initial = initial_weights(args.init, "autoencoder") if args.init else None
    config = config_of(AutoencoderConfig, initial.status) if initial else AutoencoderConfig()
    quantiser = QuantiserConfig(args.codebook, args.groups) if args.codebook else None
    options = AutoencoderOptions.of(args, cells=args.cells, freeze_encoder=args.freeze_encoder, quantiser=quantiser)
    run = Run(args.out, run_settings(config, options, initial, args.precision))
    budget = Budget(args.minutes, args.steps).catch_signals()
    train(run, Textures(args.data), budget, texel_weights(load_head()), config, options, initial)


if __name__ == "__main__":
    sys.exit(main())
