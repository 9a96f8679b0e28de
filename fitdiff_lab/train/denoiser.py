"""Train the denoiser.

    python -m fitdiff_lab.train.denoiser --data DIR/latents --out runs/denoiser --minutes 45

Input: the arrays of fitdiff_lab.dataset.latents. Output: a run folder (see fitdiff_lab.train.run). The loss is EDM's
(Karras et al. 2022, arXiv 2206.00364) on packed latents of texture and shape. The condition is dropped at random, for
classifier-free guidance. The weights are averaged with a power function of the step (Karras et al. 2023, arXiv
2312.02696). The linear prior is fitted before the first step. --minutes or --steps says how long it takes.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from torch import Tensor

from fitdiff_core.errors import UserError, command
from fitdiff_core.head import load_head
from fitdiff_core.model.denoiser import Condition, Denoiser, DenoiserConfig, pack_latent
from fitdiff_core.model.samplers import SIGMA_MAX, SIGMA_MIN, edm_loss, lognormal_sigmas, uniform_logsnr_sigmas

from ..dataset.reading import People
from .linear_prior import set_prior
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
from .shape_encoder import load_shape_encoder
from .symmetry import mirror_matrix
from .untrained import config_for, new_denoiser

EMA_GAMMA = 6.94  # averages the last tenth or so of the run (sigma_rel = 0.10)


@dataclass(frozen=True)
class TrainConfig:
    """What a training step draws, and how its loss is weighted.

    sigma_mean, sigma_std: of ln sigma. The mean is above EDM's because neighbouring cells of a face hold much the same.
    sigma_even: share of a batch whose noise levels are spread evenly over the sampler's range instead.
    shape: share of the shape in the loss; the rest is the texture's.
    dropout: share of the batch that is trained without condition.
    feature_noise: added to the embedding, in its standard deviations, so that the network does not memorise the photos.
    """

    sigma_mean: float = 0.3
    sigma_std: float = 1.6
    sigma_even: float = 0.25
    shape: float = 0.3
    dropout: float = 0.15
    feature_noise: float = 0.15


@dataclass(frozen=True)
class DenoiserOptions(Hyperparameters):
    """Hyperparameters of the denoiser's training. loss: `TrainConfig`."""

    loss: TrainConfig = field(default_factory=TrainConfig)


@dataclass(frozen=True)
class Start:
    """What a new run begins with; a resumed run ignores it.

    initial: weights of an earlier run or checkpoint; else the network starts untrained.
    shape_encoder: state dict of a trained shape encoder (`load_shape_encoder`). It stays frozen. Without it the
        features are those of an untrained encoder.
    mirror: `[K, K]` of the head (`mirror_matrix`). Without it heads count as symmetric.
    """

    initial: Initial | None = None
    shape_encoder: dict[str, Tensor] | None = None
    mirror: Tensor | None = None


def element_weights(c: DenoiserConfig, shape_share: float) -> Tensor:
    """Weights `[1, C + 1, h, w]` that make a packed latent's mean (1 - share) mse(texture) + share mse(shape)."""
    texture = torch.full((1, c.latent, c.size, c.size), (1 - shape_share) / (c.latent * c.size**2))
    packed = pack_latent(texture, torch.full((1, c.shape), shape_share / c.shape))
    return packed * packed.numel()


def begin_with(model: Denoiser, initial: Initial) -> int:
    """Copy the weights of another run that fit by name and shape. Returns how many tensors fit.

    Feature statistics and the prior stay those of the new data. The network's outputs are in units of the prior's
    modes, so the output layers are left out where the modes differ. Raises UserError where less than half of the
    tensors fit.
    """
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
    """EDM-weighted error on held-out people, with fixed noise: of texture and shape, with and without ("_null")
    condition.

    levels: noise levels sigma that are averaged. n: people.
    """
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
    """(averaged denoiser of a run folder, status of the run). Raises UserError where the run is missing."""
    tensors, status = load_state(f"{folder}/state.safetensors")
    model = Denoiser(config_of(DenoiserConfig, status))
    model.load_state_dict(without_prefix("model", tensors) | without_prefix("ema", tensors))
    return model.eval(), status


def _initialise(model: Denoiser, data: People, start: Start) -> None:
    """Fit the prior and load the weights that a new run begins with."""
    if start.shape_encoder:
        model.reader.load_state_dict(start.shape_encoder)
    set_prior(model, data, start.initial and start.initial.tensors.get("prior.modes"))
    if start.mirror is not None:
        model.prior.mirror.copy_(start.mirror)
    if start.initial:
        begin_with(model, start.initial)


def train(
    run: Run,
    data: People,
    budget: Budget,
    config: DenoiserConfig,
    options: DenoiserOptions,
    start: Start | None = None,
    kind: type[Denoiser] = Denoiser,
) -> Denoiser:
    """Train the denoiser of a run folder, or resume its training.

    run: the folder.
    data: encoded people.
    budget: when to stop.
    config: architecture.
    options: hyperparameters.
    start: what a new run begins with.
    kind: class of the network, for experiments.
    Returns the averaged network.
    """
    torch.manual_seed(options.seed)
    model = new_denoiser(config, data.meta, kind).to(memory_format=torch.channels_last)
    ema = new_denoiser(config, data.meta, kind).to(memory_format=torch.channels_last).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(
        model.net.parameters(), lr=options.lr, betas=(0.9, 0.98), weight_decay=1e-3, fused=True
    )
    step = 0
    if state := resume(run, budget, model, optimizer):
        tensors, step = state
        ema.load_state_dict(without_prefix("model", tensors) | without_prefix("ema", tensors))
    else:
        _initialise(model, data, start or Start())
        ema.load_state_dict(model.state_dict())
    weight = element_weights(config, options.loss.shape)
    due, meter = Every(options.save_seconds), Meter(budget)
    model.train()
    while not budget.over(step):
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
            loss = step_loss(model, data, options.loss, weight, options.batch, step_generator(options.seed, step))
        loss.backward()
        rate = learning_rate(options.lr, step, budget.progress(step))
        norm = apply_step(optimizer, model.net.parameters(), rate, clip=1.0)
        step += 1
        beta = (1 - 1 / step) ** (EMA_GAMMA + 1)
        torch._foreach_lerp_(list(ema.net.parameters()), list(model.net.parameters()), 1 - beta)
        meter.add(float(loss.detach()), norm)
        if due() or budget.over(step):
            metrics = meter.log(run, step, rate, options.batch, lambda: held_out(ema, data))
            run.save(
                {
                    **prefixed("model", model.state_dict()),
                    **prefixed("ema.net", dict(ema.net.named_parameters())),
                    **prefixed("optimizer", optimizer_tensors(optimizer)),
                },
                step=step,
                seconds=budget.seconds,
                finished=budget.over(step) and not budget.interrupted,
                architecture=asdict(config),
                metrics=metrics,
                recognizer=data.meta["recognizer"],
            )
            meter.restart()
    return ema


def run_settings(config: DenoiserConfig, options: DenoiserOptions, meta: dict, precision: str) -> dict:
    """What config.json of a run keeps. meta: of the encoded data."""
    return {
        "architecture": asdict(config),
        "training": asdict(options.loss),
        "lr": options.lr,
        "batch": options.batch,
        "seed": options.seed,
        "precision": precision,
        "recognizer": meta["recognizer"],
        "latents_of": meta["latents_of"],
    }


@command
def main(argv: list[str] | None = None) -> None:
    parser = arguments(
        "train.denoiser", __doc__, "runs/denoiser", lr=8e-4, batch=16, data="folder made by fitdiff_lab.dataset.latents"
    )
    parser.add_argument(
        "--shape-encoder",
        metavar="RUN",
        help="run folder of fitdiff_lab.train.shape_encoder; without it the shape encoder stays untrained",
    )
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    data, options = People(args.data), DenoiserOptions.of(args)
    config = config_for(data)
    settings = run_settings(config, options, data.meta, args.precision)
    initial = initial_weights(args.init, "denoiser") if args.init else None
    if initial:
        settings["init"] = initial.record
    weights, status = load_shape_encoder(args.shape_encoder) if args.shape_encoder else (None, None)
    if status:
        settings["reader"] = {
            k: status[k] for k in ("step", "seconds", "metrics")
        }  # the checkpoint's metadata has this key
    run, budget = Run(args.out, settings), Budget(args.minutes, args.steps).catch_signals()
    train(run, data, budget, config, options, Start(initial, weights, mirror_matrix(load_head())))


if __name__ == "__main__":
    sys.exit(main())
