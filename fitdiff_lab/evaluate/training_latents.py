"""Latents of a training set's textures under a checkpoint's own encoder, to see whether samples repeat them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from fitdiff_core.errors import UserError
from fitdiff_core.model.checkpoint import FitDiffModel

from ..dataset.reading import Textures, n_train, read_json

ENCODED = 384  # of the textures, evenly spread, where they must be encoded here


@torch.no_grad()
def training_latents(model: FitDiffModel, data: Path | None, latents: Path | None) -> tuple[Tensor, Tensor, str]:
    """(trained on `[M, C h w]`, held out of the same set `[H, C h w]`, words for what the first are): all rows of a
    train.latents folder, or some of a train.prepare folder's.

    Raises UserError where the folder's latents come from another autoencoder than the checkpoint's.
    """
    if latents is not None:
        made_by = read_json(latents / "meta.json", "train.latents").get("latents_of")
        known = model.metadata["training"].get("denoiser", {}).get("latents_of")
        if made_by != known:
            raise UserError(
                f"{latents} holds latents of another autoencoder ({made_by}) than this checkpoint's ({known}); "
                "give --data instead."
            )
        rows = torch.from_numpy(np.load(latents / "latents.npy")).flatten(1)
        n = n_train(len(rows))
        return rows[:n], rows[n:], f"all {n} training textures"
    textures, autoencoder = Textures(data), model.autoencoder

    def encoded(start: int, end: int, most: int) -> Tensor:
        index = torch.linspace(start, end - 1, min(most, end - start)).long()
        rows = [
            autoencoder.normalise(autoencoder.posterior_mean(textures.codes(i[None])))
            for i in tqdm(index, "training textures", leave=False, disable=None)
        ]
        return torch.cat(rows).flatten(1)

    n = textures.n_train
    train = encoded(0, n, ENCODED)
    return train, encoded(n, len(textures), ENCODED // 8), f"{len(train)} of {n} training textures"
