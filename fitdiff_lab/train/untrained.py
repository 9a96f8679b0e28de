"""The denoiser before training: its architecture and feature statistics, as the encoded data give them."""

from __future__ import annotations

import torch

from fitdiff_core.errors import UserError
from fitdiff_core.model.denoiser import Denoiser, DenoiserConfig

from ..dataset.reading import People


def config_for(data: People) -> DenoiserConfig:
    """The architecture that fits encoded data. Raises UserError for a recogniser without three activation layers."""
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
    """An untrained denoiser with the statistics of the recogniser's features.

    meta: of the encoded data (`encode_photos`). kind: the class, for experiments with another network.
    """
    model = kind(config)
    model.embedding_mean.copy_(torch.tensor(meta["embedding_mean"]))
    model.embedding_std.copy_(torch.tensor(meta["embedding_std"]))
    for i, (mean, std) in enumerate(zip(meta["activation_mean"], meta["activation_std"], strict=True)):
        getattr(model, f"activation_mean_{i}").copy_(torch.tensor(mean))
        getattr(model, f"activation_std_{i}").copy_(torch.tensor(std))
    return model
