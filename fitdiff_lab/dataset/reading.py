"""Reads the training data: `Textures` and `Photos` from a folder of `prepare`, `People` from a folder of `latents`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fitdiff_core.errors import UserError

from .shards import PeopleShards, TextureShards

HELD_OUT = 0.02  # share of the textures that is held out: the last ones, with all people who have them


def read_json(path: Path, made_by: str) -> dict:
    """Read a JSON file. made_by: the command that makes it, for the UserError where it is missing."""
    if not path.is_file():
        raise UserError(f"No {path.name} in {path.parent}; make it with {made_by}.")
    return json.loads(path.read_text())


def n_train(n: int) -> int:
    """How many of n textures are for training. At least one is held out."""
    return n - max(1, round(n * HELD_OUT))


def split(texture: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of the people for training, and of the held-out people, who have the last of n textures.

    texture: `[P]` row of each person's texture.
    """
    held_out = texture >= n_train(n)
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


class Textures:
    """Prepared textures as the autoencoder's codes. The last ones are held out."""

    def __init__(self, folder: str | Path):
        self.rows = TextureShards(folder)
        self.size = self.rows.row("maps", 0).shape[-1]
        self.n_train = n_train(len(self.rows))

    def __len__(self) -> int:
        return len(self.rows)

    def codes(self, index: Tensor, origin: Tensor | None = None, side: int | None = None) -> Tensor:
        """Codes `[B, 9, S, S]` in -1..1 of textures.

        index: `[B]` rows.
        origin: `[B, 2]` (row, column) of windows, texels; default the whole atlas.
        side: of the windows, texels.
        """
        side = side or self.size
        corners = [(0, 0)] * len(index) if origin is None else origin.tolist()
        maps = [
            self.rows.row("maps", i)[:, y : y + side, x : x + side]
            for i, (y, x) in zip(index.tolist(), corners, strict=True)
        ]
        return torch.stack(maps).float() / 127.5 - 1  # square-root albedo and normals are stored alike


class People:
    """Encoded people: texture latents, shapes and recogniser features, as arrays on disk.

    Raises UserError where the folder is missing or one part of it is not made.
    """

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
        """Texture latents `[B, C, h, w]`, shapes `[B, K]`, embeddings `[B, D]` and activation layers.

        index: `[B]` people.
        """

        def pick(a: np.ndarray, i: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(a[i])).float()

        return (
            pick(self.latents, self.texture[index]),
            pick(self.shape, index),
            pick(self.embedding, index),
            tuple(pick(a, index) for a in self.activations),
        )


class Photos:
    """Prepared photographs: aligned crops, each person's texture `[P]` and shape `[P, K]`."""

    def __init__(self, folder: str | Path):
        self.rows = PeopleShards(folder)
        self.texture = self.rows.all("texture").numpy()
        self.shape = self.rows.all("shape").float().numpy()

    def __len__(self) -> int:
        return len(self.rows)

    def crops(self, start: int, end: int) -> Tensor:
        """Crops `[end - start, 3, S, S]`, sRGB in 0..1."""
        return torch.stack([self.rows.row("crop", i) for i in range(start, end)]).float() / 255
