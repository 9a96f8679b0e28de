"""Encode the prepared training set, so that the denoiser's training reads arrays only.

    python -m fitdiff_lab.dataset.latents --data DIR --ae runs/ae --out DIR/latents

Input: a folder of fitdiff_lab.dataset.prepare and the run folder of the autoencoder. Output: arrays of the latent of
each skin, and of the recogniser's features of each photo (embedding, activation layers), with their statistics in
meta.json. Takes about 12 minutes for 4,864 skins and 30,080 photographs. The features do not depend on the autoencoder,
so `--only features` may run before the autoencoder is trained. A part whose input has not changed is not made again.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from fitdiff_core.errors import command
from fitdiff_core.files import write_json
from fitdiff_core.identity import load_recognizer
from fitdiff_core.model.autoencoder import MapAutoencoder

from ..cli import command_parser
from ..train.autoencoder import encoder_key, load_autoencoder
from ..train.run import load_state
from .reading import Photos, Textures, read_json


def encode_textures(data: Textures, model: MapAutoencoder, out: Path, bf16: bool = True) -> None:
    """Write latents.npy: normalised latents of all textures, fp16 `[N, C, h, w]`."""
    n = model.latent_size
    part = out / ".latents.part"
    rows = np.lib.format.open_memmap(part, "w+", np.float16, (len(data), model.config.latent, n, n))
    for i in tqdm(range(len(data)), "textures"):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            mean = model.posterior_mean(data.codes(torch.tensor([i])))
        rows[i] = model.normalise(mean.float())[0].numpy()
    rows.flush()
    os.replace(part, out / "latents.npy")


def encode_photos(photos: Photos, recognizer, out: Path, batch: int = 16) -> dict:
    """Write the recogniser's features: embedding.npy `[P, D]` and activation_i.npy, fp16 `[P, C, h, w]`.

    Returns their means and standard deviations over all photos: of each dimension of the embedding, and of each channel
    of the activations.
    """
    arrays: list[np.memmap] = []
    embeddings, sums = [], []
    for start in tqdm(range(0, len(photos), batch), "photos"):
        with torch.no_grad():
            features = recognizer(photos.crops(start, min(start + batch, len(photos))))
        if not arrays:
            for i, a in enumerate(features.activations):
                shape = (len(photos), *a.shape[1:])
                arrays.append(np.lib.format.open_memmap(out / f".activation_{i}.part", "w+", np.float16, shape))
                sums.append(torch.zeros(2, a.shape[1], dtype=torch.float64))
        for a, rows, total in zip(features.activations, arrays, sums, strict=True):
            rows[start : start + len(a)] = a.numpy()
            total += torch.stack([a.double().mean((2, 3)).sum(0), a.double().square().mean((2, 3)).sum(0)])
        embeddings.append(features.embedding)
    for i, rows in enumerate(arrays):
        rows.flush()
        os.replace(out / f".activation_{i}.part", out / f"activation_{i}.npy")
    embedding = torch.cat(embeddings)
    np.save(out / "embedding.npy", embedding.numpy())
    mean = [s[0] / len(photos) for s in sums]
    std = [(s[1] / len(photos) - m.square()).clamp(min=1e-8).sqrt() for s, m in zip(sums, mean, strict=True)]
    return {
        "recognizer": recognizer.name,
        "layers": len(arrays),
        "embedding_mean": embedding.mean(0).tolist(),
        "embedding_std": embedding.std(0).clamp(min=1e-4).tolist(),
        "activation_mean": [m.tolist() for m in mean],
        "activation_std": [s.tolist() for s in std],
    }


def encode(data: str | Path, ae: str | Path, out: str | Path, recognizer=None, only: str | None = None) -> None:
    """Bring the arrays of a folder up to date.

    data: prepared training set. ae: run folder of the autoencoder. out: the folder.
    only: "features" (needs `recognizer`) or "textures" (needs `ae`); default both.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    meta_path = out / "meta.json"
    meta = read_json(meta_path, "python -m fitdiff_lab.dataset.latents") if meta_path.exists() else {}
    if only != "textures":
        photos = Photos(data)
        key = [recognizer.name, len(photos)]
        if meta.get("features_of") != key:
            meta |= encode_photos(photos, recognizer, out) | {"features_of": key}
        np.save(out / "texture.npy", photos.texture)
        np.save(out / "shape.npy", photos.shape)
        write_json(meta_path, meta)
    if only != "features":
        textures, status = Textures(data), load_state(Path(ae) / "state.safetensors")[1]
        key = [*encoder_key(status), len(textures)]
        if meta.get("latents_of") != key:
            encode_textures(textures, load_autoencoder(ae), out)
        write_json(meta_path, meta | {"latents_of": key})


@command
def main(argv: list[str] | None = None) -> None:
    parser = command_parser("dataset.latents", __doc__)
    parser.add_argument("--data", required=True, help="folder made by fitdiff_lab.dataset.prepare")
    parser.add_argument("--ae", default="runs/ae", help="run folder of the autoencoder (%(default)s)")
    parser.add_argument("--out", required=True, help="folder of the arrays")
    parser.add_argument("--recognizer", default="built-in", help="recogniser of the features (%(default)s)")
    parser.add_argument("--only", choices=("features", "textures"), help="make one part only")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads (%(default)s)")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    recognizer = None if args.only == "textures" else load_recognizer(args.recognizer)
    encode(args.data, args.ae, args.out, recognizer, args.only)


if __name__ == "__main__":
    sys.exit(main())
