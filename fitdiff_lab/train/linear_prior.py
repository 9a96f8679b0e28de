"""Fit the linear prior: modes of the texture latents, and what a photo's features say of the modes and of the shape.

    python -m fitdiff_lab.train.linear_prior --data DIR/latents --shape-encoder runs/shape_encoder

Input: the arrays of fitdiff_lab.dataset.latents. Output: printed figures (shares of variance explained); no file. Takes
minutes. fitdiff_lab.train.denoiser fits the same prior when a run begins.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from torch import Tensor

from fitdiff_core.errors import command
from fitdiff_core.model.denoiser import Condition, Denoiser

from ..cli import command_parser
from ..dataset.reading import People, n_train
from .shape_encoder import load_shape_encoder
from .untrained import config_for, new_denoiser

RIDGE = 1.0  # times the number of people, for features of unit variance; 1 to 3 give the same error on people left out
RIDGE_SHAPE_ENCODER = 0.1  # for the shape encoder's features, which are trained for this
CHECKED = 0.1  # share of the people, with the last textures: not fitted, they give the variance that is left
FLOOR = 0.02  # least value of any variance


def features(model: Denoiser, data: People, index: np.ndarray) -> Tensor:
    """`[n, F]`, the prior's input of each photo; the shape encoder's features are the last columns.

    index: `[n]` people.
    """
    rows = []
    for part in np.array_split(index, max(1, len(index) // 512)):
        _, _, embedding, activations = data.batch(part)
        rows.append(model.prior_features(*model.normalise(Condition(embedding, activations))))
    return torch.cat(rows)


def set_modes(model: Denoiser, data: People, like: Tensor | None = None) -> Tensor:
    """Set the prior's modes to the principal directions of the training textures' latents.

    like: `[P, C h w]` earlier modes. The new modes take their signs; else the signs depend on the number of threads.
    Returns the coefficients of all textures `[N, P]`, of unit variance.
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
    """Fit the prior on the training people (ridge regression) and set the model's buffers. like: as in `set_modes`.

    Returns R^2 of each texture mode and shape coefficient `[P + K]`, on training people that were not fitted.
    """
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
    ridge[-model.config.reader[-1] :] = RIDGE_SHAPE_ENCODER
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
    parser = command_parser("train.linear_prior", __doc__)
    parser.add_argument("--data", required=True, help="folder made by fitdiff_lab.dataset.latents")
    parser.add_argument(
        "--shape-encoder",
        metavar="RUN",
        help="run folder of fitdiff_lab.train.shape_encoder; without it the shape encoder stays untrained",
    )
    args = parser.parse_args(argv)
    data = People(args.data)
    model = new_denoiser(config_for(data), data.meta).eval()
    if args.shape_encoder:
        model.reader.load_state_dict(load_shape_encoder(args.shape_encoder)[0])
    explained, p = set_prior(model, data), model.prior.n_modes
    power = model.prior.modes_std.square()
    total = power.sum() + model.prior.rest_variance.sum()
    print(
        f"the modes hold {power.sum() / total:.3f} of the texture's variance, "
        f"the first eight {power[:8].sum() / total:.3f}"
    )
    for name, r in (("texture mode", explained[:p]), ("shape coefficient", explained[p:])):
        print(f"R^2 of a {name}: mean {r.mean():.3f}, first ten {[round(v, 2) for v in r[:10].tolist()]}")
    print(f"R^2 of the modes weighted by their variance: {(explained[:p] * power).sum() / power.sum():.3f}")


if __name__ == "__main__":
    sys.exit(main())
