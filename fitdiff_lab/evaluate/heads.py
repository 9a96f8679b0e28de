"""Measurements of heads on rendered portraits: for `evaluate.model`."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from .heldout import Viewer, cheek_ita, stack_embeddings, to_pil


@dataclass
class Heads:
    """Measurements of n heads.

    latent: `[n, C h w]` texture latents.
    embedding: `[n, D]` of the built-in recogniser, of portraits.
    shape: `[n, K]` coefficients.
    ita: `[n]` typology angle of the cheek, degrees.
    judged: `[n, J]` unit vectors of the judge; NaN where it found no face.
    pictures, maps: of the first heads, for the sheets.
    """

    latent: Tensor
    embedding: Tensor
    shape: Tensor
    ita: Tensor
    judged: Tensor | None = None
    pictures: list = field(default_factory=list)
    maps: list = field(default_factory=list)


def measure_heads(
    avatars, latents: Tensor, viewer: Viewer, cheek: Tensor, light: str, judge: bool, keep: int = 0
) -> Heads:
    """Render portraits and measure them.

    avatars: iterable of avatars of batch 1.
    latents: their texture latents `[n, C, h, w]`.
    cheek: `[S, S]` bool, texels of the cheeks.
    light: name of the preset.
    judge: whether to ask the judge, where there is one.
    keep: how many of the first heads keep their pictures.
    """
    embeddings, shapes, angles, judged, pictures, maps = [], [], [], [], [], []
    for avatar in avatars:
        image = viewer.portrait(avatar, light)
        embeddings.append(viewer.embed(avatar, image))
        shapes.append(avatar.shape[0])
        angles.append(cheek_ita(avatar.maps.stack(), cheek))
        if judge and viewer.judge:
            judged.append(viewer.judged(image))
        if len(pictures) < keep:
            pictures.append(to_pil(image))
            maps.append(avatar.maps.resize(256))
    return Heads(
        latents.flatten(1),
        torch.stack(embeddings),
        torch.stack(shapes),
        torch.tensor(angles),
        stack_embeddings(judged) if judged else None,
        pictures,
        maps,
    )
