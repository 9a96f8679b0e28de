"""Write the avatar as a file that other programs open."""

from __future__ import annotations

import os
from functools import partial

import folder_paths
import torch
from comfy_api.latest import Types, io

from ..fitdiff_core.errors import UserError
from ..fitdiff_core.export import write_glb, write_obj
from . import host, types
from .avatar import maps_to_images

FORMATS = {  # name -> suffix, writer
    "glb": ("glb", write_glb),
    "glb, green flipped": ("glb", partial(write_glb, flip_green=True)),
    "obj": ("obj", write_obj),
}
HAS_FILE_TYPE = hasattr(io, "File3DGLB") and hasattr(Types, "File3D")


def output_path(prefix: str) -> tuple[str, str, int, str]:
    """(folder, file name, counter, folder relative to output/) for a prefix that stays inside ComfyUI's output folder."""
    if problem := bad_prefix(prefix):
        raise UserError(problem)
    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(prefix.strip(), folder_paths.get_output_directory())
    return folder, name, counter, subfolder.replace("\\", "/")


def bad_prefix(prefix: str) -> str | None:
    """What is wrong with a file name prefix, if anything."""
    parts = prefix.strip().replace("\\", "/").split("/")
    if not parts[-1] or parts[-1] == ".":
        return "The file name prefix is empty; give a name such as fitdiff/avatar."
    if ".." in parts or os.path.isabs(prefix.strip()) or ":" in prefix or parts[0] in ("", "~"):
        return f"The file name prefix '{prefix}' leads out of the output folder; give a relative one such as fitdiff/avatar."
    if any(ord(c) < 32 for c in prefix):
        return "The file name prefix holds control characters; give a plain name such as fitdiff/avatar."
    return None


def mesh_of(avatar) -> Types.MESH:
    """ComfyUI's MESH: bare vertices and faces on 0.3.75, with UVs and textures on hosts whose MESH has them."""
    vertices = avatar.vertices().detach().float().cpu()
    n = len(avatar)
    u, v = avatar.head.uv.float().cpu().unbind(-1)
    diffuse, _, normal = maps_to_images(avatar.maps)
    more = {
        "uvs": torch.stack([u, 1 - v], -1)[None].repeat(n, 1, 1),  # ComfyUI's are glTF's: v from the top
        "texture": diffuse,
        "normal_map": normal,
    }
    faces = avatar.head.triangles.cpu()[None].repeat(n, 1, 1)
    return Types.MESH(vertices, faces, **host.accepted(Types.MESH.__init__, **more))


class ExportMesh(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        outputs = [
            io.String.Output(
                "model_file", display_name="model_file", tooltip="Path below output/, for Preview 3D; of a batch, the first."
            ),
            io.Mesh.Output("mesh", display_name="mesh"),
        ]
        if HAS_FILE_TYPE:
            outputs.append(io.File3DGLB.Output("file", display_name="glb"))
        return host.schema(
            "ExportMesh", "FitDiff Export Mesh",
            description="Saves the head with its maps. GLB opens in Blender, Unreal, three.js and ComfyUI's own 3D preview; "
            "OBJ comes with an .mtl and PNG textures.",
            is_output_node=True,
            inputs=[
                types.Avatar.Input("avatar", tooltip="The head to save; a batch gives one file a head."),
                io.String.Input(
                    "filename_prefix", default="fitdiff/avatar", tooltip="Folder and name below output/; a number is added."
                ),
                io.Combo.Input(
                    "format", options=list(FORMATS), default="glb",
                    tooltip="glb: one file. green flipped: normals as Unreal wants them. obj: with .mtl and PNGs.",
                ),
            ],
            outputs=outputs,
        )

    @classmethod
    def validate_inputs(cls, filename_prefix, format):
        if format is not None and format not in FORMATS:
            return f"Unknown format '{format}'; choose one of {', '.join(FORMATS)}."
        return True if filename_prefix is None else bad_prefix(filename_prefix) or True

    @classmethod
    @host.with_gradients
    def execute(cls, avatar, filename_prefix, format):
        folder, name, counter, subfolder = output_path(filename_prefix)
        suffix, write = FORMATS[format]
        files = []
        for i in range(len(avatar)):
            file = f"{name}_{counter + i:05}_.{suffix}"
            write(os.path.join(folder, file), avatar[i])
            files.append({"filename": file, "subfolder": subfolder, "type": "output"})
        first = "/".join(filter(None, (subfolder, files[0]["filename"])))
        values = [first, mesh_of(avatar)]
        if HAS_FILE_TYPE:
            full = os.path.join(folder, files[0]["filename"])
            values.append(Types.File3D(full, suffix) if suffix == "glb" else None)
        return io.NodeOutput(*values, ui={"3d": files})
