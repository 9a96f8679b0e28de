"""Which face of a photo is meant: the orders of faces, the choice, and the record of what was chosen."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import UserError
from .detect import Face, box_order, same_face

ORDERS = ("largest", "left-to-right")


def parse_choice(which: str | int) -> tuple[str, int]:
    """What `which` says: (order, index in that order).

    which: an index (from 0, largest first), "largest", "left-to-right", or an order and an index: "left-to-right:2"
    Raises UserError for anything else.
    """
    order, _, index = str(which).strip().lower().replace(" ", "-").replace("_", "-").rpartition(":")
    if not order:
        order, index = (index, "0") if index in ORDERS else (ORDERS[0], index)
    if isinstance(which, bool) or order not in ORDERS or not index.lstrip("-").isdecimal():
        raise UserError(
            f"Which face? Give 'largest' or an index from 0 (largest first), or 'left-to-right', which may have an "
            f"index too: 'left-to-right:2'; not {which!r}."
        )
    return order, int(index)


def order_faces(faces: Sequence[Face], order: str = "largest") -> list[Face]:
    """Faces in an order of `ORDERS`. "largest": faces of about the same size stand from left to right."""
    return [faces[i] for i in box_order([face.box for face in faces], left_to_right=order == ORDERS[1])]


def select_face(faces: Sequence[Face], which: str | int = "largest") -> Face:
    """The face that `which` (see `parse_choice`) selects. Raises UserError if there is none."""
    if not faces:
        raise UserError(
            "No face was found in the photo. Use one in which the face is visible, upright and at least about "
            "40 pixels wide."
        )
    order, index = parse_choice(which)
    if not 0 <= index < len(faces):
        n = f"{len(faces)} faces were" if len(faces) > 1 else "only one face was"
        first = "largest first" if order == ORDERS[0] else "from left to right"
        raise UserError(
            f"There is no face number {index}: {n} found. Use an index from 0 to {len(faces) - 1}, {first}."
        )
    return order_faces(faces, order)[index]


def photo_digest(photo: Tensor) -> str:
    """A name for the pixels of a photo `[3, H, W]`: equal for equal photos only."""
    pixels = photo.detach().contiguous().cpu().numpy()
    return hashlib.blake2b(pixels.tobytes(), digest_size=16).hexdigest() + "x".join(map(str, pixels.shape))


@dataclass(frozen=True)
class FaceSource:
    """Where an identity or a guidance comes from.

    photo: `photo_digest` of the photo; empty if unknown
    box: x0, y0, x1, y1 of the face in pixels
    """

    photo: str
    box: tuple[float, float, float, float]

    @classmethod
    def of(cls, face: Face) -> FaceSource:
        """The source of what is computed from a face."""
        x0, y0, x1, y1 = face.box.tolist()
        return cls(face.photo, (x0, y0, x1, y1))


def check_same_face(first: Sequence[FaceSource], second: Sequence[FaceSource], names: tuple[str, str]) -> None:
    """Raise UserError if two sources name different faces of one photo.

    names: what the sources are of, for the message
    """
    for b in second:
        boxes = [a.box for a in first if a.photo and a.photo == b.photo]
        if boxes and not any(same_face(torch.tensor(box), torch.tensor(b.box)) for box in boxes):
            where = [f"{round(x1 - x0)} x {round(y1 - y0)} px at {round(x0)}, {round(y0)}"
                     for x0, y0, x1, y1 in (boxes[0], b.box)]  # fmt: skip
            raise UserError(
                f"{names[0]} and {names[1]} take different faces of the same photo ({where[0]}, and {where[1]}). Set "
                "the same face on both nodes, or connect one FitDiff Find Faces to both."
            )


@dataclass(frozen=True)
class ChosenFaces:
    """The faces of photos, and which one is meant in each: chosen once, used by every later step.

    found: the faces of each photo in the order that was asked for. chosen: one face for each photo
    """

    found: tuple[tuple[Face, ...], ...]
    chosen: tuple[Face, ...]

    def of(self, photos: Sequence[Tensor]) -> list[Face]:
        """The chosen faces of the photos `[3, H, W]`. Raises UserError if the faces are of other photos."""
        if len(photos) != len(self.chosen):
            raise UserError(
                f"The faces are of {len(self.chosen)} images, here are {len(photos)}; connect the same batch to both "
                "nodes."
            )
        for photo, face in zip(photos, self.chosen, strict=True):
            if face.photo and face.photo != photo_digest(photo):
                raise UserError("The faces were found in another image; connect the same image to both nodes.")
        return list(self.chosen)
