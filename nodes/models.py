"""Nodes that load the diffusion model and the face-recognition network."""

from __future__ import annotations

import os

import folder_paths
from comfy_api.latest import io

from ..fitdiff_core import pipeline
from ..fitdiff_core.identity import list_packs, load_recognizer
from . import host, types


class LoadModel(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            "LoadModel",
            "FitDiff Load Model",
            description="Loads the latent diffusion model of facial shape and reflectance. The built-in one needs "
            "no download.",
            search_aliases=["photo to 3d head", "relightable avatar", "face reflectance"],
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=[host.BUILT_IN, *host.checkpoints()],
                    default=host.BUILT_IN,
                    tooltip="The weights that come with this pack, or a .safetensors file in models/fitdiff.",
                )
            ],
            outputs=[types.Model.Output("model", display_name="model")],
        )

    @classmethod
    def path(cls, checkpoint: str) -> str | None:
        return None if checkpoint == host.BUILT_IN else folder_paths.get_full_path(host.MODEL_FOLDER, checkpoint)

    @classmethod
    def validate_inputs(cls, checkpoint=None):
        if checkpoint in (None, host.BUILT_IN) or cls.path(checkpoint):
            return True
        return (
            f"There is no '{checkpoint}' in models/fitdiff; choose '{host.BUILT_IN}' or put the file there and refresh."
        )

    @classmethod
    def fingerprint_inputs(cls, checkpoint=host.BUILT_IN):
        path = cls.path(checkpoint)
        return (checkpoint, os.stat(path).st_mtime_ns if path else 0)

    @classmethod
    @host.with_gradients
    def execute(cls, checkpoint):
        path = cls.path(checkpoint)
        return io.NodeOutput(host.load_once(lambda: pipeline.load_model(path, host.device()), "model", path))


class LoadRecognizer(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            "LoadRecognizer",
            "FitDiff Load Recognizer",
            description="Loads the face-recognition network that tells who is in a photo. The built-in one is "
            "free for any "
            "use and is what the built-in model was trained with; insightface packs (many exclude commercial use) "
            "may guide "
            "the sampling instead.",
            inputs=[
                io.Combo.Input(
                    "recognizer",
                    options=list_packs(*host.insightface_folders()),
                    default=host.BUILT_IN,
                    tooltip="The built-in network, or an insightface pack: a folder with .onnx files in "
                    "models/insightface/models.",
                )
            ],
            outputs=[types.Recognizer.Output("network", display_name="recognizer")],
        )

    @classmethod
    def validate_inputs(cls, recognizer=None):
        if recognizer is None or recognizer in list_packs(*host.insightface_folders()):
            return True
        return (
            f"There is no insightface pack '{recognizer}'. Its .onnx files belong in "
            f"models/insightface/models/{recognizer}/; or choose '{host.BUILT_IN}'."
        )

    @classmethod
    @host.with_gradients
    def execute(cls, recognizer):
        return io.NodeOutput(
            host.load_once(
                lambda: load_recognizer(recognizer, host.device(), host.insightface_folders()),
                f"recognizer {recognizer}",
                None,
            )
        )
