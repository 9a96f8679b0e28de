"""Node that renders an avatar: with the photo's camera or another, in the photo's light or another."""

from __future__ import annotations

from dataclasses import replace

from comfy_api.latest import io

from ..fitdiff_core.render import Camera, Light
from ..fitdiff_core.render.light import PRESETS
from ..fitdiff_core.scene import Scene
from . import host, types
from .lights import environment_light
from .pictures import render_each
from .widgets import angle, check_choices, lens_inputs, size_inputs

CAMERAS = ("scene", "orbit")
LIGHTS = ("scene", *PRESETS)


class Render(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            "Render",
            "FitDiff Render",
            description="Renders the avatar: from the photo's view or any other, in the photo's light, a preset "
            "or a panorama.",
            inputs=[
                types.Avatar.Input("avatar", tooltip="The head to render; a batch gives a batch of images."),
                io.Combo.Input(
                    "camera",
                    options=list(CAMERAS),
                    default="scene",
                    tooltip="scene: as in the photo (needs the scene input; without it a portrait). orbit: by the "
                    "angles below.",
                ),
                angle("yaw", "Orbit: degrees to the subject's left."),
                angle("pitch", "Orbit: degrees upwards.", 89.0),
                *lens_inputs(),
                io.Combo.Input(
                    "light",
                    options=list(LIGHTS),
                    default="scene",
                    tooltip="scene: as in the photo; the others are presets. A connected environment replaces it.",
                ),
                angle("light_yaw", "Turns the light, degrees."),
                *size_inputs(),
                types.Scene.Input(
                    "scene",
                    optional=True,
                    tooltip="From FitDiff Sampler: the photo's camera, light, expression and gaze.",
                ),
                io.Image.Input(
                    "environment",
                    optional=True,
                    tooltip="An equirectangular panorama that lights the head; HDR values are kept.",
                ),
                types.Light.Input(
                    "lighting", optional=True, tooltip="From a FitDiff light node; replaces all other light."
                ),
            ],
            outputs=[
                io.Image.Output("image", display_name="image"),
                io.Mask.Output("mask", display_name="mask", tooltip="Where the head is."),
            ],
        )

    @classmethod
    def validate_inputs(cls, camera=None, light=None):
        return check_choices(camera=(camera, CAMERAS), light=(light, LIGHTS))

    @classmethod
    @host.with_gradients
    def execute(
        cls,
        avatar,
        camera,
        yaw,
        pitch,
        distance,
        fov,
        light,
        light_yaw,
        width,
        height,
        scene=None,
        environment=None,
        lighting=None,
    ):
        device = avatar.shape.device
        scene = Scene.portrait(1, device) if scene is None else scene.to(device)
        lens = scene.camera if camera == "scene" else Camera.orbit(yaw, pitch, distance, fov).to(device)
        lamp = scene.light if light == "scene" else Light.preset(light).to(device)
        if environment is not None:
            lamp = environment_light(environment[:1]).to(device)
        if lighting is not None:
            lamp = lighting.to(device)
        if light_yaw:
            lamp = lamp.rotated(light_yaw)
        scene = replace(scene, camera=lens, light=lamp)
        return io.NodeOutput(*render_each(avatar, scene, (height, width)))
