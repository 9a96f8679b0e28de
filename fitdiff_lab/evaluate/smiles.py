"""`python -m fitdiff_lab.evaluate.smiles PHOTO [PHOTO ...] --out DIR`: smiles of photos beside those of their heads.

Makes a head of each photo, or takes `DIR/NAME/head.avatar.safetensors` of an earlier run, and writes `DIR/smiles.jpg`
(photo and render of each mouth) and `DIR/smiles.json`. Figures, of photo and render, over photos that show teeth:

teeth: share of the opening between the lips that has the colour of teeth
dark: share of it below a quarter of the skin's luminance
bright: luminance of the teeth over that of the cheeks
lips: mean distance of the inner lips' landmarks, px of a face of 256
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from fitdiff_core import cli
from fitdiff_core.avatar_file import load_avatar
from fitdiff_core.errors import command
from fitdiff_core.face import load_detector
from fitdiff_core.fitting.crop import crop_face, crop_image
from fitdiff_core.fitting.smile import LOWER, SMILE, UPPER, see_teeth
from fitdiff_core.image import load_photo
from fitdiff_core.pipeline import find_faces, render_avatar

from ..cli import command_parser

SIDE = 1024
TILE = (240, 420)  # of one mouth


def smile(path: Path, out: Path, steps: int) -> tuple[dict[str, float], Tensor]:
    """Figures of one photo, and its mouth beside that of its head `[3, h, 2 w]` sRGB."""
    file = out / path.stem / "head.avatar.safetensors"
    if not file.is_file():
        cli.main([str(path), "--out", str(file.parent), "--steps", str(steps), "--hair", "none", "--save-avatar"])
    avatar, scene = load_avatar(file)
    if scene is None:
        raise ValueError(f"{file} has no scene")
    photo = load_photo(path)
    face = find_faces([photo], detector=load_detector())[0]
    crop = crop_face(photo, face.mesh)
    shown = crop_image(photo, crop.matrix * (SIDE / 256), SIDE).image[0]
    mesh = torch.as_tensor(crop.points(face.mesh))[:, :2].float() * (SIDE / 256)
    drawn = render_avatar(avatar.with_hair(None), scene, SIDE)[0][0]
    head = avatar.head
    posed = avatar.posed(scene)[:, : head.n_vertices]
    ours = scene.camera.project(head.landmarks(posed, "mesh"), (SIDE, SIDE))[0]
    lips = list(UPPER + LOWER)
    found = {"lips": float((ours[lips] - mesh[lips]).norm(dim=1).mean()) * 256 / SIDE}
    for name, image, points in (("photo", shown, mesh), ("render", drawn, ours)):
        teeth = see_teeth(image, points)
        values = (teeth.share, teeth.dark, teeth.brightness) if teeth else (0.0, 0.0, 0.0)
        found |= {f"{key}_{name}": v for key, v in zip(("teeth", "dark", "bright"), values, strict=True)}
    low, high = mesh[lips].amin(0), mesh[lips].amax(0)
    (x, y), half = ((low + high) / 2).int().tolist(), int((high - low)[0] * 0.72)
    tall = half * TILE[0] // TILE[1]
    pair = [
        F.interpolate(i[None, :, y - tall : y + tall, x - half : x + half], TILE, mode="bilinear", antialias=True)[0]
        for i in (shown, drawn)
    ]
    return {key: round(v, 3) for key, v in found.items()}, torch.cat(pair, 2)


@command
def main(argv: list[str] | None = None) -> int:
    p = command_parser("evaluate.smiles", __doc__)
    p.add_argument("photos", nargs="+", type=Path)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--steps", type=int, default=50, help="of the sampling (default: %(default)s)")
    args = p.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    rows, tiles = {}, []
    for path in args.photos:
        rows[path.stem], tile = smile(path, args.out, args.steps)
        tiles.append(tile)
        print(path.stem, rows[path.stem], flush=True)
    page = torch.cat(tiles, 1).clamp(0, 1)
    Image.fromarray((page * 255).round().byte().permute(1, 2, 0).numpy()).save(args.out / "smiles.jpg", quality=88)
    smiling = [row for row in rows.values() if row["teeth_photo"] > SMILE]
    middle = {key: round(median(row[key] for row in smiling), 3) for key in (smiling[0] if smiling else {})}
    (args.out / "smiles.json").write_text(json.dumps({"median": middle, "photos": rows}, indent=1) + "\n")
    print(len(smiling), "smiles, median", json.dumps(middle))
    return 0


if __name__ == "__main__":
    sys.exit(main())
