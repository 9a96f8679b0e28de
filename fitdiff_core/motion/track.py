"""Follow one face from frame to frame: the mesh network looks where the face was, and the detectors only where it is
lost."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import UserError
from ..face import Face, FaceDetector, select_face
from ..face.detect import ROI_SCALE, _mesh_region
from ..fitting.landmarks import landmark_basis
from ..head import HeadModel

AGAIN = 5  # frames between two searches of the whole frame while the face is lost
LEAST = 0.5  # confidence of the mesh network below which the face is lost
SPREAD = (1.0, 0.94)  # sides of the looks at one face: their mean is steadier than any


class FaceTracker:
    """Gives the mesh points of one face, frame by frame.

    detector: finds the face in the first frame, and again where it was lost
    head: says which points of the mesh are mirror images of each other
    which: the face that is meant, where the first frame shows several; see `face.parse_choice`
    """

    def __init__(self, detector: FaceDetector, head: HeadModel, which: str | int = "largest"):
        self.detector, self.which, self.mirrored = detector, which, mirrored_points(head)
        self.last: Tensor | None = None  # mesh of the last frame that showed the face
        self.lost = 0

    @torch.inference_mode(False)
    @torch.no_grad()
    def follow(self, frame: Tensor) -> Tensor | None:
        """Mesh `[468, 3]` in pixels of the frame `[3, H, W]` (sRGB 0..1), None where the face is not seen."""
        mesh = None if self.last is None else self.look(frame, self.last)
        if mesh is None and self.lost % AGAIN == 0:
            mesh = self._search(frame)
        self.lost = 0 if mesh is not None else self.lost + 1
        self.last = mesh if mesh is not None else self.last
        return mesh

    def _search(self, frame: Tensor) -> Tensor | None:
        """The face that is meant; after a loss, the one nearest to where it was."""
        faces = self.detector.detect(frame)
        if not faces:
            return None
        if self.last is None:
            try:
                face: Face = select_face(faces, self.which)
            except UserError:
                return None  # the face that is meant comes later
        else:
            centre = self.last[:, :2].mean(0)
            face = min(faces, key=lambda f: float((f.mesh[:, :2].mean(0) - centre).norm()))
        return self.look(frame, face.mesh)

    def look(self, frame: Tensor, near: Tensor) -> Tensor | None:
        """The mean of several looks at the region of a mesh `[468, 3]`, half of them mirrored."""
        device = self.detector.device
        centre, side, angle = _mesh_region(near[None].to(device))
        if not torch.isfinite(side).all() or float(side) < 8:
            return None
        x0, y0, part = cut(frame, centre[0].cpu(), float(side) * ROI_SCALE)
        if part is None:
            return None
        shift = centre.new_tensor([x0, y0])
        part = part[None].to(device, torch.float32)
        sides = torch.cat([side * k for k in SPREAD])
        n = len(sides)
        mesh, logit = self.detector._mesh(part, (centre - shift).expand(n, 2), sides, angle.expand(n))
        width = part.shape[-1]
        flip = centre.new_tensor([width - float(centre[0, 0] - x0), float(centre[0, 1] - y0)])[None]
        other, more = self.detector._mesh(part.flip(3), flip.expand(n, 2), sides, -angle.expand(n))
        other = other[:, self.mirrored] * other.new_tensor([-1.0, 1.0, 1.0]) + other.new_tensor([width, 0.0, 0.0])
        if float(torch.cat([logit, more]).mean().sigmoid()) < LEAST:
            return None
        mesh = torch.cat([mesh, other]).mean(0)
        return torch.cat([mesh[:, :2] + shift, mesh[:, 2:]], 1).cpu()


def mirrored_points(head: HeadModel) -> Tensor:
    """For each of the 468 mesh points the one on the other side of the face, `[468]`."""
    points = landmark_basis(head)[0]
    return torch.cdist(points * points.new_tensor([-1.0, 1.0, 1.0]), points).argmin(1)


def cut(frame: Tensor, centre: Tensor, side: float) -> tuple[int, int, Tensor | None]:
    """The part of a frame `[3, H, W]` round a square, so that less of a large frame is read.

    Returns its left column, its top row and the pixels; None where nothing of the frame is in it.
    """
    height, width = frame.shape[-2:]
    reach = side * math.sqrt(0.5) + 2
    x, y = centre.tolist()
    x0, x1 = max(0, math.floor(x - reach)), min(width, math.ceil(x + reach))
    y0, y1 = max(0, math.floor(y - reach)), min(height, math.ceil(y + reach))
    return x0, y0, None if x1 - x0 < 4 or y1 - y0 < 4 else frame[:, y0:y1, x0:x1]
