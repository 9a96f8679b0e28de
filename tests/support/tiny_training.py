"""Prepared data of a tiny size, a recogniser without weights, and the training of tiny networks on them."""

from types import SimpleNamespace

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from fitdiff_lab.dataset.reading import People, Textures
from fitdiff_lab.dataset.shards import SHARD
from fitdiff_lab.train import autoencoder, denoiser
from fitdiff_lab.train.run import Budget, Run
from tests.support.tiny_networks import AE, DN


def recognizer(crop):
    """Deterministic features of a crop [B, 3, 30, 30]."""
    layers = [
        F.adaptive_avg_pool2d(crop, s).repeat(1, 3, 1, 1)[:, :c] for c, s in zip((4, 6, 8), (9, 5, 3), strict=True)
    ]
    return SimpleNamespace(
        embedding=F.normalize(F.adaptive_avg_pool2d(crop, 2).flatten(1), dim=1), activations=tuple(layers)
    )


recognizer.name = "test"


def write_data(folder):
    """One shard of textures and one of people, of random values."""
    g = torch.Generator().manual_seed(0)
    maps = F.interpolate(torch.rand(SHARD, 9, 4, 4, generator=g) * 255, (64, 64), mode="bilinear")
    save_file({"maps": maps.byte()}, folder / "textures-00000.safetensors")
    people = {
        "texture": torch.randint(SHARD, (SHARD,), generator=g),
        "shape": torch.randn(SHARD, 10, generator=g).half(),
        "crop": torch.randint(256, (SHARD, 3, 30, 30), generator=g, dtype=torch.uint8),
    }
    save_file(people, folder / "people-00000.safetensors")
    return folder


def train_autoencoder(folder, data, steps=2, lr=1e-3, initial=None, budget=None, **more):
    options = autoencoder.AutoencoderOptions(lr=lr, batch=2, cells=2, bf16=False, **more)
    budget = budget or Budget(steps=steps)
    return autoencoder.train(Run(folder, {}), Textures(data), budget, torch.ones(1, 64, 64), AE, options, initial)


def train_denoiser(folder, encoded, steps):
    people = People(encoded)
    options = denoiser.DenoiserOptions(lr=1e-3, batch=2, bf16=False)
    run = Run(folder, {"latents_of": people.meta["latents_of"]})
    return denoiser.train(run, people, Budget(steps=steps), DN, options)
