"""Two photos of each person: how alike are their heads? python -m fitdiff_lab.evaluate.photos.pairs PHOTOS --judge FILE

Photos whose names are equal up to the last "_" show one person. Each becomes a head of its own. Strangers are the other
people's heads, in the order of the names.

| figure | meaning |
|---|---|
| own, other | judge, render at the photo's pose against that photo, and against the person's other photo |
| turned, relit | judge against the other photo, camera turned by 20 degrees; light from the other side |
| shape | mean distance of the two heads' faces after alignment, mm |
| albedo, albedo gain | CIE76 of the two heads' facial skin, raw and after the best common gain |

Writes `pairs.json` and the sheet `pairs.jpg` (photo, render, turned, relit, albedo of each photo).
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from fitdiff_core.avatar import Avatar
from fitdiff_core.errors import UserError, command
from fitdiff_core.guidance import GuidanceSettings
from fitdiff_core.guidance.broad_colour import BroadColour
from fitdiff_core.heads import HeadSettings, Networks, fit_head, load_networks, make_head
from fitdiff_core.image import linear_to_srgb, load_photo
from fitdiff_core.sampling import SampleSettings

from ..albedo import difference, skin_texels
from ..heldout import to_pil
from ..metrics import aligned_distance
from .common import arguments, load_judge, mean, photos_in, write_json
from .sheet import contact_sheet
from .views import render_looks

ATLAS = 256  # texels a side at which albedos are compared
SHOWN = 24  # pairs of the sheet


class One(NamedTuple):
    """One photo's head. pictures: {view: render}."""

    path: Path
    avatar: Avatar
    pictures: dict[str, Image.Image]


def people(photos: list[Path]) -> list[list[Path]]:
    """Photos of one person each, of people with two photos or more. Raises UserError where there is none."""
    groups: dict[str, list[Path]] = {}
    for path in photos:
        groups.setdefault(path.stem.rpartition("_")[0] or path.stem, []).append(path)
    found = [g for g in groups.values() if len(g) > 1]
    if not found:
        raise UserError("No person has two photos; name them PERSON_ONE.jpg and PERSON_TWO.jpg.")
    return found


def head_of(path: Path, networks: Networks, settings: HeadSettings) -> One:
    """Reconstruct one photo."""
    photo = load_photo(path)
    fitted = fit_head([photo], networks, settings.guidance)
    head = make_head([photo], networks, fitted, settings)
    looks = render_looks(head.avatar, head.scenes[0], 384)
    return One(path, head.avatar, {k: to_pil(v) for k, v in looks.items()})


def colours(avatar: Avatar, skin: Tensor) -> Tensor:
    """Linear diffuse albedo `[N, 3]` of the facial skin."""
    return avatar.maps.resize(ATLAS).diffuse[0][:, skin].T


def compare(a: One, b: One, skin: Tensor, face: Tensor) -> dict[str, float]:
    """Distances of two heads."""
    shapes = [x.avatar.head(x.avatar.shape)[0, : len(face)][face] for x in (a, b)]
    albedo = difference(colours(a.avatar, skin), colours(b.avatar, skin))
    return {
        "shape": 1000 * aligned_distance(*shapes),
        "albedo": albedo["e76"],
        "albedo gain": albedo["e76_gain"],
    }


def judged(one: One, other: Path, judge) -> dict[str, float]:
    """Likeness of one head to its photo and to the person's other photo."""
    found = {"own": judge.similarity(one.path, one.pictures["pose"])}
    found["other"] = judge.similarity(other, one.pictures["pose"])
    found["turned"] = mean(judge.similarity(other, one.pictures[side]) for side in ("left", "right"))
    found["relit"] = judge.similarity(other, one.pictures["relit"])
    return found


def run(groups: list[list[Path]], out: Path, settings: HeadSettings, judges: list[str]) -> dict:
    """Measure all people; see the module."""
    networks, known = load_networks(), [load_judge(j) for j in judges]
    head = networks.model.head
    skin, face = skin_texels(head, ATLAS), head.vertex_region("face")[: head.n_skin] > 0.5
    pairs, strangers, rows, last = [], [], [], None
    for group in groups:
        try:
            heads = [head_of(path, networks, settings) for path in group[:2]]
        except UserError as e:
            print(f"{group[0].stem}: {e}", file=sys.stderr, flush=True)
            continue
        line = {"person": group[0].stem.rpartition("_")[0], **compare(*heads, skin, face)}
        scores = [judged(a, b.path, j) for j in known for a, b in (heads, heads[::-1])]
        line |= {k: mean(s[k] for s in scores) for k in (scores[0] if scores else ())}
        if last is not None:
            strangers.append(compare(last, heads[0], skin, face))
        last = heads[0]
        pairs.append(line)
        if len(rows) < 2 * SHOWN:
            rows += [(h.path.stem, sheet_row(h)) for h in heads]
        print({k: round(v, 3) if isinstance(v, float) else v for k, v in line.items()}, file=sys.stderr, flush=True)
    numbers = [k for k in (pairs[0] if pairs else {}) if k != "person"]
    result = {
        "pairs": pairs,
        "mean": {k: mean(p[k] for p in pairs) for k in numbers},
        "strangers": {k: mean(s[k] for s in strangers) for k in ("shape", "albedo", "albedo gain")},
    }
    write_json(out / "pairs.json", result)
    contact_sheet(rows, out / "pairs.jpg", ("photo", "render", "turned", "relit", "albedo"))
    return result


def sheet_row(one: One) -> list[Image.Image]:
    """The pictures of one photo's row."""
    photo = Image.open(one.path).convert("RGB")
    side = min(photo.size)
    left, top = (photo.width - side) // 2, (photo.height - side) // 3
    albedo = to_pil(linear_to_srgb(one.avatar.maps.resize(384).diffuse))
    views = [one.pictures[k] for k in ("pose", "left", "relit")]
    return [photo.crop((left, top, left + side, top + side)), *views, albedo]


@command
def main(argv: list[str] | None = None) -> int:
    p = arguments("evaluate.photos.pairs", __doc__, "pairs")
    p.add_argument("--sigma", type=float, default=BroadColour().sigma, help="of the broad colour (%(default)s)")
    p.add_argument("--photo-detail", type=float, default=1.0, help="strength, 0 to 1 (%(default)s)")
    a = p.parse_args(argv)
    torch.set_num_threads(1)
    guidance = replace(GuidanceSettings(), broad_colour=replace(BroadColour(), sigma=a.sigma))
    settings = HeadSettings(photo_detail=a.photo_detail, sampling=SampleSettings(steps=a.steps), guidance=guidance)
    found = people(photos_in(a.photos))[: a.limit]
    result = run(found, a.out, settings, a.judge)
    for name in ("mean", "strangers"):
        print(f"{name:10s}" + "  ".join(f"{k} {v:.3f}" for k, v in result[name].items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
