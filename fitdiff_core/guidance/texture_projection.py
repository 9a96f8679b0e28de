"""The photo's colour, projected onto the texture: what many gradient steps would find, in one step.

Render and photo differ by a ratio in each pixel. Where the photo shows the skin well, the texel seen there is
multiplied by it. The changed maps are encoded, and the latent moves by the difference of the two codes. It is a
Gauss-Newton step of the photometric loss for the texture alone, with pose, shape and light as they are; the gradient
steps around it move those. The render has the gain for light that the scene cannot express (`low_frequency`), and the
broad colour is held (`broad_colour`), so neither gets into the skin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..fitting.gbuffer import GBuffer
from ..head import HeadModel
from ..image import srgb_to_linear
from ..maps import ALBEDO_EPSILON
from ..scene import Scene
from .low_frequency import EPSILON
from .objective import PhotoObjective

LARGEST_RATIO = 1.0  # of the log ratio of a pixel
SAME_PLACE = 0.02  # of the atlas' side: a texel is seen where the picture shows this place of the atlas or one as near


@torch.no_grad()
def log_ratio(objective: PhotoObjective, scene: Scene, stack: Tensor, shape: Tensor) -> tuple[Tensor, Tensor]:
    """Log of photo over render at each texel `[B, 3, S, S]`, and how well the photo shows the texel `[B, 1, S, S]`.

    objective, scene: of one photo. stack: maps `[B, 9, S, S]`. shape: `[B, K]`
    """
    photo = objective.photo
    vertices = objective.head(shape, scene.expression, scene.gaze)
    image, weight, _ = objective.picture(vertices, stack, scene)
    ratio = ((srgb_to_linear(photo.image) + EPSILON) / (srgb_to_linear(image) + EPSILON)).log()
    gbuffer = GBuffer.render(vertices, objective.head, scene, photo.size)
    seen = torch.cat([ratio.clamp(-LARGEST_RATIO, LARGEST_RATIO), weight * gbuffer.facing], 1)
    at = _texels(objective.head, vertices, scene, photo.size, stack.shape[-1])
    ratio, weight = _sample(seen, at).split([3, 1], 1)
    place = _sample(gbuffer.uv.permute(0, 3, 1, 2), at) - _places(stack)
    return ratio, weight * (place.abs().amax(1, keepdim=True) < SAME_PLACE)


@torch.no_grad()
def project_photos(photos: Sequence[tuple[PhotoObjective, Scene]], stack: Tensor, shape: Tensor) -> Tensor:
    """Maps `[B, 9, S, S]` whose diffuse albedo takes the colours of the photos where they show it; arguments as
    `log_ratio`."""
    found = [log_ratio(objective, scene, stack, shape) for objective, scene in photos]
    weight = torch.stack([w for _, w in found]).sum(0)
    ratio = torch.stack([r * w for r, w in found]).sum(0) / weight.clamp(min=1e-3) * weight.clamp(max=1)
    diffuse = ((stack[:, :3] + ALBEDO_EPSILON) * ratio.exp() - ALBEDO_EPSILON).clamp(min=0)
    return torch.cat([diffuse, stack[:, 3:]], 1)


@torch.no_grad()
def change_of_code(encode: Callable[[Tensor], Tensor], changed: Tensor, maps: Tensor) -> Tensor:
    """Difference `[B, C, h, w]` of the latents of two stacks `[B, 9, S/2, S/2]`.

    What the autoencoder does not reproduce is in both codes, so a latent to which this is added loses nothing. Half
    the resolution is enough for what is changed here.
    """
    pair = F.interpolate(torch.cat([changed, maps]), scale_factor=2, mode="bilinear", align_corners=False)
    after, before = encode(pair).float().chunk(2)
    return after - before


def _texels(head: HeadModel, vertices: Tensor, scene: Scene, picture: tuple[int, int], size: int) -> Tensor:
    """Where the texels lie in the picture, as `grid_sample` takes it: `[B, S, S, 2]`, -1..1."""
    position, _ = head.uv_positions(vertices, size)
    pixels = scene.camera.project(position.flatten(2).mT, picture)
    return pixels.view(len(vertices), size, size, 2) / pixels.new_tensor([picture[1], picture[0]]) * 2 - 1


def _sample(image: Tensor, at: Tensor) -> Tensor:
    return F.grid_sample(image, at, mode="bilinear", padding_mode="zeros", align_corners=False)


def _places(stack: Tensor) -> Tensor:
    """u and v of the texels, `[1, 2, S, S]`; v from the bottom."""
    t = (torch.arange(stack.shape[-1], device=stack.device) + 0.5) / stack.shape[-1]
    v, u = torch.meshgrid(1 - t, t, indexing="ij")
    return torch.stack([u, v])[None]
