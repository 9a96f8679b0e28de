"""Fit the linear prior: modes of the texture latents, and what a photo's features say of them and of the shape.

    python -m fitdiff_lab.train.linear_prior --data DIR/latents --reader runs/reader

prints what it explains; `train.denoiser` fits it when a run begins.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
import torch
from torch import Tensor

from fitdiff_core.errors import command
from fitdiff_core.head import HeadModel
from fitdiff_core.model.denoiser import Condition, Denoiser

from ..dataset.reading import People, n_train

RIDGE = 1.0  # times the number of people, for features of unit variance; people left out hardly tell 1 from 3
RIDGE_READER = 0.1  # of the reader's features, which were made for this
CHECKED = 0.1  # of the people, the last textures': they tell the variance that is left
FLOOR = 0.02  # of any variance


def features(model: Denoiser, data: People, index: np.ndarray) -> Tensor:
    """`[n, F]`, what the prior reads of each photo; the reader's features are the last."""
    rows = []
    for part in np.array_split(index, max(1, len(index) // 512)):
        _, _, embedding, activations = data.batch(part)
        rows.append(model.prior_features(*model.normalise(Condition(embedding, activations))))
    return torch.cat(rows)


def mirror(head: HeadModel) -> Tensor:
    """`[K, K]`: a head's coefficients times this are those of its mirror image, in least squares."""
    from scipy.spatial import cKDTree

    flip = torch.tensor([-1.0, 1.0, 1.0])
    with torch.no_grad():
        mean, heads = head(torch.zeros(1, head.n_identity))[0], head(torch.eye(head.n_identity))
    twin = torch.as_tensor(cKDTree(mean.numpy()).query((mean * flip).numpy())[1])
    basis = (heads - mean).double()
    mirrored = basis[:, twin] * flip
    return torch.linalg.lstsq(basis.flatten(1).T, mirrored.flatten(1).T).solution.T.float()


def set_modes(model: Denoiser, data: People, like: Tensor | None = None) -> Tensor:
    """Principal directions of the training textures' latents. Returns all textures' coefficients `[N, P]`, unit variance.

    like `[P, C h w]`: earlier modes, whose signs are kept; a decomposition's own depend on the number of threads.
    """
    prior, n = model.prior, n_train(len(data.latents))
    rows = torch.from_numpy(np.array(data.latents)).float().flatten(1)
    mean = rows[:n].mean(0)
    centred = rows - mean
    rank = min(prior.n_modes, n - 1, centred.shape[1])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        _, _, v = torch.svd_lowrank(centred[:n], q=min(rank + 20, n, centred.shape[1]), niter=4)
    prior.texture_mean.copy_(mean.view_as(prior.texture_mean))
    prior.modes.zero_()[:rank] = v[:, :rank].T
    if like is not None and like.shape == prior.modes.shape:
        prior.modes.mul_(torch.where((prior.modes * like).sum(1, keepdim=True) < 0, -1.0, 1.0))
    coefficients = centred @ prior.modes.T
    prior.modes_std.copy_(coefficients[:n].std(0).clamp(min=1e-3))
    rest = centred[:n] - coefficients[:n] @ prior.modes
    prior.rest_variance.copy_(rest.square().mean(0).clamp(min=FLOOR).view_as(prior.rest_variance))
    return coefficients / prior.modes_std


@torch.no_grad()
def set_prior(model: Denoiser, data: People, like: Tensor | None = None) -> Tensor:
    """Fit the prior on the training people and set the model's buffers. Returns R^2 of each mode and coefficient
    `[P + K]`, on the training people that were left out of the regression. like: as in `set_modes`."""
    target = torch.cat(
        [set_modes(model, data, like)[torch.from_numpy(data.texture)], torch.from_numpy(data.shape).float()], 1
    )
    order = data.train[np.argsort(data.texture[data.train], kind="stable")]
    cut = max(1, round(len(order) * (1 - CHECKED)))
    fit, check = order[:cut], order[cut:] if cut < len(order) else order
    x, y = features(model, data, fit), target[fit]
    centre, spread, middle = x.mean(0), x.std(0).clamp(min=1e-3), y.mean(0)
    x = (x - centre) / spread
    gram = x.T @ x
    ridge = torch.full((x.shape[1],), RIDGE)
    ridge[-model.config.reader[-1] :] = RIDGE_READER
    gram.diagonal().add_(ridge * len(x))
    weight = torch.cholesky_solve(x.T @ (y - middle), torch.linalg.cholesky(gram)).T / spread
    model.prior.weight.copy_(weight)
    model.prior.bias.copy_(middle - weight @ centre)
    truth = target[check]
    left = (model.prior.conditional(features(model, data, check)).mean - truth).square().mean(0)
    model.prior.variance.copy_(left.clamp(FLOOR, 1.0))
    return 1 - left / truth.var(0).clamp(min=1e-6)


@command
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder made by fitdiff_lab.dataset.latents")
    parser.add_argument(
        "--reader", metavar="RUN", help="run folder of train.reader; left out, the shape's reader stays untrained"
    )
    args = parser.parse_args(argv)
    from .denoiser import config_for, new_denoiser
    from .shape_encoder import load_reader

    data = People(args.data)
    model = new_denoiser(config_for(data), data.meta).eval()
    if args.reader:
        model.reader.load_state_dict(load_reader(args.reader)[0])
    explained, p = set_prior(model, data), model.prior.n_modes
    power = model.prior.modes_std.square()
    total = power.sum() + model.prior.rest_variance.sum()
    print(
        f"modes hold {power.sum() / total:.3f} of the texture's variance (the first eight {power[:8].sum() / total:.3f})"
    )
    for name, r in (("texture mode", explained[:p]), ("shape coefficient", explained[p:])):
        print(f"R^2 of a {name}: mean {r.mean():.3f}, first ten {[round(v, 2) for v in r[:10].tolist()]}")
    print(f"R^2 of the modes weighted by their variance: {(explained[:p] * power).sum() / power.sum():.3f}")


if __name__ == "__main__":
    sys.exit(main())
