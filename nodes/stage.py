"""The viewer in the graph: what is set in it comes out as scene and light."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import replace

import folder_paths
import torch
from comfy_api.latest import io

from ..fitdiff_core.avatar import Avatar
from ..fitdiff_core.export import write_glb
from ..fitdiff_core.maps import TextureMaps
from ..fitdiff_core.render.panoramas import panorama_file
from ..fitdiff_core.stage import Stage as Settings
from ..fitdiff_core.stage import parse_stage, stage_payload, stage_scene
from . import host, types

FOLDER = "fitdiff_stage"  # below ComfyUI's temp folder


class Stage(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            "Stage",
            "FitDiff Stage (viewer)",
            description="A viewer in the node: turn the head, drag the lamp, move the face and the eyes. Scene and "
            "light come out as they are set, so that Render repeats them.",
            is_output_node=True,
            inputs=[
                types.Avatar.Input("avatar", tooltip="The head to show; of a batch, the first."),
                io.String.Input(
                    "settings",
                    default="",
                    socketless=True,
                    tooltip="What is set in the viewer, as JSON. The viewer writes it; empty is as the scene has it.",
                ),
                types.Scene.Input(
                    "scene",
                    optional=True,
                    tooltip="Camera, light and expression to start with; without it a studio portrait.",
                ),
            ],
            outputs=[
                types.Scene.Output(
                    "staged", display_name="scene", tooltip="Camera, light, expression and gaze, for FitDiff Render."
                ),
                types.Light.Output("lighting", display_name="light", tooltip="The light alone, for another head."),
                types.Avatar.Output(
                    "shown", display_name="avatar", tooltip="Without hair or fine detail where they are switched off."
                ),
            ],
        )

    @classmethod
    @host.with_gradients
    def execute(cls, avatar, settings, scene=None):
        head = avatar[0]
        stage = parse_stage(settings, head.head.expression_names)
        given = None if scene is None else scene[0].detach()
        staged = stage_scene(stage, given).to(head.shape.device)
        tables = stage_payload(head, given)
        shown = {
            "glb": temp_glb(head),
            "tables": tables,
            "panoramas": {name: temp_copy(panorama_file(name)) for name in tables["panoramas"]},
        }
        return io.NodeOutput(staged, staged.light, as_shown(head, stage), ui={"fitdiff_stage": [shown]})


def as_shown(head: Avatar, stage: Settings) -> Avatar:
    """The head without hair or fine detail where the viewer hides them."""
    if not stage.hair:
        head = replace(head, hair=None)
    if not stage.detail:
        normal = torch.zeros_like(head.maps.normal)
        normal[:, 2] = 1
        head = replace(head, maps=TextureMaps(head.maps.diffuse, head.maps.specular, normal))
    return head


def temp_glb(head: Avatar) -> dict[str, str]:
    """The head's neutral GLB in the temp folder, written once for the same head; as the page names it."""
    digest = hashlib.sha256(repr(head.hair).encode())
    for tensor in (head.shape, head.maps.stack()):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    file = f"{digest.hexdigest()[:24]}.glb"
    path = os.path.join(folder_paths.get_temp_directory(), FOLDER, file)
    if not os.path.isfile(path):
        write_glb(path, head, rig=False)  # the page moves meshes by their names
    return {"filename": file, "subfolder": FOLDER, "type": "temp"}


def temp_copy(source: os.PathLike) -> dict[str, str]:
    """A shipped file, copied to the temp folder, from where the page can fetch it."""
    folder = os.path.join(folder_paths.get_temp_directory(), FOLDER)
    os.makedirs(folder, exist_ok=True)
    name = os.path.basename(source)
    if not os.path.isfile(os.path.join(folder, name)):
        shutil.copyfile(source, os.path.join(folder, name))
    return {"filename": name, "subfolder": FOLDER, "type": "temp"}
