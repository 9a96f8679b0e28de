"""Nodes that read expressions from photos and videos."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from comfy_api.latest import io

from ..fitdiff_core.errors import UserError
from ..fitdiff_core.motion import TURNS, Motion, given_landmarks, read_motion
from ..fitdiff_core.progress import part
from ..fitdiff_core.scene import Scene
from . import host, types
from .faces import detector

STEADY = 1.0


def strength_input(what: str):
    return io.Float.Input("strength", default=1.0, min=0.0, max=2.0, step=0.05, tooltip=what)


def head_input(default: str):
    return io.Combo.Input(
        "head",
        options=list(TURNS),
        default=default,
        tooltip="as filmed: the head faces the camera as there. added: its turn from its usual way comes on top of the "
        "scene's. still: as in the scene. The neck turns with it; camera and light stand still.",
    )


def landmarks_input():
    return types.FaceLandmarks.Input(
        "face_landmarks",
        optional=True,
        tooltip="From MediaPipe Face Landmarker, run on these images: its points and its 52 ARKit weights replace our "
        "own.",
    )


def base_scene(scene: Scene | None, lighting=None) -> Scene:
    """The scene that is set in motion: one picture. Raises UserError for several."""
    scene = Scene.portrait(1, host.device()) if scene is None else scene.detach()
    if len(scene) != 1:
        raise UserError(f"The scene is of {len(scene)} pictures; connect one of a single picture.")
    return scene if lighting is None else replace(scene, light=lighting.to(scene.expression.device))


def read(images, fps: float, steadiness: float, face: int, face_landmarks) -> Motion:
    """The motion in images `[F, 3, H, W]`."""
    head = host.head()
    given = None
    if face_landmarks is not None:
        size = (images.shape[2], images.shape[3])
        given = given_landmarks(face_landmarks, len(images), size, head.expression_names, face)
    remembering: Any = detector()  # frames are followed by the detector within
    return read_motion(list(images), head, fps, remembering.detector, face, steadiness, len(images), given)


class ExpressionFromPhoto(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            "ExpressionFromPhoto",
            "FitDiff Expression from Photo",
            description="The expression and gaze of anybody's photo, put into a scene that keeps its own camera and "
            "light.",
            search_aliases=["expression transfer", "retarget expression", "face capture"],
            inputs=[
                io.Image.Input("image", tooltip="A photo of anybody; a batch gives one scene for each photo."),
                strength_input("Factor of the expression."),
                io.Boolean.Input("gaze", default=True, tooltip="Take the gaze too; off keeps the scene's."),
                head_input("still"),
                types.face_input(),
                types.Scene.Input("scene", optional=True, tooltip="Camera and light; without it a studio portrait."),
                landmarks_input(),
            ],
            outputs=[types.Scene.Output("posed", display_name="scene")],
        )

    @classmethod
    @host.with_gradients
    def execute(cls, image, strength=1.0, gaze=True, head="still", face=0, scene=None, face_landmarks=None):
        photos, base, posed = host.image_in(image), base_scene(scene), []
        for i in range(len(photos)):
            with part(i, len(photos)):
                frames = face_landmarks
                if isinstance(frames, dict) and isinstance(frames.get("frames"), (list, tuple)):
                    frames = {**frames, "frames": frames["frames"][i : i + 1]}
                motion = read(photos[i : i + 1], 1.0, 0.0, face, frames)
            one = motion.stronger(strength).turning(head).scenes(base)
            posed.append(one if gaze else replace(one, gaze=base.gaze))
        return io.NodeOutput(Scene.cat(posed))


class MotionFromVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            "MotionFromVideo",
            "FitDiff Motion from Video",
            description="What a face does in a video: expression, gaze and head turn of every frame, as a batch of "
            "scenes for Render and as a motion for Export Mesh.",
            search_aliases=["face capture", "drive", "animate", "performance capture", "lip sync"],
            hidden=[io.Hidden.unique_id],
            inputs=[
                io.Image.Input("image", tooltip="The frames, in their order: images of Get Video Components."),
                io.Float.Input(
                    "fps",
                    default=25.0,
                    min=1.0,
                    max=240.0,
                    step=0.01,
                    tooltip="Frames a second; connect fps of Get Video Components.",
                ),
                strength_input("Factor of the expression."),
                head_input(TURNS[0]),
                io.Float.Input(
                    "steadiness",
                    default=STEADY,
                    min=0.0,
                    max=10.0,
                    step=0.1,
                    tooltip="How much flicker is smoothed. 0: as measured. Fast motion is followed at any value.",
                ),
                types.face_input(),
                types.Scene.Input("scene", optional=True, tooltip="Camera and light; without it a studio portrait."),
                landmarks_input(),
                types.Light.Input(
                    "lighting", optional=True, tooltip="From a FitDiff light node; replaces the scene's light."
                ),
            ],
            outputs=[
                types.Scene.Output("scenes", display_name="scene", tooltip="One picture for each frame, for Render."),
                types.Motion.Output("motion", display_name="motion", tooltip="For Export Mesh: an animated GLB."),
                io.Float.Output("rate", display_name="fps", tooltip="Frames a second, for Create Video."),
            ],
        )

    @classmethod
    @host.with_gradients
    def execute(
        cls,
        image,
        fps=25.0,
        strength=1.0,
        head=TURNS[0],
        steadiness=STEADY,
        face=0,
        scene=None,
        face_landmarks=None,
        lighting=None,
    ):
        base = base_scene(scene, lighting)
        motion = read(host.image_in(image), fps, steadiness, face, face_landmarks)
        motion = motion.stronger(strength).turning(head)
        return io.NodeOutput(motion.scenes(base), motion, motion.fps, ui=host.say(cls, list(motion.notes)))
