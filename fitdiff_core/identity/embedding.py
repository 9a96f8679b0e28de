"""Identities: what a recogniser knows of a person, from one photo or several, and blends of two people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UserError
from .detect import Face, FaceDetector, select_face
from .recognizer import Features, Recognizer


@dataclass
class Identity:
    """B people as a recogniser sees them.

    embedding: `[B, D]` unit length; activations: tuple of `[B, C, h, w]`; crop: `[B, 3, S, S]` sRGB, the aligned photo
    recognizer: the name of the recogniser; identities of different recognisers cannot be mixed
    mirrored: what the recogniser says of the crop's mirror image. Light from one side deceives both in opposite ways.
    """

    embedding: Tensor
    activations: tuple[Tensor, ...]
    crop: Tensor
    recognizer: str
    mirrored: Features | None = None

    def __len__(self) -> int:
        return self.embedding.shape[0]

    @property
    def features(self) -> Features:
        return Features(self.embedding, self.activations)

    def to(self, device: torch.device | str) -> Identity:
        features, mirrored = ((f and Features(f.embedding.to(device), tuple(a.to(device) for a in f.activations)))
                              for f in (self.features, self.mirrored))
        return Identity(*features, self.crop.to(device), self.recognizer, mirrored)


@torch.no_grad()
def identity_of(crop: Tensor, recognizer: Recognizer) -> Identity:
    """Aligned crops `[B, 3, S, S]` of B people, sRGB 0..1 -> their identities."""
    return Identity(*recognizer(crop), crop, recognizer.name, recognizer(crop.flip(3)))


@torch.inference_mode(False)  # the identity may later condition a guided, that is differentiated, sampler
@torch.no_grad()
def encode_identity(
    photos: Sequence[Tensor] | Tensor,
    recognizer: Recognizer,
    detector: FaceDetector,
    which: str | int = "largest",
    faces: Sequence[Face] | None = None,
) -> Identity:
    """One person's identity (B = 1) from one photo or several.

    photos: `[B, 3, H, W]`, or a list of `[3, H, W]` or `[1, 3, H, W]` of any sizes; sRGB 0..1
    which: the face to take in each photo: "largest" or an index, largest first
    faces: the face of each photo where they are known; then the detector does not look
    Several photos: embeddings are averaged and made unit length again, activations are averaged (they are aligned);
    the crop is that of the photo nearest to the average. Raises UserError if a photo shows no such face.
    """
    photos = [p for photo in photos for p in (photo if photo.ndim == 4 else photo[None])]
    if not photos:
        raise UserError("There is no photo to take an identity from; give at least one.")
    crops = []
    for i, photo in enumerate(photos):
        try:
            face = faces[i] if faces else select_face(detector.detect(photo), which)
        except UserError as e:
            if len(photos) == 1:
                raise
            raise UserError(f"Photo {i + 1} of {len(photos)}: {e}") from None
        image = photo[None].to(recognizer.template)
        crops.append(recognizer.crop(image, recognizer.matrix(face.mesh[None])))
    each = identity_of(torch.cat(crops), recognizer)
    mean, mirrored = (Features(F.normalize(f.embedding.mean(0, keepdim=True), dim=-1), tuple(a.mean(0, keepdim=True) for a in f.activations))
                      for f in (each.features, each.mirrored))
    nearest = int((each.embedding @ mean.embedding[0]).argmax())
    return Identity(*mean, crops[nearest], recognizer.name, mirrored)


def blend_identities(a: Identity, b: Identity, weight: float) -> Identity:
    """From `a` (weight 0) to `b` (weight 1): along the great circle on the embedding, linear on activations and crop.

    A batch of one is blended with every entry of the other. Raises UserError if the recognisers differ.
    """
    if a.recognizer != b.recognizer:
        raise UserError(
            f"Cannot blend identities of two recognisers ({a.recognizer} and {b.recognizer}); encode both with the same one."
        )
    if len(a) != len(b) and 1 not in (len(a), len(b)):
        raise UserError(f"Cannot blend {len(a)} identities with {len(b)}; give as many of each, or one.")
    b = b.to(a.embedding.device)

    def blended(x: Features | None, y: Features | None) -> Features | None:
        if x is None or y is None:
            return None
        activations = tuple(torch.lerp(p, q, weight) for p, q in zip(x.activations, y.activations, strict=True))
        return Features(slerp(x.embedding, y.embedding, weight), activations)

    features, mirrored = blended(a.features, b.features), blended(a.mirrored, b.mirrored)
    return Identity(*features, torch.lerp(a.crop, b.crop, weight), a.recognizer, mirrored)


def walk_identities(a: Identity, b: Identity, frames: int) -> Identity:
    """`frames` people on the way from person `a` (the first) to person `b` (the last), in even steps of `blend_identities`.

    Raises UserError for fewer than two frames, for several people at an end, or if the recognisers differ.
    """
    if frames < 2:
        raise UserError(f"A walk needs at least 2 frames, its ends (got {frames}).")
    if len(a) != 1 or len(b) != 1:
        raise UserError(f"A walk leads from one person to another (got {len(a)} and {len(b)}); connect one identity at each end.")
    steps = [blend_identities(a, b, i / (frames - 1)) for i in range(frames)]

    def joined(each: list[Features | None]) -> Features | None:
        if None in each:
            return None
        layers = tuple(torch.cat(layer) for layer in zip(*(f.activations for f in each), strict=True))
        return Features(torch.cat([f.embedding for f in each]), layers)

    crops = torch.cat([s.crop for s in steps])
    return Identity(*joined([s.features for s in steps]), crops, a.recognizer, joined([s.mirrored for s in steps]))


def slerp(a: Tensor, b: Tensor, weight: float) -> Tensor:
    """Spherical interpolation of unit vectors `[B, D]`; nearly parallel ones are interpolated linearly."""
    cosine = (a * b).sum(-1, keepdim=True).clamp(-1, 1)
    angle = torch.acos(cosine)
    sine = torch.sin(angle)
    arc = (torch.sin((1 - weight) * angle) * a + torch.sin(weight * angle) * b) / sine.clamp(min=1e-4)
    return F.normalize(torch.where(sine > 1e-3, arc, torch.lerp(a, b, weight)), dim=-1)
