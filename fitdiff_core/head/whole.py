"""The whole head, as pictures and files show it: the head model with inner mouth, wet lines and a closed neck.

The head model alone is what photos are fitted with. Here its vertices come first, in their order, and the other parts
follow. Shapes are corrected (see `corrections`).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from .corrections import posed
from .eye_parts import eye_parts
from .inner_mouth import ROUGHNESS
from .joints import JOINTS, border
from .model import HeadModel
from .neck import LevelNeck

WET_ROUGHNESS, CUT_ROUGHNESS = 0.18, 0.7
CUT_LIGHT = 0.7
OUTSIDE = 0.006  # metres behind the lips from which their shadow is left
INSET = 0.012  # metres that the middle of the neck's underside lies above its edge
_wholes = WeakTensorKeyDictionary()


class WholeHead:
    """A head model with its further parts. It serves a renderer as a `HeadModel` does.

    parts: name -> slice of vertices: "Mouth", "EyeWet", "Cut" (the underside of the neck)
    triangles, uv, roughness: as of `HeadModel`
    border: `[N]` vertices round the lower edge of the neck, to which a body can be joined: from the front to the left
    """

    def __init__(self, head: HeadModel):
        self.head, device = head, head.uv.device
        self.n_skin, self.n_teeth, self.region_names = head.n_skin, head.n_teeth, head.region_names
        self.mouth, self.eyes, self.border = head.inner_mouth, eye_parts(head), border(head)
        self.neck = LevelNeck(head, self.border)
        n, start = len(self.border), head.n_vertices
        self.parts: dict[str, slice] = {}
        triangles, uv, rough = [head.triangles.cpu()], [head.uv.cpu()], [head.roughness.cpu()]
        k = torch.arange(n)
        cut = torch.stack([(k + 1) % n, k, n + k], 1)  # seen from below; the middle has a vertex for each of the edge
        more = [("EyeWet", self.eyes.triangles, self.eyes.uv, WET_ROUGHNESS)]
        if self.mouth is not None:
            more.insert(0, ("Mouth", self.mouth.triangles, self.mouth.uv, ROUGHNESS))
        edge = head.uv.cpu()[self.border]
        more.append(("Cut", cut, torch.cat([edge, edge]), CUT_ROUGHNESS))  # the colour of the skin at the edge
        for name, faces, at, rougher in more:
            self.parts[name] = slice(start, start + len(at))
            triangles.append(faces + start)
            uv.append(at.float())
            rough.append(torch.full((len(at),), rougher))
            start += len(at)
        self.n_vertices = start
        self.triangles, self.uv, self.roughness = (torch.cat(x).to(device) for x in (triangles, uv, rough))

    def vertices(self, shape: Tensor, expression: Tensor | None = None, gaze: Tensor | None = None) -> Tensor:
        """Vertices `[B, V, 3]`, corrected; arguments as `HeadModel.forward`."""
        plain = self.head(shape, None, gaze) if expression is None else posed(self.head, shape, expression, gaze)
        return self.around(plain, shape, expression)

    def around(self, plain: Tensor, shape: Tensor, expression: Tensor | None = None) -> Tensor:
        """The head model's vertices `[B, V, 3]` and, after them, those of the further parts in the same pose."""
        plain = plain.index_add(1, self.neck.rows.to(plain.device), self.neck.offsets(plain))
        parts = [plain]
        if self.mouth is not None:
            plain = plain.index_add(
                1, self.mouth.wall_rows.to(plain.device), self.mouth.wall_offsets.to(plain).expand(len(plain), -1, -1)
            )
            parts = [plain, self.mouth.vertices(shape, expression).to(plain)]
        centres = self.head.eye_centres(shape.detach()).to(plain)
        radius = float(self.head.eyeball.norm(dim=1).min())
        parts.append(torch.stack([self.eyes.vertices(v, c, radius) for v, c in zip(plain, centres, strict=True)]))
        ring = plain[:, self.border]
        middle = ring.mean(1, keepdim=True) + plain.new_tensor([0, INSET, 0])
        return torch.cat([*parts, ring, middle.expand_as(ring)], 1)

    def light_at(self, vertices: Tensor) -> Tensor:
        """As `HeadModel.light_at`, for `[B, V, 3]` of `vertices`: `[B, V]`."""
        n = self.head.n_vertices
        light = [self.head.light_at(vertices[:, :n])]
        for name, rows in self.parts.items():
            one = vertices.new_ones(len(vertices), rows.stop - rows.start)
            if name == "Mouth":
                lips = self.head.landmarks(vertices[:, :n])[:, 60:68, 2].amax(1, keepdim=True)
                out = ((vertices[:, rows, 2] - lips) / OUTSIDE + 1).clamp(0, 1)  # a tongue that is put out
                light.append(torch.maximum(one * self.head.light_through_lips(vertices[:, :n]), out))
            else:
                light.append(one * (CUT_LIGHT if name == "Cut" else 1.0))
        return torch.cat(light, 1)

    def joint_weights(self, weights: Tensor) -> Tensor:
        """Weights of the joints `[V, J]` from those of the head model's vertices (see `joints.skeleton`)."""
        more = []
        for name, rows in self.parts.items():
            own = torch.zeros(rows.stop - rows.start, len(JOINTS), dtype=weights.dtype)
            own[:, JOINTS.index("Head")] = 1
            if name == "Mouth" and self.mouth is not None:
                jaw = JOINTS.index("Jaw")
                full = weights[self.head.teeth_rows, jaw].amax() if self.n_teeth else 1.0
                own[:, jaw] = self.mouth.jaw * full
                own[:, JOINTS.index("Head")] = 1 - own[:, jaw]
            if name == "Cut":
                ring = weights[self.border]
                own = torch.cat([ring, ring.mean(0).expand_as(ring)])
            more.append(own)
        return torch.cat([weights, *more])

    def region(self, name: str, size: int = 512) -> Tensor:
        return self.head.region(name, size)


def whole_head(head: HeadModel) -> WholeHead:
    """The whole head of a model, made once."""
    if head.triangles not in _wholes:
        _wholes[head.triangles] = WholeHead(head)
    return _wholes[head.triangles]
