"""Training pairs for the delighting network: photos of synthetic people, unwrapped through a wrong fit, with the truth.

    python -m fitdiff_lab.dataset.uv_photos --out DIR --pairs 4096

Each photo is rendered, covered by random things (`synthetic.occluders`), developed, and fitted as the pipeline fits it:
to landmarks with a detector's errors. The photo is unwrapped through this fit. The truth is laid out in the same way:
each texel holds the true albedo and class of what the photo shows there. So the network need not learn to register. The
mean of the identity's linear prior is stored beside it.

Files hold `SHARD` pairs. A repeated command makes only the files that are missing.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from fitdiff_core.delight.classes import BEARD, BROW, GLASSES, HAIR, LIP, OTHER, SCALP, SKIN
from fitdiff_core.delight.network import COARSE, log_albedo
from fitdiff_core.delight.unwrapping import SIZE, CoarseUnwrapper
from fitdiff_core.errors import UserError, command
from fitdiff_core.files import atomic_path
from fitdiff_core.fitting.landmarks import FitPrior, fit_landmarks
from fitdiff_core.head import load_head
from fitdiff_core.identity import load_recognizer
from fitdiff_core.maps import TextureMaps
from fitdiff_core.model.checkpoint import FitDiffModel, load_model
from fitdiff_core.render import interpolate, rasterize, render, vertex_normals
from fitdiff_core.render.orientation import raster_to_image
from fitdiff_core.scene import Scene

from ..cli import command_parser
from ..synthetic import occluders as draw
from ..synthetic.background import hair_volume, random_background, shoulders
from ..synthetic.long_hair import LongHair
from ..synthetic.people import SkinAttributes, random_person
from ..synthetic.photograph import develop, face_luminance
from ..synthetic.scenes import random_scene
from ..synthetic.shadows import cast_shadows
from ..synthetic.shapes import random_shape
from ..synthetic.skin import SkinGenerator

SHARD = 64
PHOTO = 256  # px a side
ATLAS = 256  # texels a side of the painted skins
PER_PERSON = 2  # photos of each person, of different scenes
STRONG = 0.4  # share of the photos in hard or coloured light
ITERATIONS = 8  # of the landmark fit; the pipeline's 24 are three times as slow and little better
DRIFT = 0.06  # largest error of the layout, as a share of the atlas' side
MESH_OF_68 = {263: 45, 362: 42, 33: 36, 133: 39, 2: 33}  # eye corners and the point under the nose
# what is drawn before a face, how often
THINGS = (
    ("spectacles", 0.20),
    ("sunglasses", 0.09),
    ("strands", 0.15),
    ("fringe", 0.14),
    ("hand", 0.13),
    ("mask", 0.09),
    ("hat", 0.12),
    ("thing", 0.08),
)
COVERED = 0.55  # share of the photos with anything before the face


@dataclass(frozen=True)
class Person:
    """shape: `[1, K]`. maps: as photographed. albedo: `[1, 3, S, S]` without a fringe. classes: `[1, 1, S, S]`."""

    attributes: SkinAttributes
    shape: Tensor
    maps: TextureMaps
    albedo: Tensor
    classes: Tensor


@dataclass(frozen=True)
class Photo:
    """image: `[1, 3, S, S]` sRGB. covers: `[1, 3, S, S]`, opacity of hair, glasses and other things. vertices: posed.
    kind: the first thing that was drawn. strong: hard or coloured light."""

    image: Tensor
    covers: Tensor
    scene: Scene
    vertices: Tensor
    kind: str
    strong: bool


class PairMaker:
    """Makes pairs. Pair `row` of a seed is always the same."""

    def __init__(self, seed: int, model: FitDiffModel | None = None):
        torch.set_num_threads(1)
        self.seed, self.head, self.model = seed, load_head(), model or load_model(None, "cpu")
        self.skin = SkinGenerator(self.head, ATLAS)
        self.unwrap = CoarseUnwrapper(self.head)
        self.recognizer = load_recognizer("built-in")
        self.region = {n: self.head.region(n, ATLAS) > 0.5 for n in ("lips", "brows", "scalp")}
        self.last: tuple[int, Person] | None = None

    def person(self, number: int) -> Person:
        """Person `number` of the seed; the last one is kept."""
        if self.last is None or self.last[0] != number:
            self.last = number, self._person(number)
        return self.last[1]

    def _person(self, number: int) -> Person:
        seed = self.seed * 10_000_019 + number
        rng = np.random.default_rng([self.seed, number, 31])
        a = made_up(random_person(seed), rng)
        maps = self.skin.sample(seed, a)[0]
        plain = maps if a.fringe == 0 else self.skin.sample(seed, replace(a, fringe=0.0))[0]
        shaved = plain
        if max(a.stubble, a.moustache, a.chin_beard, a.jaw_beard) > 0.15:
            bare = replace(a, fringe=0.0, stubble=0.0, moustache=0.0, chin_beard=0.0, jaw_beard=0.0)
            shaved = self.skin.sample(seed, bare)[0]
        classes = torch.full((1, 1, ATLAS, ATLAS), SKIN)
        classes[step(plain.diffuse, shaved.diffuse) > 0.2] = BEARD
        classes[step(maps.diffuse, plain.diffuse) > 0.25] = HAIR
        for name, label in (("lips", LIP), ("brows", BROW), ("scalp", SCALP)):
            classes[self.region[name][None, None]] = label
        field = chroma(rng, ATLAS)
        maps = replace(maps, diffuse=(maps.diffuse * field).clamp(0, 1))
        return Person(a, random_shape(self.head, rng, a), maps, (plain.diffuse * field).clamp(0, 1), classes)

    def photo(self, row: int) -> tuple[Photo, Person]:
        """Photograph number `row`."""
        person = self.person(row // PER_PERSON)
        rng = np.random.default_rng([self.seed, row, 77])
        strong = rng.random() < STRONG
        scene = random_scene(rng, self.head.expression_names, (PHOTO, PHOTO), strong)
        scene.camera.focal = scene.camera.focal * float(rng.uniform(0.78, 0.95))  # framed as the pipeline's crop
        if rng.random() < 0.25:
            scene = replace(scene, expression=grin(scene.expression, self.head.expression_names, rng))
        vertices = self.head(person.shape, scene.expression, scene.gaze)
        a, camera, light, size = person.attributes, scene.camera, scene.light, scene.size
        facing = light.irradiance(torch.tensor([[[0.0, 0.25, 0.97]]]))[0, 0].clamp(min=0)
        lit = facing + light.color.sum((0, 1)) * 0.5 / np.pi
        long_hair = LongHair(a, camera, light, size, rng)
        background = random_background(rng, size) * lit.mean().clamp(min=0.05)
        background = shoulders(long_hair.behind(background), camera, lit, rng)
        haired = hair_volume(self.head, vertices, vertex_normals(vertices, self.head.triangles), a, rng)
        surface = cast_shadows(self.head, haired, light, int(rng.integers(1, 4)))
        image = render(haired, surface, person.maps, camera, light, size, background).image
        if rng.random() < 0.35:
            image = patchy(image, rng)
        before, image = image, long_hair.before(image)
        stray = ((image - before).abs().sum(1, keepdim=True) / (before.sum(1, keepdim=True) + 0.05) > 0.5).float()
        hair = torch.maximum(long_hair.front, stray) if long_hair.worn else torch.zeros(1, 1, *size)
        points = self.head.landmarks(vertices, "68")[0]
        image, covers, kind = cover(image, draw.Sitter(points, camera, lit, rng), hair)
        luminance = face_luminance(image, camera, self.head, vertices, size)
        image = develop(image, luminance, lit, rng, True, (0.0, 0.6) if strong else (0.5, 1.0))
        return Photo(image, covers, scene, vertices, kind, strong), person

    def fit(self, photo: Photo, shape: Tensor, rng: np.random.Generator):
        """What the pipeline's landmark fit makes of the photo -> vertices `[1, V, 3]`, camera, identity `[1, K]`."""
        scene = photo.scene
        points = self.head.landmarks(photo.vertices, "mesh")
        pixels = scene.camera.project(points, scene.size)[0]
        depth = scene.camera.view(points)[0, :, 2]
        scale = (pixels[:, 0].max() - pixels[:, 0].min()) / (points[0, :, 0].max() - points[0, :, 0].min())
        shaken = pixels + connected_noise(pixels, 35.0, 1.3, rng)
        shaken = shaken + torch.from_numpy(rng.normal(0, 0.8, pixels.shape)).float()
        points = torch.cat([shaken, -((depth - depth.mean()) * scale)[:, None]], 1)
        found = fit_landmarks(points, self.head, scene.size[0], "mesh", FitPrior(iterations=ITERATIONS))
        identity = found.identity[None]
        if rng.random() < 0.5:  # a shape from the recogniser is nearer to the truth; the camera is then a little off
            identity = torch.lerp(identity, shape, float(rng.uniform(0.2, 0.6)))
        return self.head(identity, found.expression[None], scene.gaze), found.camera(), identity

    def prior_albedo(self, photo: Photo, rng: np.random.Generator) -> Tensor:
        """The mean of the identity's linear prior: linear diffuse albedo `[1, 3, 256, 256]`."""
        points = photo.scene.camera.project(self.head.landmarks(photo.vertices, "68"), photo.scene.size)
        error = 0.012 * float(points[0, :, 1].max() - points[0, :, 1].min())
        mesh = points.new_zeros(1, 468, 2)
        for target, source in MESH_OF_68.items():
            mesh[:, target] = points[:, source] + error * torch.from_numpy(rng.standard_normal(2)).float()
        features = self.recognizer(self.recognizer.crop(photo.image, self.recognizer.matrix(mesh)))
        denoiser = self.model.denoiser
        activations = [
            (a.float() - getattr(denoiser, f"activation_mean_{i}")[:, None, None])
            / getattr(denoiser, f"activation_std_{i}")[:, None, None]
            for i, a in enumerate(features.activations)
        ]
        embedding = (features.embedding.float() - denoiser.embedding_mean) / denoiser.embedding_std
        gaussian = denoiser.prior.conditional(denoiser.prior_features(embedding, activations))
        return self.model.autoencoder.decode(denoiser.prior.most_likely_texture(gaussian), size=256)[:, :3].clamp(0, 1)

    @torch.no_grad()
    def pair(self, row: int) -> dict[str, Tensor]:
        """One pair: input planes, truth, and figures about it (`meta`)."""
        photo, person = self.photo(row)
        rng = np.random.default_rng([self.seed, row, 78])
        photo = replace(photo, image=(photo.image * 255).round() / 255)
        vertices, camera, identity = self.fit(photo, person.shape, rng)
        picture = torch.cat([photo.image, photo.covers], 1)
        seen = self.unwrap(picture, torch.ones(1, 1, PHOTO, PHOTO), vertices, camera)
        shift = self.drift(seen.grid, seen.seen, photo)
        at = (atlas_places(SIZE) + shift.permute(0, 2, 3, 1)) * 2 - 1
        albedo = F.grid_sample(F.avg_pool2d(person.albedo, 2), at, padding_mode="border", align_corners=False)
        classes = F.grid_sample(person.classes.float(), at, mode="nearest", padding_mode="border", align_corners=False)
        colour, covers = seen.colour.split(3, 1)
        for plane, label in zip(covers.split(1, 1), (HAIR, GLASSES, OTHER), strict=True):
            classes[(plane > 0.4) & (seen.seen > 0)] = label
        face = self.head.vertex_region("face")[: self.head.n_skin] > 0.5
        off = camera.project(vertices, scene_size := photo.scene.size) - photo.scene.camera.project(
            photo.vertices, scene_size
        )
        distance = (self.head(identity) - self.head(person.shape))[0, : self.head.n_skin][face]
        meta = [
            float(photo.strong),
            float(off[0, : self.head.n_skin][face].norm(dim=1).mean()),
            float((distance - distance.mean(0)).norm(dim=1).mean() * 1000),
            person.attributes.lightness,
            float(KINDS.index(photo.kind)),
        ]
        return {
            "colour": byte(colour.clamp(0, 1).sqrt()),
            "seen": byte(seen.seen),
            "facing": byte(seen.facing),
            "normal": (F.avg_pool2d(seen.normal, SIZE // COARSE) * 127).round().to(torch.int8),
            "albedo": log_albedo(F.avg_pool2d(albedo, SIZE // COARSE)).half(),
            "prior": log_albedo(F.interpolate(self.prior_albedo(photo, rng), (COARSE, COARSE), mode="area")).half(),
            "classes": classes.to(torch.uint8),
            "photo": byte(photo.image),
            "meta": torch.tensor([meta]),
        }

    def drift(self, grid: Tensor, seen: Tensor, photo: Photo) -> Tensor:
        """Where in the atlas each texel's content truly lies: shift `[1, 2, SIZE, SIZE]` (right, down), in sides.

        Unseen texels continue their neighbours'. grid, seen: of `UVPhoto`.
        """
        tri = self.head.triangles.long()
        rast = rasterize(photo.scene.camera.clip(photo.vertices, 1.0), tri, (PHOTO, PHOTO))
        uv = raster_to_image(interpolate(self.head.uv[None], rast, tri))
        hit = raster_to_image(rast[..., 3:] > 0).float()
        fine = grid.shape[1]
        got = F.grid_sample(torch.cat([uv, hit], 1), grid, mode="nearest", padding_mode="zeros", align_corners=False)
        place = atlas_places(fine)
        shift = torch.stack([got[:, 0] - place[..., 0], (1 - got[:, 1]) - place[..., 1]], 1)
        known = (shift.norm(dim=1, keepdim=True) < DRIFT) * (got[:, 2:] > 0) * (F.interpolate(seen, (fine, fine)) > 0)
        top, bottom = (F.avg_pool2d(x, fine // SIZE) for x in (shift * known, known.float()))
        for _ in range(2):
            top, bottom = F.avg_pool2d(top, 5, 1, 2), F.avg_pool2d(bottom, 5, 1, 2)
        return top / (bottom + 1e-2)


KINDS = ("nothing", *(name for name, _ in THINGS))


def step(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute log ratio of two albedos `[1, 3, S, S]` -> `[1, 1, S, S]`."""
    return ((a + 0.01) / (b + 0.01)).log().abs().mean(1, keepdim=True)


def byte(x: Tensor) -> Tensor:
    return (x.clamp(0, 1) * 255 + 0.5).to(torch.uint8)


def atlas_places(size: int) -> Tensor:
    """Centres of the texels `[1, size, size, 2]` (right, down), 0..1."""
    t = (torch.arange(size) + 0.5) / size
    y, x = torch.meshgrid(t, t, indexing="ij")
    return torch.stack([x, y], -1)[None]


def made_up(a: SkinAttributes, rng: np.random.Generator) -> SkinAttributes:
    """More beards and more make-up than people wear, so that a small network learns them."""
    if a.feminine < 0.5 and rng.random() < 0.3:
        full = rng.uniform(0.3, 1)
        a = replace(a, stubble=max(a.stubble, float(rng.uniform(0.3, 1))))
        if rng.random() < 0.7:
            a = replace(a, moustache=full * rng.uniform(0.5, 1), chin_beard=full, jaw_beard=full * rng.uniform(0.3, 1))
    if a.feminine > 0.5 and rng.random() < 0.35:
        colour = tuple(float(x) for x in np.clip([rng.uniform(0.1, 0.6), *rng.uniform(0.01, 0.2, 2)], 0, 1))
        a = replace(a, lipstick=float(rng.uniform(0.3, 1)), lipstick_colour=colour, blush=float(rng.uniform(0, 1)))
    return a


def chroma(rng: np.random.Generator, size: int) -> Tensor:
    """A smooth random factor of the albedo `[1, 3, size, size]`: patches of redness, tan and vitiligo."""
    amount = rng.uniform(0, 0.10)
    red = draw.noise(rng, int(rng.integers(4, 12)), size) * torch.tensor([-0.4, -1.0, -0.8]).view(1, 3, 1, 1)
    dark = draw.noise(rng, int(rng.integers(3, 10)), size) * torch.tensor([0.6, 0.8, 1.0]).view(1, 3, 1, 1)
    return torch.exp(amount * (red + 0.7 * dark * rng.random()))


def grin(expression: Tensor, names: tuple[str, ...], rng: np.random.Generator) -> Tensor:
    """`expression` `[1, 52]` with a strong smile."""
    index = {n: i for i, n in enumerate(names)}
    x, strength = expression.clone() * 0.3, float(rng.uniform(0.5, 1))
    for name, weight in (("mouthSmile", 0.9), ("cheekSquint", 0.5), ("mouthUpperUp", 0.35), ("eyeSquint", 0.3)):
        for side in ("Left", "Right"):
            if name + side in index:
                x[0, index[name + side]] += strength * weight
    x[0, index["jawOpen"]] += strength * float(rng.uniform(0, 0.3))
    return x.clamp(0, 1)


def patchy(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Light that no model of distant lamps explains: near lamps, shadows of branches and blinds."""
    size = image.shape[-1]
    field = draw.noise(rng, int(rng.integers(3, 9)), size)
    if rng.random() < 0.5:
        field = field * rng.uniform(1, 14) + rng.normal(0, 1)
    tint = torch.from_numpy(np.exp(rng.normal(0, 0.05, 3))).float().view(1, 3, 1, 1)
    return image * (1 - rng.uniform(0.2, 0.8) * torch.sigmoid(field) * tint).clamp(min=0.05)


def cover(image: Tensor, sitter: draw.Sitter, hair: Tensor) -> tuple[Tensor, Tensor, str]:
    """Draw up to two things before the face.

    Returns the picture, the opacity `[1, 3, H, W]` of hair, glasses and other things, and the name of the first thing.
    """
    rng = sitter.rng
    planes, kind = {"hair": hair, "glasses": torch.zeros_like(hair), "other": torch.zeros_like(hair)}, "nothing"
    for n in range(0 if rng.random() > COVERED else 1 + (rng.random() < 0.25)):
        name = str(rng.choice([x for x, _ in THINGS], p=np.array([p for _, p in THINGS]) / sum(p for _, p in THINGS)))
        if name in ("spectacles", "sunglasses"):
            image, mask = draw.spectacles(image, sitter, name == "sunglasses")
            plane = "glasses"
        elif name in ("strands", "fringe"):
            image, mask = draw.strands(image, sitter, name == "fringe")
            plane = "hair"
        else:
            image, mask = {"hand": draw.hand, "mask": draw.face_mask, "hat": draw.hat, "thing": draw.thing}[name](
                image, sitter
            )
            plane = "other"
        planes = {k: v * (1 - mask) for k, v in planes.items()}
        planes[plane] = torch.maximum(planes[plane], mask)
        kind = name if n == 0 else kind
    return image, torch.cat(list(planes.values()), 1), kind


def connected_noise(points: Tensor, length: float, std: float, rng: np.random.Generator) -> Tensor:
    """Noise `[N, 2]` that varies over `length` pixels between points `[N, 2]`: a detector's errors hang together."""
    p = points.numpy().astype(np.float64)
    kernel = np.exp(-((p[:, None] - p[None]) ** 2).sum(-1) / (2 * length**2)) + 1e-4 * np.eye(len(p))
    return torch.from_numpy(np.linalg.cholesky(kernel) @ rng.standard_normal((len(p), 2)) * std).float()


def load_pairs(folder: Path, first: int = 0, most: int | None = None) -> dict[str, Tensor]:
    """All pairs in the files of `folder` from file `first` on. Raises UserError for a folder without any."""
    paths = sorted(Path(folder).glob("pairs-?????.safetensors"))[first:][:most]
    if not paths:
        raise UserError(f"No pairs in {folder}; make some: python -m fitdiff_lab.dataset.uv_photos --out {folder}")
    parts = [load_file(p) for p in paths]
    return {k: torch.cat([p[k] for p in parts]) for k in parts[0]}


def prepare_pairs(out: Path, pairs: int, seed: int, log=print) -> None:
    """Bring `out` up to `pairs` pairs, rounded up to whole files."""
    out.mkdir(parents=True, exist_ok=True)
    maker = None
    for shard in range(-(-pairs // SHARD)):
        path = out / f"pairs-{shard:05d}.safetensors"
        if path.exists():
            continue
        maker = maker or PairMaker(seed)
        start, rows = time.time(), []
        for row in range(shard * SHARD, (shard + 1) * SHARD):
            rows.append(maker.pair(row))
        tensors = {k: torch.cat([r[k] for r in rows]).contiguous() for k in rows[0]}
        with atomic_path(path) as part:
            save_file(tensors, part, {"seed": str(seed)})
        meta = tensors["meta"].mean(0)
        log(f"{path.name}: {(time.time() - start) / SHARD:.2f} s a pair, off {meta[1]:.2f} px, shape {meta[2]:.2f} mm")


@command
def main(argv: list[str] | None = None) -> int:
    p = command_parser("dataset.uv_photos", __doc__)
    p.add_argument("--out", type=Path, required=True, help="folder of the pairs")
    p.add_argument("--pairs", type=int, default=4096, help="(4096)")
    p.add_argument("--seed", type=int, default=5, help="(5); the held-out pairs of training need another")
    a = p.parse_args(argv)
    prepare_pairs(a.out, a.pairs, a.seed, lambda line: print(line, file=sys.stderr, flush=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
