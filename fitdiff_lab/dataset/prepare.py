"""Make the training set: skins of synthetic people, and photographs of people with these skins.

    python -m fitdiff_lab.dataset.prepare --out DIR --textures 8000 --people 40000 --seed 1 --workers 2

Input: none; every number is drawn from the seed. Output: shards of 128 rows each in DIR. 4,864 skins and 13,312
photographs take 45 minutes with two workers. The command can be stopped at any time. The same command goes on where it
stopped; larger numbers add rows.

    textures-00000.safetensors  maps       uint8 [n, 9, S, S] (see `encode_maps`)
                                attributes float32 [n, A]; their names are in the header's metadata, joined by commas
    people-00000.safetensors    texture    int64 [n], row of the person's skin among all textures
                                shape      float16 [n, K], identity coefficients
                                crop       uint8 [n, 3, 150, 150] sRGB, the photo as the built-in recogniser crops it
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fitdiff_core.avatar import Avatar
from fitdiff_core.errors import UserError, command
from fitdiff_core.head import load_head
from fitdiff_core.identity import load_recognizer
from fitdiff_core.maps import TextureMaps

from ..cli import command_parser
from ..synthetic.people import random_person
from ..synthetic.photograph import take_photograph
from ..synthetic.scenes import random_scene
from ..synthetic.shapes import random_shape
from ..synthetic.skin import SkinGenerator
from . import shards
from .shards import TextureShards, decode_maps, encode_maps, shard_path, write_shard

PHOTO = 224  # px a side
MESH_OF_68 = {263: 45, 362: 42, 33: 36, 133: 39, 2: 33}  # eye corners and the point under the nose


class DatasetGenerator:
    """Makes shards. Each process builds one.

    seed: of all draws. size: side of the maps, texels. strong: share of the photographs in hard or coloured light.
    """

    def __init__(self, seed: int, size: int = 512, strong: float = 0.0):
        torch.set_num_threads(1)
        self.seed, self.size, self.strong = seed, size, strong
        self.head = load_head()
        self.skin = SkinGenerator(self.head, size)
        self.recognizer = load_recognizer("built-in")

    def textures(self, shard: int) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Tensors and metadata of one shard of skins."""
        maps = torch.empty(shards.SHARD, 9, self.size, self.size, dtype=torch.uint8)
        numbers = []
        for k in range(shards.SHARD):
            sample, attributes = self.skin.sample(self.texture_seed(shard * shards.SHARD + k))
            maps[k] = encode_maps(sample.stack())[0]
            numbers.append(list(attributes.numbers().values()))
        return {"maps": maps, "attributes": torch.tensor(numbers)}, {"names": ",".join(attributes.numbers())}

    def texture_seed(self, row: int) -> int:
        """The seed of the person number `row`: of the skin and of the attributes."""
        return self.seed * 10_000_019 + row

    def people(self, shard: int, textures: TextureShards) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Tensors and metadata of one shard of photographs."""
        rng = np.random.default_rng([self.seed, shard, 5])
        out = {
            "texture": torch.empty(shards.SHARD, dtype=torch.int64),
            "shape": torch.empty(shards.SHARD, self.head.n_identity, dtype=torch.float16),
            "crop": torch.empty(
                shards.SHARD, 3, self.recognizer.crop_size, self.recognizer.crop_size, dtype=torch.uint8
            ),
        }
        for k in range(shards.SHARD):
            # multiples of the golden ratio spread evenly over the textures, whatever the two numbers are
            texture = int((shard * shards.SHARD + k) * 0.6180339887498949 % 1 * len(textures))
            shape, crop = self.person(texture, textures.row("maps", texture), rng)
            out["texture"][k], out["shape"][k] = texture, shape[0].half()
            out["crop"][k] = (crop[0].clamp(0, 1) * 255 + 0.5).byte()
        return out, {"recognizer": self.recognizer.name, "head": getattr(self.head, "atlas_version", "")}

    def person(self, texture: int, maps: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """A random photograph of a person with a given skin.

        texture: the skin's number. maps: uint8 `[9, S, S]`, its maps (`encode_maps`).
        Returns the shape `[1, K]` and the recogniser's crop `[1, 3, C, C]` sRGB.
        """
        attributes = random_person(self.texture_seed(texture))
        shape = random_shape(self.head, rng, attributes)
        avatar = Avatar(self.head, shape, TextureMaps.from_stack(decode_maps(maps[None])))
        # no draw at 0, so that data made without strong light and held-out people stay the same
        strong = self.strong > 0 and rng.random() < self.strong
        scene = random_scene(rng, self.head.expression_names, (PHOTO, PHOTO), strong)
        if strong:  # cameras balance such light badly; one head in four has no hair volume
            haired = attributes if rng.random() < 0.75 else None
            photo = take_photograph(avatar, scene, rng, haired, balance=(0.0, 0.6))
        else:
            photo = take_photograph(avatar, scene, rng, attributes)
        return shape, self.recognizer.crop(photo, self.crop_matrix(avatar, scene, rng))

    def crop_matrix(self, avatar, scene, rng: np.random.Generator) -> Tensor:
        """`[1, 2, 3]` photo px -> crop px, from the known camera, with a detector's usual error (1.2 % of the face)."""
        points = scene.camera.project(avatar.head.landmarks(avatar.vertices(scene), "68"), scene.size)
        error = 0.012 * float(points[0, :, 1].max() - points[0, :, 1].min())
        mesh = points.new_zeros(1, 468, 2)
        for target, source in MESH_OF_68.items():
            mesh[:, target] = points[:, source] + error * torch.from_numpy(rng.standard_normal(2)).float()
        return self.recognizer.matrix(mesh)


def _todo(folder: Path, kind: str, rows: int) -> list[int]:
    count = -(-rows // shards.SHARD)
    return [i for i in range(count) if not shard_path(folder, kind, i).exists()]


_generator = lru_cache(maxsize=1)(DatasetGenerator)


def _work(job: tuple) -> tuple[str, int]:
    """Make one shard in a worker process, which builds its generator once."""
    kind, shard, folder, seed, size, strong = job
    generator = _generator(seed, size, strong)
    if kind == "textures":
        tensors, metadata = generator.textures(shard)
    else:
        tensors, metadata = generator.people(shard, TextureShards(folder))
    write_shard(shard_path(folder, kind, shard), tensors, metadata)
    return kind, shard


def _check_settings(folder: Path, settings: dict) -> None:
    """Raise UserError where the folder was begun with another seed or size: it would mix two sets."""
    path = folder / "settings.json"
    if path.exists():
        known = json.loads(path.read_text())
        if known != settings:
            raise UserError(f"{folder} was begun with {known}, not {settings}; use the same or another --out.")
    else:
        path.write_text(json.dumps(settings))


def prepare_dataset(
    out: str | os.PathLike,
    textures: int,
    people: int,
    seed: int = 1,
    workers: int = 1,
    size: int = 512,
    strong_light: float = 0.0,
    log=print,
) -> None:
    """Add shards to a folder until it holds the wanted numbers of rows, rounded up to whole shards.

    out: the folder.
    textures, people: rows wanted in all.
    seed: of all draws.
    workers: processes.
    size: side of the maps, texels.
    strong_light: share 0..1 of the new photographs in hard or coloured light. It may differ from run to run.
    log: called with a line of progress for each shard.
    Raises UserError on wrong input.
    """
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
            rate = (time.time() - start) / (n * shards.SHARD)
            left = rate * shards.SHARD * (len(jobs) - n) / 60
            log(f"{kind} shard {shard}: {n}/{len(jobs)} done, {rate:.3f} s a row, {left:.0f} min to go")


def _run(jobs: list[tuple], workers: int):
    if workers == 1 or len(jobs) < 2:
        yield from map(_work, jobs)
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap_unordered(_work, jobs)


@command
def main(argv: list[str] | None = None) -> int:
    parser = command_parser("dataset.prepare", __doc__)
    parser.add_argument("--out", required=True, help="folder of the training set")
    parser.add_argument("--textures", type=int, default=4096, help="skins in all (%(default)s)")
    parser.add_argument("--people", type=int, default=16384, help="photographs in all (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="(%(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="processes (%(default)s)")
    parser.add_argument("--size", type=int, default=512, help="side of the maps, texels (%(default)s)")
    parser.add_argument(
        "--strong-light",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="share of the photographs made now in hard side light or coloured light (%(default)s)",
    )
    a = parser.parse_args(argv)
    prepare_dataset(
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
