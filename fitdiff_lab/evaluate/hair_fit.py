"""How well hair is found in photos and fitted to them.

    python -m fitdiff_lab.evaluate.hair_fit PHOTOS --network hair_segmentation.tflite --out DIR

| figure | meaning |
|---|---|
| found | intersection over union (IoU) of the segmenter's hair with MediaPipe's (`dataset.hair_masks`) |
| fitted | IoU of the fitted groom, drawn in the photo's view, with the network's mask, outside the face |
| own | IoU of the fitted groom with the segmenter's mask, corrected by colour: the labels miss white and cropped hair |
| colour | CIE76 between the median colours of the hair in the photo and in the render |
| seconds | process time of the fit |

Heads are sampled unguided in a few steps: only their shape matters here. Photos whose hair covers less than 2 % of the
view do not count in `fitted` and `colour`. DIR gets `hair_fit.json` and the sheet `hair_fit.jpg`: photo, masks (red:
network, green: fit), render.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fitdiff_core import pipeline
from fitdiff_core.errors import UserError, command
from fitdiff_core.files import write_json
from fitdiff_core.hair.colour import lab
from fitdiff_core.hair.fit import fit_view
from fitdiff_core.hair.groom import grow_hair
from fitdiff_core.hair.mask import by_colour
from fitdiff_core.hair.photo import SIDE, WIDE, View, wide_view
from fitdiff_core.image import load_photo, srgb_to_linear
from fitdiff_core.photo_networks import load_segmenter
from fitdiff_core.render import render
from fitdiff_core.render.hair import hair_layer

from ..cli import command_parser
from ..dataset.hair_masks import HairNetwork
from .heldout import to_pil
from .photos.common import photos_in
from .photos.sheet import contact_sheet

LEAST = 0.02  # of the view


def iou(a: Tensor, b: Tensor, where: Tensor) -> float:
    """Intersection over union of masks `[S, S]` bool."""
    return float((a & b & where).sum() / ((a | b) & where).sum().clamp(min=1))


def drawn(avatar, scene, view: View, style) -> tuple[Tensor, Tensor]:
    """The head with the hair in a view, linear `[3, S, S]`, and where hair is, `[S, S]` bool."""
    vertices = avatar.vertices(scene)
    out = render(vertices, avatar.head, avatar.maps, view.camera, scene.light, size=(SIDE, SIDE))
    image, cover = out.image[0], torch.zeros(SIDE, SIDE)
    hair = grow_hair(avatar.head, avatar.shape, style) if style else None
    if hair is not None:
        color, found = hair_layer(hair, hair.on(vertices[0]), view.camera, scene.light, (SIDE, SIDE), view.depth)
        image, cover = color[0] + image * (1 - found[0]), found[0, 0]
    cap = view.edge > style.hairline + 0.002 if style else torch.zeros_like(cover, dtype=torch.bool)
    return image, (cover > 0.5) | cap


def measure(path: Path, model, recognizer, network: HairNetwork, known: bool = False) -> tuple[dict, list[Image.Image]]:
    """One photo: figures and the row of the sheet. known: fit to the network's mask instead of the segmenter's."""
    photo = load_photo(path)
    faces = pipeline.find_faces(photo)
    (fitted,) = pipeline.fit_photos(photo, model.head, faces)
    latent, _ = pipeline.sample(model, pipeline.encode(photo, recognizer, faces), seed=0, steps=6)
    avatar, scene = pipeline.decode(model, latent, 256), fitted.scene
    view = wide_view(avatar.head, avatar.vertices(scene), scene, photo, texture=True)
    label = network.label(photo, scene, view, WIDE)
    truth, found = (label > 0.5) & view.valid, load_segmenter().find(view)
    start = time.process_time()
    style, notes = fit_view(avatar, scene, view, label * view.valid if known else found)
    seconds, own, found = time.process_time() - start, by_colour(view, found) > 0.5, found > 0.5
    image, mask = drawn(avatar, scene, view, style)
    where = view.valid & ~((view.face > 0.5) & (view.edge < 0))
    line = {"photo": path.stem, "share": float(truth.float().mean()), "found": iou(found, truth, view.valid)}
    line |= {"fitted": iou(mask, truth, where), "own": iou(mask, own, where)}
    line |= {"seconds": seconds, "note": " ".join(notes)}
    if (truth & where).sum() > 30 and (mask & where).sum() > 30:
        seen = srgb_to_linear(view.image)[:, truth & where].median(1).values
        made = image[:, mask & where].median(1).values
        line["colour"] = float(np.linalg.norm(lab(seen.numpy()[None])[0] - lab(made.numpy()[None])[0]))
    tint = torch.stack([truth.float(), mask.float(), torch.zeros(SIDE, SIDE)])
    head = avatar.with_hair(style) if style else avatar
    shown = pipeline.render_avatar(head, replace(scene, camera=view.camera, crop=None), 320)[0]
    return line, [to_pil(view.image[None]), to_pil((view.image * 0.5 + 0.5 * tint)[None]), to_pil(shown)]


@command
def main(argv: list[str] | None = None) -> int:
    p = command_parser("evaluate.hair_fit", __doc__)
    p.add_argument("photos", type=Path, help="folder")
    p.add_argument("--network", type=Path, required=True, help="hair_segmentation.tflite of MediaPipe")
    p.add_argument("--out", type=Path, default=Path("hair_fit"))
    p.add_argument("--known", action="store_true", help="fit to the network's mask, to see what the fit alone loses")
    p.add_argument("--limit", type=int, help="only the first N photos")
    a = p.parse_args(argv)
    torch.set_num_threads(1)
    model, recognizer, network = pipeline.load_model(), pipeline.load_recognizer(), HairNetwork(a.network)
    lines, rows = [], []
    for path in photos_in(a.photos, a.limit):
        try:
            with torch.no_grad():
                line, pictures = measure(path, model, recognizer, network, a.known)
        except UserError as e:
            print(f"{path.name}: {e}", file=sys.stderr)
            continue
        lines.append(line)
        rows.append((f"{path.stem[:16]} {line['found']:.2f} {line['fitted']:.2f}", pictures))
        print({k: round(v, 3) if isinstance(v, float) else v for k, v in line.items()}, file=sys.stderr, flush=True)
    haired = [x for x in lines if x["share"] > LEAST]
    figures = {k: median(x[k] for x in haired if k in x) for k in ("found", "fitted", "own", "colour", "seconds")}
    write_json(a.out / "hair_fit.json", {"photos": lines, "median": figures})
    contact_sheet(rows, a.out / "hair_fit.jpg", ("photo", "masks", "fitted"))
    print(f"median of {len(haired)}: " + "  ".join(f"{k} {v:.3f}" for k, v in figures.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
