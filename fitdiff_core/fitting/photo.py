"""One photo, fitted: its face crop, its scene, and where it shows the skin. Guidance and photo detail start from
here."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..autograd import without_inference_mode
from ..delight.reading import BURNT_OUT, PhotoReading, read_photo
from ..delight.unwrapping import SIZE as TEXELS
from ..errors import UserError
from ..face import Face, FaceSource
from ..face.mesh_points import LIDS_LEFT, LIDS_RIGHT
from ..hair.photo import crop_of, wide_view
from ..head import HeadModel
from ..photo_networks import load_segmenter
from ..progress import report
from ..render import Light
from ..scene import Scene
from .crop import check_mask, check_shown, crop_face, crop_image, uncrop
from .gbuffer import GBuffer
from .key_light import KeyLight, find_key_light
from .landmarks import BLINK, FitPrior, fit_scene, landmark_weights
from .occlusion import visible_skin
from .pose import degrees_sideways
from .regions import region_weights
from .regions import regions as atlas_regions
from .sh_light import MEAN_SKIN, fit_light, light_pixels
from .smile import Teeth, see_teeth

CROP_SIZE = 256
# Degrees to the side from which a photo says nothing of the skin's colour: the mesh points of the far side are guesses,
# and the fit of a profile is some 25 degrees short, so that shadows and hair would land in the middle of the face
SIDEWAYS = 48
MUCH_BURNT = 0.25  # share of the face from which it is said
# kind of thing: its name for the user, and the share of the face hidden by it from which it is said (a fringe is usual)
THINGS = {
    "hair over skin": ("hair", 0.3),
    "glasses": ("glasses", 0.1),
    "other occluder": ("a hand, hat, mask or other thing", 0.1),
}


@dataclass(frozen=True)
class FittedPhoto:
    """What one photo shows. S is the side of the face crop, 256 pixels; all points are in pixels of the crop.

    image: `[1, 3, S, S]` sRGB crop
    visible: `[1, 1, S, S]`, 1 where the photo may be used; 0 outside the photo and where hair or a hand hides the skin
    scene: fitted camera, expression, gaze and light
    shape: `[1, K]` identity coefficients that the landmarks alone give
    mesh: `[1, 468, 2]` MediaPipe face mesh
    mesh_weights: `[468]` weight of each point, mean 1
    regions: `[1, 4, h, w]` in UV: photometric weight, plain skin, features, mouth (`region_weights`)
    key_light: the one strong directional light, None where there is none
    source: the photo and the face in it, None if unknown
    reading: what each texel shows, None if unknown
    held: numbers of the expressions that guidance leaves as they are: the lids of eyes that are shut
    teeth: those between the lips, None where the lips are shut
    """

    image: Tensor
    visible: Tensor
    scene: Scene
    shape: Tensor
    mesh: Tensor
    mesh_weights: Tensor
    regions: Tensor
    key_light: KeyLight | None = None
    source: FaceSource | None = None
    reading: PhotoReading | None = None
    held: tuple[int, ...] = ()
    teeth: Teeth | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the crop."""
        return self.image.shape[-2], self.image.shape[-1]

    @property
    def textured(self) -> bool:
        """See `tells_colour`."""
        return tells_colour(self.scene)

    def hidden(self) -> dict[str, float]:
        """Share of the face in view, 0..1, hidden by hair over skin, glasses, other occluder, or burnt out."""
        return {} if self.reading is None else self.reading.shares(self.regions[:, :1])

    def shown(self) -> dict[str, float]:
        """Shares of the whole face, 0..1, sum 1: seen, hidden by something, and not in view (turned away, or cut)."""
        if self.reading is None:
            return {}
        face = F.interpolate((self.regions[:, :1] > 0.9).float().cpu(), (TEXELS, TEXELS), mode="area")
        in_view, hidden = self.reading.unwrapped.seen, self.hidden_texels()
        total = face.sum().clamp(min=1e-6)
        parts = [float((face * part).sum() / total) for part in (in_view * (1 - hidden), in_view * hidden)]
        return {"seen": parts[0], "hidden": parts[1], "not in view": 1 - sum(parts)}

    def hidden_texels(self) -> Tensor:
        """Share of each texel that the photo would show but for what hides it, `[1, 1, 128, 128]`, on the CPU."""
        if self.reading is None:
            return torch.zeros(1, 1, TEXELS, TEXELS)
        hidden = F.grid_sample(1 - self.visible.float().cpu(), self.reading.unwrapped.grid, align_corners=False)
        return F.avg_pool2d(hidden, 2) * (self.reading.unwrapped.seen > 0)

    def describe_hidden(self, photo: str) -> list[str]:
        """Warnings where something hides much of the face, and for a profile. photo: its name for the user."""
        lines = []
        if not self.textured:
            angle = float(degrees_sideways(self.scene.camera)[0])
            lines.append(
                f"{photo} shows the face from the side ({angle:.0f} degrees or more): only its shape is used, and the "
                "skin is a guess. Use a photo turned by at most 40 degrees."
            )
        shares = self.hidden()
        if shares.pop(BURNT_OUT, 0) > MUCH_BURNT:
            lines.append(f"{photo} is burnt out in much of the face; the skin there is a guess.")
        found = {THINGS[k][0]: v for k, v in shares.items() if v > THINGS[k][1]}
        if not found:
            return lines
        parts = " and ".join(f"{name} ({share:.0%} of the face)" for name, share in found.items())
        return [*lines, f"{photo} shows {parts} before the skin; what lies under it is a guess."]

    def visible_mask(self, size: tuple[int, int]) -> Tensor:
        """`visible` in the pixels of the photo, `[1, 1, H, W]`; size: (H, W) of the photo."""
        return uncrop(self.visible, self.scene.photo_crop(), size)


@torch.inference_mode(False)
@torch.no_grad()
def fit_photo(
    photo: Tensor,
    face: Face,
    head: HeadModel,
    mask: Tensor | None = None,
    size: int = CROP_SIZE,
    prior: FitPrior | None = None,
) -> FittedPhoto:
    """Fit the head and its scene to one photo.

    photo: `[1, 3, H, W]` sRGB
    face: its bounding box and mesh points
    mask: `[1, 1, H, W]`, 1 where the photo may be used; None finds hair, hands and glasses in the photo
    size: side of the crop, pixels

    Raises UserError for several photos, a mask of another size, or a mask that hides the face.
    """
    if photo.ndim != 4 or photo.shape[0] != 1 or photo.shape[1] != 3:
        raise UserError(f"Guidance needs one photo, not a batch of {tuple(photo.shape)}; pick one image of the batch.")
    if mask is not None:
        check_mask(mask, photo)
    photo, head, face = (without_inference_mode(x) for x in (photo, head, face))
    crop = crop_face(photo, face.mesh, size)
    scene, shape = fit_scene(photo, face, head, size, prior, crop)
    report(1, 3)
    mesh = crop.points(face.mesh)[None, :, :2].to(photo)
    regions = region_weights(head).to(photo)
    vertices = head(shape, scene.expression, scene.gaze)
    gbuffer = GBuffer.render(vertices, head, scene, scene.size)
    usable = crop.mask
    if mask is not None:
        usable = (
            usable
            * crop_image(without_inference_mode(mask).expand(-1, 3, -1, -1).to(photo), crop.matrix, size).image[:, :1]
        )
        skin = gbuffer.sample(regions)[:, 1:2] * gbuffer.facing * crop.mask
        check_shown((skin * usable).sum() / skin.sum().clamp(min=1))
    reading = read_photo(crop.image, usable, vertices, scene.camera, head)
    hair = hair_in_crop(head, vertices, scene, photo)
    light, visible = visible_skin(crop.image, usable, mesh, gbuffer, head, regions, reading, hair)
    report(2, 3)
    visible = visible if mask is None else usable
    key_light, light = fit_key_light(crop.image, visible, vertices, head, scene, regions, light)
    scene = replace(scene, light=light)
    weights = landmark_weights(head, "mesh", mesh)
    held = shut_lids(head, scene)
    if held:
        # the mesh points of closed lids are those of open ones, and no iris shows
        weights[[*LIDS_LEFT, *LIDS_RIGHT]] = 0
        weights = weights / weights.mean()
        regions[:, :1] *= 1 - atlas_regions(head, ("eyes",), regions.shape[-1]).to(regions)
    source = FaceSource.of(face)
    fine = crop_image(photo, crop.matrix * 2, 2 * size).image[0]  # twice the size, since lips are narrow
    teeth = see_teeth(fine, mesh[0] * 2)
    known = (crop.image, visible, scene, shape, mesh, weights, regions)
    return FittedPhoto(*known, key_light, source, reading, held, teeth)


def tells_colour(scene: Scene) -> bool:
    """Whether a photo with this scene, batch 1, tells the skin's colour; a profile does not."""
    return float(degrees_sideways(scene.camera)[0]) <= SIDEWAYS


@torch.no_grad()
def hair_in_crop(head: HeadModel, vertices: Tensor, scene: Scene, photo: Tensor) -> Tensor:
    """Probability of hair in the pixels of a face crop, `[1, 1, S, S]`.

    vertices: `[1, V, 3]` metres, posed. scene: with its crop. photo: `[1, 3, H, W]` sRGB
    """
    view = wide_view(head, vertices.float().cpu(), scene, photo)
    return crop_of(load_segmenter().find(view), scene.size).to(photo)


def shut_lids(head: HeadModel, scene: Scene) -> tuple[int, ...]:
    """Numbers of the expressions that shut the lids, where the fit shut both; else none."""
    found = tuple(head.expression_names.index(name) for name in BLINK if name in head.expression_names)
    return found if found and bool((scene.expression[:, list(found)] >= 1).all()) else ()


def fit_key_light(
    image: Tensor, visible: Tensor, vertices: Tensor, head: HeadModel, scene: Scene, regions: Tensor, light: Light
) -> tuple[KeyLight | None, Light]:
    """The strong directional light of a fitted photo, and the whole light with it.

    image, visible, scene, regions: as in `FittedPhoto`. vertices: `[1, V, 3]` metres, posed.
    light: the fit without a key light, returned unchanged where none is found.
    """
    half = (scene.size[0] // 2, scene.size[1] // 2)
    gbuffer = GBuffer.render(vertices, head, scene, half)
    image, visible = (F.interpolate(x, half, mode="area") for x in (image, visible))
    weight = gbuffer.sample(regions)[:, 1:2] * gbuffer.facing * visible
    colour = torch.tensor(MEAN_SKIN).to(image)[None, :, None, None] * gbuffer.exposure
    (pixels,) = light_pixels(image, colour, gbuffer.normal, weight, stride=2)
    key = find_key_light(pixels, vertices, gbuffer, 2)
    if key is None:
        return None, light
    visibility = gbuffer.interpolate(key.visibility)
    return key, fit_light(
        image, colour, gbuffer.normal, weight, stride=2, key_direction=key.direction, key_visibility=visibility
    )[0]
