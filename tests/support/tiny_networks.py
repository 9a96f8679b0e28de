"""Sizes of an autoencoder and a denoiser that run in milliseconds, and a head to go with them."""

from types import SimpleNamespace

from fitdiff_core.model.autoencoder import AutoencoderConfig
from fitdiff_core.model.denoiser import DenoiserConfig

AE = AutoencoderConfig(size=64, latent=4, widths=(8, 16, 16), blocks=(1, 1, 1), head=8, detail=4)
DN = DenoiserConfig(
    latent=4,
    size=4,
    shape=10,
    embedding=12,
    activations=(4, 6, 8),
    widths=(16, 32, 32),
    heads=(2, 2),
    cond=16,
    emb=32,
    mlp=32,
)
HEAD = SimpleNamespace(atlas_version="a1", n_identity=10, to=lambda device: None)
