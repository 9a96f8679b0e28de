"""Reading the training data: `Textures` and `Photos` are what `train.prepare` wrote, `People` what `train.latents` made
of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fitdiff_core.errors import UserError

from .shards import PeopleShards, TextureShards

HELD_OUT = 0.02  # of the textures, the last ones, with everybody who wears them


def read_json(path: Path, made_by: str) -> dict:
    if not path.is_file():
        raise UserError(f"No {path.name} in {path.parent}; make it with {made_by}.")
    return json.loads(path.read_text())


def n_train(n: int) -> int:
    """How many of n textures are trained on; at least one is held out."""
    return n - max(1, round(n * HELD_OUT))


def split(texture: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the people to train on, and of those held out, who wear the last of n textures. texture `[P]`."""
    held_out = texture >= n_train(n)
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


class Textures:
    """`train.prepare`'s textures as the autoencoder's codes; the last ones are held out."""

    def __init__(self, folder: str | Path):
        self.rows = TextureShards(folder)
        self.size = self.rows.row("maps", 0).shape[-1]
        self.n_train = n_train(len(self.rows))

    def __len__(self) -> int:
        return len(self.rows)

    def codes(self, index: Tensor, origin: Tensor | None = None, side: int | None = None) -> Tensor:
        """index [B] -> `[B, 9, S, S]`, or windows of `side` texels at `origin` [B, 2] = (row, column)."""
        side = side or self.size
        corners = [(0, 0)] * len(index) if origin is None else origin.tolist()
        maps = [
            self.rows.row("maps", i)[:, y : y + side, x : x + side]
            for i, (y, x) in zip(index.tolist(), corners, strict=True)
        ]
        return torch.stack(maps).float() / 127.5 - 1  # square-root albedo and normals are stored alike


class People:
    """Encoded people: texture latents, shapes and recogniser features, as arrays on disk."""

    def __init__(self, folder: str | Path):
        folder = Path(folder)
        self.meta = read_json(folder / "meta.json", "python -m fitdiff_lab.dataset.latents")
        if not {"features_of", "latents_of"} <= self.meta.keys():
            raise UserError(f"{folder} is half made; run python -m fitdiff_lab.dataset.latents without --only.")
        self.latents = np.load(folder / "latents.npy", mmap_mode="r")
        self.texture = np.load(folder / "texture.npy")
        self.shape = np.load(folder / "shape.npy")
        self.embedding = np.load(folder / "embedding.npy")
        self.activations = [np.load(folder / f"activation_{i}.npy", mmap_mode="r") for i in range(self.meta["layers"])]
        self.train, self.test = split(self.texture, len(self.latents))

    def __len__(self) -> int:
        return len(self.texture)

    def batch(self, index: np.ndarray) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, ...]]:
        """index [B] -> texture latents `[B, C, h, w]`, shapes `[B, K]`, embeddings `[B, D]`, activation layers."""

        def pick(a: np.ndarray, i: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(a[i])).float()

        return (
            pick(self.latents, self.texture[index]),
            pick(self.shape, index),
            pick(self.embedding, index),
            tuple(pick(a, index) for a in self.activations),
        )


class Photos:
    """`train.prepare`'s photographs: aligned crops, who wears which texture `[P]`, shapes `[P, K]`."""

    def __init__(self, folder: str | Path):
        self.rows = PeopleShards(folder)
        self.texture = self.rows.all("texture").numpy()
        self.shape = self.rows.all("shape").float().numpy()

    def __len__(self) -> int:
        return len(self.rows)

    def crops(self, start: int, end: int) -> Tensor:
        """`[end - start, 3, S, S]` sRGB in 0..1."""
        return torch.stack([self.rows.row("crop", i) for i in range(start, end)]).float() / 255
