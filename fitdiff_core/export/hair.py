"""The hair of an avatar as a part of the exported mesh, with textures of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..hair.groom import HairMesh, grow_hair
from ..hair.lashes import grow_lashes
from ..head import HeadModel
from ..head.corrections import full_expressions
from ..image import linear_to_srgb
from .blendshapes import STILL, Target, head_on_cpu, offsets_target
from .light_mesh import lighter_strips, subset
from .mesh import Part
from .rig import with_joint

if TYPE_CHECKING:
    from ..avatar import Avatar
    from ..scene import Scene

NAME, LASHES = "Hair", "Lashes"
CUTOFF = 0.4  # alpha below it is cut out
ROUGHNESS = 0.42
SPECULAR = 0.6  # specularFactor of KHR_materials_specular: hair shades its own highlights


@dataclass
class HairPart:
    """part: triangles twice, once for each face, with the same normals. light: `[N, 4]` uint8, a vertex colour.

    color: `[4, S, S]` sRGB and alpha; normal: `[3, S, S]` in 0..1, y up
    kept: `[N]` numbers of the part's vertices in the hair's mesh
    """

    part: Part
    light: np.ndarray
    color: Tensor
    normal: Tensor
    kept: np.ndarray


@torch.no_grad()
def hair_part(
    avatar: Avatar, scene: Scene | None = None, flip_green: bool = False, both_faces: bool = True, light: bool = False
) -> HairPart | None:
    """The hair of one head, posed as the scene poses the head; None for a head without hair.

    Both faces are written by default, because the `doubleSided` of glTF turns the normals of a card's back, which is
    then dark.
    """
    style = avatar.hair[0] if avatar.hair else None
    hair = None if style is None else grow_hair(avatar.head, avatar.shape, style)
    if hair is None:
        return None
    positions = hair.positions if scene is None else hair.on(avatar.posed(scene)[0].float().cpu())
    return _part(NAME, hair, positions, flip_green, both_faces, light)


@torch.no_grad()
def lash_part(
    avatar: Avatar, scene: Scene | None = None, both_faces: bool = True, light: bool = False
) -> HairPart | None:
    """The lashes of one head, posed as `hair_part` poses hair; None for a head that is no `HeadModel`."""
    if not isinstance(avatar.head, HeadModel):
        return None
    posed = avatar.vertices() if scene is None else avatar.posed(scene)
    lashes = grow_lashes(avatar.head, avatar.shape, posed[0])
    return _part(LASHES, lashes, lashes.positions, False, both_faces, light)


@torch.no_grad()
def lash_targets(avatar: Avatar, lashes: HairPart) -> Iterator[Target]:
    """How each expression moves the lashes. lashes: of `lash_part`, neutral."""
    head, shape = head_on_cpu(avatar.head), avatar.shape.detach().cpu().double()
    at_rest = head(shape)[0]
    neutral, kept = grow_lashes(head, shape, at_rest), torch.from_numpy(lashes.kept)
    lids = head.vertex_region("eyelids") > 0
    for name, at in zip(head.expression_names, full_expressions(head, shape), strict=True):
        if (at - at_rest)[lids].norm(dim=1).max() <= STILL:  # lashes stand on the lids
            continue
        moved = grow_lashes(head, shape, at)
        offsets, turns = moved.positions - neutral.positions, moved.normals - neutral.normals
        yield offsets_target(name, offsets[kept], turns[kept])


def _part(name: str, hair: HairMesh, positions: Tensor, flip_green: bool, both_faces: bool, lighter: bool) -> HairPart:
    triangles = hair.triangles.numpy()
    if lighter:
        triangles = lighter_strips(triangles, len(positions))
    f = lambda x: np.ascontiguousarray(x.float().numpy())  # noqa: E731
    part = Part(
        name,
        name,
        f(positions),
        f(F.normalize(hair.normals, dim=1)),
        f(_orthogonal(hair)),
        f(hair.uv),
        np.concatenate([triangles, triangles[:, ::-1]]) if both_faces else triangles,
        ROUGHNESS,
        hair.rows[:, 0].numpy(),
        weights=with_joint("Head", len(positions)),
    )
    part, kept = subset(part, part.indices)
    texture = hair.texture
    normal = texture.normal * torch.tensor([1.0, -1.0 if flip_green else 1.0, 1.0])[:, None, None]
    color = torch.cat([linear_to_srgb(texture.color), texture.alpha])
    light = F.pad((hair.light[:, None] * hair.tone).clamp(0, 1), (0, 1), value=1.0)
    light = (light * 255 + 0.5).byte()
    return HairPart(part, light.numpy()[kept], color, normal * 0.5 + 0.5, kept)


@torch.no_grad()
def hair_vertex_colors(hair: HairPart) -> np.ndarray:
    """sRGB `[N, 3]` uint8 at the hair's vertices: the texture's broad colour, darkened where little light arrives."""
    broad = F.avg_pool2d(hair.color[None, :3], 64)
    at = torch.from_numpy(hair.part.uv) * torch.tensor([2.0, -2.0]) + torch.tensor([-1.0, 1.0])
    values = F.grid_sample(broad, at[None, None], padding_mode="border", align_corners=False)[0, :, 0].T
    shade = torch.from_numpy(hair.light[:, :3].astype(np.float32) / 255) ** 0.45
    return (values.clamp(0, 1) * shade * 255 + 0.5).byte().numpy()


def _orthogonal(hair: HairMesh) -> Tensor:
    """Unit tangents `[V, 4]`, square to the normals."""
    normal = F.normalize(hair.normals, dim=1)
    t = hair.tangents[:, :3]
    t = F.normalize(t - (t * normal).sum(1, keepdim=True) * normal, dim=1)
    lost = t.norm(dim=1, keepdim=True) < 0.5
    return torch.cat([torch.where(lost, t.new_tensor([1.0, 0.0, 0.0]), t), hair.tangents[:, 3:]], 1)
