"""What lies behind the lips: back teeth, gums, palate and tongue, as tensors of a head file and as vertices.

Pictures and files show it; the head model's own vertices, which photos are fitted with, do not have it. Its colours lie
in a patch of the atlas that no network predicts. There, u tells the kind of tissue and v how much light reaches it, so
that a mouth is dark inside in every viewer.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from .teeth import EDGE, ROOT
from .teeth import patch_mask as teeth_patch

MOUTH = "mouth_"  # how the names of its tensors begin
TEETH, GUMS, TONGUE, WET = range(4)  # kinds; WET is the corner of an eye
# u0, v0, u1, v1 of the patch, v from the bottom; at least 5 texels of 512 away from the skin and the teeth's patch
PATCH = (477 / 512, 78 / 512, 508 / 512, 109 / 512)
COLOURS = ((EDGE), (0.44, 0.16, 0.145), (0.43, 0.155, 0.14), (0.42, 0.20, 0.17))
DARK = (0.10, 0.028, 0.022)  # linear diffuse albedo where no light arrives
SPECULAR = 0.5
ROUGHNESS = 0.28


def patch_uv(kind: np.ndarray, light: np.ndarray) -> np.ndarray:
    """uv `[N, 2]` of tissue. kind: `[N]` TEETH to WET; light: `[N]` 0..1."""
    u0, v0, u1, v1 = PATCH
    u = u0 + (u1 - u0) * (kind + 0.5) / len(COLOURS)
    return np.stack([u, v0 + (v1 - v0) * (0.06 + 0.88 * np.clip(light, 0, 1))], 1)


def patch_mask(size: int) -> Tensor:
    """The patch as a mask `[size, size]` bool, image orientation."""
    t = (torch.arange(size) + 0.5) / size
    u0, v0, u1, v1 = PATCH
    return (((1 - t) > v0) & ((1 - t) < v1))[:, None] & ((t > u0) & (t < u1))


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def _painted(size: int) -> tuple[Tensor, Tensor]:
    """The nine map channels of the patch `[9, size, size]` and its mask."""
    t = (torch.arange(size) + 0.5) / size
    u0, v0, u1, v1 = PATCH
    kind = ((t - u0) / (u1 - u0) * len(COLOURS)).long().clamp(0, len(COLOURS) - 1)
    light = (((1 - t) - v0) / (v1 - v0)).clamp(0, 1)
    full = torch.tensor(COLOURS)[kind].T[:, None]  # [3, 1, size]
    dark = torch.tensor(DARK)[:, None, None] * torch.where(kind[None, None] == TEETH, 1.6, 0.6)
    diffuse = dark + (full - dark) * light[None, :, None] ** 1.3
    flat = torch.tensor([SPECULAR] * 3 + [0.0, 0.0, 1.0])[:, None, None].expand(-1, size, size).clone()
    flat[:3] *= 0.3 + 0.7 * light[None, :, None]
    return torch.cat([diffuse.expand(-1, size, size), flat]), patch_mask(size)


def paint_mouth(maps: Tensor) -> Tensor:
    """Maps `[B, 9, S, S]` (linear) with the patch of the inner mouth; back teeth have the shade of the front teeth."""
    size = maps.shape[-1]
    colours, patch = _painted(size)
    front = maps[:, :3, teeth_patch(size).to(maps.device)].mean(2)
    usual = (maps.new_tensor(EDGE) + maps.new_tensor(ROOT)) / 2
    colours = colours.to(maps).repeat(len(maps), 1, 1, 1)
    u0, u1 = PATCH[0], PATCH[0] + (PATCH[2] - PATCH[0]) / len(COLOURS)  # TEETH is the first kind
    own = slice(int(u0 * size), math.ceil(u1 * size))
    colours[:, :3, :, own] = (colours[:, :3, :, own] * (front / usual)[..., None, None]).clamp(max=1)
    return torch.where(patch.to(maps.device), colours, maps)


class InnerMouth:
    """The inner mouth of a head model, float64 on the CPU.

    triangles `[T, 3]`, uv `[M, 2]`, kind `[M]`, jaw `[M]`: share of the jaw's motion; wall_rows `[W]`, wall_offsets
    `[W, 3]`: how far the skin's own mouth cavity gives way
    """

    def __init__(self, tensors: dict[str, Tensor]):
        """tensors: those of a head file whose names begin with MOUTH, without it."""
        self.mean, self.motion, self.centre = (tensors[k].double() for k in ("mean", "motion", "centre"))
        self.actions, self.expression = tensors["actions"].long(), tensors["expression"].double()
        self.triangles, self.uv = tensors["triangles"].long(), tensors["uv"].double()
        self.kind, self.jaw = tensors["kind"].long(), tensors["jaw"].double()
        self.wall_rows, self.wall_offsets = tensors["wall_rows"].long(), tensors["wall_offsets"].double()
        offset = self.mean - self.centre
        turn = torch.stack([torch.linalg.cross(axis.expand_as(offset), offset) for axis in torch.eye(3).double()], 2)
        place = torch.eye(3).double().expand(len(offset), 3, 3)
        self._motions = torch.cat([place, offset[:, :, None], turn], 2)  # [M, 3, 7]

    def vertices(self, shape: Tensor, expression: Tensor | None) -> Tensor:
        """`[B, M, 3]` of shapes `[B, K]` and weights `[B, 52]`."""
        moved = torch.einsum("vxm,bm->bvx", self._motions, shape.detach().cpu().double() @ self.motion)
        points = self.mean + moved
        if expression is not None:
            flat = expression.detach().cpu().double()[:, self.actions] @ self.expression.flatten(1)
            points = points + rearrange(flat, "b (v xyz) -> b v xyz", xyz=3)
        return points
