"""The types that travel between FitDiff nodes, as ComfyUI names them, and those of other packs that are understood."""

from __future__ import annotations

from comfy_api.latest import io

Model = io.Custom("FITDIFF_MODEL")
Recognizer = io.Custom("FITDIFF_RECOGNIZER")
Identity = io.Custom("FITDIFF_IDENTITY")
Guidance = io.Custom("FITDIFF_GUIDANCE")
Scene = io.Custom("FITDIFF_SCENE")
Avatar = io.Custom("FITDIFF_AVATAR")
Light = io.Custom("FITDIFF_LIGHT")

# insightface's FaceAnalysis object under the names that IPAdapter, InstantID/PuLID and FaceAnalysis packs give it
FOREIGN_RECOGNIZERS = [io.Custom("INSIGHTFACE"), io.Custom("FACEANALYSIS"), io.Custom("FACE_ANALYSIS")]


def recognizer_input(tooltip: str):
    return io.MultiType.Input("recognizer", types=[Recognizer, *FOREIGN_RECOGNIZERS], tooltip=tooltip)


def face_input():
    return io.Int.Input(
        "face", default=0, min=0, max=99,
        tooltip="Which face, where the photo shows several: 0 is the largest, 1 the next smaller, and so on.",
    )
