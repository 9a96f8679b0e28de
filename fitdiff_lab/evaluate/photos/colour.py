"""How the colours of a head differ from its photo's: python -m fitdiff_lab.evaluate.photos.colour PHOTOS [--judge FILE]

Each photo becomes a head without hair, which is rendered at the photo's own pose and in its light. CIELAB means of the
plain skin and of the lips are compared, only where the photo shows them, and neither is burnt out.

| picture | what it shows |
|---|---|
| sampled | the maps as sampled, before the photo's detail |
| render | the head as it is made |
| film | the same through the film curve, as the command line's picture |
| free light | the render in the light that explains the photo best, whatever its tint: what is left is the albedo's |

Writes `colour.json` and the sheet `colour.jpg`: photo, render, turned, relit, albedo. A judge adds its likeness.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from fitdiff_core import pipeline
from fitdiff_core.avatar import Avatar
from fitdiff_core.errors import UserError, command
from fitdiff_core.fitting import FittedPhoto, LightPrior
from fitdiff_core.fitting.gbuffer import GBuffer
from fitdiff_core.guidance import Guidance
from fitdiff_core.guidance.objective import PhotoObjective
from fitdiff_core.heads import HeadSettings, Networks, fit_head, load_networks, make_head
from fitdiff_core.image import LUMINANCE, linear_to_srgb, load_photo, srgb_to_linear
from fitdiff_core.render import Light
from fitdiff_core.render.tone import film
from fitdiff_core.sampling import SampleSettings
from fitdiff_core.scene import Scene

from ..heldout import to_pil
from ..metrics import lab
from .common import arguments, load_judge, mean, photos_in, write_json
from .sheet import contact_sheet
from .views import render_looks

FREE = LightPrior(level_std=10, band_std=(3, 1), tint_std=10, key_std=10, key_tint_std=10)
DARK, BURNT = 0.03, 0.985  # sRGB between which a pixel counts in all channels
AREAS, AXES = ("skin", "lips"), ("L", "a", "b")


@dataclass(frozen=True)
class Compared:
    """One head. avatar, scene: what was made. shifts: {picture: {area: (L, a, b)}}, picture less photo.
    photo: {area: (L, a, b)}. key: yaw and pitch in degrees and the RGB tint of the key light, None without one."""

    avatar: Avatar
    scene: Scene
    shifts: dict[str, dict[str, list[float]]]
    photo: dict[str, list[float]]
    key: dict[str, list[float]] | None


def areas(photo: FittedPhoto, avatar: Avatar, scene: Scene) -> dict[str, Tensor]:
    """Where skin and lips show in the crop, `[S, S]` bool each."""
    head = avatar.head
    gbuffer = GBuffer.render(avatar.vertices(scene), head, scene, photo.size)
    lips = head.region("lips", 256) * (head.region("mouth_interior", 256) < 0.1)
    plain, lips = gbuffer.sample(torch.cat([photo.regions[:, 1:2], torch.as_tensor(lips).float()[None, None]], 1))[0]
    seen = (gbuffer.facing * photo.visible)[0, 0]
    return {"skin": (plain > 0.9) & (seen > 0.8), "lips": (lips > 0.8) & (seen > 0.5)}


def shift(picture: Tensor, photo: Tensor, where: Tensor) -> tuple[list[float], list[float]]:
    """Mean CIELAB of picture less photo, and of the photo; both sRGB `[1, 3, S, S]`, where `[S, S]` bool."""
    fine = ((torch.minimum(photo, picture) > DARK) & (torch.maximum(photo, picture) < BURNT)).all(1)[0]
    a, b = (lab(srgb_to_linear(x)[0][:, where & fine].T).mean(0) for x in (picture, photo))
    return (a - b).tolist(), b.tolist()


def freely_lit(guidance: Guidance, avatar: Avatar, scene: Scene) -> Scene:
    """The scene with the light that explains the photo best with this head, of any tint."""
    free = guidance.with_settings(light_prior=FREE)
    objective = PhotoObjective(avatar.head, lambda z: z, free)
    photo = guidance.target.photo
    size = (photo.size[0] // 2, photo.size[1] // 2)
    gbuffer = GBuffer.render(avatar.vertices(scene), avatar.head, scene, size)
    skin = gbuffer.sample(photo.regions)[:, 1:2] * gbuffer.facing
    for _ in range(3):  # the highlights depend on the light
        scene = replace(scene, light=objective.relight(gbuffer, avatar.maps, scene, skin))
    return scene


def key_of(light: Light) -> dict[str, list[float]] | None:
    """Yaw and pitch in degrees and the tint of the first directional light, None without one."""
    if not light.direction.shape[1]:
        return None
    x, y, z = light.direction[0, 0].tolist()
    colour = light.color[0, 0]
    tint = colour / (colour @ colour.new_tensor(LUMINANCE)).clamp(min=1e-6)
    return {
        "angles": [math.degrees(math.atan2(x, z)), math.degrees(math.asin(max(-1.0, min(1.0, y))))],
        "tint": tint.tolist(),
    }


@torch.no_grad()
def compare(guidance: Guidance, sampled: Avatar, made: Avatar, scene: Scene) -> Compared:
    """Compare the pictures of one head with its photo. sampled, made: before and after the photo's detail."""
    photo = guidance.target.photo
    size = photo.size[0]

    def radiance(avatar: Avatar, scene: Scene) -> Tensor:
        return pipeline.render_radiance(avatar, scene, size)[0]

    plain = radiance(made, scene)
    pictures = {
        "sampled": radiance(sampled, scene),
        "render": plain,
        "film": film(plain),
        "free light": radiance(made, freely_lit(guidance, made, scene)),
    }
    where, shifts, own = areas(photo, made, scene), {}, {}
    for name, linear in pictures.items():
        found = {k: shift(linear_to_srgb(linear.clamp(0, 1)), photo.image, v) for k, v in where.items()}
        shifts[name] = {k: v[0] for k, v in found.items()}
        own = {k: v[1] for k, v in found.items()}
    return Compared(made, scene, shifts, own, key_of(scene.light))


def head_of(path: Path, networks: Networks, settings: HeadSettings) -> Compared:
    """Reconstruct one photo and compare. Raises UserError where there is no face."""
    photo = load_photo(path)
    fitted = fit_head([photo], networks, settings.guidance)
    without = replace(settings, photo_detail=0.0, skin_relief=0.0)
    sampled = make_head([photo], networks, fitted, without)
    scene, avatar = sampled.scenes[0], sampled.avatar
    if settings.photo_detail:
        avatar = pipeline.add_photo_detail(
            networks.model, avatar, scene, photo, None, settings.photo_detail, identity=fitted.identity
        ).avatar
    avatar = pipeline.add_skin_relief(avatar, settings.skin_relief)
    return compare(fitted.guidance[0], sampled.avatar, avatar, scene)


def summary(rows: list[dict]) -> dict[str, dict[str, dict[str, float]]]:
    """{picture: {area: {"L", "a", "b", "|a|", "|b|"}}}: means over the photos, and means of the amounts."""
    out: dict[str, dict[str, dict[str, float]]] = {}
    for picture in rows[0]["shifts"] if rows else ():
        out[picture] = {}
        for area in AREAS:
            values = [r["shifts"][picture][area] for r in rows]
            line = {axis: mean(v[i] for v in values) for i, axis in enumerate(AXES)}
            out[picture][area] = line | {f"|{x}|": mean(abs(v[i]) for v in values) for i, x in enumerate(AXES)}
    return out


def run(photos: list[Path], out: Path, settings: HeadSettings, judges: list[str]) -> dict:
    """Measure all photos; see the module."""
    networks, known = load_networks(), [load_judge(j) for j in judges]
    rows, pictures = [], []
    for path in photos:
        try:
            found = head_of(path, networks, settings)
        except UserError as e:
            print(f"{path.stem}: {e}", file=sys.stderr, flush=True)
            continue
        looks = {k: to_pil(v) for k, v in render_looks(found.avatar, found.scene, 384).items()}
        line = {"photo": path.stem, "colour": found.photo, "shifts": found.shifts, "key": found.key}
        line["likeness"] = {k: mean(j.similarity(path, image) for j in known) for k, image in looks.items()}
        rows.append(line)
        crop = to_pil(F.interpolate(load_crop(path, found), (384, 384), mode="bicubic").clamp(0, 1))
        albedo = to_pil(linear_to_srgb(found.avatar.maps.resize(384).diffuse))
        pictures.append((path.stem, [crop, *(looks[k] for k in ("pose", "left", "relit")), albedo]))
        shown = {k: [round(x, 1) for x in v] for k, v in found.shifts["render"].items()}
        print(path.stem, shown, {k: round(v, 3) for k, v in line["likeness"].items()}, file=sys.stderr, flush=True)
    likeness = {k: mean(r["likeness"][k] for r in rows) for k in (rows[0]["likeness"] if rows else ())}
    result = {"photos": rows, "mean": summary(rows), "likeness": likeness}
    write_json(out / "colour.json", result)
    contact_sheet(pictures, out / "colour.jpg", ("photo", "render", "turned", "relit", "albedo"))
    return result


def load_crop(path: Path, found: Compared) -> Tensor:
    """The part of the photo that the scene's picture shows, `[1, 3, S, S]`."""
    from fitdiff_core.fitting.crop import crop_image

    return crop_image(load_photo(path), found.scene.photo_crop(), found.scene.size[0]).image


@command
def main(argv: list[str] | None = None) -> int:
    p = arguments("evaluate.photos.colour", __doc__, "colour")
    p.add_argument("--photo-detail", type=float, default=1.0, help="strength, 0 to 1 (%(default)s)")
    a = p.parse_args(argv)
    torch.set_num_threads(1)
    settings = HeadSettings(photo_detail=a.photo_detail, hair="none", sampling=SampleSettings(steps=a.steps))
    result = run(photos_in(a.photos, a.limit), a.out, settings, a.judge)
    for picture, found in result["mean"].items():
        print(
            f"{picture:11s}",
            *(f"{area}  " + "  ".join(f"{k} {v:.1f}" for k, v in found[area].items()) for area in AREAS),
        )
    print("likeness   ", "  ".join(f"{k} {v:.3f}" for k, v in result["likeness"].items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
