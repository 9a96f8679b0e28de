"""Texture maps of skin, teeth and eyes: nine channels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .batching import entry
from .image import srgb_to_linear
from .vectors import unit

MAP_NAMES = ("diffuse", "specular", "normal")
ALBEDO_EPSILON = 0.01  # added to a linear albedo before its logarithm


@dataclass
class TextureMaps:
    """Reflectance in the UV atlas, image orientation (row 0 is v = 1).

    diffuse:  `[B, 3, H, W]` linear albedo, 0..1
    specular: `[B, 3, H, W]` linear specular albedo, 0..1; 0.5 is F0 = 4 %
    normal:   `[B, 3, H, W]` unit vectors in tangent space, +Y up, z away from the skin, -1..1
    """

    diffuse: Tensor
    specular: Tensor
    normal: Tensor

    def stack(self) -> Tensor:
        """`[B, 9, H, W]`: diffuse, specular, normal."""
        return torch.cat([self.diffuse, self.specular, self.normal], 1)

    @classmethod
    def from_stack(cls, x: Tensor) -> TextureMaps:
        """`[B, 9, H, W]` -> maps. Albedos are clipped to 0..1, normals get unit length."""
        normal = torch.cat([x[:, 6:8], x[:, 8:9].clamp(min=0.05)], 1)
        # ten times as fast as F.normalize over dim 1; the length is never 0, because z is not
        length = normal.square().sum(1, keepdim=True).rsqrt()
        return cls(x[:, 0:3].clamp(0, 1), x[:, 3:6].clamp(0, 1), normal * length)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the diffuse map."""
        return self.diffuse.shape[-2], self.diffuse.shape[-1]

    def __len__(self) -> int:
        return self.diffuse.shape[0]

    def __getitem__(self, i: int) -> TextureMaps:
        """The maps of one batch entry, batch axis kept."""
        return TextureMaps(entry(self.diffuse, i), entry(self.specular, i), entry(self.normal, i))

    def to(self, device: torch.device | str) -> TextureMaps:
        return TextureMaps(self.diffuse.to(device), self.specular.to(device), self.normal.to(device))

    def resize(self, size: int | tuple[int, int]) -> TextureMaps:
        """The maps at another size, bilinear, antialiased when shrinking; normals get unit length again."""
        size = (size, size) if isinstance(size, int) else size
        diffuse, specular, normal = (resize_map(x, size) for x in (self.diffuse, self.specular, self.normal))
        return TextureMaps(diffuse, specular, unit(normal))


def resize_map(x: Tensor, size: tuple[int, int]) -> Tensor:
    """`[B, C, H, W]` -> `[B, C, *size]`, bilinear, antialiased when shrinking; as it is where the size fits."""
    if x.shape[-2:] == size:
        return x
    return F.interpolate(x, size, mode="bilinear", antialias=True, align_corners=False)


def decode_map(name: str, picture: Tensor) -> Tensor:
    """A map drawn as a picture 0..1, any shape -> the values `TextureMaps` holds. The inverse of `export.map_images`.

    name: one of MAP_NAMES. Albedos are sRGB in the picture, normals n / 2 + 0.5.
    """
    return picture * 2 - 1 if name == "normal" else srgb_to_linear(picture)
