"""What the delighting network says about one photo to which the head is fitted: what each texel shows, and its albedo.

The network is small and runs on the CPU, whatever the device of the photo.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from ..head import HeadModel
from ..photo_networks import load_delighter
from ..render import Camera
from .classes import BEARD, CLASSES, HIDING
from .unwrapping import CoarseUnwrapper, UVPhoto

BURNT_OUT, BURNT = "burnt out", 0.9  # linear colour from which all channels are burnt out
_unwrappers = WeakTensorKeyDictionary()


@dataclass(frozen=True)
class PhotoReading:
    """unwrapped: the photo in the atlas, on the CPU. classes: `[1, 8, 128, 128]`, probability of each of `CLASSES`."""

    unwrapped: UVPhoto
    classes: Tensor

    @property
    def hidden(self) -> Tensor:
        """Probability that a texel shows hair, glasses or another thing before the face, `[1, 1, 128, 128]`."""
        return self.classes[:, list(HIDING)].sum(1, keepdim=True) * (self.unwrapped.seen > 0)

    @property
    def beard(self) -> Tensor:
        """Probability of a beard, `[1, 1, 128, 128]`."""
        return self.classes[:, BEARD : BEARD + 1]

    def shares(self, face: Tensor) -> dict[str, float]:
        """Share of the face in view, 0..1, that each kind of thing hides, and that is burnt out, where nothing can be
        said. face: `[1, 1, h, w]` in UV, 0..1."""
        weight = F.interpolate(face.float().cpu(), self.classes.shape[-2:], mode="area") * self.unwrapped.seen
        burnt = (self.unwrapped.colour[:, :3].amin(1, keepdim=True) > BURNT).to(weight)
        planes = torch.cat([self.classes[:, list(HIDING)] * (1 - burnt), burnt], 1)
        found = (planes * weight).sum((0, 2, 3)) / weight.sum().clamp(min=1e-6)
        return dict(zip((*(CLASSES[i] for i in HIDING), BURNT_OUT), found.tolist(), strict=True))

    @torch.no_grad()
    def log_residual(self, prior: Tensor) -> tuple[Tensor, Tensor]:
        """How the log albedo differs from that of the identity's prior, and the log of its expected error.

        prior: linear albedo `[1, 3, h, w]` of the prior's mean. Returns `[1, 3, 64, 64]` and `[1, 1, 64, 64]`.
        """
        answer = load_delighter().delight(self.unwrapped, prior.float().cpu())
        return answer.residual, answer.error


@torch.inference_mode(False)
@torch.no_grad()
def read_photo(image: Tensor, valid: Tensor, vertices: Tensor, camera: Camera, head: HeadModel) -> PhotoReading:
    """Read a face crop.

    image: `[1, 3, S, S]` sRGB. valid: `[1, 1, S, S]`, 0 where the photo ends
    vertices: `[1, V, 3]` metres, posed. camera: of the crop
    """
    if head.triangles not in _unwrappers:
        _unwrappers[head.triangles] = CoarseUnwrapper(head)
    image, valid, vertices = (x.float().cpu().clone() for x in (image, valid, vertices))
    unwrapped = _unwrappers[head.triangles](image, valid, vertices, camera.to("cpu"))
    return PhotoReading(unwrapped, load_delighter().delight(unwrapped).classes.softmax(1))
