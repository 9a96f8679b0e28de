"""Held-out synthetic people, from seeds that no training set uses, and the portraits that all heads are measured on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from fitdiff_core.avatar import Avatar
from fitdiff_core.identity import Identity, Recognizer, encode_crops
from fitdiff_core.maps import TextureMaps
from fitdiff_core.pipeline import render_avatar
from fitdiff_core.render import Light
from fitdiff_core.scene import Scene

from ..dataset.prepare import DatasetGenerator
from ..dataset.shards import decode_maps, encode_maps
from ..synthetic.shapes import random_shape
from .metrics import ita

VIEW = 384  # px a side of the portraits that recognisers see


@dataclass
class HeldOut:
    """n people.

    maps: uint8 `[n, 9, S, S]` (`encode_maps`).
    shape: `[n, K]` coefficients.
    crop: `[n, 3, s, s]` sRGB, a random photograph of each as the recogniser crops it; or None.
    age: `[n]` years.
    """

    head: object
    maps: Tensor
    shape: Tensor
    crop: Tensor | None
    age: Tensor

    def __len__(self) -> int:
        return len(self.shape)

    def stack(self, i: int) -> Tensor:
        """Linear maps `[1, 9, S, S]` of one person."""
        return decode_maps(self.maps[i : i + 1])

    def avatar(self, i: int) -> Avatar:
        return Avatar(self.head, self.shape[i : i + 1], TextureMaps.from_stack(self.stack(i)))

    def identity(self, recognizer: Recognizer, start: int, end: int) -> Identity:
        """The identities of people start..end, from their photographs."""
        return encode_crops(self.crop[start:end], recognizer)


def make_people(generator: DatasetGenerator, start: int, n: int, photographs: bool, label: str) -> HeldOut:
    """People number start to start + n of the generator's seed. Each has draws of its own, so n does not change
    anybody.

    photographs: whether to photograph them. label: of the progress bar.
    """
    maps, shapes, crops, ages = [], [], [], []
    for row in tqdm(range(start, start + n), label, leave=False, disable=None):
        sample, attributes = generator.skin.sample(generator.texture_seed(row))
        maps.append(encode_maps(sample.stack())[0])
        rng = np.random.default_rng([generator.seed, row, 11])
        if photographs:
            shape, crop = generator.person(row, maps[-1], rng)
            crops.append(crop.clamp(0, 1))
        else:
            shape = random_shape(generator.head, rng, attributes)
        shapes.append(shape)
        ages.append(attributes.age)
    crop = torch.cat(crops) if photographs else None
    return HeldOut(generator.head, torch.stack(maps), torch.cat(shapes), crop, torch.tensor(ages))


class Viewer:
    """Neutral frontal portraits, and the recognisers' vectors of them.

    The built-in recogniser's crop comes from the projected landmarks of the head, so no detector can miss a face. The
    judge detects faces itself; where it finds none, its vector counts as NaN.
    """

    def __init__(self, recognizer: Recognizer, judge=None):
        self.recognizer, self.judge = recognizer, judge

    def portrait(self, avatar: Avatar, light: str = "studio") -> Tensor:
        """A portrait of an avatar of batch 1: sRGB `[1, 3, VIEW, VIEW]`. light: name of a preset."""
        return render_avatar(avatar, replace(Scene.portrait(1), light=Light.preset(light)), VIEW)[0]

    @torch.no_grad()
    def embed(self, avatar: Avatar, image: Tensor) -> Tensor:
        """The built-in recogniser's embedding `[D]`. image: the avatar's portrait."""
        scene = Scene.portrait(1)
        mesh = scene.camera.project(avatar.head.landmarks(avatar.vertices(scene), "mesh"), (VIEW, VIEW))
        return self.recognizer(self.recognizer.crop(image, self.recognizer.matrix(mesh))).embedding[0]

    def judged(self, image: Tensor | Image.Image) -> Tensor | None:
        """The judge's unit vector `[J]` float64, or None where it finds no face."""
        vector = self.judge.embed(image if isinstance(image, Image.Image) else to_pil(image))
        return None if vector is None else torch.as_tensor(np.asarray(vector, np.float64))


def stack_embeddings(vectors: list[Tensor | None]) -> Tensor:
    """`[n, J]` of unit vectors; None becomes a row of NaN."""
    width = next((len(v) for v in vectors if v is not None), 1)
    return torch.stack([torch.full((width,), torch.nan, dtype=torch.float64) if v is None else v for v in vectors])


def cheek_ita(stack: Tensor, cheek: Tensor) -> float:
    """Individual typology angle, in degrees, of the mean diffuse albedo over the cheeks.

    stack: linear maps `[1, 9, S, S]`. cheek: `[S, S]` bool.
    """
    return float(ita(stack[0, :3, cheek].clamp(0, 1).double().mean(1)))


def to_pil(image: Tensor) -> Image.Image:
    """sRGB `[1, 3, H, W]` or `[3, H, W]` in 0..1 -> PIL."""
    x = image[0] if image.ndim == 4 else image
    return Image.fromarray((x.detach().clamp(0, 1).permute(1, 2, 0) * 255 + 0.5).byte().numpy())
