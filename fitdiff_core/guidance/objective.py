"""The objective G of the guidance: decode, render, compare with the photo. Differentiable in latent, shape and scene."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UserError
from ..fitting.gbuffer import Surface
from ..fitting.key_light import Sun
from ..fitting.sh_light import LightPrior, fit_light
from ..image import linear_to_srgb
from ..maps import TextureMaps
from ..render import Light, render
from ..scene import Scene
from .gradient_balance import balance
from .losses import identity_loss, landmark_loss, perceptual_loss, photometric_loss
from .low_frequency import Unexplained, light_gain, without_broad_pull


@dataclass(frozen=True)
class GuidanceWeights:
    """Weight of each loss; 0 turns it off. All losses are about 1 for an unguided sample (see `losses.py`)."""

    identity: float = 1.0
    perceptual: float = 0.5
    photometric: float = 1.0
    landmark: float = 0.25
    tone: float = 0.03  # of the skin: see `tone.py`

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e6:
                raise UserError(f"The guidance weight '{name}' must be a number of at least 0, not {value!r}.")


@dataclass
class Guidance:
    """One photo as a goal. S is the crop's side (256), all points in crop px.

    photo `[1, 3, S, S]` sRGB crop; mask `[1, 1, S, S]`: 0 outside the photo and where hair or a hand hides the skin;
    scene: the fitted one; shape `[1, K]`: what the landmarks alone say; mesh `[1, 468, 2]` and its weights `[468]`;
    matrix `[1, 2, 3]`: crop px -> recogniser crop; embedding `[1, D]` and activations: the photo's features;
    regions `[1, 4, h, w]`: photometric weight, skin, features, mouth in UV (`region_weights`).
    """

    photo: Tensor
    mask: Tensor
    scene: Scene
    shape: Tensor
    mesh: Tensor
    mesh_weights: Tensor
    recognizer: torch.nn.Module
    matrix: Tensor
    embedding: Tensor
    activations: tuple[Tensor, ...]
    regions: Tensor
    weights: GuidanceWeights = field(default_factory=GuidanceWeights)
    sigma_window: tuple[float, float] = (20.0, 0.03)
    texture_step: float = 0.06  # RMS change of the texture latent (unit variance) per inner step
    shape_step: float = (
        0.006  # RMS change of the whitened shape coefficients; the identity tells more of them than the pixels
    )
    scene_step: float = 0.004  # radians and relative distance; expression moves 3 times as far
    inner_steps: int = 1
    trust: float = 1.5  # the estimate may leave the denoiser's by this many posterior standard deviations
    recognizer_blur: float = 2.0  # px, and
    recognizer_share: float = 1.0  # how hard the recogniser may pull on the picture (see `balance.py`)
    light_prior: LightPrior = field(default_factory=LightPrior)
    unexplained: Unexplained = field(default_factory=Unexplained)
    sun: Sun | None = None  # one strong lamp, where there is one: see `sun.py`

    def __post_init__(self) -> None:
        start, end = self.sigma_window
        if not (start > end >= 0):
            raise UserError(f"The sigma window must run from a larger to a smaller noise level, not {start} to {end}.")

    @property
    def size(self) -> tuple[int, int]:
        return self.photo.shape[-2], self.photo.shape[-1]

    @torch.no_grad()
    def similarity(self, image: Tensor) -> float:
        """Likeness of render `[B, 3, h, w]` sRGB (square, the scene's view) to the photo by the guiding recogniser: 1 the
        same picture, 0 a stranger (`Recognizer.similarity`). It flatters: this recogniser took part."""
        image = F.interpolate(image, self.size, mode="bilinear", antialias=True, align_corners=False)
        found = self.recognizer(self.recognizer.crop(image, self.matrix.expand(len(image), -1, -1)))
        return float(self.recognizer.similarity(found.embedding, self.embedding).mean())


class PhotoObjective:
    """Loss of an estimate `(texture latent [B, C, h, w], shape [B, K], scene of batch B)` -> `[B]`."""

    def __init__(self, head, decode, guidance: Guidance):
        """decode: texture latent -> map stack `[B, 9, 256, 256]`."""
        self.head, self.decode, self.guidance = head, decode, guidance

    def __call__(self, texture: Tensor, shape: Tensor, scene: Scene) -> tuple[Tensor, Scene, dict[str, Tensor]]:
        """Returns the loss, the scene with its light fitted to the current maps (detached), and each term `[B]`."""
        g, w, n = self.guidance, self.guidance.weights, len(shape)
        vertices = self.head(shape, scene.expression, scene.gaze)
        terms: dict[str, Tensor] = {}
        if w.landmark:
            points = scene.camera.project(self.head.landmarks(vertices, "mesh"), g.size)
            terms["landmark"] = landmark_loss(points, g.mesh, g.mesh_weights, g.size[0])
        if w.photometric or w.identity or w.perceptual:
            image, weight, scene = self.picture(vertices, self.decode(texture), scene)
            image, seen = balance(image, g.recognizer_blur, g.recognizer_share)
            if w.photometric:
                terms["photometric"] = photometric_loss(image, g.photo, weight)
            if w.identity or w.perceptual:
                features = g.recognizer(g.recognizer.crop(seen, g.matrix.expand(n, -1, -1)))
                if w.identity:
                    distance = g.recognizer.distance(features.embedding, g.embedding.expand(n, -1))
                    terms["identity"] = identity_loss(distance, g.recognizer.same_threshold)
                if w.perceptual:
                    terms["perceptual"] = perceptual_loss(features.activations, g.activations)
        loss = sum((getattr(w, name) * value for name, value in terms.items()), torch.zeros(n).to(shape))
        return loss, scene, terms

    def picture(self, vertices: Tensor, stack: Tensor, scene: Scene) -> tuple[Tensor, Tensor, Scene]:
        """Render in the photo's light: sRGB `[B, 3, S, S]` over the photo, its photometric weight, the scene relit."""
        g = self.guidance
        maps = TextureMaps.from_stack(stack)
        # light and weights change slowly over the picture: half the resolution does
        surface = Surface.seen(vertices.detach(), self.head, scene.detach(), (g.size[0] // 2, g.size[1] // 2))
        seen = surface.look_up(g.regions)
        regions = seen * surface.facing
        scene = replace(scene, light=self.relight(surface, maps, scene, regions[:, 1:2]))
        out = render(
            vertices, self.head, maps, scene.camera, scene.light, size=g.size, visibility=g.sun and g.sun.arrives
        )
        weight, mouth, skin = F.interpolate(
            torch.cat([regions[:, :1], seen[:, 3:] * surface.mask, regions[:, 1:2]], 1),
            g.size,
            mode="bilinear",
            align_corners=False,
        ).split(1, 1)
        image = out.image
        if g.unexplained.share > 0:
            image = image * self.unexplained_gain(image.detach(), regions[:, 1:2])
            image = without_broad_pull(image, skin, g.unexplained)
        image = linear_to_srgb(image.clamp(0, 1))
        # background, hands and teeth are the photo's own: the recogniser should judge the face, not their absence
        shown = out.mask * g.mask * (1 - mouth)
        weight = weight * g.mask
        return image * shown + g.photo * (1 - shown), weight, scene

    @torch.no_grad()
    def unexplained_gain(self, render: Tensor, skin: Tensor) -> Tensor:
        """What the light of the scene does not explain of the photo `[B, 3, S, S]`: `light_gain` at full size."""
        g, small = self.guidance, skin.shape[-2:]
        photo, mask, render = (F.interpolate(x, small, mode="area") for x in (g.photo, g.mask, render))
        return F.interpolate(
            light_gain(render, photo, skin * mask, g.unexplained), g.size, mode="bilinear", align_corners=False
        )

    @torch.no_grad()
    def relight(self, surface: Surface, maps: TextureMaps, scene: Scene, skin: Tensor) -> Light:
        """Least-squares light for the current maps; the specular part is taken off as the last light made it."""
        g = self.guidance
        small = skin.shape[-2:]
        photo = F.interpolate(g.photo, small, mode="bilinear", antialias=True, align_corners=False)
        weight = skin * F.interpolate(g.mask, small, mode="bilinear", antialias=True, align_corners=False)
        albedo, light = surface.albedo(maps), scene.light.detach()
        if g.sun is None:
            return fit_light(
                photo, albedo, surface.normal, weight, surface.shine(maps, light), g.light_prior, stride=2
            )[0]
        arrives = surface.carry(g.sun.arrives)
        shine = surface.shine(maps, light, arrives)
        return fit_light(photo, albedo, surface.normal, weight, shine, g.light_prior, 2, g.sun.direction, arrives)[0]
