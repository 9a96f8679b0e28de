"""The method, one function for each step. Each step is also a ComfyUI node.

    faces = find_faces(photos)                               photo -> face (box and mesh points), found once
    identity = encode(photos, recognizer, faces)             photo -> embedding and activation layers
    fitted = fit_photos(photos, model.head, faces)           photo -> scene: camera, expression, light
    guidance = prepare_guidance(fitted, recognizer)          scene -> losses through the renderer
    latent, scene = sample(model, identity, guidance)        noise -> latent of texture and shape
    avatar = decode(model, latent)                           latent -> maps and shape
    detail = add_photo_detail(model, avatar, scene, photo)   optional: detail.avatar has the photo's own fine detail
    avatar = add_skin_relief(avatar)                         optional: pores and fine lines in the maps
    avatar, notes = add_hair(avatar, "auto", scene, photo)   optional: hair like the photo's, or a named style
    image, mask = render_avatar(avatar, scene)               maps, shape, scene -> picture

Images are sRGB `[B, 3, H, W]` in 0..1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .avatar import Avatar
from .detail import PhotoDetail, photo_detail, skin_relief
from .errors import UserError
from .face import Face, FaceDetector, load_detector, meant_faces
from .fitting import FittedPhoto, fit_photo
from .guidance import Guidance, GuidanceSettings, PhotoTarget
from .hair.artist import adjust
from .hair.fit import fit_hair
from .hair.invent import suitable_style
from .hair.picture import render_with_hair
from .hair.presets import PRESETS
from .hair.style import HairStyle
from .head import HeadModel
from .identity import Identity, Recognizer, encode_identity, load_recognizer
from .image import linear_to_srgb
from .model.checkpoint import FitDiffModel, load_model
from .model.denoiser import unpack_latent
from .model.samplers import SAMPLERS, sigmas
from .neck import even_neck
from .progress import part, unheard
from .render import Camera, Light
from .render.backdrop import backdrop as backdrop_image
from .render.backdrop import wall_shadow
from .render.tone import check_tone, face_exposure, film
from .sampling import ConditionedDenoiser, SampleSettings, SamplingRun, check_faces, condition, noise
from .scene import Scene

__all__ = [
    "Callback",
    "SampleSettings",
    "add_hair",
    "add_photo_detail",
    "add_skin_relief",
    "condition",
    "decode",
    "encode",
    "find_faces",
    "finish",
    "fit_photos",
    "load_model",
    "load_recognizer",
    "noise",
    "photograph",
    "prepare_guidance",
    "render_avatar",
    "render_radiance",
    "sample",
    "sample_scenes",
]

Callback = Callable[[int, int, Tensor], None]
"""`callback(i, n, denoised)` after step i of n. An exception raised in it ends the sampling."""


@torch.inference_mode(False)
@torch.no_grad()
def find_faces(
    photos: Sequence[Tensor] | Tensor,
    which: str | int = "largest",
    landmarks: Mapping[str, Any] | None = None,
    boxes: Any = None,
    detector: FaceDetector | None = None,
) -> list[Face]:
    """The face that is meant in each photo. All later steps take these faces, so a photo is searched only once.

    photos: `[B, 3, H, W]`, or a list of `[3, H, W]` or `[1, 3, H, W]` of any sizes
    which: an index from 0 (largest first), "largest", "left-to-right", or "left-to-right:2"
    landmarks, boxes: FACE_LANDMARKS and BOUNDING_BOX of ComfyUI's nodes (see `face.external`), None for none
    detector: None loads the built-in one

    Raises UserError, with the photo's number where there are several, where no such face is found.
    """
    photos = as_list(photos)
    if not photos:
        raise UserError("There is no photo; give at least one.")
    return meant_faces(photos, detector or load_detector(device=photos[0].device), which, landmarks, boxes)


def as_list(photos: Sequence[Tensor] | Tensor) -> list[Tensor]:
    """`[B, 3, H, W]`, or a list of `[3, H, W]` or `[b, 3, H, W]` -> list of `[3, H, W]`."""
    return [image for photo in photos for image in (photo if photo.ndim == 4 else photo[None])]


def encode(photos: Sequence[Tensor] | Tensor, recognizer: Recognizer, faces: Sequence[Face] | None = None) -> Identity:
    """Photos of one person -> their mean identity, batch 1.

    photos: as `find_faces` takes them. faces: of `find_faces`, one for each photo; None searches the largest.
    """
    photos = as_list(photos)
    return encode_identity(photos, recognizer, find_faces(photos) if faces is None else faces)


def fit_photos(
    photos: Sequence[Tensor] | Tensor,
    head: HeadModel,
    faces: Sequence[Face] | None = None,
    masks: Sequence[Tensor] | None = None,
) -> list[FittedPhoto]:
    """Fit the scene (camera, expression, light) of each photo.

    photos, faces: as in `encode`
    head: every checkpoint shares the built-in one, `model.head`
    masks: `[1, 1, H, W]` for each photo, 1 where it may be used; None finds hair, hands and glasses in the photo

    Raises UserError for no photo, another number of masks or faces than of photos, or a mask that does not fit.
    """
    photos = as_list(photos)
    if masks is not None and len(masks) != len(photos):
        raise UserError(f"{len(masks)} masks for {len(photos)} photos: give one for each photo, in their order.")
    faces = find_faces(photos) if faces is None else faces
    if len(faces) != len(photos):
        raise UserError(f"{len(faces)} faces for {len(photos)} photos: give one for each photo, in their order.")
    fitted = []
    for i, (photo, face) in enumerate(zip(photos, faces, strict=True)):
        try:
            with part(i, len(photos)):
                fitted.append(fit_photo(photo[None], face, head, None if masks is None else masks[i]))
        except UserError as e:
            if len(photos) == 1:
                raise
            raise UserError(f"Photo {i + 1} of {len(photos)}: {e}") from None
    return fitted


def prepare_guidance(
    photos: Sequence[FittedPhoto], recognizer: Recognizer, settings: GuidanceSettings | None = None
) -> list[Guidance]:
    """Fitted photos of one person -> the guidance of each: what a render is compared with, and how.

    recognizer: the network whose features are compared; it need not be the one that encoded the identity.
    `guidance.identity_outliers` says which photos seem to show another person.
    """
    settings = settings or GuidanceSettings()
    return [Guidance(PhotoTarget.of(photo, recognizer), settings) for photo in photos]


def sample_scenes(
    model: FitDiffModel,
    identity: Identity | None = None,
    guidance: Guidance | Sequence[Guidance] | None = None,
    seed: int = 0,
    batch: int = 1,
    callback: Callback | None = None,
    **settings: Any,
) -> tuple[Tensor, list[Scene]]:
    """Reverse diffusion (Sec. 3 of the paper), conditioned on an identity and guided through the renderer.

    identity: None samples a new person. The identities of N people with batch 1 give N heads from the same noise.
    guidance: None leaves the sample to the prior; that of several photos of one person fits one head to all of them
    seed: entry i of a batch takes seed + i
    settings: fields of `SampleSettings`

    Returns the latent `[B, C + 1, h, w]` (texture, and the shape vector in the last plane), and the refined scenes of
    the guidance's photos in their order, or one studio portrait. Raises UserError for values out of range, and for an
    identity and a guidance of different faces of one photo.
    """
    check_faces(identity, guidance)
    s = SampleSettings(**settings)
    if batch < 1:
        raise UserError(f"batch must be at least 1 (got {batch}).")
    denoiser = ConditionedDenoiser(model, identity, s.cfg_scale)
    people = denoiser.people
    if batch not in (1, people) and people != 1:
        raise UserError(
            f"{people} identities and a batch of {batch}; set batch to 1 (one noise for all) or to {people} (one "
            "each), or connect one identity."
        )
    run = SamplingRun(denoiser, guidance, s.variation)
    start = run.start(noise(model, seed, batch))
    if people > batch:
        start = start.repeat(people, 1, 1, 1)

    def report(i: int, n: int, x: Tensor, denoised: Tensor) -> None:
        if callback is not None:
            callback(i, n, denoised)

    schedule = sigmas(s.steps, spacing="logsnr" if guidance is None else "guided").to(model.device)
    with torch.no_grad(), unheard():  # the steps are reported by `callback`
        latent = SAMPLERS[s.sampler](run, start * schedule[0], schedule, report)
    return run.finish(latent.detach()), run.scenes(len(start))


def sample(
    model: FitDiffModel,
    identity: Identity | None = None,
    guidance: Guidance | Sequence[Guidance] | None = None,
    **settings: Any,
) -> tuple[Tensor, Scene]:
    """`sample_scenes`, with its further arguments, and of the scenes only the first: that of a single photo."""
    latent, scenes = sample_scenes(model, identity, guidance, **settings)
    return latent, scenes[0]


def decode(model: FitDiffModel, latent: Tensor, texture_size: int = 512) -> Avatar:
    """Latent `[B, C + 1, h, w]` -> avatar with maps of `texture_size` texels a side.

    Raises UserError for a latent of another shape, or one with NaN.
    """
    expected = model.latent_shape
    if latent.ndim != 4 or tuple(latent.shape[1:]) != tuple(expected):
        raise UserError(
            f"This latent is {tuple(latent.shape)}; this model's are [B, {', '.join(map(str, expected))}]. "
            "Connect a latent made by the FitDiff sampler with the same checkpoint."
        )
    if not torch.isfinite(latent).all():
        raise UserError("The latent holds NaN or infinite values; lower the guidance weights or the cfg.")
    texture, shape = unpack_latent(latent.to(model.device).float(), model.head.n_identity)
    maps = even_neck(model.autoencoder.maps(texture), model.head)
    return Avatar(model.head, shape, maps if maps.size == (texture_size, texture_size) else maps.resize(texture_size))


def add_photo_detail(
    model: FitDiffModel,
    avatar: Avatar,
    scene: Scene,
    photo: Tensor,
    mask: Tensor | None = None,
    strength: float = 1.0,
    texture_size: int | None = None,
    identity: Identity | None = None,
    seed: int = 0,
) -> PhotoDetail:
    """Add the photo's own fine detail to the maps, where the photo shows the skin well (see `detail/`).

    avatar: one head. scene: that of the guided sampling that made the avatar
    photo: `[1, 3, H, W]`. mask: `[1, 1, H, W]`, 1 where the photo may be used; None finds hair and hands in the photo
    strength: 0 (the avatar as it is) to 1. texture_size: texels a side of the maps, None keeps the avatar's
    identity: conditions the diffusion model where it fills what the photo does not show; None leaves that to the prior

    Returns `.avatar` and `.weight` `[1, 1, S, S]`, the share of each texel that came from the photo. Raises UserError
    for a batch, a scene without a photo, or sizes that do not fit.
    """
    cond = condition(model, identity)
    photo, scene = photo.to(model.device), scene.detach()
    mask = None if mask is None else mask.to(model.device)
    return photo_detail(model, avatar, scene, photo, mask, strength, texture_size, cond, seed)


def add_skin_relief(avatar: Avatar, strength: float = 1.0, seed: int = 0, texture_size: int | None = None) -> Avatar:
    """Pores, furrows and lip relief in the normal and specular maps (see `detail/mesostructure.py`).

    avatar: B heads. strength: factor of all depths, 0 (the avatar as it is) to 3
    seed: entry i of a batch takes seed + i; the same seed gives the same maps
    texture_size: texels a side of the maps, None keeps the avatar's. 512 shows only the coarse part, 1024 the pores

    Raises UserError for a strength out of range.
    """
    with torch.no_grad():
        return skin_relief(avatar, strength, seed, texture_size)


def add_hair(
    avatar: Avatar,
    style: str | HairStyle = "auto",
    scene: Scene | None = None,
    photo: Tensor | None = None,
    seed: int = 0,
    **changes: Any,
) -> tuple[Avatar, list[str]]:
    """Give heads hair; returns new avatars, and what there is to say about it, a line each.

    style: "auto", "none", a name of `hair.PRESETS`, or a `HairStyle`
    scene, photo `[1, 3, H, W]`: for "auto", the photo that one head was fitted to, and its scene. Without them each
        head gets hair that suits its face and its painted scalp, by `seed`
    changes: what an artist changes about the style, see `hair.artist.adjust`

    Raises UserError for an unknown style, or a photo and a batch of heads.
    """
    if style == "none":
        return avatar.with_hair(None), []
    notes: list[str] = []
    styles: list[HairStyle | None]
    if isinstance(style, HairStyle):
        styles = [style.with_(seed=seed + i) for i in range(len(avatar))]
    elif style in PRESETS:
        styles = [PRESETS[style].with_(seed=seed + i) for i in range(len(avatar))]
    elif style != "auto":
        raise UserError(f"Unknown hair style '{style}'; choose auto, none, or one of {', '.join(PRESETS)}.")
    elif photo is None or scene is None:
        styles = [suitable_style(avatar[i], seed) for i in range(len(avatar))]
    else:
        found, notes = fit_hair(avatar, scene.detach(), photo.to(avatar.shape.device), seed)
        styles = [found]
    return avatar.with_hair(*(None if s is None else adjust(s, **changes) for s in styles)), notes


def render_avatar(
    avatar: Avatar,
    scene: Scene | None = None,
    size: int | tuple[int, int] = 512,
    light: Light | None = None,
    camera: Camera | None = None,
    background: tuple[float, float, float] | None = (0.18, 0.18, 0.18),
) -> tuple[Tensor, Tensor]:
    """Render an avatar in a scene -> (sRGB `[B, 3, H, W]`, mask `[B, 1, H, W]`).

    scene: None is a studio portrait. light, camera: replace those of the scene. size: pixels, (H, W) or one side
    background: linear RGB

    Values are not compressed: what is brighter than white is clipped. `photograph` makes pictures to look at.
    """
    image, mask = render_radiance(avatar, scene, size, light, camera, background)
    return linear_to_srgb(image).clamp(0, 1), mask


def render_radiance(
    avatar: Avatar,
    scene: Scene | None = None,
    size: int | tuple[int, int] = 512,
    light: Light | None = None,
    camera: Camera | None = None,
    background: tuple[float, float, float] | None = None,
) -> tuple[Tensor, Tensor]:
    """Linear radiance `[B, 3, H, W]` and mask `[B, 1, H, W]`; arguments as `render_avatar`. None is black."""
    scene = scene or Scene.portrait(len(avatar), avatar.shape.device)
    size = (size, size) if isinstance(size, int) else size
    return render_with_hair(avatar, scene, camera or scene.camera, light or scene.light, size, background)


@torch.no_grad()
def photograph(
    avatar: Avatar,
    scene: Scene | None = None,
    size: int | tuple[int, int] = 512,
    light: Light | None = None,
    camera: Camera | None = None,
    backdrop: str = "studio",
    tone: str = "film",
    expose: bool = False,
) -> tuple[Tensor, Tensor]:
    """A picture to look at -> (sRGB `[B, 3, H, W]`, mask `[B, 1, H, W]`); arguments as `render_avatar`, and

    backdrop: one of `render.backdrop.BACKDROPS`; "studio" has the head's soft shadow on it
    tone: one of `render.tone.TONES`
    expose: change the exposure where the face would be black or burnt out
    Raises UserError for an unknown backdrop or tone.
    """
    scene = scene or Scene.portrait(len(avatar), avatar.shape.device)
    camera, light = camera or scene.camera, light or scene.light
    radiance, mask = render_radiance(avatar, scene, size, light, camera)
    return finish(radiance, mask, camera, light, backdrop, tone, expose), mask


@torch.no_grad()
def finish(
    radiance: Tensor,
    mask: Tensor,
    camera: Camera,
    light: Light,
    backdrop: str = "studio",
    tone: str = "film",
    expose: bool = False,
) -> Tensor:
    """Linear radiance `[B, 3, H, W]` over black, and its mask -> the sRGB picture; the rest as in `photograph`."""
    if expose:
        radiance = radiance * face_exposure(radiance, mask)[:, None, None, None]
    head = film(radiance) if check_tone(tone) == "film" else radiance
    wall = backdrop_image(backdrop, (radiance.shape[2], radiance.shape[3]), radiance)
    if backdrop == "studio" and light.direction.shape[1]:
        wall = wall * wall_shadow(mask, camera, light)
    return linear_to_srgb((head + (1 - mask) * wall).clamp(0, 1))
