"""Train the map autoencoder: python -m fitdiff_lab.train.autoencoder --data DIR --out runs/ae --minutes 40

L1 and gradient differences on random crops (now and then whole atlases), a small KL term, and one on the local energy of
fine detail: pores and hairs cannot be coded texel by texel, but skin must not come back smooth (the decoder turns fixed
noise into them). Everything is measured in units of each channel's spread around the mean map. `--codebook N` trains the
same networks with a discrete latent, to compare the two.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fitdiff_core.errors import UserError, command
from fitdiff_core.head import load_head
from fitdiff_core.model.autoencoder import FACTOR, MAPS, AutoencoderConfig, MapAutoencoder, Reconstruction, crop_field

from ..dataset.reading import Textures
from ..experiments.quantiser import Quantised, QuantisedAutoencoder, QuantiserConfig
from .run import (
    Budget,
    Every,
    Initial,
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
class LossWeights:
    """shrunk: share of the samples whose latent is drawn towards the mean latent, and their target towards the mean map.
    While people are being sampled, the decoder sees such latents: a denoiser's estimates at high noise. Untrained for,
    it answers them with a pattern that repeats in every cell."""

    half: float = 0.5
    gradient: float = 0.5
    grain: float = 0.3
    kl: float = 2e-4
    shrunk: float = 0.3
    maps: tuple[float, float, float] = (1.0, 0.6, 0.6)


def texel_weights(head) -> Tensor:
    """`[1, 512, 512]`, mean about 1: the face counts most, then eyes and lips on top; the scalp and neck less."""

    def region(name: str) -> Tensor:
        return head.region(name, 512) if name in head.region_names else torch.zeros(512, 512)

    w = 0.25 + 0.25 * region("skin") + 1.0 * region("face") + 1.0 * region("eyes")
    w = w + 0.8 * torch.stack([region("lips"), region("brows"), region("eyelids")]).amax(0)
    return (w / w.mean())[None]


def local_energy(x: Tensor, cell: int = 8) -> Tensor:
    """Root mean square of the three Haar detail bands of `[B, C, H, W]` in cells of 2 * `cell` texels: [B, 3 C, ...]."""
    a, b, c, d = x[..., ::2, ::2], x[..., ::2, 1::2], x[..., 1::2, ::2], x[..., 1::2, 1::2]
    bands = torch.cat([a + b - c - d, a - b + c - d, a - b - c + d], 1) / 2
    return (F.avg_pool2d(bands.square(), cell) + 1e-4).sqrt()


def losses(
    r: Reconstruction | Quantised, codes: Tensor, std: Tensor, texel: Tensor, weights: LossWeights
) -> dict[str, Tensor]:
    """Loss terms, their sum first. codes `[B, 9, H, W]`; std [9]: the unit of each channel; texel `[B|1, 1, H, W]`."""
    unit = torch.tensor(weights.maps, device=codes.device).repeat_interleave(3)[:, None, None] / std[:, None, None]
    target_half = F.avg_pool2d(codes, 2)
    error, error_half = (r.full - codes) * unit, (r.half - target_half) * unit
    texel_half = F.avg_pool2d(texel, 2)
    gradient = (error.diff(dim=-1).abs() * texel[..., 1:]).mean() + (
        error.diff(dim=-2).abs() * texel[..., 1:, :]
    ).mean()
    grain = 0.0
    for out, target, w in ((r.full, codes, texel), (r.half, target_half, texel_half)):
        energy = (local_energy(out * unit) - local_energy(target * unit)).abs()
        grain = grain + (energy * F.avg_pool2d(w, 16)).mean()
    terms = {
        "l1": (error.abs() * texel).mean(),
        "half": weights.half * (error_half.abs() * texel_half).mean(),
        "gradient": weights.gradient * gradient,
        "grain": weights.grain * grain,
    }
    if isinstance(r, Quantised):
        terms["commitment"] = r.commitment
    else:
        mean, log_variance = r.mean.float(), r.log_variance.float()
        terms["kl"] = weights.kl * 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
    return {"loss": sum(terms.values()), **terms}


def draw_batch(
    data: Textures, step: int, seed: int, batch: int, cells: int, latent: int, full_every: int = 8
) -> tuple[Tensor, Tensor | None, Tensor]:
    """(codes, origin or None, unit noise of the latent's shape) of one step: `batch` crops of `cells` latent cells a
    side, or, every `full_every` steps, as many texels in whole atlases."""
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
    """`[n]` how much of each latent is kept at this step: 1, or for a share of the samples anything from 0 to 1."""
    chosen, keep = torch.rand(2, n, generator=step_generator(seed + 1, step))
    return torch.where(chosen < share, keep, 1.0)


@torch.no_grad()
def set_map_statistics(model: MapAutoencoder, data: Textures, n: int = 400) -> None:
    """Mean map and each channel's spread around it, from up to n training textures."""
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
    """Mean and standard deviation of each latent channel over up to n training textures."""
    index = torch.linspace(0, data.n_train - 1, min(n, data.n_train)).long()
    z = torch.cat([model.posterior_mean(data.codes(i[None])) for i in index])
    model.latent_mean.copy_(z.mean((0, 2, 3)))
    model.latent_std.copy_(z.std((0, 2, 3)).clamp(min=1e-3))


def held_out_codes(data: Textures, n: int) -> Iterator[Tensor]:
    """Up to n held-out atlases `[1, 9, S, S]`."""
    return (data.codes(torch.tensor([i])) for i in range(data.n_train, min(data.n_train + n, len(data))))


@torch.no_grad()
def held_out_psnr(model: MapAutoencoder, data: Textures, n: int = 6) -> dict[str, float]:
    """Mean PSNR in dB of each map over held-out atlases: codes (square-root albedo, normals) against a range of 2."""
    model.eval()
    errors = []
    for codes in held_out_codes(data, n):
        errors.append((model(codes).full - codes).square().mean((0, 2, 3)).view(3, 3).mean(1))
    model.train()
    psnr = 10 * torch.log10(4 / torch.stack(errors)).mean(0)
    return dict(zip(MAPS, psnr.tolist(), strict=True))


def load_autoencoder(folder) -> MapAutoencoder:
    """The autoencoder of a finished run folder, ready to encode. UserError where the run is missing or unfinished."""
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
    """What tells one encoder, and so its latents, from another: steps and seconds of the run that trained it."""
    return status.get("encoder") or [status["step"], status["seconds"]]


def kept_encoder(initial: Initial | None) -> list:
    """The key of the encoder that --freeze-encoder keeps. UserError where there is none to keep."""
    if initial is None or not initial.status.get("finished"):
        raise UserError(
            "--freeze-encoder keeps a trained encoder: give --init a finished run or a released checkpoint."
        )
    return encoder_key(initial.status)


def train(
    run: Run,
    data: Textures,
    budget: Budget,
    texel: Tensor,
    config: AutoencoderConfig,
    *,
    lr: float,
    batch: int,
    cells: int = 16,
    seed: int = 0,
    bf16: bool = True,
    save_seconds: float = 120,
    weights: LossWeights | None = None,
    initial: Initial | None = None,
    freeze_encoder: bool = False,
    quantiser: QuantiserConfig | None = None,
) -> MapAutoencoder:
    """Train, or go on with, the autoencoder of a run folder. texel `[1, S, S]`: how much each texel counts.

    initial: weights and statistics that a new run begins with. freeze_encoder: train the decoder alone, so that latents
    made with the initial encoder stay valid. quantiser: a discrete latent in place of the KL one.
    """
    weights = weights or LossWeights()
    torch.manual_seed(seed)
    model = QuantisedAutoencoder(config, quantiser) if quantiser else MapAutoencoder(config)
    model.to(memory_format=torch.channels_last)
    kind = {"encoder": kept_encoder(initial)} if freeze_encoder else {}
    if quantiser:
        kind["quantiser"] = asdict(quantiser)
    model.encoder.requires_grad_(not freeze_encoder)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=lr, betas=(0.9, 0.98), weight_decay=1e-4, fused=True)
    step = 0
    if state := resume(run, budget, model, optimizer):
        step = state[1]
    elif initial:
        initial.load_into(model)
    if not state and not freeze_encoder:
        set_map_statistics(model, data)

    def save(finished: bool) -> None:
        if finished and not freeze_encoder:
            set_latent_statistics(model, data)
        run.save(
            {**prefixed("model", model.state_dict()), **prefixed("optimizer", optimizer_tensors(optimizer))},
            step=step,
            seconds=budget.seconds,
            finished=finished,
            architecture=asdict(config),
            psnr=psnr,
            **kind,
        )

    psnr: dict[str, float] = {}
    due, recent = Every(save_seconds), []
    while not budget.over(step):
        codes, origin, noise = draw_batch(data, step, seed, batch, cells, config.latent)
        keep = draw_shrink(len(codes), step, seed, weights.shrunk)
        w = crop_field(texel, origin, codes.shape[-2:], FACTOR)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            whole = codes.contiguous(memory_format=torch.channels_last)
            r = model(whole, origin, noise) if quantiser else model(whole, origin, noise, keep)
        if not quantiser:
            codes = torch.lerp(
                crop_field(model.map_mean, origin, codes.shape[-2:], FACTOR), codes, keep.view(-1, 1, 1, 1)
            )
        terms = losses(r, codes, model.map_std, w, weights)
        terms["loss"].backward()
        rate = learning_rate(lr, step, budget.progress(step))
        norm = apply_step(optimizer, trained, rate, clip=2.0)
        recent.append([float(t.detach()) for t in terms.values()] + [norm])
        step += 1
        if due() or budget.over(step):
            psnr = held_out_psnr(model, data)
            use = {"perplexity": model.perplexity(held_out_codes(data, 6))} if quantiser else {}
            means = torch.tensor(recent).mean(0).tolist()
            run.log(
                step=step,
                minutes=budget.seconds / 60,
                lr=rate,
                **dict(zip([*terms, "norm"], means, strict=True)),
                **{f"psnr_{k}": v for k, v in psnr.items()},
                **use,
            )
            recent = []
            save(finished=False)
    if not budget.interrupted:
        psnr = held_out_psnr(model, data, 16)
        save(finished=True)
    return model


@command
def main(argv: list[str] | None = None) -> None:
    parser = arguments(__doc__, "runs/ae", lr=8e-4, batch=4, data="folder made by fitdiff_lab.dataset.prepare")
    parser.add_argument("--cells", type=int, default=16, help="side of a training crop in latent cells of 16 texels")
    parser.add_argument(
        "--freeze-encoder",
        action="store_true",
        help="with --init: train the decoder alone; latents of the initial encoder stay valid",
    )
    parser.add_argument(
        "--codebook",
        type=int,
        default=0,
        metavar="N",
        help="for comparison: a vector-quantised latent with N codes in place of the KL one",
    )
    parser.add_argument(
        "--groups", type=int, default=1, help="with --codebook: codes a cell, each for a part of its channels"
    )
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    if args.init and args.codebook:
        raise UserError("--codebook trains from scratch, for comparison only; leave out --init.")
    initial = initial_weights(args.init, "autoencoder") if args.init else None
    config = config_of(AutoencoderConfig, initial.status) if initial else AutoencoderConfig()
    quantiser = QuantiserConfig(args.codebook, args.groups) if args.codebook else None
    weights = LossWeights()
    settings = {
        "architecture": asdict(config),
        "loss": asdict(weights),
        "lr": args.lr,
        "batch": args.batch,
        "cells": args.cells,
        "seed": args.seed,
        "precision": args.precision,
    }
    if initial:
        settings["init"] = initial.record
    if args.freeze_encoder:
        settings["frozen_encoder"] = kept_encoder(initial)
    if quantiser:
        settings["quantiser"] = asdict(quantiser)
    train(
        Run(args.out, settings),
        Textures(args.data),
        Budget(args.minutes, args.steps).catch_signals(),
        texel_weights(load_head()),
        config,
        lr=args.lr,
        batch=args.batch,
        cells=args.cells,
        seed=args.seed,
        bf16=args.precision == "bf16",
        save_seconds=args.save_seconds,
        weights=weights,
        initial=initial,
        freeze_encoder=args.freeze_encoder,
        quantiser=quantiser,
    )


if __name__ == "__main__":
    sys.exit(main())
