"""The 52 ARKit expressions on the control mesh."""

from __future__ import annotations

import numpy as np

from .ict_source import IctHead
from .registration import Registration

# Order of ARKit's ARFaceAnchor.BlendShapeLocation list, as face-capture apps stream it.
_EYE = ("eyeBlink", "eyeLookDown", "eyeLookIn", "eyeLookOut", "eyeLookUp", "eyeSquint", "eyeWide")


def _sides(*names: str) -> tuple[str, ...]:
    return tuple(name + side for name in names for side in ("Left", "Right"))


ARKIT_NAMES = (
    *(name + "Left" for name in _EYE), *(name + "Right" for name in _EYE),
    "jawForward", "jawLeft", "jawRight", "jawOpen", "mouthClose", "mouthFunnel", "mouthPucker", "mouthLeft", "mouthRight",
    *_sides("mouthSmile", "mouthFrown", "mouthDimple", "mouthStretch"),
    "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper",
    *_sides("mouthPress", "mouthLowerDown", "mouthUpperUp", "browDown"), "browInnerUp", *_sides("browOuterUp"),
    "cheekPuff", *_sides("cheekSquint", "noseSneer"), "tongueOut",
)  # fmt: skip


def ict_recipe(name: str) -> tuple[str, ...]:
    """ICT's expressions whose sum is one of ARKit's; ICT splits two of them by side. Empty: ICT has none."""
    if name == "tongueOut":
        return ()
    if name in ("browInnerUp", "cheekPuff"):
        return name + "_L", name + "_R"
    for long, short in (("Left", "_L"), ("Right", "_R")):
        if name.endswith(long) and name not in ("jawLeft", "jawRight", "mouthLeft", "mouthRight"):
            return (name[: -len(long)] + short,)
    return (name,)


def expression_basis(ict: IctHead, registration: Registration) -> np.ndarray:
    """[52,n,3] displacements in metres of the control vertices, in the order of `ARKIT_NAMES`."""
    index = {name: i for i, name in enumerate(ict.expression_names)}
    deltas = np.zeros((len(ARKIT_NAMES), *ict.vertices.shape), np.float32)
    for k, name in enumerate(ARKIT_NAMES):
        for source in ict_recipe(name):
            deltas[k] += ict.expression[index[source]]
    return registration.carry(deltas)
