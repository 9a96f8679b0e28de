"""What every training loop needs: a resumable run folder, a time budget, and random numbers that depend on the step.

A run folder holds `config.json`, `log.csv` and `state.safetensors`: all tensors (weights, averages, optimiser moments)
and, in its metadata, step and seconds. The state is replaced in one rename, so a crash costs minutes, never the run.
Each step draws its batch and noise from a generator seeded by (seed, step): a resumed run repeats the same numbers.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fitdiff_core.errors import UserError
from fitdiff_core.files import atomic_path, write_json
from fitdiff_core.model.checkpoint import read_header


class Run:
    """A run folder. Raises UserError where it belongs to a run of another configuration."""

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
        """(tensors, status), or None where nothing was saved yet."""
        path = self.folder / "state.safetensors"
        return load_state(path) if path.exists() else None

    def log(self, **row: float) -> None:
        """Append to log.csv; the first row names the columns. A row with new columns starts a new header line."""
        path = self.folder / "log.csv"
        fields = [k for k in row]
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
            return {k: f.get_tensor(k) for k in f.keys()}, json.loads(f.metadata()["status"])
    except (SafetensorError, KeyError, TypeError, OSError, json.JSONDecodeError) as e:
        raise UserError(f"{path} is not a readable training state ({e}); delete it to start the run again.") from e


class Initial(NamedTuple):
    """What a new run begins with: fp32 weights, the status of the run that made them (its `architecture` above all), and
    the record that the new run's config.json keeps: `from` (name without its folder), `id` of the file, `steps`."""

    tensors: dict[str, Tensor]
    status: dict
    record: dict

    def load_into(self, model: nn.Module) -> None:
        """UserError where the weights are of another architecture than the model."""
        try:
            model.load_state_dict(self.tensors)
        except RuntimeError as e:
            lines = str(e).splitlines()
            raise UserError(
                f"{self.record['from']} does not fit this network ({lines[min(1, len(lines) - 1)].strip()}); "
                "begin with weights of the same architecture."
            ) from e


def initial_weights(source: str | os.PathLike, part: str) -> Initial:
    """The weights to begin a new run with: those of a run folder (its averaged ones, where it keeps them), or one part
    ("autoencoder", "denoiser") of a released checkpoint. UserError where the file is missing or of another kind."""
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
    """What a checkpoint's metadata tells of the run behind one part, in the words of that run's own status."""
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
    """The config dataclass `kind` that a run's status describes; fields it was begun without take their defaults."""
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
    """The optimiser's moments as a flat dict, `index.name`."""
    return {f"{i}.{k}": torch.as_tensor(v) for i, s in optimizer.state_dict()["state"].items() for k, v in s.items()}


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        i, name = key.split(".", 1)
        p = parameters[int(i)]
        # the parameter's memory format: mixed strides would slow every later step
        state.setdefault(int(i), {})[name] = torch.empty_like(p).copy_(value) if value.shape == p.shape else value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def resume(
    run: Run, budget: Budget, model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Tensor], int] | None:
    """Go on where a run stopped: its weights, moments and time spent. Returns (all its tensors, the step); None for a new run."""
    if not (state := run.load()):
        return None
    tensors, status = state
    model.load_state_dict(without_prefix("model", tensors))
    load_optimizer_tensors(optimizer, without_prefix("optimizer", tensors))
    budget.spent = status["seconds"]
    return tensors, status["step"]


class Budget:
    """When to stop: after `minutes` of training in all sessions together, or `steps`; and how far along the run is.

    SIGTERM and SIGINT end the run at the next step, with its state saved.
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
        """0..1; by steps alone where they are given, so that short runs are reproducible."""
        done = step / self.steps if self.steps else self.seconds / (60 * self.minutes)
        return min(1.0, done)

    def over(self, step: int) -> bool:
        timed_out = bool(self.minutes) and self.seconds >= 60 * self.minutes
        return self.interrupted or timed_out or bool(self.steps) and step >= self.steps


class Every:
    """True once each `seconds` of wall time."""

    def __init__(self, seconds: float):
        self.seconds, self.last = seconds, time.monotonic()

    def __call__(self) -> bool:
        due = time.monotonic() - self.last >= self.seconds
        if due:
            self.last = time.monotonic()
        return due


def learning_rate(base: float, step: int, progress: float, warmup: int = 60, cooldown: float = 0.35) -> float:
    """Linear warm-up, constant, linear cool-down to 2 % over the last part of the budget."""
    return base * min(1.0, (step + 1) / warmup) * max(0.02, min(1.0, (1 - progress) / cooldown))


def step_generator(seed: int, step: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


def apply_step(optimizer: torch.optim.Optimizer, parameters: Iterable[nn.Parameter], lr: float, clip: float) -> float:
    """Clip, step, clear. Returns the gradient's norm; a step whose gradient is not finite is left out."""
    for group in optimizer.param_groups:
        group["lr"] = lr
    norm = nn.utils.clip_grad_norm_(parameters, clip)
    if torch.isfinite(norm):
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(norm)


def arguments(doc: str, out: str, lr: float, batch: int, data: str, init: bool = True) -> argparse.ArgumentParser:
    """The options that every training command shares."""
    p = argparse.ArgumentParser(description=doc, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("--data", required=True, help=data)
    p.add_argument("--out", default=out, help="run folder; an unfinished run in it is resumed")
    if init:
        p.add_argument(
            "--init",
            metavar="RUN_OR_CHECKPOINT",
            help="begin a new run with these weights: a run folder or a released .safetensors file",
        )
    p.add_argument("--minutes", type=float, help="training time over all sessions")
    p.add_argument("--steps", type=int)
    p.add_argument("--lr", type=float, default=lr)
    p.add_argument("--batch", type=int, default=batch)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    p.add_argument("--save-seconds", type=float, default=120)
    return p
