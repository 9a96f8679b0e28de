"""Node that renders an avatar: with the photo's camera or another, in the photo's light or another."""

from __future__ import annotations

from dataclasses import replace

from comfy_api.latest import io

from ..fitdiff_core.errors import UserError
from ..fitdiff_core.render import Camera
from ..fitdiff_core.render.backdrop import BACKDROPS
from ..fitdiff_core.render.panoramas import NAMES, named_light
from ..fitdiff_core.render.tone import TONES
from ..fitdiff_core.render.viewer_camera import camera_to_viewer
from ..fitdiff_core.scene import Scene
from . import host, types
from .lights import environment_light
from .pictures import render_each, viewer_camera
from .widgets import angle, finish_inputs, lens_inputs, size_inputs

CAMERAS = ("scene", "orbit")
LIGHTS = ("scene", *NAMES)


class Render(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            "Render",
            "FitDiff Render (relight)",
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
                    tooltip="scene: as in the photo; the others are presets and panoramas. A connected environment "
                    "replaces it.",
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
                types.camera_info_input(),
                *finish_inputs(),
            ],
            outputs=[
                io.Image.Output("image", display_name="image"),
                io.Mask.Output("mask", display_name="mask", tooltip="Where the head is."),
            ],
        )

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
        camera_info=None,
        backdrop=BACKDROPS[0],
        tone=TONES[0],
    ):
        device = avatar.shape.device
        scene = Scene.portrait(1, device) if scene is None else scene.to(device)
        lens = scene.camera if camera == "scene" else Camera.orbit(yaw, pitch, distance, fov).to(device)
        if camera_info is not None:
            lens = viewer_camera(avatar, camera_info)
        lamp = scene.light if light == "scene" else named_light(light).to(device)
        if environment is not None:
            lamp = environment_light(environment[:1]).to(device)
        if lighting is not None:
            lamp = lighting.to(device)
        if light_yaw:
            lamp = lamp.rotated(light_yaw)
        scene = replace(scene, camera=lens, light=lamp)
        return io.NodeOutput(*render_each(avatar, scene, (height, width), backdrop, tone))


class SceneCamera(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            "SceneCamera",
            "FitDiff Scene Camera",
            description="The camera of a scene for core's 3D nodes: Preview 3D then shows the exported head as the "
            "photo does.",
            inputs=[
                types.Scene.Input("scene", tooltip="From FitDiff Sampler, Fitted Scene or Turntable."),
                io.Int.Input(
                    "picture",
                    default=0,
                    min=0,
                    max=9999,
                    tooltip="Which camera, where the scene has several: 0 is the first.",
                ),
            ],
            outputs=[
                types.ViewerCamera.Output(
                    "viewer_camera", display_name="camera_info", tooltip="For Preview 3D, Render, Passes, Turntable."
                )
            ],
        )

    @classmethod
    @host.with_gradients
    def execute(cls, scene, picture):
        count = len(scene.camera)
        if picture >= count:
            raise UserError(f"There is no picture {picture}: the scene has {count}, counted from 0.")
        height, width = scene.size
        return io.NodeOutput(camera_to_viewer(scene.camera[picture], width / height))
