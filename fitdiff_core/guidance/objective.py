"""The objective G of the guidance: decode, render, compare with the photo. Differentiable in latent, shape and
scene."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..fitting.gbuffer import GBuffer
from ..fitting.sh_light import fit_light
from ..head import HeadModel
from ..image import linear_to_srgb
from ..maps import TextureMaps
from ..precision import fast_networks
from ..render import Light, render
from ..scene import Scene
from .gradient_clipping import clip_recognizer_gradient
from .losses import identity_loss, landmark_loss, perceptual_loss, photometric_loss
from .low_frequency import light_gain, without_low_frequency_gradient
from .settings import GuidanceSettings
from .target import PhotoTarget


@dataclass(frozen=True)
class Guidance:
    """One photo that guides: what it shows, and how it guides."""

    target: PhotoTarget
    settings: GuidanceSettings = field(default_factory=GuidanceSettings)

    @property
    def scene(self) -> Scene:
        """The scene that was fitted to the photo."""
        return self.target.photo.scene

    def with_settings(self, **changes: Any) -> Guidance:
        """The same photo with other settings, fields of `GuidanceSettings`."""
        return replace(self, settings=replace(self.settings, **changes))


class PhotoObjective:
    """Loss of an estimate `(texture latent [B, C, h, w], shape [B, K], scene of batch B)` -> `[B]`."""

    def __init__(self, head: HeadModel, decode: Callable[[Tensor], Tensor], guidance: Guidance):
        """decode: texture latent -> stack of maps `[B, 9, 256, 256]`."""
        self.head, self.decode = head, decode
        self.target, self.photo, self.settings = guidance.target, guidance.target.photo, guidance.settings
        self._small: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}

    def __call__(self, texture: Tensor, shape: Tensor, scene: Scene) -> tuple[Tensor, Scene, dict[str, Tensor]]:
        """Return the weighted loss `[B]`, the scene with its light refitted (detached), and each loss `[B]` by name."""
        t, p, s, n = self.target, self.photo, self.settings, len(shape)
        w = s.weights
        vertices = self.head(shape, scene.expression, scene.gaze)
        terms: dict[str, Tensor] = {}
        if w.landmark:
            points = scene.camera.project(self.head.landmarks(vertices, "mesh"), p.size)
            terms["landmark"] = landmark_loss(points, p.mesh, p.mesh_weights, p.size[0])
        if w.photometric or w.identity or w.perceptual:
            # a profile guides the shape alone
            maps = self.decode(texture) if p.textured else self.decode(texture).detach()
            image, weight, scene = self.picture(vertices, maps, scene)
            image, seen = clip_recognizer_gradient(image, s.recognizer_blur, s.recognizer_share)
            if w.photometric:
                terms["photometric"] = photometric_loss(image, p.image, weight)
            if w.identity or w.perceptual:
                crop = t.recognizer.crop(seen, t.matrix.expand(n, -1, -1))
                with fast_networks(crop.device):
                    features = t.recognizer(crop)
                if w.identity:
                    distance = t.recognizer.distance(features.embedding, t.embedding.expand(n, -1))
                    terms["identity"] = identity_loss(distance, t.recognizer.same_threshold)
                if w.perceptual:
                    terms["perceptual"] = perceptual_loss(features.activations, t.activations)
        loss = sum((getattr(w, name) * value for name, value in terms.items()), torch.zeros(n).to(shape))
        return loss, scene, terms

    def picture(self, vertices: Tensor, stack: Tensor, scene: Scene) -> tuple[Tensor, Tensor, Scene]:
        """Render the head over the photo, in the photo's light.

        vertices: `[B, V, 3]` metres. stack: maps `[B, 9, h, w]`.
        Returns sRGB `[B, 3, S, S]`, the photometric weight `[B, 1, S, S]` and the scene with its light refitted.
        """
        p, low = self.photo, self.settings.low_frequency
        maps = TextureMaps.from_stack(stack)
        # light and weights vary slowly over the picture, so half the resolution is enough for them
        gbuffer = GBuffer.render(vertices.detach(), self.head, scene.detach(), (p.size[0] // 2, p.size[1] // 2))
        seen = gbuffer.sample(p.regions)
        regions = seen * gbuffer.facing
        scene = replace(scene, light=self.relight(gbuffer, maps, scene, regions[:, 1:2]))
        visibility = None if p.key_light is None else p.key_light.visibility
        out = render(vertices, self.head, maps, scene.camera, scene.light, size=p.size, visibility=visibility)
        weight, mouth, skin = F.interpolate(
            torch.cat([regions[:, :1], seen[:, 3:] * gbuffer.mask, regions[:, 1:2]], 1),
            p.size,
            mode="bilinear",
            align_corners=False,
        ).split(1, 1)
        image = out.image
        if low.share > 0:
            image = image * self.low_frequency_gain(image.detach(), regions[:, 1:2])
            image = without_low_frequency_gradient(image, skin, low)
        image = linear_to_srgb(image.clamp(0, 1))
        # background, hands and the mouth's inside are the photo's own: the recogniser should judge the face, not their
        # absence
        shown = out.mask * p.visible * (1 - mouth)
        weight = weight * p.visible
        return image * shown + p.image * (1 - shown), weight, scene

    @torch.no_grad()
    def low_frequency_gain(self, render: Tensor, skin: Tensor) -> Tensor:
        """`light_gain` at the photo's size: render `[B, 3, S, S]` linear, skin `[B, 1, h, w]` -> `[B, 3, S, S]`."""
        p, small = self.photo, skin.shape[-2:]
        image, visible = self._photo_at(tuple(small))
        render = F.interpolate(render, small, mode="area")
        gain = light_gain(render, image, skin * visible, self.settings.low_frequency)
        return F.interpolate(gain, p.size, mode="bilinear", align_corners=False)

    @torch.no_grad()
    def _photo_at(self, size: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """The photo `[1, 3, h, w]` and what may be used of it `[1, 1, h, w]` at another size; kept."""
        if size not in self._small:
            of = (self.photo.image, self.photo.visible)
            image, visible = (F.interpolate(x, size, mode="bilinear", antialias=True, align_corners=False) for x in of)
            self._small[size] = image, visible
        return self._small[size]

    @torch.no_grad()
    def relight(self, gbuffer: GBuffer, maps: TextureMaps, scene: Scene, skin: Tensor) -> Light:
        """Least-squares light of the photo for the current maps.

        The specular radiance of the previous light is subtracted first. skin: weight `[B, 1, h, w]` of plain skin.
        """
        p, prior = self.photo, self.settings.light_prior
        image, visible = self._photo_at(tuple(skin.shape[-2:]))
        weight = skin * visible
        albedo, light = gbuffer.albedo(maps), scene.light.detach()
        if p.key_light is None:
            specular = gbuffer.specular(maps, light)
            return fit_light(image, albedo, gbuffer.normal, weight, specular, prior, stride=2)[0]
        visibility = gbuffer.interpolate(p.key_light.visibility)
        specular = gbuffer.specular(maps, light, visibility)
        key = p.key_light.direction
        return fit_light(image, albedo, gbuffer.normal, weight, specular, prior, 2, key, visibility)[0]
