"""The shade of the teeth, from a photo that shows them: their colour in the map is scaled by photo over render."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..avatar import Avatar
from ..fitting.crop import crop_image
from ..fitting.smile import SMILE, see_teeth
from ..head import HeadModel
from ..head.teeth import patch_mask
from ..image import LUMINANCE, linear_to_srgb
from ..maps import TextureMaps
from ..render import render
from ..scene import Scene

SIDE = 512  # of the pictures that are compared, pixels
BRIGHTER = (0.6, 1.45)  # how much darker or brighter the teeth may become
TINT = 0.25  # share of the photo's hue: the rest is the light's, which the fit knows only roughly
RED = (0.9, 1.1)  # of each channel over the luminance
LIGHTEST = 0.86  # linear albedo of the brightest channel; all channels are held back alike, which keeps the hue


@torch.no_grad()
def match_teeth(avatar: Avatar, scene: Scene, photo: Tensor) -> Avatar:
    """One head with teeth as bright and as yellow as in its photo `[1, 3, H, W]`; as it is where few teeth are seen.

    scene: of the photo
    """
    head = avatar.head
    if not isinstance(head, HeadModel) or not head.n_teeth or head.mesh_triangles is None or scene.crop is None:
        return avatar
    posed = avatar.posed(scene)
    mesh = scene.camera.project(head.landmarks(posed[:, : head.n_vertices], "mesh"), (SIDE, SIDE))[0]
    scale = SIDE / scene.size[0]
    shown = see_teeth(crop_image(photo, scene.photo_crop()[:1] * scale, SIDE).image[0], mesh)
    if shown is None or shown.share < SMILE:
        return avatar
    drawn = render(posed, avatar.whole, avatar.maps, scene.camera, scene.light, (SIDE, SIDE)).image
    ours = see_teeth(linear_to_srgb(drawn[0].clamp(0, 1)), mesh)
    if ours is None or ours.share < SMILE / 2:
        return avatar
    ratio = shown.colour / ours.colour.clamp(min=1e-3)
    gain = float(ratio @ torch.tensor(LUMINANCE))
    tint = 1 + TINT * (ratio / max(gain, 1e-3) - 1)
    shade = min(max(gain, BRIGHTER[0]), BRIGHTER[1]) * tint.clamp(*RED)
    return replace(avatar, maps=shaded(avatar.maps, shade.to(avatar.shape)))


def shaded(maps: TextureMaps, shade: Tensor) -> TextureMaps:
    """The maps with the teeth's diffuse albedo times shade `[3]`, at most LIGHTEST."""
    patch = patch_mask(maps.size[0], maps.diffuse.device)
    teeth = maps.diffuse * shade.to(maps.diffuse)[:, None, None]
    teeth = teeth * (LIGHTEST / teeth.amax(1, keepdim=True).clamp(min=1e-6)).clamp(max=1)
    return TextureMaps(torch.where(patch, teeth, maps.diffuse), maps.specular, maps.normal)
