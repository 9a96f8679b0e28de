"""How well each band of the albedo is found: python -m fitdiff_lab.evaluate.bands [--photos 24] [--steps 20]

Held-out synthetic people of `dataset.uv_photos`, with and without things before the face, go through the pipeline. The
albedo is compared with the truth on the skin that the photo shows, and on the skin that something covers.

| figure | meaning |
|---|---|
| dE, after gain | CIE76 distance on plain skin, raw, and after the best common factor |
| blotch | standard deviation of the low band's error of the log albedo |
| detail | correlation of the fine detail of the log albedo |
| features | CIE76 distance of brows and lips, with the skin's factor |
| covered | CIE76 distance of the skin under occluders, with the skin's factor |
| alike | similarity of the render at the photo's pose to the photo, by the guiding recogniser |
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fitdiff_core import pipeline
from fitdiff_core.avatar import Avatar
from fitdiff_core.errors import UserError, command
from fitdiff_core.files import write_json
from fitdiff_core.filters import gaussian_blur
from fitdiff_core.guidance import GuidanceSettings
from fitdiff_core.guidance.broad_colour import BroadColour
from fitdiff_core.maps import TextureMaps

from ..cli import command_parser
from ..dataset.uv_photos import ATLAS, PairMaker
from .albedo import best_gain, delta_e76, unwrap
from .metrics import lab


class Areas:
    """Which texels each figure counts, `[S, S]` bool."""

    def __init__(self, head):
        region = {n: head.region(n, ATLAS) for n in head.region_names}
        face = (region["face"] > 0.5) | (region["nose"] > 0.5)
        self.skin = face.clone()
        for name in ("brows", "lips", "mouth_interior", "eyes", "eyelids"):
            self.skin &= region[name] < 0.3
        self.features = ((region["brows"] > 0.5) | (region["lips"] > 0.5)) & (region["mouth_interior"] < 0.3)


def smooth(x: Tensor, mask: Tensor, sigma: float) -> Tensor:
    """`[1, 1, S, S]` blurred over the mask only."""
    return gaussian_blur(x * mask, sigma) / gaussian_blur(mask, sigma).clamp(min=1e-3)


def figures(albedo: Tensor, truth: Tensor, seen: Tensor, covered: Tensor, areas: Areas) -> dict[str, float]:
    """albedo, truth: linear `[1, 3, S, S]`. seen, covered: `[S, S]` bool, skin that shows, skin under something."""
    skin = areas.skin & seen & ~covered
    if skin.sum() < 500:
        return {}
    mine, true = albedo[0][:, skin].T, truth[0][:, skin].T
    gain = best_gain(mine[::9], true[::9])
    out = {
        "dE": float(delta_e76(lab(mine), lab(true)).mean()),
        "after gain": float(delta_e76(lab(mine * gain), lab(true)).mean()),
    }
    mask = skin[None, None].float()
    one, other = (x.clamp(min=1e-3).log().mean(1, keepdim=True) for x in (albedo, truth))
    out["blotch"] = float(smooth(one - other, mask, 6.0)[0, 0][skin].std())
    fine = [(x - smooth(x, mask, 5.0))[0, 0][skin] for x in (one, other)]
    out["detail"] = float((fine[0] * fine[1]).mean() / (fine[0].std() * fine[1].std() + 1e-9))
    for name, area in (("features", areas.features & seen & ~covered), ("covered", areas.skin & seen & covered)):
        if area.sum() > 150:
            mine, true = albedo[0][:, area].T, truth[0][:, area].T
            out[name] = float(delta_e76(lab(mine * gain), lab(true)).mean())
    return out


def albedo_of(model, latent: Tensor) -> Tensor:
    """Texture latent `[1, C, h, w]` -> linear diffuse albedo at the atlas' size."""
    with torch.no_grad():
        return TextureMaps.from_stack(model.autoencoder.decode(latent, size=256)).diffuse


def reconstruct(maker: PairMaker, row: int, settings: GuidanceSettings, steps: int) -> dict:
    """One photo through the pipeline: albedos, what is seen of the truth, the similarity and the time."""
    photo, person = maker.photo(row)
    model, recognizer = maker.model, maker.recognizer
    faces = pipeline.find_faces(photo.image)
    identity = pipeline.encode(photo.image, recognizer, faces)
    fitted = pipeline.fit_photos(photo.image, model.head, faces)
    guidance = pipeline.prepare_guidance(fitted, recognizer, settings)
    start = time.process_time()
    latent, scene = pipeline.sample(model, identity, guidance, seed=0, steps=steps)
    seconds = time.process_time() - start
    avatar = pipeline.decode(model, latent)
    render, _ = pipeline.render_avatar(avatar, scene, 256)
    truth = Avatar(maker.head, person.shape, person.maps)
    moved, seen = unwrap(photo.covers, truth.vertices(photo.scene), maker.head, photo.scene.camera, ATLAS)
    cond = pipeline.condition(model, identity)
    return {
        "guided": avatar.maps.resize(ATLAS).diffuse,
        "prior": albedo_of(model, model.denoiser.texture_mean(cond)),
        "truth": person.albedo,
        "seen": seen,
        "covered": moved[0].amax(0) > 0.3,
        "alike": guidance[0].target.similarity(render),
        "seconds": seconds,
        "kind": photo.kind,
        "strong": photo.strong,
        "photo": photo.image,
        "render": render,
        "fitted": fitted[0],
    }


def run(out: Path, photos: int, steps: int, seed: int, settings: GuidanceSettings, keep: bool) -> dict:
    """Measure; write `results.json` into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    maker = PairMaker(seed)
    areas, rows = Areas(maker.head), []
    for row in range(photos):
        try:
            found = reconstruct(maker, row, settings, steps)
        except UserError as e:
            print(f"photo {row}: {e}", file=sys.stderr, flush=True)
            continue
        line = {"photo": row, "kind": found["kind"], "strong": found["strong"], "seconds": found["seconds"]}
        for name in ("prior", "guided"):
            line[name] = figures(found[name], found["truth"], found["seen"], found["covered"], areas)
        line["guided"]["alike"] = found["alike"]
        rows.append(line)
        if keep:
            torch.save(found, out / f"{row:03d}.pt")
        print(row, found["kind"], {k: round(v, 2) for k, v in line["guided"].items()}, file=sys.stderr, flush=True)
    write_json(out / "results.json", {"photos": rows, "mean": mean_figures(rows)})
    return {"photos": rows, "mean": mean_figures(rows)}


def mean_figures(rows: list[dict]) -> dict[str, dict[str, float]]:
    """Means over the photos that have a figure, by method."""
    out = {}
    for name in ("prior", "guided"):
        keys = dict.fromkeys(k for r in rows for k in r[name])
        out[name] = {k: float(np.mean([r[name][k] for r in rows if k in r[name]])) for k in keys}
    out["guided"]["seconds"] = float(np.mean([r["seconds"] for r in rows]))
    return out


@command
def main(argv: list[str] | None = None) -> int:
    p = command_parser("evaluate.bands", __doc__)
    d = BroadColour()
    p.add_argument("--out", type=Path, default=Path("bands"))
    p.add_argument("--photos", type=int, default=24, help="two of each person (24)")
    p.add_argument("--steps", type=int, default=20, help="of the sampler (20)")
    p.add_argument("--seed", type=int, default=91, help="of the held-out people (91)")
    p.add_argument(
        "--sigma", type=float, default=d.sigma, help=f"of the broad band; 0 lets guidance paint it ({d.sigma})"
    )
    p.add_argument("--keep", action="store_true", help="keep the tensors of each photo")
    a = p.parse_args(argv)
    settings = replace(GuidanceSettings(), broad_colour=replace(d, sigma=a.sigma))
    for name, values in run(a.out, a.photos, a.steps, a.seed, settings, a.keep)["mean"].items():
        print(f"{name:8s}" + "  ".join(f"{k} {v:.3f}" for k, v in values.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
