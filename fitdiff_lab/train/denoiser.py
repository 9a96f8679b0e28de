"""Train the denoiser: python -m fitdiff_lab.train.denoiser --data DIR/latents --out runs/denoiser --minutes 45

EDM's loss (arXiv 2206.00364) on packed latents of texture and shape, condition dropped at times for classifier-free
guidance, weights averaged by a power function of the step (Karras et al. 2023, arXiv 2312.02696).
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from fitdiff_core.errors import UserError, command
from fitdiff_core.head import load_head
from fitdiff_core.model.denoiser import Condition, Denoiser, DenoiserConfig, pack_latent
from fitdiff_core.model.samplers import SIGMA_MAX, SIGMA_MIN, edm_loss, lognormal_sigmas, uniform_logsnr_sigmas

from ..dataset.reading import People
from .linear_prior import mirror, set_prior
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
from .shape_encoder import load_reader

EMA_GAMMA = 6.94  # averages the last tenth or so of the run (sigma_rel = 0.10)


@dataclass(frozen=True)
class TrainConfig:
    """sigma_mean, sigma_std: of ln sigma. The mean is above EDM's, as neighbouring cells of a face say much the same.
    sigma_even: share of a batch whose levels lie evenly over the sampler's whole range instead. shape: share of the loss; dropout: of the condition; feature_noise: added to the embedding, in its standard
    deviations, against learning the synthetic photos by heart."""

    sigma_mean: float = 0.3
    sigma_std: float = 1.6
    sigma_even: float = 0.25
    shape: float = 0.3
    dropout: float = 0.15
    feature_noise: float = 0.15


def element_weights(c: DenoiserConfig, shape_share: float) -> Tensor:
    """`[1, C + 1, h, w]`, so that the mean over a packed latent is (1 - share) mse(texture) + share mse(shape)."""
    texture = torch.full((1, c.latent, c.size, c.size), (1 - shape_share) / (c.latent * c.size**2))
    packed = pack_latent(texture, torch.full((1, c.shape), shape_share / c.shape))
    return packed * packed.numel()


def config_for(data: People) -> DenoiserConfig:
    """The architecture that fits the data. Raises UserError for a recogniser without three activation layers."""
    if len(data.activations) != 3:
        raise UserError(
            f"The denoiser reads three activation layers; {data.meta['recognizer']} gave {len(data.activations)}."
        )
    return DenoiserConfig(
        latent=data.latents.shape[1],
        size=data.latents.shape[2],
        shape=data.shape.shape[1],
        embedding=data.embedding.shape[1],
        activations=tuple(a.shape[1] for a in data.activations),
    )


def new_denoiser(config: DenoiserConfig, meta: dict, kind: type[Denoiser] = Denoiser) -> Denoiser:
    """An untrained denoiser that knows the statistics of the recogniser's features."""
    model = kind(config)
    model.embedding_mean.copy_(torch.tensor(meta["embedding_mean"]))
    model.embedding_std.copy_(torch.tensor(meta["embedding_std"]))
    for i, (mean, std) in enumerate(zip(meta["activation_mean"], meta["activation_std"], strict=True)):
        getattr(model, f"activation_mean_{i}").copy_(torch.tensor(mean))
        getattr(model, f"activation_std_{i}").copy_(torch.tensor(std))
    return model


def begin_with(model: Denoiser, initial: Initial) -> int:
    """Take over the network's weights that fit by name and shape; feature statistics and the prior are the new data's. Its
    outputs count in the prior's deviations along its modes, so they are left out where those are others. Returns how many
    tensors fit; UserError where few do."""
    own, modes = model.net.state_dict(), initial.tensors.get("prior.modes")
    same = (
        modes is not None
        and modes.shape == model.prior.modes.shape
        and torch.allclose(modes.float(), model.prior.modes, atol=1e-3)
    )
    fit = {
        k: v
        for k, v in without_prefix("net", initial.tensors).items()
        if k in own and own[k].shape == v.shape and (same or not k.startswith(("out.", "shape_out.")))
    }
    if len(fit) < len(own) / 2:
        raise UserError(f"{initial.record['from']} is of another architecture: {len(fit)} of {len(own)} tensors fit.")
    model.net.load_state_dict(fit, strict=False)
    return len(fit)


def step_loss(
    model: Denoiser, data: People, t: TrainConfig, weight: Tensor, batch: int, generator: torch.Generator
) -> Tensor:
    """Mean loss of one random batch of training people."""
    index = data.train[torch.randint(len(data.train), (batch,), generator=generator).numpy()]
    texture, shape, embedding, activations = data.batch(index)
    x0 = pack_latent(texture, shape).contiguous(memory_format=torch.channels_last)
    even = round(batch * t.sigma_even)
    sigma = torch.cat(
        [
            uniform_logsnr_sigmas(even, SIGMA_MIN, SIGMA_MAX, generator),
            lognormal_sigmas(batch - even, t.sigma_mean, t.sigma_std, generator),
        ]
    )
    noise = torch.randn(x0.shape, generator=generator)
    drop = torch.rand(batch, generator=generator) < t.dropout
    jitter = torch.randn(embedding.shape, generator=generator) * model.embedding_std
    cond = Condition(embedding + t.feature_noise * jitter, activations)
    return edm_loss(lambda x, s: model(x, s, cond, drop=drop), x0, sigma, noise, weight).mean()


@torch.no_grad()
def held_out(
    model: Denoiser, data: People, levels: tuple[float, ...] = (0.3, 1.0, 3.0, 10.0), n: int = 24
) -> dict[str, float]:
    """EDM-weighted error on held-out people, texture and shape apart, with and without the condition; fixed noise."""
    index = data.test[np.linspace(0, len(data.test) - 1, min(n, len(data.test))).astype(int)]
    texture, shape, embedding, activations = data.batch(index)
    x0, cond = pack_latent(texture, shape), Condition(embedding, activations)
    result = {}
    for name, c in (("", cond), ("_null", None)):
        for part, share in (("texture", 0.0), ("shape", 1.0)):
            weight = element_weights(model.config, share)
            total = 0.0
            for sigma in levels:
                noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(7))
                total += float(
                    edm_loss(lambda x, s, c=c: model(x, s, c), x0, torch.full((len(x0),), sigma), noise, weight).mean()
                )
            result[part + name] = total / len(levels)
    return result


def load_denoiser(folder) -> tuple[Denoiser, dict]:
    """The averaged denoiser of a run folder and the run's status. Raises UserError where the run is missing."""
    tensors, status = load_state(f"{folder}/state.safetensors")
    model = Denoiser(config_of(DenoiserConfig, status))
    model.load_state_dict(without_prefix("model", tensors) | without_prefix("ema", tensors))
    return model.eval(), status


def train(
    run: Run,
    data: People,
    budget: Budget,
    config: DenoiserConfig,
    *,
    lr: float,
    batch: int,
    seed: int = 0,
    bf16: bool = True,
    save_seconds: float = 120,
    t: TrainConfig | None = None,
    initial: Initial | None = None,
    kind: type[Denoiser] = Denoiser,
    reader: dict[str, Tensor] | None = None,
    mirror: Tensor | None = None,
) -> Denoiser:
    """Train, or go on with, the denoiser of a run folder. Returns the averaged network.

    initial: weights that a new run begins with. kind: another network, to compare. reader: weights of train.reader, which
    stay as they are; without them the reader's features are random, and the prior makes of them what it can. mirror `[K, K]`: of the head (train.prior); without it heads count as symmetric.
    """
    t = t or TrainConfig()
    torch.manual_seed(seed)
    model = new_denoiser(config, data.meta, kind).to(memory_format=torch.channels_last)
    ema = new_denoiser(config, data.meta, kind).to(memory_format=torch.channels_last).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(model.net.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=1e-3, fused=True)
    step = 0
    if state := resume(run, budget, model, optimizer):
        tensors, step = state
        ema.load_state_dict(without_prefix("model", tensors) | without_prefix("ema", tensors))
    else:
        if reader:
            model.reader.load_state_dict(reader)
        set_prior(model, data, initial and initial.tensors.get("prior.modes"))
        if mirror is not None:
            model.prior.mirror.copy_(mirror)
        if initial:
            begin_with(model, initial)
        ema.load_state_dict(model.state_dict())

    def save(finished: bool) -> None:
        run.save(
            {
                **prefixed("model", model.state_dict()),
                **prefixed("ema.net", dict(ema.net.named_parameters())),
                **prefixed("optimizer", optimizer_tensors(optimizer)),
            },
            step=step,
            seconds=budget.seconds,
            finished=finished,
            architecture=asdict(config),
            metrics=metrics,
            recognizer=data.meta["recognizer"],
        )

    metrics: dict[str, float] = {}
    weight = element_weights(config, t.shape)
    due, recent, since = Every(save_seconds), [], budget.seconds
    model.train()
    while not budget.over(step):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = step_loss(model, data, t, weight, batch, step_generator(seed, step))
        loss.backward()
        rate = learning_rate(lr, step, budget.progress(step))
        norm = apply_step(optimizer, model.net.parameters(), rate, clip=1.0)
        step += 1
        beta = (1 - 1 / step) ** (EMA_GAMMA + 1)
        torch._foreach_lerp_(list(ema.net.parameters()), list(model.net.parameters()), 1 - beta)
        recent.append((float(loss.detach()), norm))
        if due() or budget.over(step):
            speed = batch * len(recent) / max(1e-6, budget.seconds - since)
            mean = torch.tensor(recent).mean(0).tolist()
            metrics = held_out(ema, data)
            run.log(
                step=step, minutes=budget.seconds / 60, lr=rate, loss=mean[0], norm=mean[1], per_second=speed, **metrics
            )
            save(finished=budget.over(step) and not budget.interrupted)
            recent, since = [], budget.seconds
    return ema


@command
def main(argv: list[str] | None = None) -> None:
    parser = arguments(__doc__, "runs/denoiser", lr=8e-4, batch=16, data="folder made by fitdiff_lab.dataset.latents")
    parser.add_argument(
        "--reader", metavar="RUN", help="run folder of train.reader; left out, the shape's reader stays untrained"
    )
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    data = People(args.data)
    t = TrainConfig()
    config = config_for(data)
    settings = {
        "architecture": asdict(config),
        "training": asdict(t),
        "lr": args.lr,
        "batch": args.batch,
        "seed": args.seed,
        "precision": args.precision,
        "recognizer": data.meta["recognizer"],
        "latents_of": data.meta["latents_of"],
    }
    initial = initial_weights(args.init, "denoiser") if args.init else None
    if initial:
        settings["init"] = initial.record
    reader, of_reader = load_reader(args.reader) if args.reader else (None, None)
    if of_reader:
        settings["reader"] = {k: of_reader[k] for k in ("step", "seconds", "metrics")}
    run = Run(args.out, settings)
    train(
        run,
        data,
        Budget(args.minutes, args.steps).catch_signals(),
        config,
        lr=args.lr,
        batch=args.batch,
        seed=args.seed,
        bf16=args.precision == "bf16",
        save_seconds=args.save_seconds,
        t=t,
        initial=initial,
        reader=reader,
        mirror=mirror(load_head()),
    )


if __name__ == "__main__":
    sys.exit(main())
