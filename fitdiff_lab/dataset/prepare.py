"""Make the training set: textures, and people who wear them, photographed.

    python -m fitdiff_lab.dataset.prepare --out DIR --textures 8000 --people 40000 --seed 1 --workers 2

DIR then holds shards of `SHARD` rows each, safetensors; a shard is written whole or not at all, so the command can be
stopped at any time and run again with the same arguments to go on (or with larger numbers to add more).

    textures-00000.safetensors  maps       uint8 [n, 9, S, S] (see `encode_maps`)
                                attributes float32 [n, A] (names in the header's metadata, joined by commas)
    people-00000.safetensors    texture    int64 [n], row in all textures
                                shape      float16 [n, K]
                                crop       uint8 [n, 3, 150, 150] sRGB, as the built-in recogniser sees the photo

`Textures` and `People` read them without loading a shard whole.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from fitdiff_core.errors import UserError, command
from fitdiff_core.files import atomic_path

SHARD = 128
PHOTO = 224  # px a side
MESH_OF_68 = {263: 45, 362: 42, 33: 36, 133: 39, 2: 33}  # eye corners and the point under the nose


def encode_maps(stack: Tensor) -> Tensor:
    """`[B, 9, S, S]` (`TextureMaps.stack`) -> uint8: square root of diffuse and of specular, normals as (n + 1) / 2."""
    albedo, normal = stack[:, :6].clamp(0, 1).sqrt(), stack[:, 6:] * 0.5 + 0.5
    return (torch.cat([albedo, normal], 1).clamp(0, 1) * 255 + 0.5).to(torch.uint8)


def decode_maps(maps: Tensor) -> Tensor:
    """The inverse of `encode_maps` up to rounding: float32 `[B, 9, S, S]` (normals not made unit length again)."""
    x = maps.float() / 255
    return torch.cat([x[:, :6] ** 2, x[:, 6:] * 2 - 1], 1)


class _Shards:
    """Rows of one kind, over all shards in a folder."""

    kind = ""

    def __init__(self, folder: str | os.PathLike):
        found = sorted(Path(folder).glob(f"{self.kind}-?????.safetensors"))
        # workers finish out of order: what lies after a gap waits until the gap is filled
        self.paths = [path for i, path in enumerate(found) if path.name == f"{self.kind}-{i:05d}.safetensors"]
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
        """Every row of tensor `name`; meant for the small ones."""
        out = []
        for path in self.paths:
            with safe_open(path, "pt") as f:
                out.append(f.get_tensor(name))
        return torch.cat(out)


class Textures(_Shards):
    """`row("maps", i)` uint8 `[9, S, S]`, `row("attributes", i)`."""

    kind = "textures"


class People(_Shards):
    """`all("texture")`, `all("shape")`, `row("crop", i)`."""

    kind = "people"


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    with atomic_path(path) as part:
        save_file(tensors, part, metadata)


class Maker:
    """Makes shards; one per process."""

    def __init__(self, seed: int, size: int = 512, strong: float = 0.0):
        from fitdiff_core.head import load_head
        from fitdiff_core.identity import load_recognizer

        from ..synthetic.skin import SkinGenerator

        torch.set_num_threads(1)
        self.seed, self.size, self.strong = seed, size, strong
        self.head = load_head()
        self.skin = SkinGenerator(self.head, size)
        self.recognizer = load_recognizer("built-in")

    def textures(self, shard: int) -> tuple[dict[str, Tensor], dict[str, str]]:
        maps = torch.empty(SHARD, 9, self.size, self.size, dtype=torch.uint8)
        numbers = []
        for k in range(SHARD):
            sample, attributes = self.skin.sample(self._texture_seed(shard * SHARD + k))
            maps[k] = encode_maps(sample.stack())[0]
            numbers.append(list(attributes.numbers().values()))
        return {"maps": maps, "attributes": torch.tensor(numbers)}, {"names": ",".join(attributes.numbers())}

    def _texture_seed(self, row: int) -> int:
        return self.seed * 10_000_019 + row

    def people(self, shard: int, textures: Textures) -> tuple[dict[str, Tensor], dict[str, str]]:
        rng = np.random.default_rng([self.seed, shard, 5])
        out = {
            "texture": torch.empty(SHARD, dtype=torch.int64),
            "shape": torch.empty(SHARD, self.head.n_identity, dtype=torch.float16),
            "crop": torch.empty(SHARD, 3, self.recognizer.crop_size, self.recognizer.crop_size, dtype=torch.uint8),
        }
        for k in range(SHARD):
            # multiples of the golden ratio fall evenly on the textures, however many of either there are
            texture = int((shard * SHARD + k) * 0.6180339887498949 % 1 * len(textures))
            shape, crop = self.person(texture, textures.row("maps", texture), rng)
            out["texture"][k], out["shape"][k] = texture, shape[0].half()
            out["crop"][k] = (crop[0].clamp(0, 1) * 255 + 0.5).byte()
        return out, {"recognizer": self.recognizer.name, "head": getattr(self.head, "atlas_version", "")}

    def person(self, texture: int, maps: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """-> (shape `[1, K]`, crop `[1, 3, S, S]` sRGB) of a random photo of somebody with this skin."""
        from fitdiff_core.avatar import Avatar
        from fitdiff_core.maps import TextureMaps

        from ..synthetic.people import random_person, random_shape
        from ..synthetic.photograph import photograph
        from ..synthetic.scenes import random_scene

        attributes = random_person(self._texture_seed(texture))
        shape = random_shape(self.head, rng, attributes)
        avatar = Avatar(self.head, shape, TextureMaps.from_stack(decode_maps(maps[None])))
        strong = (
            self.strong > 0 and rng.random() < self.strong
        )  # no draw at 0: earlier data and held-out people stay as they are
        scene = random_scene(rng, self.head.expression_names, (PHOTO, PHOTO), strong)
        if strong:  # cameras fail to balance such light; one head in four without the hair that has volume
            haired = attributes if rng.random() < 0.75 else None
            photo = photograph(avatar, scene, rng, haired, balance=(0.0, 0.6))
        else:
            photo = photograph(avatar, scene, rng, attributes)
        return shape, self.recognizer.crop(photo, self.crop_matrix(avatar, scene, rng))

    def crop_matrix(self, avatar, scene, rng: np.random.Generator) -> Tensor:
        """The recogniser's crop from the known camera, with a detector's usual error (1.2 % of the face)."""
        points = scene.camera.project(avatar.head.landmarks(avatar.vertices(scene), "68"), scene.size)
        error = 0.012 * float(points[0, :, 1].max() - points[0, :, 1].min())
        mesh = points.new_zeros(1, 468, 2)
        for target, source in MESH_OF_68.items():
            mesh[:, target] = points[:, source] + error * torch.from_numpy(rng.standard_normal(2)).float()
        return self.recognizer.matrix(mesh)


def _todo(folder: Path, kind: str, rows: int) -> list[int]:
    count = -(-rows // SHARD)
    return [i for i in range(count) if not (folder / f"{kind}-{i:05d}.safetensors").exists()]


_maker = lru_cache(maxsize=1)(Maker)


def _work(job: tuple) -> tuple[str, int]:
    """One shard in a worker process (the maker is built once per process)."""
    kind, shard, folder, seed, size, strong = job
    maker = _maker(seed, size, strong)
    if kind == "textures":
        tensors, metadata = maker.textures(shard)
    else:
        tensors, metadata = maker.people(shard, Textures(folder))
    _write(Path(folder) / f"{kind}-{shard:05d}.safetensors", tensors, metadata)
    return kind, shard


def _check_settings(folder: Path, settings: dict) -> None:
    """A folder holds one run's data: another seed or size would mix two sets."""
    path = folder / "settings.json"
    if path.exists():
        known = json.loads(path.read_text())
        if known != settings:
            raise UserError(f"{folder} was begun with {known}, not {settings}; use the same or another --out.")
    else:
        path.write_text(json.dumps(settings))


def prepare(
    out: str | os.PathLike,
    textures: int,
    people: int,
    seed: int = 1,
    workers: int = 1,
    size: int = 512,
    strong_light: float = 0.0,
    log=print,
) -> None:
    """Bring `out` up to `textures` and `people` rows (rounded up to whole shards). strong_light: share of the new people that
    are photographed under it; may differ from run to run. Raises UserError on wrong input."""
    if not 0 <= strong_light <= 1:
        raise UserError("--strong-light is a share, from 0 to 1.")
    if textures < 1 or people < 0 or workers < 1:
        raise UserError("--textures and --workers must be at least 1, --people at least 0.")
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UserError(f"Cannot make {folder} ({e.strerror}); give a folder you may write to.") from e
    _check_settings(folder, {"seed": seed, "size": size})
    for kind, rows in (("textures", textures), ("people", people)):
        jobs = [(kind, i, str(folder), seed, size, strong_light) for i in _todo(folder, kind, rows)]
        start = time.time()
        for n, (_, shard) in enumerate(_run(jobs, workers), 1):
            rate = (time.time() - start) / (n * SHARD)
            left = rate * SHARD * (len(jobs) - n) / 60
            log(f"{kind} shard {shard}: {n}/{len(jobs)} done, {rate:.3f} s a row, {left:.0f} min to go")


def _run(jobs: list[tuple], workers: int):
    if workers == 1 or len(jobs) < 2:
        yield from map(_work, jobs)
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap_unordered(_work, jobs)


@command
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m fitdiff_lab.dataset.prepare", description=__doc__.split("\n")[0])
    parser.add_argument("--out", required=True, help="folder of the training set")
    parser.add_argument("--textures", type=int, default=4096)
    parser.add_argument("--people", type=int, default=16384)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--size", type=int, default=512, help="side of the maps")
    parser.add_argument(
        "--strong-light",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="of the people made now: photographed under hard side light or coloured light (0)",
    )
    a = parser.parse_args(argv)
    prepare(
        a.out,
        a.textures,
        a.people,
        a.seed,
        a.workers,
        a.size,
        a.strong_light,
        lambda line: print(line, file=sys.stderr, flush=True),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
