"""FitDiff, step by step: each function is one step of the method and one ComfyUI node.

    identity = encode(photo, recognizer)                     photo -> embedding and activation layers
    guidance = prepare_guidance(photo, model, recognizer)    photo -> scene, and losses through the renderer
    latent, scene = sample(model, identity, guidance)        noise -> latent of texture and shape, T = 50 steps
    avatar = decode(model, latent)                           latent -> maps and shape
    detail = add_photo_detail(model, avatar, scene, photo)   optional: .avatar has the photo's own detail where it is seen well
    image, mask = render_avatar(avatar, scene)               maps, shape, scene -> picture

Images are sRGB `[B, 3, H, W]` in 0..1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .avatar import Avatar
from .detail import PhotoDetail, photo_detail
from .errors import UserError
from .face import Face, external_faces, load_detector
from .guidance import Guidance, GuidanceWeights, GuidedDenoiser, as_guidances, strangers
from .guidance import prepare_guidance as _prepare_guidance
from .identity import Identity, Recognizer, encode_identity, load_recognizer
from .image import linear_to_srgb
from .model.checkpoint import FitDiffModel, load_model
from .model.denoiser import Condition, pack_latent, unpack_latent
from .model.samplers import SAMPLERS, sigmas
from .render import Camera, Light, render
from .scene import Scene

__all__ = [
    "Callback",
    "add_photo_detail",
    "condition",
    "decode",
    "encode",
    "find_faces",
    "load_model",
    "load_recognizer",
    "noise",
    "prepare_guidance",
    "prepare_photos",
    "render_avatar",
    "sample",
    "sample_scenes",
    "scale_noise",
    "strangers",
]

CFG = 1.5  # scale of the classifier-free guidance; docs/design.md compares it with 1
VARIATION = 0.2  # see `scale_noise`
Callback = Callable[[int, int, Tensor], None]
"""`callback(i, n, denoised)` after step i of n; an exception raised in it ends the sampling."""


def encode(
    photos: Sequence[Tensor] | Tensor,
    recognizer: Recognizer,
    which: str | int = "largest",
    faces: Sequence[Face] | None = None,
) -> Identity:
    """Photos of one person `[B, 3, H, W]` (or a list of `[3, H, W]`) -> their mean identity, batch 1.

    faces: of `find_faces`; None looks for the face itself. Raises UserError where a photo shows no face.
    """
    return encode_identity(photos, recognizer, load_detector(device=recognizer.device), which, faces)


def find_faces(
    photos: Tensor,
    recognizer: Recognizer,
    which: str | int = "largest",
    landmarks: Mapping[str, Any] | None = None,
    boxes: Any = None,
) -> list[Face] | None:
    """The faces that ComfyUI's FACE_LANDMARKS or BOUNDING_BOX point out in the photos: see `identity.external_faces`.

    None where neither is given, which leaves it to our own detector.
    """
    if landmarks is None and boxes is None:
        return None
    return external_faces(photos, load_detector(device=recognizer.device), which, landmarks, boxes)


def prepare_guidance(
    photo: Tensor,
    model: FitDiffModel,
    recognizer: Recognizer,
    weights: GuidanceWeights | None = None,
    sigma_window: tuple[float, float] | None = None,
    which: str | int = "largest",
    face: Face | None = None,
    mask: Tensor | None = None,
) -> Guidance:
    """Fit the scene (camera, expression, light) of photo `[1, 3, H, W]` and set up the losses that pull towards it.

    sigma_window: (start, end) noise levels between which the guidance acts; None takes the default.
    face: of `find_faces`; None looks for the face itself.
    mask: `[1, 1, H, W]`, 1 where the photo may be used; None: where no hair or hand is found (`guidance.visible_mask` says where).
    """
    detector = load_detector(device=recognizer.device)
    guidance = _prepare_guidance(
        photo, model.head, recognizer, detector, weights=weights, which=which, face=face, mask=mask
    )
    return guidance if sigma_window is None else replace(guidance, sigma_window=sigma_window)


def prepare_photos(
    photos: Sequence[Tensor] | Tensor,
    model: FitDiffModel,
    recognizer: Recognizer,
    weights: GuidanceWeights | None = None,
    sigma_window: tuple[float, float] | None = None,
    which: str | int = "largest",
    faces: Sequence[Face] | None = None,
    masks: Sequence[Tensor] | None = None,
) -> list[Guidance]:
    """`prepare_guidance` of each of several photos of one person: `[B, 3, H, W]`, or a list of `[1, 3, H, W]` of any sizes.

    faces: the face of each photo, where they are known. masks: of each photo. `strangers` says who looks like another.
    Raises UserError for no photo, for another number of masks, and, with its number, for a photo without a face.
    """
    if masks is not None and len(masks) != len(photos):
        raise UserError(f"{len(masks)} masks for {len(photos)} photos: give one for each photo, in their order.")
    found = []
    for i, photo in enumerate(photos):
        photo = photo if photo.ndim == 4 else photo[None]
        try:
            face, mask = faces and faces[i], None if masks is None else masks[i]
            found.append(prepare_guidance(photo, model, recognizer, weights, sigma_window, which, face, mask))
        except UserError as e:
            if len(photos) == 1:
                raise
            raise UserError(f"Photo {i + 1} of {len(photos)}: {e}") from None
    return list(as_guidances(found))


def condition(model: FitDiffModel, identity: Identity | None) -> Condition | None:
    """What the denoiser sees of an identity. Raises UserError where another recogniser made it."""
    if identity is None:
        return None
    if identity.recognizer != model.recognizer:
        raise UserError(
            f"This checkpoint was trained with the recogniser '{model.recognizer}', the identity comes from "
            f"'{identity.recognizer}'. Encode the photo with '{model.recognizer}'; others may still guide the sampling."
        )
    if len(identity) == 0:
        raise UserError("The identity is empty; encode a photo.")
    c = model.denoiser.config
    seen = (identity.embedding.shape[1], *(a.shape[1] for a in identity.activations))
    if seen != (c.embedding, *c.activations):
        raise UserError(
            f"The identity has features of sizes {seen}, this checkpoint takes {(c.embedding, *c.activations)}. Encode the "
            "photo again, with the recogniser of this release."
        )
    seen_in = [f for v in identity.views for f in (v.photo, v.mirrored)]
    if not all(torch.isfinite(x).all() for f in (identity, *seen_in) for x in (f.embedding, *f.activations)):
        raise UserError("The identity holds NaN or infinite values; encode the photo again.")
    identity = identity.to(model.device)
    return Condition(identity.embedding, identity.activations, identity.views)


def noise(model: FitDiffModel, seed: int, batch: int = 1) -> Tensor:
    """Unit noise `[B, C + 1, h, w]`; entry i equals what seed + i gives alone, on every device."""
    shape = model.latent_shape
    rows = [torch.randn(shape, generator=torch.Generator().manual_seed((seed + i) % 2**63)) for i in range(batch)]
    return torch.stack(rows).to(model.device)


def scale_noise(model: FitDiffModel, noise: Tensor, noise_scale: float) -> Tensor:
    """Initial noise with its component in the identity subspace (texture modes and shape) scaled.

    noise: `[B, C + 1, h, w]`, unit noise
    noise_scale: 0..1. 0 samples the most likely head of the photo, 1 leaves the noise unchanged. A random deviation adds
        an error about as large as that of the most likely head (docs/design.md), so a small value gives more likeness
    Fine detail of the skin, outside the subspace, keeps its noise.
    """
    if noise_scale == 1:
        return noise
    texture, shape = unpack_latent(noise, model.head.n_identity)
    return pack_latent(*model.denoiser.prior.scale_noise(texture, shape, noise_scale))


def sample_scenes(
    model: FitDiffModel,
    identity: Identity | None = None,
    guidance: Guidance | Sequence[Guidance] | None = None,
    seed: int = 0,
    steps: int = 50,
    cfg_scale: float = CFG,
    batch: int = 1,
    sampler: str = "ddim",
    callback: Callback | None = None,
    variation: float = VARIATION,
) -> tuple[Tensor, list[Scene]]:
    """Reverse diffusion (Sec. 3 of the paper): identity-conditioned, optionally guided through the renderer.

    identity: None samples a new person. guidance: None leaves the sample to the prior; that of several photos of one
    person fits one head to all of them. variation: see `scale_noise`; a new person is always a full draw.
    Identities of N people with batch 1 give N heads that start from the same noise, so that only the people differ.
    Returns the latent `[B, C + 1, h, w]` (texture, and the shape vector in the last plane) and the scenes: those of the
    guidance's photos, refined, in their order, or a studio portrait's.
    """
    if sampler not in SAMPLERS:
        raise UserError(f"Unknown sampler '{sampler}'; choose one of {', '.join(SAMPLERS)}.")
    if steps < 1 or batch < 1:
        raise UserError(f"steps and batch must be at least 1 (got {steps} and {batch}).")
    if not 0 <= variation <= 1:
        raise UserError(f"variation must be from 0 to 1 (got {variation}).")
    if not math.isfinite(cfg_scale):
        raise UserError(f"cfg must be a finite number (got {cfg_scale}); {CFG} is usual.")
    cond = condition(model, identity)
    people = 1 if identity is None else len(identity)
    if batch not in (1, people) and people != 1:
        raise UserError(
            f"{people} identities and a batch of {batch}; set batch to 1 (one noise for all) or to {people} (one each), or "
            "connect one identity."
        )

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return model.denoiser(x, sigma, cond, cfg_scale=cfg_scale)

    model_fn = denoise if guidance is None else GuidedDenoiser(denoise, model, guidance)
    schedule = sigmas(steps).to(model.device)

    def report(i: int, n: int, x: Tensor, denoised: Tensor) -> None:
        if callback is not None:
            callback(i, n, denoised)

    start = noise(model, seed, batch)
    if cond is not None:
        start = scale_noise(model, start, variation)
    if people > batch:
        start = start.repeat(people, 1, 1, 1)
    with torch.no_grad():
        latent = SAMPLERS[sampler](model_fn, start * schedule[0], schedule, report)
    if guidance is None:
        return latent.detach(), [Scene.portrait(len(start), model.device)]
    return latent.detach(), [scene.detach() for scene in model_fn.scenes]


def sample(
    model: FitDiffModel,
    identity: Identity | None = None,
    guidance: Guidance | Sequence[Guidance] | None = None,
    **settings: Any,
) -> tuple[Tensor, Scene]:
    """`sample_scenes`, whose further settings it takes, and of the scenes the first: that of a single photo."""
    latent, scenes = sample_scenes(model, identity, guidance, **settings)
    return latent, scenes[0]


def decode(model: FitDiffModel, latent: Tensor, texture_size: int = 512) -> Avatar:
    """Latent `[B, C + 1, h, w]` -> avatar: three heads decode the maps, the last plane is the shape vector."""
    expected = model.latent_shape
    if latent.ndim != 4 or tuple(latent.shape[1:]) != tuple(expected):
        raise UserError(
            f"This latent is {tuple(latent.shape)}; this model's are [B, {', '.join(map(str, expected))}]. "
            "Connect a latent made by the FitDiff sampler with the same checkpoint."
        )
    if not torch.isfinite(latent).all():
        raise UserError("The latent holds NaN or infinite values; lower the guidance weights or the cfg.")
    texture, shape = unpack_latent(latent.to(model.device).float(), model.head.n_identity)
    maps = model.autoencoder.maps(texture)
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
    """The avatar with the photo's own detail where the photo `[1, 3, H, W]` shows the skin well (see `detail/`).

    scene: of the guided sampling that made the avatar. mask: `[1, 1, H, W]`, 1 where the photo may be used; None finds hair
    and hands itself. strength: 0 (pure FitDiff) to 1. texture_size: of the maps; None keeps it. identity: who it is, which
    helps to fill what is hidden. With the avatar comes the share of each texel that came from the photo, `.weight`
    `[1, 1, S, S]`. Raises UserError for a batch, a scene without a photo, sizes that do not fit.
    """
    cond = condition(model, identity)
    photo, scene = photo.to(model.device), scene.detach()
    mask = None if mask is None else mask.to(model.device)
    return photo_detail(model, avatar, scene, photo, mask, strength, texture_size, cond, seed)


def render_avatar(
    avatar: Avatar,
    scene: Scene | None = None,
    size: int | tuple[int, int] = 512,
    light: Light | None = None,
    camera: Camera | None = None,
    background: Sequence[float] | None = (0.18, 0.18, 0.18),
) -> tuple[Tensor, Tensor]:
    """Avatar in a scene -> (sRGB `[B, 3, H, W]`, mask `[B, 1, H, W]`). `light` and `camera` replace the scene's.

    background: linear RGB.
    """
    scene = scene or Scene.portrait(len(avatar), avatar.shape.device)
    size = (size, size) if isinstance(size, int) else size
    with torch.no_grad():
        out = render(
            avatar.vertices(scene),
            avatar.head,
            avatar.maps,
            camera or scene.camera,
            light or scene.light,
            size=size,
            background=background,
        )
    return linear_to_srgb(out.image).clamp(0, 1), out.mask
