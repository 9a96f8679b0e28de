"""Identities: features of a person from one photo or several, and blends of two people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ..batching import entry
from ..errors import UserError
from ..face import Face, FaceSource
from .recognizer import Features, Recognizer


@dataclass
class PhotoFeatures:
    """Features of single photos (one for each of B people) and of their mirror images.

    They give the mean of the shape. Side light causes opposite errors in a photo and its mirror image. The position
    of a contour must come from a single photo, because it is blurred in the averaged activations of several.

    photo, mirrored: features of the crop and of the flipped crop
    weight: `[B]`, the photo's share in its identity; the shares of one identity sum to 1
    """

    photo: Features
    mirrored: Features
    weight: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> PhotoFeatures:
        """A copy with `change` applied to all tensors."""
        photo, mirrored = (
            Features(change(f.embedding), tuple(map(change, f.activations))) for f in (self.photo, self.mirrored)
        )
        return PhotoFeatures(photo, mirrored, change(self.weight))


@dataclass
class Identity:
    """Features of B people.

    embedding: `[B, D]`, unit length
    activations: activation layers, `[B, C, h, w]` each, finest first
    crop: `[B, 3, S, S]`, sRGB 0..1, the aligned photo
    recognizer: name of the recogniser; identities of different recognisers cannot be mixed
    views: features of the single photos; empty if unknown
    sources: the faces that it was encoded from; empty if unknown, and for a person between two
    """

    embedding: Tensor
    activations: tuple[Tensor, ...]
    crop: Tensor
    recognizer: str
    views: tuple[PhotoFeatures, ...] = ()
    sources: tuple[FaceSource, ...] = ()

    def __len__(self) -> int:
        return self.embedding.shape[0]

    def to(self, device: torch.device | str) -> Identity:
        """A copy on `device`."""
        activations, views = (
            tuple(a.to(device) for a in self.activations),
            tuple(v.map(lambda t: t.to(device)) for v in self.views),
        )
        embedding, crop = self.embedding.to(device), self.crop.to(device)
        return replace(self, embedding=embedding, activations=activations, crop=crop, views=views)


@torch.no_grad()
def encode_crops(crop: Tensor, recognizer: Recognizer) -> Identity:
    """Aligned crops `[B, 3, S, S]` of B people, sRGB 0..1 -> their identities, batch B."""
    photo = recognizer(crop)
    view = PhotoFeatures(photo, recognizer(crop.flip(3)), crop.new_ones(len(crop)))
    return Identity(photo.embedding, photo.activations, crop, recognizer.name, (view,))


@torch.inference_mode(False)  # the identity may later condition a guided sampler, which differentiates
@torch.no_grad()
def encode_identity(photos: Sequence[Tensor], recognizer: Recognizer, faces: Sequence[Face]) -> Identity:
    """Identity of one person (B = 1) from one photo or several.

    photos: `[3, H, W]` each, of any sizes, sRGB 0..1
    faces: the face of each photo

    The embeddings of several photos are averaged and normalised, their activations are averaged (they are aligned).
    Each photo is a view. The crop is that of the photo nearest to the average. Raises UserError for no photo, or
    another number of faces than of photos.
    """
    if not photos:
        raise UserError("There is no photo to take an identity from; give at least one.")
    if len(faces) != len(photos):
        raise UserError(f"{len(faces)} faces for {len(photos)} photos: give one for each photo, in their order.")
    crops = []
    for photo, face in zip(photos, faces, strict=True):
        image = photo[None].to(recognizer.template)
        crops.append(recognizer.crop(image, recognizer.matrix(face.mesh[None])))
    each = encode_crops(torch.cat(crops), recognizer)
    mean = F.normalize(each.embedding.mean(0, keepdim=True), dim=-1)
    nearest = int((each.embedding @ mean[0]).argmax())
    view, n = each.views[0], len(crops)
    views = tuple(replace(view, weight=view.weight / n).map(partial(entry, i=i)) for i in range(n))
    activations = tuple(a.mean(0, keepdim=True) for a in each.activations)
    sources = tuple(map(FaceSource.of, faces))
    return Identity(mean, activations, crops[nearest], recognizer.name, views, sources)


@torch.no_grad()
def embedding_outliers(embedding: Tensor, recognizer: Recognizer) -> list[tuple[int, int, float]]:
    """Photos that seem to show another person: (index, index of the photo compared with, distance / threshold above 1).

    embedding: `[N, D]`, one photo each. Each photo is compared with the one that is nearest to all others; of two
    photos, the second with the first.
    """
    n = len(embedding)
    distance = recognizer.distance(embedding.repeat_interleave(n, 0), embedding.repeat(n, 1)).view(n, n)
    centre = min(range(n), key=distance.sum(1).tolist().__getitem__)  # the first of equals
    share = (distance[centre] / recognizer.same_threshold).tolist()
    return [(i, centre, s) for i, s in enumerate(share) if i != centre and s > 1]


def identity_outliers(identity: Identity, recognizer: Recognizer) -> list[tuple[int, int, float]]:
    """`embedding_outliers` of the photos that an identity of one person was encoded from."""
    if len(identity.views) < 2:
        return []
    return embedding_outliers(torch.cat([view.photo.embedding for view in identity.views]), recognizer)


def blend_identities(a: Identity, b: Identity, weight: float) -> Identity:
    """Interpolation of two identities: spherical for the embedding, linear for activations and crop.

    a, b: identities of equal batch size, or one of batch 1, which is blended with each entry of the other
    weight: 0 gives `a`, 1 gives `b`
    Raises UserError if the recognisers or batch sizes do not match.
    """
    if a.recognizer != b.recognizer:
        raise UserError(
            f"Cannot blend identities of two recognisers ({a.recognizer} and {b.recognizer}); encode both with the "
            "same one."
        )
    if len(a) != len(b) and 1 not in (len(a), len(b)):
        raise UserError(f"Cannot blend {len(a)} identities with {len(b)}; give as many of each, or one.")
    b = b.to(a.embedding.device)
    activations = tuple(torch.lerp(x, y, weight) for x, y in zip(a.activations, b.activations, strict=True))
    embedding = slerp(a.embedding, b.embedding, weight)
    views: tuple[PhotoFeatures, ...] = ()
    if a.views and b.views:
        n = len(embedding)
        views = tuple(
            replace(v, weight=share * v.weight).map(lambda t: t.expand(n, *t.shape[1:]))
            for one, share in ((a, 1 - weight), (b, weight))
            for v in one.views
        )
    return Identity(embedding, activations, torch.lerp(a.crop, b.crop, weight), a.recognizer, views)


def walk_identities(a: Identity, b: Identity, frames: int) -> Identity:
    """Identities of batch `frames` from person `a` (first) to person `b` (last), in even steps of `blend_identities`.

    a, b: identities of batch 1
    frames: number of steps including both ends, at least 2
    Raises UserError for fewer frames, for a larger batch, or if the recognisers differ.
    """
    if frames < 2:
        raise UserError(f"A walk needs at least 2 frames, its ends (got {frames}).")
    if len(a) != 1 or len(b) != 1:
        raise UserError(
            f"A walk leads from one person to another (got {len(a)} and {len(b)}); connect one identity at each end."
        )
    steps = [blend_identities(a, b, i / (frames - 1)) for i in range(frames)]
    activations = tuple(torch.cat(layer) for layer in zip(*(s.activations for s in steps), strict=True))
    views = tuple(
        replace(each[0].map(lambda t: t.expand(frames, *t.shape[1:])), weight=torch.cat([v.weight for v in each]))
        for each in zip(*(s.views for s in steps), strict=True)
    )  # every step has the same photos; only their weights differ
    return Identity(
        torch.cat([s.embedding for s in steps]), activations, torch.cat([s.crop for s in steps]), a.recognizer, views
    )


def slerp(a: Tensor, b: Tensor, weight: float) -> Tensor:
    """Spherical interpolation of unit vectors `[B, D]`, weight 0..1; linear for nearly parallel vectors."""
    cosine = (a * b).sum(-1, keepdim=True).clamp(-1, 1)
    angle = torch.acos(cosine)
    sine = torch.sin(angle)
    arc = (torch.sin((1 - weight) * angle) * a + torch.sin(weight * angle) * b) / sine.clamp(min=1e-4)
    return F.normalize(torch.where(sine > 1e-3, arc, torch.lerp(a, b, weight)), dim=-1)
