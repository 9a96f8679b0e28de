"""Nodes for lights: from a panorama, set up by hand, or from the scene of a photo."""

from __future__ import annotations

import os

import folder_paths
import torch
from comfy_api.latest import io

from ..fitdiff_core.errors import UserError
from ..fitdiff_core.image import linear_to_srgb, srgb_to_linear
from ..fitdiff_core.render import Light, rig
from ..fitdiff_core.render.hdr import SUFFIXES, load_hdr
from ..fitdiff_core.render.panoramas import PANORAMAS, panorama_file
from . import host, types
from .widgets import angle

ENCODINGS = ("sRGB", "linear")
SHIPPED = " (FitDiff)"


def environment_light(image: torch.Tensor, sources: int = 1, encoding: str = "sRGB") -> Light:
    """Equirectangular panoramas as IMAGE `[B, H, W, C]` -> a light of batch B. Values above 1 (HDR) are kept."""
    if image.ndim != 4 or image.shape[0] == 0 or image.shape[-1] < 3 or not torch.isfinite(image).all():
        raise UserError("The environment is not an RGB image with finite values; connect an equirectangular panorama.")
    pixels = image[..., :3].clone().permute(0, 3, 1, 2).float().clamp(min=0).to(host.device())
    return Light.from_environment(srgb_to_linear(pixels) if encoding == "sRGB" else pixels, sources)


def light_output():
    return types.Light.Output(
        "lighting", display_name="light", tooltip="For FitDiff Render, Turntable, or a further light."
    )


def intensity_input(default: float, tooltip: str):
    return io.Float.Input("intensity", default=default, min=0.0, max=100.0, step=0.05, tooltip=tooltip)


class EnvironmentLight(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            "EnvironmentLight",
            "FitDiff Environment Light",
            description="Light from an equirectangular panorama: soft light all round, and its brightest sources "
            "as lamps.",
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip="Panorama; its middle is where the face looks to. Values above 1 (HDR) are kept. Of a "
                    "batch, each image is a light.",
                ),
                intensity_input(1.0, "Times the panorama's own light."),
                angle("rotation", "Turns the light to the subject's left, degrees."),
                io.Int.Input(
                    "sources",
                    default=1,
                    min=0,
                    max=4,
                    tooltip="How many of the brightest spots become lamps with sharp highlights; 0 for an "
                    "overcast sky.",
                ),
                io.Combo.Input(
                    "encoding",
                    options=list(ENCODINGS),
                    default="sRGB",
                    tooltip="sRGB: pictures, and FitDiff Load Environment. linear: what EXR loaders of other "
                    "packs give.",
                ),
            ],
            outputs=[light_output()],
        )

    @classmethod
    @host.with_gradients
    def execute(cls, image, intensity, rotation, sources, encoding):
        light = environment_light(image, sources, encoding).scaled(intensity)
        return io.NodeOutput(light.rotated(rotation) if rotation else light)


class DirectionalLight(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            "DirectionalLight",
            "FitDiff Directional Light",
            description="A lamp far away, and even light all round. Chain several for a rig of key, fill and rim "
            "lights.",
            inputs=[
                angle("azimuth", "Where the lamp stands: degrees to the subject's left, 0 in front.", default=40.0),
                angle("elevation", "Where the lamp stands: degrees upwards.", 90.0, 30.0),
                intensity_input(2.0, "Of the lamp: at 3.14 a white surface that faces it is white."),
                io.Float.Input(
                    "temperature",
                    default=6500.0,
                    min=rig.COOLEST,
                    max=rig.HOTTEST,
                    step=50.0,
                    tooltip="Kelvin: 2700 a warm bulb, 6500 white, 10000 blue sky.",
                ),
                io.String.Input("color", default="#ffffff", tooltip="A filter in front of the lamp, as #rrggbb."),
                io.Float.Input(
                    "ambient",
                    default=0.2,
                    min=0.0,
                    max=10.0,
                    step=0.01,
                    tooltip="White light from everywhere; at 1 a white surface is white.",
                ),
                types.Light.Input("light", optional=True, tooltip="Other light that this one is added to."),
            ],
            outputs=[light_output()],
        )

    @classmethod
    @host.with_gradients
    def execute(cls, azimuth, elevation, intensity, temperature, color, ambient, light=None):
        irradiance = rig.temperature_rgb(temperature) * rig.hex_rgb(color) * intensity
        lights = [rig.directional_light(azimuth, elevation, irradiance), rig.uniform_light((ambient,) * 3)]
        if light is not None:
            lights.insert(0, light)
        return io.NodeOutput(rig.combine_lights(*lights))


class SceneLight(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            "SceneLight",
            "FitDiff Scene Light",
            description="The light of a scene by itself: of a photo, as the guidance estimated it. It can light "
            "another head, "
            "be turned, dimmed, or added to.",
            inputs=[
                types.Scene.Input("scene", tooltip="From FitDiff Sampler or FitDiff Fitted Scene."),
                intensity_input(1.0, "Times the scene's own light."),
                angle("rotation", "Turns the light to the subject's left, degrees."),
            ],
            outputs=[light_output()],
        )

    @classmethod
    @host.with_gradients
    def execute(cls, scene, intensity, rotation):
        light = scene.light.detach().scaled(intensity)
        return io.NodeOutput(light.rotated(rotation) if rotation else light)


def panoramas() -> list[str]:
    """HDR panoramas in the input folder."""
    folder = folder_paths.get_input_directory()
    if not os.path.isdir(folder):
        return []
    return sorted(
        f for f in os.listdir(folder) if f.lower().endswith(SUFFIXES) and os.path.isfile(os.path.join(folder, f))
    )


def shipped_panoramas() -> dict[str, str]:
    """What the page calls the pack's own panoramas -> their names."""
    return {f"{name}{SHIPPED}": name for name in PANORAMAS}


def panorama_path(file: str) -> str | None:
    """Path of the named panorama, None if it is not one of the pack's, or in one of ComfyUI's folders."""
    if file in shipped_panoramas():
        return str(panorama_file(shipped_panoramas()[file]))
    return host.user_file(file, SUFFIXES)


class LoadEnvironment(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            "LoadEnvironment",
            "FitDiff Load Environment",
            description="Reads an HDR panorama (.hdr, or .exr where OpenEXR is installed) from the input folder. "
            "Its values go "
            "beyond 1: it lights as the place did.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=[*panoramas(), *shipped_panoramas()],
                    tooltip="A .hdr or .exr file in ComfyUI's input folder, or one of the pack's own.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "image",
                    display_name="image",
                    tooltip="sRGB-encoded, not clipped; for FitDiff Environment Light or Render.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, file=None):
        if file is None or panorama_path(file):
            return True
        return f"No panorama '{file}' in the input folder; put a .hdr or .exr file there and refresh."

    @classmethod
    def fingerprint_inputs(cls, file):
        path = panorama_path(file)
        return os.stat(path).st_mtime_ns if path else file

    @classmethod
    @host.with_gradients
    def execute(cls, file):
        pixels = load_hdr(panorama_path(file) or file)
        return io.NodeOutput(linear_to_srgb(pixels.clamp(min=0)).permute(0, 2, 3, 1).contiguous())
