"""Latents of the training set's textures in a checkpoint's latent space, to find out whether samples copy them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from fitdiff_core.errors import UserError
from fitdiff_core.model.checkpoint import FitDiffModel

from ..dataset.reading import Textures, n_train, read_json

ENCODED = 384  # textures at even distances, where they must be encoded here


@torch.no_grad()
def training_latents(model: FitDiffModel, data: Path | None, latents: Path | None) -> tuple[Tensor, Tensor, str]:
    """Latents of textures that were trained on `[M, C h w]`, of held-out ones `[H, C h w]`, and a description of the
    first.

    data: folder of `dataset.prepare`; some of its textures are encoded. latents: folder of `dataset.latents`; all are
        read.
    Raises UserError where the folder's latents are of another autoencoder than the checkpoint's.
    """
    if latents is not None:
        made_by = read_json(latents / "meta.json", "python -m fitdiff_lab.dataset.latents").get("latents_of")
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
