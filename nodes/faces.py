"""The faces in each image and the one that is meant. Nodes that are given the same image share one detection."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any

import torch
from comfy_api.latest import io, ui

from ..fitdiff_core.errors import UserError
from ..fitdiff_core.face import ORDERS, ChosenFaces, Face, FaceDetector, choose_faces, load_detector
from ..fitdiff_core.face.drawing import draw_faces
from ..fitdiff_core.image import to_image
from . import host, types

IMAGES_KEPT = 32  # whose faces are remembered


class RememberingDetector:
    """A detector that remembers the faces of the images it saw last, by their content."""

    def __init__(self, detector: FaceDetector):
        self.detector = detector
        self.found: OrderedDict[tuple, list[Face]] = OrderedDict()

    def to(self, device: torch.device) -> None:
        self.detector.to(device)

    def detect(self, image: torch.Tensor) -> list[Face]:
        """Faces in `[3, H, W]` sRGB, largest first."""
        pixels = image.contiguous().cpu().numpy()
        key = (pixels.shape, hashlib.blake2b(pixels.data, digest_size=16).digest())
        if key not in self.found:
            self.found[key] = self.detector.detect(image)
        self.found.move_to_end(key)
        while len(self.found) > IMAGES_KEPT:
            self.found.popitem(last=False)
        return self.found[key]


def detector() -> FaceDetector:
    """The one detector of this host; it remembers, and answers as a FaceDetector does."""
    return host.load_once(lambda: RememberingDetector(load_detector(device=host.device())), "detector", None)


def faces_in(
    photos: torch.Tensor, which: int, landmarks: Any = None, boxes: Any = None, faces: Any = None
) -> list[Face]:
    """The face that is meant in each of the images `[B, 3, H, W]`.

    which, landmarks, boxes: as of `pipeline.find_faces`. faces: of FitDiff Find Faces, which replace all of them
    """
    if faces is None:
        return list(choose_faces(list(photos), detector(), which, landmarks, boxes).chosen)
    if not isinstance(faces, ChosenFaces):
        raise UserError("These faces are not of FitDiff Find Faces; connect its output.")
    return faces.of(list(photos))


class FindFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            "FindFaces",
            "FitDiff Find Faces",
            description="Shows the faces of a photo in numbered boxes and chooses one. Connect the choice to FitDiff "
            "Encode Identity and FitDiff Guidance, so that both take the same face.",
            search_aliases=["face detection", "choose face", "which face", "bounding box"],
            is_output_node=True,
            inputs=[
                io.Image.Input("image", tooltip="A photo, or a batch of photos of one person."),
                io.Int.Input(
                    "face", default=0, min=0, max=99, tooltip="The number of the face in the order below, from 0."
                ),
                io.Combo.Input(
                    "order",
                    options=list(ORDERS),
                    default=ORDERS[0],
                    tooltip="largest: the largest is 0; faces of about the same size count from left to right. "
                    "left-to-right: the leftmost is 0.",
                ),
                *types.given_face_inputs(),
            ],
            outputs=[
                types.Faces.Output("chosen", display_name="faces", tooltip="The chosen face of each photo."),
                io.Image.Output(
                    "picture", display_name="picture", tooltip="The photo with numbered boxes; the chosen one is green."
                ),
            ],
        )

    @classmethod
    @host.with_gradients
    def execute(cls, image, face=0, order=ORDERS[0], face_landmarks=None, bboxes=None):
        photos = list(host.image_in(image))
        faces = choose_faces(photos, detector(), f"{order}:{face}", face_landmarks, bboxes)
        pictures = [draw_faces(*each) for each in zip(photos, faces.found, faces.chosen, strict=True)]
        picture = to_image(torch.cat(pictures))
        return io.NodeOutput(faces, picture, ui=ui.PreviewImage(picture, cls=cls))
