"""Types of the connections between FitDiff nodes, and types of other packs that FitDiff accepts."""

from __future__ import annotations

from comfy_api.latest import io

Model = io.Custom("FITDIFF_MODEL")
Recognizer = io.Custom("FITDIFF_RECOGNIZER")
Identity = io.Custom("FITDIFF_IDENTITY")
Guidance = io.Custom("FITDIFF_GUIDANCE")
Scene = io.Custom("FITDIFF_SCENE")
Avatar = io.Custom("FITDIFF_AVATAR")
Light = io.Custom("FITDIFF_LIGHT")
Faces = io.Custom("FITDIFF_FACES")
Motion = io.Custom("FITDIFF_MOTION")

# insightface's FaceAnalysis object, under the names that IPAdapter, InstantID, PuLID and FaceAnalysis packs use
FOREIGN_RECOGNIZERS = [io.Custom(name) for name in ("INSIGHTFACE", "FACEANALYSIS", "FACE_ANALYSIS", "ANALYSIS_MODELS")]

# types of newer hosts, given by name, so that older hosts accept them too
FaceLandmarks = io.Custom("FACE_LANDMARKS")
BoundingBox = io.Custom("BOUNDING_BOX")


ViewerCamera = io.Custom("LOAD3D_CAMERA")


def camera_info_input():
    return ViewerCamera.Input(
        "camera_info",
        optional=True,
        tooltip="A camera of core's Load 3D or Preview 3D, or of FitDiff Scene Camera; replaces the camera above.",
    )


def recognizer_input(tooltip: str):
    return io.MultiType.Input("recognizer", types=[Recognizer, *FOREIGN_RECOGNIZERS], tooltip=tooltip)


def face_input():
    return io.Int.Input(
        "face",
        default=0,
        min=0,
        max=99,
        tooltip="Which face, where the photo shows several: 0 is the largest, 1 the next smaller, and so on.",
    )


def faces_input():
    return Faces.Input(
        "faces",
        optional=True,
        tooltip="From FitDiff Find Faces, run on this image: the face is chosen there, once for all nodes, and the "
        "other inputs about faces are not used.",
    )


def photo_mask_input(more: str = ""):
    return io.Mask.Input(
        "mask",
        optional=True,
        tooltip="Where the photo may be used (white), at the photo's size. Left out, hair and hands are found. "
        f"{more}".strip(),
    )


def given_face_inputs() -> list:
    """Optional inputs for faces that ComfyUI's own nodes have found."""
    return [
        FaceLandmarks.Input(
            "face_landmarks",
            optional=True,
            tooltip="From MediaPipe Face Landmarker, run on this image: its face mesh is used in place of our own "
            "detector's.",
        ),
        BoundingBox.Input(
            "bboxes",
            optional=True,
            extra_dict={"forceInput": True},  # otherwise newer frontends show fields for four numbers
            tooltip="A box around the face that is meant, or for each image a list of boxes, of which 'face' "
            "picks one.",
        ),
    ]
