"""Where on the head which kind of skin lies, at the texels of the atlas, for the relief of the skin."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..head import HeadModel
from ..render.interpolation import interpolate
from ..render.orientation import raster_to_image

NAMES = ("skin", "lips", "brows", "eyelids", "nose", "ears", "scalp", "neck", "mouth_interior")
NO_RELIEF = 0.02  # texels with less skin than this get none


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
