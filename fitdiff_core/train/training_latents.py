"""Latents of the training textures under a checkpoint's own encoder, to see whether samples repeat them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..checkpoint import FitDiffModel
from ..errors import UserError
from .dataset import Textures, read_json

ENCODED = 384  # of the textures, evenly spread, where they must be encoded here


@torch.no_grad()
def training_latents(model: FitDiffModel, data: Path | None, latents: Path | None) -> tuple[Tensor, str]:
    """(`[M, C h w]`, words for what they are): all rows of a train.latents folder, or some of a train.prepare folder's.

    Raises UserError where the folder's latents come from another autoencoder than the checkpoint's.
    """
    if latents is not None:
        made_by = read_json(latents / "meta.json", "train.latents").get("latents_of")
        known = model.metadata["training"].get("denoiser", {}).get("latents_of")
        if made_by != known:
            raise UserError(f"{latents} holds latents of another autoencoder ({made_by}) than this checkpoint's ({known}); "
                            "give --data instead.")
        rows = torch.from_numpy(np.load(latents / "latents.npy")).flatten(1)
        return rows, f"all {len(rows)} training textures"
    textures = Textures(data)
    index = torch.linspace(0, textures.n_train - 1, min(ENCODED, textures.n_train)).long()
    autoencoder = model.autoencoder
    rows = [autoencoder.normalise(autoencoder.posterior_mean(textures.codes(i[None])))
            for i in tqdm(index, "training textures", leave=False, disable=None)]
    return torch.cat(rows).flatten(1), f"{len(index)} of {textures.n_train} training textures"
