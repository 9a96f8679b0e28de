"""Nodes that pose a face and blend scenes."""

from __future__ import annotations

from dataclasses import replace

import torch
from comfy_api.latest import io

from ..fitdiff_core.expressions import (
    BLEND_PARTS,
    PRESETS,
    blend_scenes,
    expression_of,
    parse_weights,
    turn_head,
)
from ..fitdiff_core.scene import Scene
from . import host, types
from .widgets import angle

CHOICES = ("scene", *PRESETS)


class Expression(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            "Expression",
            "FitDiff Expression",
            description="A scene with another expression, gaze and turn of the head, for Render, Turntable and Export.",
            inputs=[
                io.Combo.Input(
                    "preset",
                    options=list(CHOICES),
                    default="smile",
                    tooltip="scene: the expression of the connected scene.",
                ),
                io.Float.Input(
                    "strength", default=1.0, min=0.0, max=1.5, step=0.05, tooltip="Times the preset or the scene's own."
                ),
                io.String.Input(
                    "weights",
                    default="",
                    multiline=True,
                    tooltip='ARKit weights that replace those of the preset, as JSON: {"jawOpen": 0.4}',
                ),
                angle("gaze_yaw", "Where the eyes look, beside the scene's gaze: degrees to the subject's left.", 45.0),
                angle("gaze_pitch", "Degrees upwards.", 30.0),
                angle("head_yaw", "Turns the head to the subject's left, degrees; camera and light stand still.", 90.0),
                angle("head_pitch", "Turns the head upwards, degrees.", 60.0),
                angle("head_roll", "Tilts the head to the subject's left, degrees.", 60.0),
                types.Scene.Input("scene", optional=True, tooltip="Camera and light; without it a studio portrait."),
            ],
            outputs=[types.Scene.Output("posed", display_name="scene")],
        )

    @classmethod
    @host.with_gradients
    def execute(
        cls,
        preset,
        strength,
        weights,
        gaze_yaw,
        gaze_pitch,
        head_yaw,
        head_pitch,
        head_roll,
        scene=None,
    ):
        names = host.head().expression_names
        scene = Scene.portrait(1, host.device()) if scene is None else scene.detach()
        given = parse_weights(weights, names)
        if preset == "scene":
            expression = (scene.expression * strength).clamp(0, 1)
            for name, weight in given.items():
                expression[:, names.index(name)] = weight
        else:
            expression = expression_of(preset, strength, given, names).to(scene.expression)
        gaze = scene.gaze + torch.tensor([[gaze_yaw, gaze_pitch]]).deg2rad().to(scene.gaze)
        scene = replace(scene, expression=expression, gaze=gaze)
        if head_yaw or head_pitch or head_roll:
            scene = turn_head(scene, head_yaw, head_pitch, head_roll)
        return io.NodeOutput(scene)


class BlendScenes(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            "BlendScenes",
            "FitDiff Blend Scenes",
            description="Between two scenes: expression and gaze, camera, light, or all of them.",
            inputs=[
                types.Scene.Input("scene_a", tooltip="At weight 0."),
                types.Scene.Input("scene_b", tooltip="At weight 1."),
                io.Float.Input("weight", default=0.5, min=0.0, max=1.0, step=0.01, tooltip="0 is a, 1 is b."),
                io.Combo.Input(
                    "part",
                    options=list(BLEND_PARTS),
                    default="all",
                    tooltip="What is blended; the rest is that of a.",
                ),
            ],
            outputs=[types.Scene.Output("scene", display_name="scene")],
        )

    @classmethod
    @host.with_gradients
    def execute(cls, scene_a, scene_b, weight, part):
        return io.NodeOutput(blend_scenes(scene_a.detach(), scene_b.detach(), weight, part))
