"""The whole way from photos to a head: the steps of `pipeline` in their order.

The command line and the node FitDiff Photo to Head run this; the other nodes run the steps one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from . import pipeline
from .avatar import Avatar
from .detail.mesostructure import check_strength
from .errors import UserError
from .face import Face
from .guidance import Guidance, GuidanceSettings
from .identity import Identity, Recognizer
from .image import linear_to_srgb
from .memory import give_back
from .model.checkpoint import FitDiffModel
from .parallel import side_by_side
from .render import Camera
from .render.panoramas import named_light
from .render.rasterizer import warm_up
from .sampling import SampleSettings
from .scene import Scene

GREY = (0.18, 0.18, 0.18)  # linear, behind the plain renders
DRAMATIC = "dramatic"
Stage = Callable[[str], AbstractContextManager[None]]
"""Opened around each step with its name: identity, scene, sample, decode, detail, relief. The command line takes
times."""


class Networks(NamedTuple):
    """model; recognizer: guides; conditioner: the recogniser that the model was trained with, often the same."""

    model: FitDiffModel
    recognizer: Recognizer
    conditioner: Recognizer


@dataclass(frozen=True)
class HeadSettings:
    """seed: of the sampling and the photo detail
    guided: False samples from the identity alone
    photo_detail: strength of the photo's own detail, 0 (off) to 1; needs a guided photo
    texture_size: side of the maps, pixels
    hair: "auto" (as in the first photo; without a photo what suits the face), "none", or a style
    sampling, guidance: settings of these steps
    skin_relief: strength of pores and fine lines in the maps, 0 (off) to 3
    """

    seed: int = 0
    guided: bool = True
    photo_detail: float = 0.0
    texture_size: int = 512
    hair: str = "auto"
    sampling: SampleSettings = field(default_factory=SampleSettings)
    guidance: GuidanceSettings = field(default_factory=GuidanceSettings)
    skin_relief: float = 1.0

    def __post_init__(self) -> None:
        """Raises UserError for a value out of range."""
        if not 0 <= self.photo_detail <= 1:
            raise UserError(f"The photo detail must be from 0 to 1 (got {self.photo_detail}).")
        check_strength(self.skin_relief)


class Fitted(NamedTuple):
    """Photos of one person, fitted. Without a photo: no identity, and an empty list."""

    identity: Identity | None
    guidance: list[Guidance]


class Head(NamedTuple):
    """avatar: the head. scenes: one for each photo, or a studio portrait. notes: what the user should know of it."""

    avatar: Avatar
    scenes: list[Scene]
    notes: Sequence[str] = ()


def untimed(name: str) -> AbstractContextManager[None]:
    """A `Stage` that does nothing."""
    return nullcontext()


def load_networks(
    checkpoint: str | None = None, recognizer: str = "built-in", device: torch.device | str = "cpu"
) -> Networks:
    """checkpoint: a file, None for the shipped one. recognizer: "built-in", an .onnx file, or an insightface pack."""
    warm_up()
    model = pipeline.load_model(checkpoint, device)
    guiding = conditioner = pipeline.load_recognizer(recognizer, device)
    if guiding.name != model.recognizer:
        conditioner = pipeline.load_recognizer(model.recognizer, device)
    give_back()
    return Networks(model, guiding, conditioner)


def fit_head(
    photos: Sequence[Tensor],
    networks: Networks,
    settings: GuidanceSettings | None = None,
    which: str | int = "largest",
    faces: Sequence[Face] | None = None,
    masks: Sequence[Tensor] | None = None,
    stage: Stage = untimed,
) -> Fitted:
    """Identity and guidance of photos of one person. Each photo is searched once.

    photos: `[1, 3, H, W]` or `[3, H, W]` each, sRGB; none for an invented person
    settings: of the guidance
    which: which face of each photo (see `face.parse_choice`); faces: the faces themselves, None searches
    masks: `[1, 1, H, W]` for each photo, 1 where it may be used; None finds hair, hands and glasses
    """
    if not photos:
        return Fitted(None, [])
    with stage("identity"):
        faces = pipeline.find_faces(photos, which) if faces is None else faces
        identity = pipeline.encode(photos, networks.conditioner, faces)
    with stage("scene"):
        fitted = pipeline.fit_photos(photos, networks.model.head, faces, masks)
        return Fitted(identity, pipeline.prepare_guidance(fitted, networks.recognizer, settings))


def make_head(
    photos: Sequence[Tensor],
    networks: Networks,
    fitted: Fitted,
    settings: HeadSettings,
    masks: Sequence[Tensor] | None = None,
    stage: Stage = untimed,
    callback: pipeline.Callback | None = None,
) -> Head:
    """Sample, decode, add the first photo's detail and the relief of the skin.

    photos, masks: as in `fit_head`. fitted: what it gave. callback: of the sampling
    """
    model, (identity, guidance) = networks.model, fitted
    photo = pipeline.as_list(photos)[0][None] if photos else None
    with stage("sample"):
        guided = guidance if settings.guided and guidance else None
        latent, scenes = pipeline.sample_scenes(
            model, identity, guided, settings.seed, callback=callback, **vars(settings.sampling)
        )
        if guidance and not settings.guided:
            scenes = [g.scene for g in guidance]
    with stage("decode"):
        avatar = pipeline.decode(model, latent, settings.texture_size)
    scene = None if photo is None else scenes[0]

    def with_detail() -> Avatar:
        detailed = avatar
        if settings.photo_detail and photo is not None:
            mask = masks[0] if masks else None
            with stage("detail"):
                detailed = pipeline.add_photo_detail(
                    model, avatar, scenes[0], photo, mask, settings.photo_detail, identity=identity, seed=settings.seed
                ).avatar
        if settings.skin_relief:
            with stage("relief"):
                detailed = pipeline.add_skin_relief(detailed, settings.skin_relief, settings.seed)
        return detailed

    def with_hair() -> tuple[Avatar, list[str]]:
        if settings.hair == "none":
            return avatar, []
        with stage("hair"):
            return pipeline.add_hair(avatar, settings.hair, scene, photo, settings.seed)

    give_back()
    detailed, (haired, notes) = side_by_side(with_detail, with_hair)
    give_back()
    return Head(detailed.with_hair(*haired.hair) if haired.hair else detailed, scenes, notes)


def preview(
    head: Head,
    guidance: Sequence[Guidance],
    size: int,
    studio: str = "studio",
    meanwhile: Callable[[], object] = lambda: None,
) -> tuple[Tensor, list[Tensor]]:
    """The picture of a run `[1, 3, H, W]`, and the plain renders of its scenes, sRGB over grey.

    Side by side: the photo's crop, the head in the photo's light, the head in the studio and in dramatic light, seen
    from its two sides. A row for each photo; without a photo there is no crop.

    guidance: of the photos, empty without a photo. size: side of each picture, pixels
    studio: name of the light of the third picture, see `render.panoramas`
    meanwhile: other work that may run at the same time
    """
    avatar, look = head.avatar, head.scenes[0].detach()
    avatar.whole  # noqa: B018 (made once, for all pictures)
    in_scene = [partial(_in_scene, avatar, scene, size) for scene in head.scenes]
    sides = [partial(_posed, avatar, look, name, yaw, size) for name, yaw in ((studio, -24.0), (DRAMATIC, 20.0))]
    # the first picture grows the hair that all others wait for
    first, _, *rest = side_by_side(in_scene[0], meanwhile, *in_scene[1:], *sides)
    *found, left, right = first, *rest
    shown, images = [x[0] for x in found], [x[1] for x in found]
    crops = [F.interpolate(g.target.photo.image, (size, size), mode="bicubic").clamp(0, 1) for g in guidance]
    columns = [*([crops] if crops else []), shown, *([side] * len(shown) for side in (left, right))]
    return torch.cat([torch.cat(column, 2) for column in columns], 3), images


def _in_scene(avatar: Avatar, scene: Scene, size: int) -> tuple[Tensor, Tensor]:
    """The head in a photo's light: finished as a picture, and plain over grey; sRGB `[1, 3, size, size]` both."""
    radiance, mask = pipeline.render_radiance(avatar, scene, size, background=GREY)
    alone = radiance - (1 - mask) * radiance.new_tensor(GREY)[:, None, None]
    picture = pipeline.finish(alone, mask, scene.camera, scene.light)
    give_back()
    return picture, linear_to_srgb(radiance).clamp(0, 1)


def _posed(avatar: Avatar, scene: Scene, light: str, yaw: float, size: int) -> Tensor:
    """The head from a side with the scene's expression, in a light by name, well exposed: `[1, 3, size, size]`."""
    device = avatar.shape.device
    camera = Camera.orbit(yaw, 3.0, 0.78, 20.0, (0.0, 0.008, 0.02)).to(device)
    lamp = replace(named_light(light), shadows=True).to(device)
    scene = replace(scene, gaze=0 * scene.gaze)
    picture = pipeline.photograph(avatar, scene, size, lamp, camera, expose=True)[0]
    give_back()
    return picture
