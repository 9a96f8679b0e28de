"""The skin under the hair: painted hair that a head's maps may show is taken off where cards grow in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from ..filters import dilate, gaussian_blur
from ..head.inner_mouth import paint_mouth
from ..maps import TextureMaps
from ..vectors import unit
from .scalp import Scalp
from .style import HairStyle

if TYPE_CHECKING:
    from ..avatar import Avatar
    from ..head import HeadModel

BAND = 0.034  # metres of forehead below the natural hairline that may show painted hair
SIZE = 256  # of the mask
SKIN_LIKE, OTHER = 0.12, 0.35  # log distance from the skin's colour: up to the first it is skin, from the second hair
_areas = WeakTensorKeyDictionary()
_worn = WeakTensorKeyDictionary()


def worn_maps(avatar: Avatar) -> TextureMaps:
    """The maps as they are drawn and exported: those of the avatar, with bare skin where one head wears hair.

    Heads with an inner mouth have its colours in their patch. The avatar's own maps never change. The bald style has
    bare skin as well. They are made once and kept as long as the avatar's diffuse map.
    """
    bare = tuple(style is not None for style in avatar.hair or ())
    mouth = getattr(avatar.head, "inner_mouth", None) is not None
    if not mouth and not any(bare):
        return avatar.maps
    made_of = (avatar.head, avatar.maps.specular, avatar.maps.normal)
    kept = _worn.get(avatar.maps.diffuse)
    if kept is None or kept[0] != bare or any(a is not b for a, b in zip(kept[1], made_of, strict=True)):
        maps = _bare_maps(avatar)
        if mouth:
            maps = TextureMaps.from_stack(paint_mouth(maps.stack()))
        kept = _worn[avatar.maps.diffuse] = bare, made_of, maps
    return kept[2]


def _bare_maps(avatar: Avatar) -> TextureMaps:
    styles = avatar.hair or ()
    if not any(style is not None for style in styles):
        return avatar.maps
    bare = [
        avatar.maps[i] if style is None else bare_scalp(avatar.head, avatar.maps[i]) for i, style in enumerate(styles)
    ]
    return TextureMaps(*(torch.cat([getattr(m, name) for m in bare]) for name in ("diffuse", "specular", "normal")))


@torch.no_grad()
def bare_scalp(head: HeadModel, maps: TextureMaps) -> TextureMaps:
    """Maps of one head with skin in place of painted hair, its tone that of the forehead and the cheeks."""
    scalp, face = scalp_area(head)
    small = maps.resize(SIZE)
    known = face.to(small.diffuse) > 0.9
    skin = [x[0][:, known[0, 0]].median(1).values[None, :, None, None] for x in (small.diffuse, small.specular)]
    away = ((small.diffuse + 0.01).log() - (skin[0] + 0.01).log()).abs().amax(1, keepdim=True)
    hair = ((away - SKIN_LIKE) / (OTHER - SKIN_LIKE)).clamp(0, 1) * scalp.to(away)
    hair = gaussian_blur(dilate(hair, 5), 1.5) * scalp.to(away)
    hair = F.interpolate(hair, maps.size, mode="bilinear", align_corners=False)
    # the skin's own unevenness, from the face, keeps it from looking like plastic
    flat = maps.normal.new_tensor([0.0, 0.0, 1.0])[None, :, None, None].expand_as(maps.normal)
    return TextureMaps(
        torch.lerp(maps.diffuse, skin[0].expand_as(maps.diffuse), hair),
        torch.lerp(maps.specular, skin[1].expand_as(maps.specular), hair),
        unit(torch.lerp(maps.normal, flat, hair * 0.7)),
    )


@torch.no_grad()
def scalp_area(head: HeadModel) -> tuple[Tensor, Tensor]:
    """In UV, `[1, 1, SIZE, SIZE]` each: where painted hair may lie, and plain skin of the face. Kept for each head."""
    if head.triangles not in _areas:
        mean = head(head.mean.new_zeros(1, head.n_identity))
        points, covered = head.uv_positions(mean, SIZE)
        measured = Scalp(head).edge(HairStyle(), points[0].flatten(1).T.cpu().numpy().astype(float))
        edge = torch.from_numpy(measured).float().view(SIZE, SIZE) * covered.cpu()
        inside = ((edge + BAND) / 0.006).clamp(0, 1) * covered.cpu()
        keep = [
            head.region(n, SIZE).cpu() for n in ("ears", "brows", "eyes", "teeth", "eyelids") if n in head.region_names
        ]
        inside = inside * (1 - torch.stack(keep).amax(0))
        not_skin = [head.region(n, SIZE).cpu() for n in ("lips", "brows", "eyelids", "eyes", "mouth_interior")]
        face = head.region("face", SIZE).cpu() * (1 - torch.stack(not_skin).amax(0)) * (edge < -0.02)
        _areas[head.triangles] = inside[None, None], face[None, None]
    return _areas[head.triangles]
