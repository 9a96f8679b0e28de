"""The files of the training set: shards of `SHARD` rows each, in safetensors.

`prepare` writes them. `TextureShards` and `PeopleShards` read single rows without loading a whole shard. The module
`prepare` documents the tensors of each kind.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from fitdiff_core.errors import UserError
from fitdiff_core.files import atomic_path

SHARD = 128  # rows of a shard


def shard_path(folder: str | os.PathLike, kind: str, shard: int) -> Path:
    """Where shard number `shard` of a kind ("textures" or "people") lies."""
    return Path(folder) / f"{kind}-{shard:05d}.safetensors"


def encode_maps(stack: Tensor) -> Tensor:
    """Maps as bytes: the square root of diffuse and specular albedo, and normals as (n + 1) / 2.

    stack: `[B, 9, S, S]` linear maps, as `TextureMaps.stack` gives them. Returns uint8 `[B, 9, S, S]`.
    """
    albedo, normal = stack[:, :6].clamp(0, 1).sqrt(), stack[:, 6:] * 0.5 + 0.5
    return (torch.cat([albedo, normal], 1).clamp(0, 1) * 255 + 0.5).to(torch.uint8)


def decode_maps(maps: Tensor) -> Tensor:
    """The inverse of `encode_maps` up to rounding: float32 `[B, 9, S, S]`.

    Normals keep the length that rounding gave.
    """
    x = maps.float() / 255
    return torch.cat([x[:, :6] ** 2, x[:, 6:] * 2 - 1], 1)


class _Shards:
    """Rows of one kind, over all shards in a folder. Raises UserError where the folder has none."""

    kind = ""

    def __init__(self, folder: str | os.PathLike):
        found = sorted(Path(folder).glob(f"{self.kind}-?????.safetensors"))
        # workers finish out of order: shards after a gap do not count until the gap is filled
        self.paths = [path for i, path in enumerate(found) if path == shard_path(folder, self.kind, i)]
        if not self.paths:
            raise UserError(
                f"No {self.kind} in {folder}; make some with python -m fitdiff_lab.dataset.prepare --out {folder}"
            )
        self._open: dict[int, object] = {}

    def __len__(self) -> int:
        return len(self.paths) * SHARD

    def row(self, name: str, i: int) -> Tensor:
        """One row of tensor `name`."""
        shard, at = divmod(int(i), SHARD)
        if shard not in self._open:
            self._open[shard] = safe_open(self.paths[shard], "pt")
        return self._open[shard].get_slice(name)[at]

    def all(self, name: str) -> Tensor:
        """Every row of tensor `name`, in memory: for the small ones."""
        out = []
        for path in self.paths:
            with safe_open(path, "pt") as f:
                out.append(f.get_tensor(name))
        return torch.cat(out)


class TextureShards(_Shards):
    """Skins: `row("maps", i)` uint8 `[9, S, S]` (`encode_maps`), `row("attributes", i)` float32 `[A]`."""

    kind = "textures"


class PeopleShards(_Shards):
    """Photographs: `all("texture")` int64 `[P]`, `all("shape")` `[P, K]`, `row("crop", i)` uint8 `[3, S, S]`."""

    kind = "people"


def write_shard(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a shard whole or not at all. Raises UserError where the disk refuses."""
    with atomic_path(path) as part:
        save_file(tensors, part, metadata)
