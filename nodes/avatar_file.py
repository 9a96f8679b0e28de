"""Nodes that save an avatar as a file and load it again."""

from __future__ import annotations

import os

import folder_paths
from comfy_api.latest import io

from ..fitdiff_core.avatar_file import SUFFIX, load_avatar, save_avatar
from ..fitdiff_core.errors import UserError
from ..fitdiff_core.files import all_or_none
from ..fitdiff_core.scene import Scene
from . import host, types
from .export import below_output, output_path
from .widgets import check_prefix, prefix_input

NO_FILE = "no avatar yet"


class SaveAvatar(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            "SaveAvatar",
            "FitDiff Save Avatar",
            description="Saves the avatar with maps, hair and scene, so that it can be loaded again without sampling.",
            is_output_node=True,
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            inputs=[
                types.Avatar.Input("avatar", tooltip="The heads to save; a batch goes into one file."),
                prefix_input("fitdiff/avatar"),
                types.Scene.Input("scene", optional=True, tooltip="Camera, light and expression to keep with it."),
            ],
            outputs=[
                io.String.Output("file", display_name="file", tooltip="Name for FitDiff Load Avatar."),
            ],
        )

    @classmethod
    def validate_inputs(cls, filename_prefix=None):
        return check_prefix(filename_prefix)

    @classmethod
    @host.with_gradients
    def execute(cls, avatar, filename_prefix, scene=None):
        folder, name, counter, subfolder = output_path(filename_prefix, cls.hidden, avatar.maps.size)
        file = {"filename": f"{name}_{counter:05}_{SUFFIX}", "subfolder": subfolder, "type": "output"}
        with all_or_none():
            save_avatar(os.path.join(folder, file["filename"]), avatar, scene)
        return io.NodeOutput(f"{below_output(file)} [output]", ui={"text": [below_output(file)]})


def avatar_files() -> list[str]:
    """Avatar files in the input folder, then those in the output folder with ComfyUI's mark " [output]"."""
    found = []
    for folder, mark in ((folder_paths.get_input_directory(), ""), (folder_paths.get_output_directory(), " [output]")):
        names = []
        for root, _, files in os.walk(folder):
            below = os.path.relpath(root, folder).replace(os.sep, "/")
            names += [f if below == "." else f"{below}/{f}" for f in files if f.lower().endswith(SUFFIX)]
        found += [name + mark for name in sorted(names)]
    return found


class LoadAvatar(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            "LoadAvatar",
            "FitDiff Load Avatar",
            description="Loads an avatar that FitDiff Save Avatar or the command line saved. Nothing is sampled again.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=avatar_files() or [NO_FILE],
                    tooltip=f"A {SUFFIX} file in the input or output folder. Refresh (R) after saving one.",
                ),
            ],
            outputs=[
                types.Avatar.Output("avatar", display_name="avatar"),
                types.Scene.Output(
                    "scene", display_name="scene", tooltip="As it was saved; a studio portrait where none was."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, file=None):
        if file is None or host.user_file(file, SUFFIX):
            return True
        return f"No avatar '{file}' in the input or output folder; save one with FitDiff Save Avatar and refresh."

    @classmethod
    def fingerprint_inputs(cls, file):
        path = host.user_file(file, SUFFIX)
        return os.stat(path).st_mtime_ns if path else file

    @classmethod
    @host.with_gradients
    def execute(cls, file):
        path = host.user_file(file, SUFFIX)
        if path is None:
            raise UserError(f"No avatar '{file}'; save one with FitDiff Save Avatar, or put one into the input folder.")
        avatar, scene = load_avatar(path, host.head(), host.device())
        return io.NodeOutput(avatar, scene or Scene.portrait(1, avatar.shape.device))
