"""Where on the head which kind of skin lies, at the texels of the atlas, for the relief of the skin."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..head import HeadModel
from ..head.model import LIPS
from ..render.interpolation import interpolate
from ..render.orientation import raster_to_image

NAMES = ("skin", "lips", "brows", "eyelids", "nose", "ears", "scalp", "neck", "mouth_interior")
NO_RELIEF = 0.02  # texels with less skin than this get none
# of the 68 landmarks: tip of the nose, its wings, mouth corners, chin, inner brows, jaw below the ears
TIP, WINGS, CORNERS, CHIN, BROWS, JAW = 30, (31, 35), (48, 54), 8, (21, 22), (3, 13)
CHEEK_REACH, CHIN_REACH = 0.020, 0.014  # metres
FARTHEST = 0.05  # metres that the mouth's circle may lie behind its middle; flatter mouths count as this


@dataclass
class SkinTexels:
    """The texels of one head that get a relief, N in number.

    index: `[N]`, into the flattened atlas `S * S`; covered: `[S, S]` bool, texels that the mesh uses
    position: `[N, 3]` metres on the neutral head
    along_u, along_v: `[3, S, S]` metres from a texel to its neighbour to the right and above, 0 where there is none
    step: `[N]` metres, size of the texel where it is longest
    skin: `[N]` share of relief, 0..1: 0 in eyes, mouth and under hair of the scalp
    regions: by name, `[N]` each, 0..1
    """

    index: Tensor
    covered: Tensor
    position: Tensor
    along_u: Tensor
    along_v: Tensor
    step: Tensor
    skin: Tensor
    regions: dict[str, Tensor]

    @classmethod
    @torch.no_grad()
    def bake(cls, vertices: Tensor, head: HeadModel, size: int) -> SkinTexels:
        """vertices: `[V, 3]` metres, neutral. size: texels a side."""
        names = [n for n in NAMES if n in head.region_names]
        fields = [head.vertex_region(n).to(vertices) for n in names]
        rast = head.rasterize_atlas(size)
        values = raster_to_image(
            interpolate(torch.cat([vertices, *(f[:, None] for f in fields)], 1)[None], rast, head.triangles)
        )[0]
        covered = raster_to_image(rast[..., 3:] > 0)[0, 0]
        place = values[:3].contiguous()
        region = dict(zip(names, values[3:].flatten(1), strict=True))
        zero = torch.zeros(size * size).to(vertices)
        without = torch.maximum(region.get("scalp", zero), 2 * region.get("mouth_interior", zero))
        skin = (region.get("skin", zero) * (1 - without).clamp(min=0)) * covered.flatten()
        index = torch.nonzero(skin > NO_RELIEF)[:, 0]
        u, v = steps(place, covered)
        step = torch.maximum(u.square().sum(0), v.square().sum(0)).sqrt().flatten()[index]
        skin = (skin[index] - NO_RELIEF) / (1 - NO_RELIEF)
        return cls(
            index,
            covered,
            place.flatten(1)[:, index].mT.contiguous(),
            u,
            v,
            step,
            skin,
            {n: x[index] for n, x in region.items()},
        )

    def region(self, name: str) -> Tensor:
        """Share `[N]` of a region; 0 where the head has no such region."""
        return self.regions.get(name, torch.zeros_like(self.skin))

    def picture(self, values: Tensor) -> Tensor:
        """Values `[N]` -> `[S, S]`, 0 at other texels."""
        size = len(self.covered)
        return values.new_zeros(size * size).index_copy(0, self.index, values).view(size, size)


def steps(place: Tensor, covered: Tensor) -> tuple[Tensor, Tensor]:
    """Differences `[C, S, S]` of values `[C, S, S]` to the right and upwards, a texel's worth, central where it can be.

    covered: `[S, S]` bool. Across the border of the charts no difference is taken.
    """

    found = []
    for axis in (2, 1):
        n = place.shape[axis] - 1
        both = (covered.narrow(axis - 1, 1, n) & covered.narrow(axis - 1, 0, n)).to(place)
        forth = (place.narrow(axis, 1, n) - place.narrow(axis, 0, n)) * both
        total, count = torch.zeros_like(place), torch.zeros_like(place[0])
        for start in (0, 1):
            total.narrow(axis, start, n).add_(forth)
            count.narrow(axis - 1, start, n).add_(both)
        found.append(total / count.clamp(min=1))
    return found[0], -found[1]


@dataclass
class FacePlaces:
    """Weights `[N]` by place, 0..1, and the angle around the mouth.

    cheeks: beside the nose, where pores are large; chin; forehead: above the brows
    lower: below the nose, where beards grow
    around: `[N]` metres along the lips, from the middle
    """

    cheeks: Tensor
    chin: Tensor
    forehead: Tensor
    lower: Tensor
    around: Tensor

    @classmethod
    def of(cls, texels: SkinTexels, landmarks: Tensor) -> FacePlaces:
        """landmarks: `[68, 3]` of the neutral head, metres."""
        p, at = landmarks, texels.position

        def near(centre: Tensor, reach: float) -> Tensor:
            return torch.exp(-(at - centre).square().sum(1) / (2 * reach**2))

        sides = [p[TIP] * 0.15 + p[w] * 0.45 + p[j] * 0.4 for w, j in zip(WINGS, JAW, strict=True)]
        cheeks = torch.maximum(*(near(s, CHEEK_REACH) for s in sides))
        brow, nose = p[list(BROWS), 1].mean(), p[list(WINGS), 1].mean()
        rise = ((at[:, 1] - brow - 0.004) / 0.012).clamp(0, 1)
        forehead = rise * rise * (3 - 2 * rise)
        lower = ((nose + 0.002 - at[:, 1]) / 0.010).clamp(0, 1)
        return cls(cheeks, near(p[CHIN], CHIN_REACH), forehead, lower, _around_mouth(at, p))


def _around_mouth(at: Tensor, p: Tensor) -> Tensor:
    """Metres `[N]` along a circle, seen from above, through the corners and the middle of the mouth."""
    right, left = (p[i][[0, 2]] for i in CORNERS)
    middle = p[[LIPS[0][1], LIPS[1][1]]].mean(0)[[0, 2]]
    half, depth = (left - right).norm() / 2, (middle - (left + right) / 2).norm().clamp(min=1e-4)
    radius = ((half**2 + depth**2) / (2 * depth)).clamp(max=FARTHEST)
    centre = middle - F.normalize(middle - (left + right) / 2, dim=0, eps=1e-6) * radius
    x, z = (at[:, [0, 2]] - centre).unbind(1)
    return torch.atan2(x, z) * radius
