"""Shared parts of the training commands: the run folder, the time budget, the options, and random draws by step.

A run folder holds `config.json`, `log.csv` and `state.safetensors`. The state has all tensors (weights, averages,
moments of the optimiser); its metadata has the step and the seconds spent. The state is replaced in one rename, so a
crash loses only the minutes since the last save. Each step seeds its generator with (seed, step), so a resumed run
makes the same draws.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fitdiff_core.errors import UserError
from fitdiff_core.files import atomic_path, write_json
from fitdiff_core.model.checkpoint import read_header

from ..cli import command_parser


class Run:
    """A run folder. Raises UserError where the folder holds a run with other settings.

    config: settings as JSON takes them; kept in config.json.
    """

    def __init__(self, folder: str | os.PathLike, config: dict):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "config.json"
        config = json.loads(json.dumps(config))
        if path.exists() and (old := json.loads(path.read_text())) != config:
            changed = sorted(k for k in old.keys() | config.keys() if old.get(k) != config.get(k))
            raise UserError(
                f"{self.folder} holds a run with other settings ({', '.join(changed)}); choose another --out."
            )
        write_json(path, config)
        self.config = config

    def save(self, tensors: dict[str, Tensor], **status) -> None:
        with atomic_path(self.folder / "state.safetensors") as part:
            save_file({k: v.detach().contiguous() for k, v in tensors.items()}, part, {"status": json.dumps(status)})

    def load(self) -> tuple[dict[str, Tensor], dict] | None:
        """(tensors, status), or None where nothing is saved yet."""
        path = self.folder / "state.safetensors"
        return load_state(path) if path.exists() else None

    def log(self, **row: float) -> None:
        """Append a row to log.csv and print it. The first row names the columns; other columns start a new header."""
        path = self.folder / "log.csv"
        fields = list(row)
        header = None
        if path.exists():
            with path.open() as f:
                header = [r for r in csv.reader(f) if r and r[0] == fields[0]][-1:]
        with path.open("a", newline="") as f:
            writer = csv.writer(f)
            if not header or header[0] != fields:
                writer.writerow(fields)
            writer.writerow([f"{v:.6g}" if isinstance(v, float) else v for v in row.values()])
        print("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)


def load_state(path: str | os.PathLike) -> tuple[dict[str, Tensor], dict]:
    """A run's state file -> (tensors, status). Raises UserError where it is missing or unreadable."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"No training state at {path}; train first, or name the run's folder.")
    try:
        with safe_open(path, "pt") as f:
            return {k: f.get_tensor(k) for k in f.keys()}, json.loads(f.metadata()["status"])  # noqa: SIM118 - no dict
    except (SafetensorError, KeyError, TypeError, OSError, json.JSONDecodeError) as e:
        raise UserError(f"{path} is not a readable training state ({e}); delete it to start the run again.") from e


class Initial(NamedTuple):
    """The weights that a new run begins with.

    tensors: fp32 weights.
    status: of the run that made them; has its `architecture`.
    record: what config.json of the new run keeps: `from` (name without folder), `id` of the file, `steps`.
    """

    tensors: dict[str, Tensor]
    status: dict
    record: dict

    def load_into(self, model: nn.Module) -> None:
        """Raises UserError where the weights are of another architecture than the model."""
        try:
            model.load_state_dict(self.tensors)
        except RuntimeError as e:
            lines = str(e).splitlines()
            raise UserError(
                f"{self.record['from']} does not fit this network ({lines[min(1, len(lines) - 1)].strip()}); "
                "begin with weights of the same architecture."
            ) from e


def initial_weights(source: str | os.PathLike, part: str) -> Initial:
    """Read the weights that a new run begins with.

    source: a run folder (its averaged weights, where it has them) or a released checkpoint.
    part: which part of a checkpoint: "autoencoder" or "denoiser".
    Raises UserError where the file is missing or of another kind.
    """
    path = Path(source)
    if path.is_dir():
        path = path / "state.safetensors"
        name, (tensors, status) = path.resolve().parent.name, load_state(path)
        tensors = without_prefix("model", tensors) | without_prefix("ema", tensors)
    elif path.is_file():
        name, status = path.name, _released_status(path, part)
        tensors = {k: v.float() for k, v in without_prefix(part, load_file(path)).items()}
    else:
        raise UserError(f"No run folder or checkpoint at {path}; --init takes one of them.")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]  # of a checkpoint: the id that `load_model` reports
    return Initial(tensors, status, {"from": name, "id": digest, "steps": status.get("step")})


def _released_status(path: Path, part: str) -> dict:
    """The status of the run behind one part of a checkpoint, from the checkpoint's metadata."""
    metadata, _ = read_header(path)
    try:
        architecture, training = json.loads(metadata["architecture"])[part], json.loads(metadata.get("training", "{}"))
    except (KeyError, TypeError, ValueError) as e:
        raise UserError(f"{path.name} does not describe its {part} ({e!r}); begin with another checkpoint.") from e
    return {
        "architecture": architecture,
        "finished": True,
        "step": training.get(part, {}).get("steps"),
        "encoder": training.get("denoiser", {}).get("latents_of", [])[:2],
    }


def config_of(kind: type, status: dict):
    """The config dataclass `kind` that a run's status describes. Fields that the status lacks take their defaults."""
    try:
        return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in status["architecture"].items()})
    except (KeyError, TypeError, AttributeError) as e:
        raise UserError(
            f"These weights are of a network that this version does not know ({e}); use this version's."
        ) from e


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{k}": v for k, v in tensors.items()}


def without_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k[len(prefix) + 1 :]: v for k, v in tensors.items() if k.startswith(prefix + ".")}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's moments as a flat dictionary; keys are `index.name`."""
    return {f"{i}.{k}": torch.as_tensor(v) for i, s in optimizer.state_dict()["state"].items() for k, v in s.items()}


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """The inverse of `optimizer_tensors`."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        i, name = key.split(".", 1)
        p = parameters[int(i)]
        # in the parameter's memory format: mixed strides would slow down every later step
        state.setdefault(int(i), {})[name] = torch.empty_like(p).copy_(value) if value.shape == p.shape else value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def resume(
    run: Run, budget: Budget, model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Tensor], int] | None:
    """Load the weights, moments and time spent of a run that stopped.

    Returns (all its tensors, the step); None for a new run.
    """
    if not (state := run.load()):
        return None
    tensors, status = state
    model.load_state_dict(without_prefix("model", tensors))
    load_optimizer_tensors(optimizer, without_prefix("optimizer", tensors))
    budget.spent = status["seconds"]
    return tensors, status["step"]


class Budget:
    """When a run stops: after `minutes` of training over all sessions, or after `steps`.

    After `catch_signals`, SIGTERM and SIGINT end the run at the next step, with its state saved. Raises UserError where
    neither limit is given.
    """

    def __init__(self, minutes: float | None = None, steps: int | None = None, spent: float = 0.0):
        if not minutes and not steps:
            raise UserError("Give the training a budget: --minutes or --steps.")
        self.minutes, self.steps, self.spent, self.start = minutes, steps, spent, time.monotonic()
        self.interrupted = False

    def catch_signals(self) -> Budget:
        for s in (signal.SIGTERM, signal.SIGINT):
            signal.signal(s, self._interrupt)
        return self

    def _interrupt(self, *_) -> None:
        self.interrupted = True

    @property
    def seconds(self) -> float:
        return self.spent + time.monotonic() - self.start

    def progress(self, step: int) -> float:
        """Share done, 0..1. It counts steps alone where they are given, so that short runs are reproducible."""
        done = step / self.steps if self.steps else self.seconds / (60 * self.minutes)
        return min(1.0, done)

    def over(self, step: int) -> bool:
        timed_out = bool(self.minutes) and self.seconds >= 60 * self.minutes
        return self.interrupted or timed_out or bool(self.steps) and step >= self.steps


class Every:
    """Calling it returns True once every `seconds` of wall time."""

    def __init__(self, seconds: float):
        self.seconds, self.last = seconds, time.monotonic()

    def __call__(self) -> bool:
        due = time.monotonic() - self.last >= self.seconds
        if due:
            self.last = time.monotonic()
        return due


def learning_rate(base: float, step: int, progress: float, warmup: int = 60, cooldown: float = 0.35) -> float:
    """Linear warm-up, constant, then a linear cool-down to 2 %.

    base: the constant rate. step: from 0. progress: share of the budget used, 0..1. warmup: steps. cooldown: share of
    the budget.
    """
    return base * min(1.0, (step + 1) / warmup) * max(0.02, min(1.0, (1 - progress) / cooldown))


@dataclass(frozen=True)
class Hyperparameters:
    """Options that all training loops share.

    lr: learning rate of AdamW between warm-up and cool-down.
    batch: samples of a step.
    seed: of the first weights and of all draws.
    bf16: run the networks in bfloat16 (autocast); else in float32.
    save_seconds: wall time between two saves.
    """

    lr: float
    batch: int
    seed: int = 0
    bf16: bool = True
    save_seconds: float = 120

    @classmethod
    def of(cls, args: argparse.Namespace, **more) -> Hyperparameters:
        """From the parsed options of `arguments`. more: fields of a subclass."""
        return cls(args.lr, args.batch, args.seed, args.precision == "bf16", args.save_seconds, **more)


class Meter:
    """Means of the figures of single steps, and samples per second, since the last report."""

    def __init__(self, budget: Budget):
        self.budget = budget
        self.restart()

    def restart(self) -> None:
        self.rows: list[tuple[float, ...]] = []
        self.since = self.budget.seconds

    def add(self, *values: float) -> None:
        self.rows.append(values)

    def means(self) -> list[float]:
        return torch.tensor(self.rows).mean(0).tolist()

    def log(self, run: Run, step: int, rate: float, batch: int, measure: Callable[[], dict[str, float]]) -> dict:
        """Measure and write a row of log.csv: for loops that add (loss, norm of the gradients) at each step.

        rate: learning rate. batch: samples of a step. measure: gives the held-out figures, which are returned.
        """
        speed, (loss, norm) = batch * len(self.rows) / max(1e-6, self.budget.seconds - self.since), self.means()
        metrics = measure()
        minutes = self.budget.seconds / 60
        run.log(step=step, minutes=minutes, lr=rate, loss=loss, norm=norm, per_second=speed, **metrics)
        return metrics


def step_generator(seed: int, step: int) -> torch.Generator:
    """The generator of one step's draws."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


def apply_step(optimizer: torch.optim.Optimizer, parameters: Iterable[nn.Parameter], lr: float, clip: float) -> float:
    """One step of the optimiser: clip the gradients to norm `clip`, step, clear. A gradient that is not finite changes
    nothing.

    Returns the gradients' norm before clipping.
    """
    for group in optimizer.param_groups:
        group["lr"] = lr
    norm = nn.utils.clip_grad_norm_(parameters, clip)
    if torch.isfinite(norm):
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(norm)


def arguments(
    module: str, doc: str, out: str, lr: float, batch: int, data: str, init: bool = True
) -> argparse.ArgumentParser:
    """The options that all training commands share.

    module, doc: as in `command_parser`. out, lr, batch: defaults. data: help of --data. init: whether it has --init.
    """
    p = command_parser(module, doc)
    p.add_argument("--data", required=True, help=data)
    p.add_argument("--out", default=out, help="run folder; the command resumes an unfinished run (%(default)s)")
    if init:
        p.add_argument(
            "--init",
            metavar="RUN_OR_CHECKPOINT",
            help="start a new run from these weights: a run folder or a released .safetensors file",
        )
    p.add_argument("--minutes", type=float, help="training time over all sessions; this or --steps is needed")
    p.add_argument("--steps", type=int, help="training steps over all sessions")
    p.add_argument("--lr", type=float, default=lr, help="learning rate (%(default)s)")
    p.add_argument("--batch", type=int, default=batch, help="samples of a step (%(default)s)")
    p.add_argument("--seed", type=int, default=0, help="of the first weights and of all draws (%(default)s)")
    p.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads (%(default)s)")
    p.add_argument("--precision", choices=("bf16", "fp32"), default="bf16", help="of the networks (%(default)s)")
    p.add_argument("--save-seconds", type=float, default=120, help="wall time between two saves (%(default)s)")
    return p


class SmallTraining:
    """The state of a small network's training: its optimiser, the running average of its weights, and the step.

    net: in channels-last memory. average: {name: tensor}. step: from 0, or where the run was left
    """

    def __init__(self, net: nn.Module, run: Run, budget: Budget, lr: float):
        """lr: learning rate of AdamW between warm-up and cool-down. Takes an unfinished run up."""
        self.net, self.run, self.budget, self.lr = net.to(memory_format=torch.channels_last), run, budget, lr
        self.average = {k: v.clone() for k, v in net.state_dict().items()}
        self.optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=0.02)
        self.step = 0
        if found := resume(run, budget, net, self.optimizer):
            self.average, self.step = without_prefix("ema", found[0]), found[1]

    def apply(self, loss: Tensor) -> None:
        """One step down the gradient of a loss."""
        loss.backward()
        rate = learning_rate(self.lr, self.step, self.budget.progress(self.step), 100, 0.5)
        apply_step(self.optimizer, self.net.parameters(), rate, 1.0)
        self.step += 1
        decay = min(0.995, (self.step + 1) / (self.step + 10))
        for k, v in self.net.state_dict().items():
            self.average[k].lerp_(v, 1 - decay)

    def keep(self) -> None:
        """Save the state into the run's folder."""
        tensors = prefixed("model", self.net.state_dict()) | prefixed("ema", self.average)
        tensors |= prefixed("optimizer", optimizer_tensors(self.optimizer))
        self.run.save(tensors, step=self.step, seconds=self.budget.seconds, architecture=self.net.describe())


def save_small_network(path: Path, kind: str, net: nn.Module, tensors: dict[str, Tensor], about: dict) -> None:
    """Weights as fp16 safetensors, with format, architecture and training in the metadata.

    kind: the format's name. net: has `describe`. tensors: its weights, averaged. about: of the training, for JSON
    """
    metadata = {"format": kind, "architecture": json.dumps(net.describe()), "training": json.dumps(about)}
    with atomic_path(path) as part:
        save_file({k: v.half().contiguous() for k, v in tensors.items()}, part, metadata)
