"""Who is in the photo: encode, average, blend and walk between identities."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..fitdiff_core import pipeline
from ..fitdiff_core.guidance import describe_outlier
from ..fitdiff_core.identity import Recognizer, blend_identities, identity_outliers, walk_identities
from ..fitdiff_core.identity.packs import face_analysis_file
from ..fitdiff_core.image import to_image
from ..fitdiff_core.progress import part
from . import host, types
from .faces import faces_in


def as_recognizer(given: Any) -> Recognizer:
    """Our recogniser as it is; another pack's insightface `FaceAnalysis` by way of the .onnx file it loaded."""
    if isinstance(given, Recognizer):
        return given
    if type(getattr(given, "face_recognition", None)).__name__ == "face_recognition_model_v1":
        # ComfyUI_FaceAnalysis with dlib: the same network as our built-in one, in a form that has no gradients
        return host.load_once(
            lambda: pipeline.load_recognizer(device=host.device()), f"recognizer {host.BUILT_IN}", None
        )
    path = face_analysis_file(getattr(given, "face_analysis", given))  # with insightface it wraps that object once more
    return host.load_once(lambda: pipeline.load_recognizer(path, host.device()), "recognizer", path)


class EncodeIdentity(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            "EncodeIdentity",
            "FitDiff Encode Identity",
            description="Finds the face, aligns it and encodes who it is: the embedding and the activation layers "
            "of the "
            "recognition network, which condition the diffusion model.",
            inputs=[
                io.Image.Input("image", tooltip="A photo. A batch is taken as photos of one person and averaged."),
                types.recognizer_input("Recognition network; it must be the one that the model was trained with."),
                types.face_input(),
                *types.given_face_inputs(),
                types.faces_input(),
            ],
            outputs=[
                types.Identity.Output("identity", display_name="identity"),
                io.Image.Output("crop", display_name="crop", tooltip="What the network looked at."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @host.with_gradients
    def execute(cls, image, recognizer, face=0, face_landmarks=None, bboxes=None, faces=None):
        photos, recognizer = host.image_in(image), as_recognizer(recognizer)
        with part(0, 2):
            chosen = faces_in(photos, face, face_landmarks, bboxes, faces)
        with part(1, 2):
            identity = pipeline.encode(photos, recognizer, chosen)
        lines = [
            describe_outlier(f"Photo {i + 1} of {len(photos)}", f"photo {k + 1}", share)
            for i, k, share in identity_outliers(identity, recognizer)
        ]
        return io.NodeOutput(identity, to_image(identity.crop), ui=host.say(cls, lines))


class BlendIdentities(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            "BlendIdentities",
            "FitDiff Blend Identities",
            description="A person between two persons.",
            inputs=[
                types.Identity.Input("identity_a", tooltip="The person at weight 0."),
                types.Identity.Input("identity_b", tooltip="The person at weight 1."),
                io.Float.Input(
                    "weight",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    display_mode=io.NumberDisplay.slider,
                    tooltip="0 is all a, 1 is all b.",
                ),
            ],
            outputs=[types.Identity.Output("identity", display_name="identity")],
        )

    @classmethod
    @host.with_gradients
    def execute(cls, identity_a, identity_b, weight):
        return io.NodeOutput(blend_identities(identity_a, identity_b, weight))


class WalkIdentities(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            "WalkIdentities",
            "FitDiff Walk Identities",
            description="People on the way from one person to another, as a batch. FitDiff Sampler with batch 1 "
            "starts all of "
            "them from the same noise, so that only the person changes from frame to frame.",
            inputs=[
                types.Identity.Input("identity_a", tooltip="The person of the first frame."),
                types.Identity.Input("identity_b", tooltip="The person of the last frame."),
                io.Int.Input("frames", default=7, min=2, max=256, tooltip="How many people, both ends included."),
            ],
            outputs=[
                types.Identity.Output("identity", display_name="identity", tooltip="A batch, one identity a frame.")
            ],
        )

    @classmethod
    @host.with_gradients
    def execute(cls, identity_a, identity_b, frames):
        return io.NodeOutput(walk_identities(identity_a, identity_b, frames))
