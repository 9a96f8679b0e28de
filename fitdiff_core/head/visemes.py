"""Shapes that avatar players ask for besides ARKit's 52, as mixtures of these: 15 visemes and five common shapes.

The names of the visemes are those of Oculus LipSync. A name without Left or Right stands for both sides.
"""

from __future__ import annotations

from collections.abc import Sequence

VISEMES: dict[str, dict[str, float]] = {
    "viseme_sil": {},
    "viseme_PP": {"mouthPress": 0.5, "mouthRollLower": 0.35, "mouthRollUpper": 0.3},
    "viseme_FF": {"jawOpen": 0.05, "mouthRollLower": 0.55, "mouthUpperUp": 0.35},
    "viseme_TH": {"jawOpen": 0.16, "tongueOut": 0.45, "mouthLowerDown": 0.2, "mouthUpperUp": 0.15},
    "viseme_DD": {"jawOpen": 0.12, "mouthLowerDown": 0.35, "mouthUpperUp": 0.2, "mouthStretch": 0.1},
    "viseme_kk": {"jawOpen": 0.2, "mouthLowerDown": 0.15, "mouthStretch": 0.15},
    "viseme_CH": {"jawOpen": 0.07, "mouthFunnel": 0.5, "mouthPucker": 0.2, "mouthUpperUp": 0.2, "mouthLowerDown": 0.2},
    "viseme_SS": {"jawOpen": 0.03, "mouthStretch": 0.3, "mouthSmile": 0.15, "mouthLowerDown": 0.4, "mouthUpperUp": 0.2},
    "viseme_nn": {"jawOpen": 0.1, "mouthLowerDown": 0.2, "mouthUpperUp": 0.1},
    "viseme_RR": {"jawOpen": 0.12, "mouthFunnel": 0.4, "mouthPucker": 0.2},
    "viseme_aa": {"jawOpen": 0.55, "mouthLowerDown": 0.2, "mouthUpperUp": 0.15},
    "viseme_E": {"jawOpen": 0.22, "mouthStretch": 0.3, "mouthSmile": 0.25, "mouthLowerDown": 0.2},
    "viseme_I": {"jawOpen": 0.12, "mouthSmile": 0.5, "mouthStretch": 0.2, "mouthLowerDown": 0.25},
    "viseme_O": {"jawOpen": 0.32, "mouthFunnel": 0.6, "mouthPucker": 0.15},
    "viseme_U": {"jawOpen": 0.1, "mouthPucker": 0.7, "mouthFunnel": 0.3},
}
COMMON: dict[str, dict[str, float]] = {
    "mouthOpen": {"jawOpen": 0.7},
    "mouthSmile": {"mouthSmile": 1.0},
    "eyesClosed": {"eyeBlink": 1.0},
    "eyesLookUp": {"eyeLookUp": 1.0},
    "eyesLookDown": {"eyeLookDown": 1.0},
}
EXTRA = VISEMES | COMMON


def mixture(name: str, names: Sequence[str]) -> dict[str, float]:
    """Weights of one of EXTRA by ARKit's name. names: those that the head has."""
    found: dict[str, float] = {}
    for action, weight in EXTRA[name].items():
        found |= {n: weight for n in (action, f"{action}Left", f"{action}Right") if n in names}
    return found
