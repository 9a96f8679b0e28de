"""Face detection: MediaPipe's BlazeFace detectors, then its face mesh of 468 points, both in torch.

BlazeFace: Bazarevsky et al. 2019; face mesh: Kartynnik et al. 2019. The networks look at several square regions of
the image: the whole image; overlapping tiles, for small faces; the image with a border, for faces cut by the frame;
the image turned, for sideways photos. Each region is one affine matrix (image pixels -> network input pixels), and
results are mapped back by its inverse. A candidate of BlazeFace counts as a face only if the mesh network confirms
it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..graph.interpreter import Graph
from ..graph.weights import load_graphs
from .align import apply, invert, scale_of, square_matrix, warp
from .mesh_points import EYE_LEFT, EYE_RIGHT, N_POINTS, five_points

# network -> (stride of each anchor layer, anchors per cell and layer); MediaPipe's SsdAnchorsCalculator options
ANCHORS = {
    "blazeface_full": ((4,), 1),
    "blazeface_back": ((16, 32, 32, 32), 2),
    "blazeface_short": ((8, 16, 16, 16), 2),
}
MIN_SCORE = 0.5  # lowest score of a detection and of the mesh network's confirmation
OVERLAP = 0.3  # intersection over union above which two detections are one face
ROI_SCALE = 1.5  # side of the mesh network's input region, in sides of the face's box
MAX_FACES = 64
EQUAL_AREA = 0.9  # faces whose areas have a larger ratio count as equally large


@dataclass
class Face:
    """One face in an image. Pixel coordinates: x right, y down, origin at the image's top-left corner.

    box: `[4]`, x0, y0, x1, y1 of the mesh
    score: confidence of the detector, 0..1
    keypoints: `[6, 2]`, right eye, left eye, nose tip, mouth, right ear, left ear (the subject's right)
    mesh: `[468, 3]`, MediaPipe's face mesh; z in pixels, negative towards the camera
    mesh_score: confidence of the mesh network that this is a face, 0..1
    photo: `photo_digest` of the photo, set where the face is chosen; empty if unknown
    """

    box: Tensor
    score: float
    keypoints: Tensor
    mesh: Tensor
    mesh_score: float
    photo: str = ""

    @property
    def points5(self) -> Tensor:
        """`five_points` of the mesh, `[5, 2]`."""
        return five_points(self.mesh)

    @property
    def area(self) -> float:
        """Area of the box in square pixels."""
        return float((self.box[2] - self.box[0]) * (self.box[3] - self.box[1]))


def anchor_centers(size: int, strides: tuple[int, ...], per_cell: int) -> Tensor:
    """Centres `[A, 2]` (x, y in 0..1) of a BlazeFace network's anchors, in the order of its outputs.

    size: side of the network's input in pixels
    strides: of each anchor layer
    per_cell: anchors per cell and layer
    """
    layers = []
    for stride in dict.fromkeys(strides):
        n, copies = size // stride, per_cell * strides.count(stride)
        c = (torch.arange(n) + 0.5) / n
        grid = torch.stack(torch.meshgrid(c, c, indexing="xy"), -1).reshape(-1, 2)
        layers.append(grid.repeat_interleave(copies, 0))
    return torch.cat(layers)


class FaceDetector(nn.Module):
    """The three BlazeFace networks and the face mesh network, float32, without gradients.

    graphs: name -> (network, side of its input in pixels), as `load_graphs` gives them
    """

    anchors_blazeface_full: Tensor

    def __init__(self, graphs: dict[str, tuple[Graph, int]]):
        super().__init__()
        self.networks = nn.ModuleDict({name: graph for name, (graph, _) in graphs.items()})
        self.sizes = {name: size for name, (_, size) in graphs.items()}
        for name, (strides, per_cell) in ANCHORS.items():
            self.register_buffer(
                f"anchors_{name}", anchor_centers(self.sizes[name], strides, per_cell), persistent=False
            )

    @property
    def device(self) -> torch.device:
        return self.anchors_blazeface_full.device

    @torch.inference_mode(False)  # the result may become part of a computation that is differentiated
    @torch.no_grad()
    def detect(self, image: Tensor) -> list[Face]:
        """All faces in an image `[3, H, W]` or `[1, 3, H, W]`, sRGB 0..1; in `box_order`, at most `MAX_FACES`.

        Raises UserError for another shape.
        """
        image = (image if image.ndim == 4 else image[None]).to(self.device, torch.float32)
        if image.shape[0] != 1 or image.shape[1] != 3:
            raise UserError(
                f"Face detection takes one RGB image [3,H,W], not {tuple(image.shape)}; pass them one by one."
            )
        faces: list[Face] = []
        for networks, regions, enough in search_plan(*image.shape[2:]):
            if not faces or max(face.area for face in faces) ** 0.5 < enough:
                found = torch.cat([self._candidates(image, name, regions) for name in networks])
                faces += self._confirm(image, merge(found), faces)
        return [faces[i] for i in box_order([face.box for face in faces])[:MAX_FACES]]

    def _candidates(self, image: Tensor, name: str, regions: Tensor) -> Tensor:
        """Candidates `[N, 17]` of one BlazeFace network: score and 8 image points (2 box corners, 6 keypoints).

        regions: `[R, 4]`, squares as in `search_plan`
        """
        size = self.sizes[name]
        matrix = square_matrix(regions[:, :2], regions[:, 2], regions[:, 3], size).to(image)
        boxes, logits = self.networks[name](warp(image, matrix, size) * 2 - 1)
        score = logits[..., 0].clamp(-80, 80).sigmoid()
        region, anchor = (score > MIN_SCORE).nonzero(as_tuple=True)
        # per anchor: box centre, box size, 6 keypoints, in network pixels; all but the size relative to the anchor
        values = boxes[region, anchor].reshape(-1, 8, 2)
        center = values[:, :1] + getattr(self, f"anchors_{name}")[anchor, None] * size
        half = values[:, 1:2] / 2
        points = torch.cat([center - half, center + half, values[:, 2:] + center - values[:, :1]], 1)
        points = apply(invert(matrix)[region], points)
        return torch.cat([score[region, anchor, None], points.flatten(1)], 1)

    def _confirm(self, image: Tensor, candidates: Tensor, known: list[Face]) -> list[Face]:
        """The faces among candidates `[N, 17]` that are not in `known` and that the mesh network confirms."""
        fresh = [c for c in candidates if not any(same_face(_box(c), face.box) for face in known)][:MAX_FACES]
        if not fresh:
            return []
        points = torch.stack(fresh)[:, 1:].reshape(-1, 8, 2)
        corners, eyes = points[:, :2], points[:, 2:4]
        center, side, angle = corners.mean(1), (corners[:, 1] - corners[:, 0]).abs().amax(1), _angle(*eyes.unbind(1))
        # BlazeFace can take an upside-down face for an upright one; the mesh network's best score tells the orientation
        looks = [self._mesh(image, center, side, angle + turn * math.pi / 2) for turn in range(4)]
        best = torch.stack([logit for _, logit in looks]).argmax(0)
        mesh, logit = (
            torch.stack(values)[best, torch.arange(len(best), device=best.device)]
            for values in zip(*looks, strict=True)
        )
        good = logit.sigmoid() > MIN_SCORE / 2  # a low bound: the second pass below, on a better placed region, decides
        if not good.any():
            return []
        points, mesh, before = points[good], mesh[good], torch.stack(fresh)[good, 0]
        mesh, logit = self._mesh(image, *_mesh_region(mesh))
        score = logit.sigmoid()
        faces: list[Face] = []
        for i in logit.argsort(descending=True).tolist():
            xy = mesh[i, :, :2]
            box = torch.cat([xy.amin(0), xy.amax(0)])
            if score[i] > MIN_SCORE and not any(same_face(box, face.box) for face in known + faces):
                values = (box, points[i, 2:], mesh[i])
                box, keypoints, points468 = (v.cpu() for v in values)
                faces.append(Face(box, float(before[i]), keypoints, points468, float(score[i])))
        return faces

    def _mesh(self, image: Tensor, center: Tensor, side: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
        """Face mesh `[N, 468, 3]` in image pixels and its confidence as logit `[N]`.

        center, side, angle: `[N, 2]` px, `[N]` px, `[N]` rad, squares around faces
        """
        size = self.sizes["facemesh"]
        matrix = square_matrix(center, side * ROI_SCALE, angle, size)
        points, logit = self.networks["facemesh"](warp(image, matrix, size))
        points = points.reshape(-1, N_POINTS, 3)
        z = points[..., 2:] / scale_of(matrix)[:, None, None]
        return torch.cat([apply(invert(matrix), points[..., :2]), z], -1), logit.reshape(-1)


def search_plan(height: int, width: int) -> Iterator[tuple[tuple[str, ...], Tensor, float]]:
    """Steps of the search in an image: (networks, regions, size limit). A step is skipped if a known face is larger.

    networks: names of the BlazeFace networks to run
    regions: `[R, 4]`, squares: x, y of the centre and side in pixels, angle of the x axis in radians
    size limit: side of a face in pixels
    The networks miss faces that are narrower than about a tenth of the region or cut by it.
    """
    side, center = max(height, width), (width / 2, height / 2)
    networks = tuple(ANCHORS)
    yield networks, torch.tensor([[*center, side, 0.0]]), math.inf
    if side >= 320:  # small faces
        yield networks[:1], tiles(height, width, 0.55), math.inf
    # faces cut by the frame: also where a whole face is found, because the cut one may be larger
    yield networks, torch.tensor([[*center, side * 1.7, 0.0]]), math.inf
    # sideways photos
    yield networks, torch.tensor([[*center, side * 1.1, turn * math.pi / 2] for turn in (1, 3, 2)]), 0.0
    if side >= 640:  # groups: if all faces so far are small, there may be more
        yield networks[:1], tiles(height, width, 0.3), 0.1 * side


def tiles(height: int, width: int, share: float) -> Tensor:
    """Square regions `[R, 4]` that cover the image and overlap by 1/4. share: their side / the image's longer side."""
    side = share * max(height, width)

    def centers(n: int) -> list[float]:
        if n <= side:
            return [n / 2]
        count = math.ceil((n - side) / (0.75 * side)) + 1
        return [side / 2 + (n - side) * i / (count - 1) for i in range(count)]

    return torch.tensor([[x, y, side, 0.0] for y in centers(height) for x in centers(width)])


def merge(candidates: Tensor) -> Tensor:
    """BlazeFace's suppression: overlapping candidates `[N, 17]` become their score-weighted mean, best first."""
    rest, merged = candidates[candidates[:, 0].argsort(descending=True)], []
    while len(rest):
        boxes = torch.stack([_box(c) for c in rest])
        same = box_overlap(boxes[0], boxes) > OVERLAP
        same[0] = True
        group = rest[same]
        points = (group[:, 1:] * group[:, :1]).sum(0) / group[:, 0].sum()
        merged.append(torch.cat([group[0, :1], points]))
        rest = rest[~same]
    return torch.stack(merged) if merged else candidates


def box_overlap(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union `[N]` of box a `[4]` with each of the boxes b `[N, 4]`."""
    common = _intersection(a, b)
    return common / ((a[2:] - a[:2]).prod() + (b[:, 2:] - b[:, :2]).prod(-1) - common).clamp(min=1e-9)


def _intersection(a: Tensor, b: Tensor) -> Tensor:
    """Common area of box a `[4]` and boxes b `[..., 4]`, square pixels."""
    return (torch.minimum(a[2:], b[..., 2:]) - torch.maximum(a[:2], b[..., :2])).clamp(min=0).prod(-1)


def same_face(a: Tensor, b: Tensor) -> bool:
    """Whether boxes `[4]` show one face: their common area exceeds half of the smaller (a tile may cut a face)."""
    a, b = a.cpu(), b.cpu()
    smaller = min(float((a[2:] - a[:2]).prod()), float((b[2:] - b[:2]).prod()))
    return float(_intersection(a, b)) > 0.5 * smaller


def box_order(boxes: Sequence[Tensor], left_to_right: bool = False) -> list[int]:
    """Indices of boxes `[4]`, largest first, or from left to right by their centres.

    Boxes of about the same area (within 10 %) stand from left to right, so that a change of a few pixels does not
    change their order.
    """

    def across(i: int) -> tuple[float, float]:
        x0, y0, x1, y1 = boxes[i].tolist()
        return x0 + x1, y0 + y1

    if left_to_right:
        return sorted(range(len(boxes)), key=across)
    areas = [float((box[2:] - box[:2]).prod()) for box in boxes]
    rest, order = sorted(range(len(boxes)), key=lambda i: -areas[i]), []
    while rest:
        equal = [i for i in rest if areas[i] >= EQUAL_AREA * areas[rest[0]]]
        order += sorted(equal, key=across)
        rest = rest[len(equal) :]
    return order


def _box(candidate: Tensor) -> Tensor:
    """Box `[4]` of a candidate `[17]`. In a turned region the first corner is not always the top left one."""
    corners = candidate[1:5].reshape(2, 2)
    return torch.cat([corners.amin(0), corners.amax(0)])


def _angle(right: Tensor, left: Tensor) -> Tensor:
    """Angle `[N]` in rad of the line from the subject's right eye to the left eye, both `[N, 2]`; 0 if upright."""
    d = left - right
    return torch.atan2(d[:, 1], d[:, 0])


def _mesh_region(mesh: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Square around each mesh `[N, 468, 3]`, turned with the face: centre `[N, 2]`, side `[N]` px, angle `[N]` rad."""
    angle = _angle(mesh[:, EYE_RIGHT[0], :2], mesh[:, EYE_LEFT[0], :2])
    turn = square_matrix(torch.zeros_like(mesh[:, 0, :2]), torch.ones_like(angle), angle, 1)[..., :2]
    upright = mesh[..., :2] @ turn.transpose(1, 2)
    low, high = upright.amin(1), upright.amax(1)
    center = ((low + high) / 2)[:, None] @ turn  # a rotation: its transpose undoes it
    return center[:, 0], (high - low).amax(1), angle


@torch.inference_mode(False)
def load_detector(path: str | os.PathLike | None = None, device: torch.device | str = "cpu") -> FaceDetector:
    """The built-in detector.

    path: file of the networks; None for the shipped `assets/identity.safetensors`
    device: default "cpu"
    Raises UserError if the file is missing or damaged.
    """
    return FaceDetector(load_graphs(path)).train(False).to(device)
