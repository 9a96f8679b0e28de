"""Nodes for turntables and render passes of an avatar."""

from __future__ import annotations

from dataclasses import replace

import torch
from comfy_api.latest import io

from ..fitdiff_core.hair.picture import render_passes_with_hair
from ..fitdiff_core.image import linear_to_srgb, to_image
from ..fitdiff_core.pictures import count_pictures, each_picture
from ..fitdiff_core.progress import part
from ..fitdiff_core.render import Camera
from ..fitdiff_core.render.backdrop import BACKDROPS
from ..fitdiff_core.render.panoramas import named_light
from ..fitdiff_core.render.passes import (
    NORMAL_STYLES,
    Passes,
    depth_image,
    normal_image,
    part_image,
    position_image,
    uv_image,
)
from ..fitdiff_core.render.tone import TONES
from ..fitdiff_core.render.turn import SPINS, turntable
from ..fitdiff_core.scene import Scene
from . import host, types
from .pictures import mask_out, render_each, viewer_camera
from .render import CAMERAS, LIGHTS
from .widgets import angle, finish_inputs, lens_inputs, size_inputs


class Turntable(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        def degrees(name, default, tooltip):
            return io.Float.Input(name, default=default, min=-1080.0, max=1080.0, step=1.0, tooltip=tooltip)

        return host.schema(
            "Turntable",
            "FitDiff Turntable",
            description="A batch of pictures for video nodes: the head turns, the camera goes round it, or the "
            "light does.",
            inputs=[
                types.Avatar.Input("avatar", tooltip="The head; of a batch, each turns after the other."),
                io.Combo.Input(
                    "spin",
                    options=list(SPINS),
                    default="head",
                    tooltip="head: it turns in front of camera and light. camera: goes round head and light. "
                    "light: goes round.",
                ),
                io.Int.Input("frames", default=24, min=1, max=1000, tooltip="Pictures for each head."),
                degrees("start", -45.0, "Degrees at the first picture, to the subject's left."),
                degrees(
                    "end", 45.0, "Degrees at the last picture. Full turns leave it out, so that the loop has no double."
                ),
                angle("yaw", "Where the camera stands: degrees to the subject's left."),
                angle("pitch", "Where the camera stands: degrees upwards.", 89.0),
                *lens_inputs(),
                io.Combo.Input(
                    "light",
                    options=list(LIGHTS),
                    default="scene",
                    tooltip="scene: as in the photo; the others are presets.",
                ),
                *size_inputs(),
                types.Scene.Input("scene", optional=True, tooltip="The photo's light, expression and gaze."),
                types.Light.Input(
                    "lighting", optional=True, tooltip="From a FitDiff light node; replaces the light above."
                ),
                types.camera_info_input(),
                *finish_inputs(),
            ],
            outputs=[
                io.Image.Output("image", display_name="image"),
                io.Mask.Output("mask", display_name="mask", tooltip="Where the head is."),
                types.Scene.Output(
                    "scenes", display_name="scene", tooltip="Camera and light of every picture, for passes."
                ),
            ],
        )

    @classmethod
    @host.with_gradients
    def execute(
        cls,
        avatar,
        spin,
        frames,
        start,
        end,
        yaw,
        pitch,
        distance,
        fov,
        light,
        width,
        height,
        scene=None,
        lighting=None,
        camera_info=None,
        backdrop=BACKDROPS[0],
        tone=TONES[0],
    ):
        device = avatar.shape.device
        scene = Scene.portrait(1, device) if scene is None else scene.to(device)
        lamp = lighting if lighting is not None else scene.light if light == "scene" else named_light(light)
        stand = None if camera_info is None else viewer_camera(avatar, camera_info)
        lens = {"pitch_deg": pitch, "distance_m": distance, "fov_deg": fov}
        scene = replace(scene, light=lamp.to(device), size=(height, width))
        turns, images, masks = [], [], []
        count = count_pictures(avatar, scene)
        for i, (head, one) in enumerate(each_picture(avatar, scene)):
            turns.append(turntable(one, frames, start, end, spin, yaw, stand, **lens).to(device))
            with part(i, count):
                image, mask = render_each(head, turns[-1], (height, width), backdrop, tone)
            images.append(image)
            masks.append(mask)
        return io.NodeOutput(torch.cat(images), torch.cat(masks), Scene.cat(turns))


class RenderPasses(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            "RenderPasses",
            "FitDiff Render Passes",
            description="Depth, normals, lines, uv, albedo, position, and masks of the head's parts, as graphs of "
            "image models take them to redraw it. Nothing is estimated: they come from the mesh.",
            inputs=[
                types.Avatar.Input("avatar", tooltip="The head; a batch gives a batch of passes."),
                io.Combo.Input(
                    "camera",
                    options=list(CAMERAS),
                    default="scene",
                    tooltip="scene: as in the photo, or picture by picture of a turntable. orbit: by the angles below.",
                ),
                angle("yaw", "Orbit: degrees to the subject's left."),
                angle("pitch", "Orbit: degrees upwards.", 89.0),
                *lens_inputs(),
                *size_inputs(),
                io.Combo.Input(
                    "normals",
                    options=list(NORMAL_STYLES),
                    default="controlnet",
                    tooltip="controlnet: red is left (normalbae). opengl: red is right, as 3D programs draw them.",
                ),
                io.Boolean.Input(
                    "detail", default=True, tooltip="Bend the normals by the avatar's normal map: pores and folds."
                ),
                types.Scene.Input(
                    "scene", optional=True, tooltip="From FitDiff Sampler or Turntable: camera, expression, gaze."
                ),
                types.camera_info_input(),
            ],
            outputs=[
                io.Image.Output(
                    "depth", display_name="depth", tooltip="Inverse depth: near is white, nothing is black."
                ),
                io.Image.Output(
                    "normal", display_name="normal", tooltip="In camera space: blue is front, green is top."
                ),
                io.Mask.Output("mask", display_name="mask", tooltip="Where the head is."),
                io.Image.Output("lineart", display_name="lineart", tooltip="White lines on black."),
                io.Image.Output(
                    "uv", display_name="uv", tooltip="Red is u, green is v (from the bottom), blue is the mask."
                ),
                io.Mask.Output("hair", display_name="hair", tooltip="Where the hair of FitDiff Hair is."),
                io.Mask.Output("skin", display_name="skin", tooltip="Where skin is: face, ears, neck; not the lips."),
                io.Mask.Output("lips", display_name="lips", tooltip="Where the lips are."),
                io.Mask.Output("eyes", display_name="eyes", tooltip="Where the eyeballs are, between the lids."),
                io.Image.Output("albedo", display_name="albedo", tooltip="Colour without any light, sRGB."),
                io.Image.Output(
                    "position", display_name="position", tooltip="x, y, z as red, green, blue: 0.5 + 2 x metres."
                ),
                io.Image.Output("parts", display_name="parts", tooltip="A flat colour for each part of the head."),
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
        width,
        height,
        normals,
        detail,
        scene=None,
        camera_info=None,
    ):
        device = avatar.shape.device
        scene = Scene.portrait(1, device) if scene is None else scene.to(device)
        if camera == "orbit":
            scene = replace(scene, camera=Camera.orbit(yaw, pitch, distance, fov).to(device))
        if camera_info is not None:
            scene = replace(scene, camera=viewer_camera(avatar, camera_info))
        count = count_pictures(avatar, scene)
        found, hair, size = [], [], (height, width)
        for i, (head, one) in enumerate(each_picture(avatar, scene)):
            with part(i, count):
                passes, cover = render_passes_with_hair(head, one, size, detail)
                found.append(passes)
                hair.append(cover)
        seen = Passes.cat(found)
        return io.NodeOutput(
            to_image(depth_image(seen.depth, seen.mask)),
            to_image(normal_image(seen.normal, seen.mask, normals)),
            seen.mask[:, 0].float().cpu(),
            to_image(seen.line.expand(-1, 3, -1, -1)),
            to_image(uv_image(seen.uv, seen.mask)),
            mask_out(torch.cat(hair)),
            *(mask_out(x) for x in (seen.skin, seen.lips, seen.eyes)),
            to_image(linear_to_srgb(seen.albedo.clamp(0, 1)) * (seen.mask > 1e-3)),
            to_image(position_image(seen.position, seen.mask)),
            to_image(part_image(seen.part)),
        )
