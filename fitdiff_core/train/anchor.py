"""The linear prior of the shape: what the coarsest activation layer says of each coefficient, by ridge regression.

    python -m fitdiff_core.train.anchor --data DIR/latents --out runs/denoiser

`train.denoiser` fits it when a run begins; the command gives one to a run that began without.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..denoiser import Denoiser, anchor_features
from ..errors import UserError
from .common import Run, config_of, load_state, without_prefix
from .dataset import People, read_json

RIDGE = 3.0  # times the number of people; features have unit variance
CHECKED = 0.1  # of the people, the last textures': they tell the variance that is left
NAMES = ("anchor", "anchor_bias", "anchor_variance")


def features(model: Denoiser, data: People, index: np.ndarray) -> Tensor:
    """`[n, C cells^2]` of the coarsest layer, normalised as the network sees it."""
    last = len(data.activations) - 1
    mean, std = getattr(model, f"activation_mean_{last}"), getattr(model, f"activation_std_{last}")
    rows = []
    for part in np.array_split(index, max(1, len(index) // 512)):
        a = torch.from_numpy(np.ascontiguousarray(data.activations[last][part])).float()
        rows.append(anchor_features((a - mean[:, None, None]) / std[:, None, None], model.config.anchor))
    return torch.cat(rows)


@torch.no_grad()
def set_anchor(model: Denoiser, data: People) -> Tensor:
    """Fit the prior on the training people and set the model's buffers. Returns R^2 of each coefficient `[K]`, on the
    training people that were left out of the fit."""
    order = data.train[np.argsort(data.texture[data.train], kind="stable")]
    cut = max(1, round(len(order) * (1 - CHECKED)))
    fit, check = order[:cut], order[cut:] if cut < len(order) else order
    x, y = features(model, data, fit), torch.from_numpy(data.shape[fit]).float()
    centre, target = x.mean(0), y.mean(0)
    x = x - centre
    gram = x.T @ x
    gram.diagonal().add_(RIDGE * len(x))
    weight = torch.cholesky_solve(x.T @ (y - target), torch.linalg.cholesky(gram)).T
    bias = target - weight @ centre
    truth = torch.from_numpy(data.shape[check]).float()
    left = (features(model, data, check) @ weight.T + bias - truth).square().mean(0)
    model.anchor.copy_(weight)
    model.anchor_bias.copy_(bias)
    model.anchor_variance.copy_(left.clamp(0.05, 1.0))
    return 1 - left / truth.var(0).clamp(min=1e-6)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder made by fitdiff_core.train.latents")
    parser.add_argument("--out", default="runs/denoiser", help="the denoiser's run folder")
    args = parser.parse_args(argv)
    from .denoiser import DenoiserConfig, held_out, new_denoiser

    folder, data = Path(args.out), People(args.data)
    tensors, status = load_state(folder / "state.safetensors")
    config = read_json(folder / "config.json", "train.denoiser")
    if config["latents_of"] != data.meta["latents_of"]:
        raise UserError(f"{folder} was trained on other latents than {args.data}.")
    model = new_denoiser(config_of(DenoiserConfig, status), data.meta).eval()
    explained = set_anchor(model, data)
    tensors.update({f"model.{name}": getattr(model, name) for name in NAMES})
    model.load_state_dict(without_prefix("model", tensors) | without_prefix("ema", tensors))
    status["metrics"] = held_out(model, data)
    Run(folder, config).save(tensors, **status)
    print(f"R^2 mean {explained.mean():.3f}, first ten {[round(v, 2) for v in explained[:10].tolist()]}; {status['metrics']}")


if __name__ == "__main__":
    main()
