"""Parts of a head that a picture tells apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ..head import HeadModel
    from ..head.whole import WholeHead

SKIN, EYE, TEETH, MOUTH, WET = range(5)  # kinds of surface
# parts of the pass of ids, from id 1 on, and their colours, sRGB in 8 bits
PARTS = {
    "skin": (224, 164, 136),
    "lips": (214, 58, 84),
    "left eye": (64, 132, 255),
    "right eye": (24, 208, 214),
    "teeth": (250, 248, 214),
    "mouth": (122, 18, 40),
    "hair": (104, 62, 188),
}


def vertex_kinds(head: HeadModel | WholeHead) -> Tensor:
    """SKIN to WET of each vertex, `[V]` int64."""
    kinds = torch.zeros(len(head.uv), dtype=torch.long)
    own = getattr(head, "head", head)
    if not hasattr(own, "n_vertices"):
        return kinds
    kinds[own.n_skin - own.n_teeth : own.n_skin] = TEETH
    kinds[own.n_skin : own.n_vertices] = EYE
    parts: dict[str, slice] = getattr(head, "parts", {})
    for name, kind in (("Mouth", MOUTH), ("EyeWet", WET)):
        if name in parts:
            kinds[parts[name]] = kind
    return kinds


def vertex_parts(head: HeadModel | WholeHead) -> Tensor:
    """Ids from `PARTS` of each vertex, `[V]` int64. Lips, which are texture, count as skin here."""
    names = list(PARTS)
    kinds = vertex_kinds(head)
    table = torch.tensor([1, 0, 1 + names.index("teeth"), 1 + names.index("mouth"), 1 + names.index("skin")])
    found = table[kinds]
    eyes = torch.nonzero(kinds == EYE).squeeze(1)  # the left eye's vertices come first
    half = len(eyes) // 2
    found[eyes[:half]] = 1 + names.index("left eye")
    found[eyes[half:]] = 1 + names.index("right eye")
    return found
