"""Training views for the hair segmenter: photos round their fitted heads, with hair masks of MediaPipe's network.

    python -m fitdiff_lab.dataset.hair_masks PHOTOS --network hair_segmentation.tflite --out hair_masks.safetensors

The network (Apache-2.0, https://ai.google.dev/edge/mediapipe/solutions/vision/image_segmenter) runs in OpenCV, which is
needed for this command only: pip install opencv-python-headless. It misses pale hair and small heads, so it looks at
three widths round the head and at the mirror image; the largest answer counts, where it is connected to the head.

A photo without a face is left out. The views are wider than the segmenter's, so that training can move them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from fitdiff_core import pipeline
from fitdiff_core.errors import UserError, command
from fitdiff_core.files import atomic_path
from fitdiff_core.filters import reconstruct
from fitdiff_core.fitting.landmarks import fit_scene
from fitdiff_core.hair.photo import View, photo_places, wide_view
from fitdiff_core.hair.segmenter import view_planes
from fitdiff_core.head import HeadModel, load_head
from fitdiff_core.image import load_photo
from fitdiff_core.scene import Scene

from ..cli import command_parser
from ..evaluate.photos.common import photos_in

WIDE, SIDE = 2.6, 208  # of the stored views; the pixels are as large as in the view of the segmenter
BROW = -0.06  # metres from the hairline; below it the face shows no hair of the head
NETWORK_SIDE = 512
WIDTHS = (1.0, 1.3, 1.8)  # of the network's looks, over the face crop; it misses hair where the head is small


class HairNetwork:
    """MediaPipe's hair segmenter. Raises UserError where OpenCV is missing."""

    def __init__(self, path: Path):
        try:
            import cv2
        except ImportError as e:
            raise UserError("Hair masks need OpenCV: pip install opencv-python-headless") from e
        cv2.setNumThreads(1)
        self.network = cv2.dnn.readNetFromTFLite(str(path))

    def probability(self, image: Tensor) -> Tensor:
        """`[3, 512, 512]` sRGB -> `[512, 512]` probability of hair."""
        planes = np.concatenate([image.numpy(), np.zeros((1, NETWORK_SIDE, NETWORK_SIDE), np.float32)])[None]
        self.network.setInput(np.ascontiguousarray(planes))
        out = torch.from_numpy(self.network.forward().copy()).reshape(2, NETWORK_SIDE, NETWORK_SIDE)
        return out.softmax(0)[1]

    def label(self, photo: Tensor, scene: Scene, view: View, wide: float = WIDE) -> Tensor:
        """Hair round the head of a fitted scene: `[S, S]` 0..1, as the view, `wide` times the face crop."""
        side = len(view.edge)
        t = (torch.arange(NETWORK_SIDE) + 0.5) / NETWORK_SIDE * 2 - 1
        y, x = torch.meshgrid(t, t, indexing="ij")
        u = (torch.arange(side) + 0.5) / side * 2 - 1
        v, u = torch.meshgrid(u, u, indexing="ij")
        best = torch.zeros(side, side)
        for width in WIDTHS:
            grid, _ = photo_places(scene, x * width, y * width, photo.shape[-2:])
            image = F.grid_sample(photo, grid[None], padding_mode="reflection", align_corners=False)[0]
            found = self.probability(image)
            if width == WIDTHS[0]:
                found = torch.maximum(found, self.probability(image.flip(-1)).flip(-1))
            at = torch.stack([u, v], -1)[None] * (wide / width)
            best = torch.maximum(best, F.grid_sample(found[None, None], at, align_corners=False)[0, 0])
        head = F.max_pool2d((view.edge > -0.03).float()[None, None], 5, 1, 2)
        solid = (best > 0.5).float()[None, None]
        kept = F.max_pool2d(reconstruct(torch.minimum(head, solid), solid), 3, 1, 1)[0, 0]
        cheek = (view.face > 0.5) & (view.edge < BROW)  # bright cheeks and beards look like hair to the network
        return best * kept * view.valid * ~cheek


def photo_view(photo: Tensor, head: HeadModel) -> tuple[View, Scene]:
    """A photo `[1, 3, H, W]` round its head, which landmarks alone fit. Raises UserError where there is no face."""
    (face,) = pipeline.find_faces(photo)
    scene, shape = fit_scene(photo, face, head)
    return wide_view(head, head(shape, scene.expression, scene.gaze), scene, photo, WIDE, SIDE), scene


def prepare(photos: Path, network: Path, out: Path, log=print) -> None:
    """Write the views and masks of a folder of photos."""
    head, label, planes, masks = load_head(), HairNetwork(network), [], []
    for path in photos_in(photos):
        try:
            photo = load_photo(path)
            view, scene = photo_view(photo, head)
        except UserError as e:
            log(f"{path.name}: left out. {e}")
            continue
        planes.append(view_planes(view.image, view.valid, view.edge, view.face, view.ears, view.metre).half())
        masks.append((label.label(photo, scene, view) * 255).round().to(torch.uint8)[None])
        log(f"{path.name}: {float(masks[-1].float().mean()) / 255:.3f} hair")
    with atomic_path(out) as part:
        save_file({"planes": torch.stack(planes), "mask": torch.stack(masks)}, part)


def load_views(path: Path) -> dict[str, Tensor]:
    """planes: `[N, INPUTS, S, S]` fp16. mask: `[N, 1, S, S]` uint8. Raises UserError where there is no such file."""
    if not path.is_file():
        raise UserError(f"No views at {path}; make them with fitdiff_lab.dataset.hair_masks.")
    return load_file(path)


@command
def main(argv: list[str] | None = None) -> int:
    p = command_parser("dataset.hair_masks", __doc__)
    p.add_argument("photos", type=Path, help="folder")
    p.add_argument("--network", type=Path, required=True, help="hair_segmentation.tflite of MediaPipe")
    p.add_argument("--out", type=Path, required=True, help="safetensors file")
    a = p.parse_args(argv)
    torch.set_num_threads(1)
    prepare(a.photos, a.network, a.out, lambda line: print(line, file=sys.stderr, flush=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
