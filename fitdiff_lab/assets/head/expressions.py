"""The 52 ARKit expressions on the control mesh."""

from __future__ import annotations

import numpy as np

from .ict_source import EYE_RADIUS, IctHead
from .registration import Registration, opening_side
from .template import Template

# in ICT's neutral pose the eyes are too wide open; these shares of two actions are added to our neutral pose
LIDS_AT_REST = {"eyeBlink": 0.08, "eyeSquint": 0.3}
LID_OVERLAP = 0.0005  # metres by which the closed upper lid passes the lower lid
LID_CLEARANCE = 0.0003  # metres between a closed lid's control vertices and the eyeball

# Order of ARKit's ARFaceAnchor.BlendShapeLocation list, as face-capture apps stream it.
_EYE = ("eyeBlink", "eyeLookDown", "eyeLookIn", "eyeLookOut", "eyeLookUp", "eyeSquint", "eyeWide")


def _sides(*names: str) -> tuple[str, ...]:
    return tuple(name + side for name in names for side in ("Left", "Right"))


ARKIT_NAMES = (
    *(name + "Left" for name in _EYE), *(name + "Right" for name in _EYE),
    "jawForward", "jawLeft", "jawRight", "jawOpen", "mouthClose", "mouthFunnel", "mouthPucker", "mouthLeft",
    "mouthRight", *_sides("mouthSmile", "mouthFrown", "mouthDimple", "mouthStretch"),
    "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper",
    *_sides("mouthPress", "mouthLowerDown", "mouthUpperUp", "browDown"), "browInnerUp", *_sides("browOuterUp"),
    "cheekPuff", *_sides("cheekSquint", "noseSneer"), "tongueOut",
)  # fmt: skip


def ict_recipe(name: str) -> tuple[str, ...]:
    """The expressions of ICT whose sum is this expression of ARKit. Empty where ICT has none."""
    if name == "tongueOut":
        return ()
    if name in ("browInnerUp", "cheekPuff"):
        return name + "_L", name + "_R"
    for long, short in (("Left", "_L"), ("Right", "_R")):
        if name.endswith(long) and name not in ("jawLeft", "jawRight", "mouthLeft", "mouthRight"):
            return (name[: -len(long)] + short,)
    return (name,)


def expression_basis(template: Template, ict: IctHead, registration: Registration, landmarks: np.ndarray):
    """The ARKit expressions on the control mesh.

    landmarks: [68] control vertices.
    Returns displacements [52,n,3] in metres, in the order of `ARKIT_NAMES`, and the displacement [n,3] of the lids at
    rest, which is added to the registered mean. The expressions start from that pose.
    """
    index = {name: i for i, name in enumerate(ict.expression_names)}
    deltas = np.zeros((len(ARKIT_NAMES), *ict.vertices.shape), np.float32)
    for k, name in enumerate(ARKIT_NAMES):
        for source in ict_recipe(name):
            deltas[k] += ict.expression[index[source]]
    basis = registration.transfer(deltas)
    eyes = ict.eye_centres - registration.origin
    for side, eye in zip(("Left", "Right"), eyes, strict=True):
        blink = ARKIT_NAMES.index("eyeBlink" + side)
        basis[blink] = close_lids(template, registration.control, basis[blink], eye, landmarks)
    rest = np.zeros_like(registration.control)
    for action, weight in LIDS_AT_REST.items():
        for side in ("Left", "Right"):
            row = ARKIT_NAMES.index(action + side)
            rest += weight * basis[row]
            basis[row] *= 1 - weight  # so that the lids meet at a full blink as before
    return basis, rest


def close_lids(template: Template, control: np.ndarray, blink: np.ndarray, eye: np.ndarray, landmarks: np.ndarray):
    """[n,3] ``blink`` with the motion of the upper lid scaled, column by column, so that it meets the lower lid.

    As transferred from ICT it ends a millimetre too high in the middle, and too low at the outer corner.
    """
    fine = template.subdivision @ control
    side = opening_side(fine, control[landmarks])
    before, after = fine - eye, fine + template.subdivision @ blink - eye
    lid = (np.linalg.norm(after, axis=1) < EYE_RADIUS + 0.0035) & (after[:, 2] > 0.004)
    columns, stretch = [], []
    for x in np.arange(-0.011, 0.0111, 0.001):
        near = lid & (np.abs(after[:, 0] - x) < 0.0009)
        upper, lower = near & (side > 0.5), near & (side < -0.5)
        if upper.any() and lower.any():
            edge = np.flatnonzero(upper)[after[upper, 1].argmin()]
            travel = before[edge, 1] - after[edge, 1]
            wanted = before[edge, 1] - after[lower, 1].max() + LID_OVERLAP
            columns.append(x)
            stretch.append(np.clip(wanted / travel, 0.5, 1.4))
    curve = np.polynomial.Polynomial.fit(columns, stretch, 4)
    p = control - eye
    factor = curve(np.clip(p[:, 0], columns[0], columns[-1])) - 1
    on_upper = np.clip(opening_side(control, control[landmarks]), 0, 1) * (np.linalg.norm(p, axis=1) < 0.03)
    out = blink * (1 + factor * on_upper)[:, None]
    closed = p + out
    length = np.linalg.norm(closed, axis=1, keepdims=True)
    short = np.clip(EYE_RADIUS + LID_CLEARANCE - length, 0, 0.001) * (np.linalg.norm(blink, axis=1) > 1e-4)[:, None]
    return out + closed / length * short
