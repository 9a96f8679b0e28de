"""Pictures of an avatar: from the photo's camera or around it, in the photo's light or another."""

from __future__ import annotations

from dataclasses import replace

import torch
from comfy_api.latest import io

from ..fitdiff_core import pipeline
from ..fitdiff_core.errors import UserError
from ..fitdiff_core.image import srgb_to_linear, to_image
from ..fitdiff_core.render import Camera, Light
from ..fitdiff_core.render.light import PRESETS
from ..fitdiff_core.scene import Scene
from . import host, types

CAMERAS = ("scene", "orbit")
LIGHTS = ("scene", *PRESETS)


def environment_light(image: torch.Tensor) -> Light:
    """An equirectangular panorama as IMAGE `[1, H, W, C]` -> light. Values above 1 (HDR) are kept."""
    if image.ndim != 4 or image.shape[0] == 0 or image.shape[-1] < 3 or not torch.isfinite(image).all():
        raise UserError("The environment is not an RGB image with finite values; connect an equirectangular panorama.")
    pixels = image[:1, ..., :3].clone().permute(0, 3, 1, 2).float().clamp(min=0)
    return Light.from_environment(srgb_to_linear(pixels).to(host.device()))


def pick(batch, i: int):
    """Entry i, batch axis kept; a batch of one serves every i."""
    return batch if len(batch) == 1 else batch[i : i + 1] if torch.is_tensor(batch) else batch[i]


def angle(name: str, tooltip: str, limit: float = 180.0, default: float = 0.0):
    return io.Float.Input(
        name, default=default, min=-limit, max=limit, step=1.0, display_mode=io.NumberDisplay.slider, tooltip=tooltip
    )


def lens_inputs() -> list:
    return [
        io.Float.Input("distance", default=0.8, min=0.2, max=20.0, step=0.05, tooltip="Orbit: metres from the head."),
        io.Float.Input("fov", default=20.0, min=2.0, max=100.0, step=1.0, tooltip="Orbit: vertical field of view, degrees."),
    ]


def size_inputs() -> list:
    return [io.Int.Input(n, default=512, min=64, max=4096, step=8, tooltip="Pixels.") for n in ("width", "height")]


def check_choices(**choices) -> bool | str:
    """name=(value, options): True, or what to say of the first value that is none of its options."""
    for name, (value, options) in choices.items():
        if value is not None and value not in options:
            return f"Unknown {name} '{value}'; choose one of {', '.join(options)}."
    return True


def scene_for(scene: Scene | None, heads: int, device) -> Scene:
    """The scene on the device, or a portrait; refused where several pictures meet another number of heads."""
    scene = Scene.portrait(1, device) if scene is None else scene.to(device)
    if heads not in (1, len(scene.camera)) and len(scene.camera) != 1:
        raise UserError(
            f"The scene is of {len(scene.camera)} pictures, the avatar of {heads} heads; connect those of one sampler."
        )
    return scene


def scene_at(scene: Scene, i: int) -> Scene:
    """Picture i of a scene whose parts are of one picture or of all."""
    return replace(
        scene, camera=pick(scene.camera, i), light=pick(scene.light, i), expression=pick(scene.expression, i),
        gaze=pick(scene.gaze, i), crop=None,
    )


def render_each(avatar, scene: Scene, count: int, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """`count` pictures, head i (or the one head) in picture i of the scene -> IMAGE and MASK, with progress."""
    images, masks, progress = [], [], host.Progress(count)
    for i in range(count):
        image, mask = pipeline.render_avatar(pick_head(avatar, i), scene_at(scene, i), size)
        images.append(to_image(image))
        masks.append(mask[:, 0].detach().clamp(0, 1).float().cpu())
        progress(i, count)
    return torch.cat(images), torch.cat(masks)


def pick_head(avatar, i: int):
    return avatar if len(avatar) == 1 else avatar[i]


class Render(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            "Render", "FitDiff Render",
            description="Renders the avatar: from the photo's view or any other, in the photo's light, a preset or a panorama.",
            inputs=[
                types.Avatar.Input("avatar", tooltip="The head to render; a batch gives a batch of images."),
                io.Combo.Input(
                    "camera", options=list(CAMERAS), default="scene",
                    tooltip="scene: as in the photo (needs the scene input; without it a portrait). orbit: by the angles below.",
                ),
                angle("yaw", "Orbit: degrees to the subject's left."),
                angle("pitch", "Orbit: degrees upwards.", 89.0),
                *lens_inputs(),
                io.Combo.Input(
                    "light", options=list(LIGHTS), default="scene",
                    tooltip="scene: as in the photo; the others are presets. A connected environment replaces it.",
                ),
                angle("light_yaw", "Turns the light, degrees."),
                *size_inputs(),
                types.Scene.Input(
                    "scene", optional=True, tooltip="From FitDiff Sampler: the photo's camera, light, expression and gaze."
                ),
                io.Image.Input(
                    "environment", optional=True, tooltip="An equirectangular panorama that lights the head; HDR values are kept."
                ),
                types.Light.Input("lighting", optional=True, tooltip="From a FitDiff light node; replaces all other light."),
            ],
            outputs=[
                io.Image.Output("image", display_name="image"),
                io.Mask.Output("mask", display_name="mask", tooltip="Where the head is."),
            ],
        )

    @classmethod
    def validate_inputs(cls, camera, light):
        return check_choices(camera=(camera, CAMERAS), light=(light, LIGHTS))

    @classmethod
    @host.with_gradients
    def execute(
        cls, avatar, camera, yaw, pitch, distance, fov, light, light_yaw, width, height, scene=None, environment=None,
        lighting=None,
    ):
        device, n = avatar.shape.device, len(avatar)
        scene = scene_for(scene, n, device)
        lens = scene.camera if camera == "scene" else Camera.orbit(yaw, pitch, distance, fov).to(device)
        lamp = scene.light if light == "scene" else Light.preset(light).to(device)
        if environment is not None:
            lamp = environment_light(environment).to(device)
        if lighting is not None:
            lamp = lighting.to(device)
        if light_yaw:
            lamp = lamp.rotated(light_yaw)
        count = max(n, len(scene.camera))  # one head in several pictures, or several heads
        return io.NodeOutput(*render_each(avatar, replace(scene, camera=lens, light=lamp), count, (height, width)))
