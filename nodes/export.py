"""Node that saves the avatar as a file for other programs."""

from __future__ import annotations

import json
import math
import os
import re
from typing import Any

import folder_paths
import torch
from comfy.cli_args import args
from comfy_api.latest import Types, io

from ..fitdiff_core.errors import UserError
from ..fitdiff_core.export import FORMATS, MAP_FILES, UNITS, ExportOptions, format_error, write_avatar
from ..fitdiff_core.export.mesh import whole_meshes
from ..fitdiff_core.export.textures import map_batch_images, roughness_image
from ..fitdiff_core.files import all_or_none, bad_prefix
from ..fitdiff_core.image import to_image
from ..fitdiff_core.pictures import scenes_of_heads
from ..fitdiff_core.progress import part
from ..fitdiff_core.save_prefix import replace_tokens
from . import host, types
from .widgets import check_prefix, prefix_input

FLIPPED = "glb, green flipped"  # a format of version 0.1, now glb with normals down
CHOICES = ("glb", FLIPPED, *FORMATS[1:])
VIEW_ANGLE = 35  # degrees; the default of ComfyUI's 3D viewer
UNSEEN = ("ply", "usdz")  # formats that core's Preview 3D cannot show
EXPRESSIONS, NORMALS = ("neutral", "photo"), ("up (OpenGL, Blender)", "down (DirectX, Unreal)")
LODS = ("full", "light")
HAS_FILE_TYPE = hasattr(io, "File3DGLB") and hasattr(Types, "File3D")
HAS_ANY_FILE = HAS_FILE_TYPE and hasattr(io, "File3DAny")
GLB_FILE = io.File3DGLB if HAS_FILE_TYPE else io.Custom("FILE_3D_GLB")
ANY_FILE = io.File3DAny if HAS_ANY_FILE else io.Custom("FILE_3D")
FILE_OUTPUTS = (0, 2, 3)  # model_file, file, any_file


def output_path(prefix: str, hidden=None, size: tuple[int, int] = (0, 0)) -> tuple[str, str, int, str]:
    """(folder, file name, counter, folder relative to output/) of a prefix, its tokens replaced.

    hidden: the node's prompt and workflow, for `%Node.widget%`; None for none
    size: (H, W) for `%height%` and `%width%`
    Raises UserError for a bad prefix.
    """
    prompt, info = getattr(hidden, "prompt", None), getattr(hidden, "extra_pnginfo", None)
    prefix = replace_tokens(prefix, prompt, (info or {}).get("workflow"))
    if problem := bad_prefix(prefix):
        raise UserError(problem)
    prefix = prefix.strip().replace("\\", "/")  # graphs made on Windows use it as a folder separator
    output = folder_paths.get_output_directory()
    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(prefix, output, size[1], size[0])
    return folder, name, counter, subfolder.replace("\\", "/")


def graph_texts(prompt: dict | None, extra_pnginfo: dict | None) -> dict[str, str]:
    """The graph as core's Save GLB stores it: "prompt", and "workflow" from the UI; JSON texts. Empty with
    --disable-metadata."""
    if args.disable_metadata:
        return {}
    values = {**({"prompt": prompt} if prompt else {}), **(extra_pnginfo or {})}
    return {name: json.dumps(finite(value)) for name, value in values.items()}


def finite(value: Any) -> Any:
    """JSON value with None for NaN and infinite numbers, which browsers cannot parse; `is_changed` may hold them."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def refuse_preview(prompt: dict | None, node_id: str | None, suffix: str) -> None:
    """Raises UserError where Preview 3D is connected to a file that it cannot show.

    A host checks each node before it knows the connections of its outputs, so this is checked when the node runs.
    """
    for other in (prompt or {}).values() if suffix in UNSEEN else ():
        links = [tuple(v) for v in other.get("inputs", {}).values() if isinstance(v, list) and len(v) == 2]
        ours = [slot for node, slot in links if str(node) == str(node_id) and slot in FILE_OUTPUTS]
        if ours and str(other.get("class_type")).startswith("Preview3D"):
            raise UserError(
                f"Preview 3D cannot show a {suffix} file: it reads glb and obj of those. Choose glb, or disconnect "
                "Preview 3D."
            )


def camera_output():
    return io.Load3DCamera.Output(
        "camera_info", display_name="camera_info", tooltip="In front of the face, for Preview 3D."
    )


def front_camera(vertices: torch.Tensor, scaled: bool | None) -> dict[str, Any] | None:
    """Core's LOAD3D_CAMERA straight in front of a head; None leaves the frontend its own.

    vertices: `[V, 3]` as in the file
    scaled: whether the frontend moves a model to the origin and scales its longest side to 5; None: not known
    """
    if scaled is None:
        return None
    low, high = vertices.amin(0), vertices.amax(0)
    centre, size = (low + high) / 2, high - low
    scale = 5 / float(size.max()) if scaled else 1.0
    if scaled:
        centre = torch.stack([torch.zeros(()), size[1] / 2, torch.zeros(())])
    x, y, z = (centre * scale).tolist()
    away = float(size[2] / 2 + 0.6 * size[:2].max() / math.tan(math.radians(VIEW_ANGLE / 2))) * scale
    return {
        "position": {"x": x, "y": y, "z": z + away},
        "target": {"x": x, "y": y, "z": z},
        "zoom": 1,
        "cameraType": "perspective",
        "fov": VIEW_ANGLE,
    }


def mesh_of(avatar, scenes: list | None = None) -> Types.MESH:
    """ComfyUI's MESH: only vertices and faces on 0.3.75; uvs, normals and textures too on hosts whose MESH has them.

    scenes: one for each head, to pose it; None leaves the heads neutral.
    """
    mesh, pictures = whole_meshes(avatar, scenes), map_batch_images(avatar.maps)
    more = {
        "uvs": mesh.uvs,
        "normals": mesh.normals,
        "tangents": mesh.tangents,
        "texture": to_image(pictures["diffuse"]),
        "normal_map": to_image(pictures["normal"]),
        "metallic_roughness": to_image(roughness_image(avatar.head)).repeat(len(avatar), 1, 1, 1),
    }
    return Types.MESH(mesh.vertices, mesh.faces, **host.accepted(Types.MESH.__init__, **more))


def save_heads(
    avatar, prefix: str, options: ExportOptions, hidden: Any, scenes: list | None = None
) -> tuple[str, list[dict[str, str]]]:
    """Save one file for each head -> (folder, the files as the page names them). Called under `all_or_none`.

    prefix, hidden: as of `output_path`. scenes: one for each head, to pose it; None leaves the heads neutral
    """
    folder, name, counter, subfolder = output_path(prefix, hidden, avatar.maps.size)
    files, n = [], len(avatar)
    for i in range(n):
        file = f"{name}_{counter + i:05}_.{options.format}"
        with part(i, n):
            write_avatar(os.path.join(folder, file), avatar[i], options, scenes[i] if scenes else None)
        files.append({"filename": file, "subfolder": subfolder, "type": "output"})
    return folder, files


def below_output(file: dict[str, str]) -> str:
    """Path of a file of `save_heads` below output/."""
    return "/".join(filter(None, (file["subfolder"], file["filename"])))


class ExportMesh(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        outputs = [
            io.String.Output(
                "model_file",
                display_name="model_file",
                tooltip="Path below output/, for Preview 3D (glb and obj); of a batch, the first.",
            ),
            io.Mesh.Output(
                "mesh",
                display_name="mesh",
                tooltip="For core's 3D nodes; newer hosts get uvs, normals and textures too.",
            ),
            # the same places on every host, so that a graph runs on all of them
            GLB_FILE.Output("file", display_name="glb", tooltip="For newer hosts' 3D nodes; empty on older hosts."),
            ANY_FILE.Output("any_file", display_name="file", tooltip="As glb, for every format."),
            camera_output(),
        ]
        return host.schema(
            "ExportMesh",
            "FitDiff Export Mesh",
            description="Saves the head with its maps. GLB opens in Blender, Unreal, three.js and ComfyUI's own "
            "3D preview and "
            "has the 52 ARKit blendshapes; OBJ and PLY come with PNG textures, USDZ holds them.",
            is_output_node=True,
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo, io.Hidden.unique_id],
            inputs=[
                types.Avatar.Input("avatar", tooltip="The head to save; a batch gives one file a head."),
                prefix_input("fitdiff/avatar"),
                io.Combo.Input(
                    "format",
                    options=list(CHOICES),
                    default="glb",
                    tooltip="glb: one file. green flipped: normals as Unreal wants them. obj: with .mtl and PNGs. "
                    "ply: with "
                    "vertex colours. usdz: one file for Apple, Omniverse, Houdini. Preview 3D shows glb and obj only.",
                ),
                io.Boolean.Input(
                    "blendshapes",
                    default=True,
                    optional=True,
                    tooltip="glb: the 52 ARKit expressions as morph targets; some 8 MB. The other formats have none.",
                ),
                io.Combo.Input(
                    "expression",
                    options=list(EXPRESSIONS),
                    default="neutral",
                    optional=True,
                    tooltip="photo: the scene's expression and gaze, as starting weights of a glb's blendshapes, "
                    "or in the "
                    "mesh itself. Needs the scene input.",
                ),
                io.Int.Input(
                    "texture_size",
                    default=0,
                    min=0,
                    max=8192,
                    step=64,
                    optional=True,
                    tooltip="Pixels a side of the saved maps; 0 leaves them as they are.",
                ),
                io.Combo.Input(
                    "normals",
                    options=list(NORMALS),
                    default=NORMALS[0],
                    optional=True,
                    tooltip="Which way green points in the normal map. down is for Unreal and other DirectX "
                    "engines. Inside a usdz it is up by definition, and importers turn it.",
                ),
                io.Combo.Input(
                    "unit",
                    options=list(UNITS),
                    default="metres",
                    optional=True,
                    tooltip="For obj, ply and usdz. A glb is in metres by definition, and importers (Unreal's "
                    "too) scale it themselves.",
                ),
                io.Combo.Input(
                    "map_files",
                    options=list(MAP_FILES),
                    default="none",
                    optional=True,
                    tooltip="PNGs of the maps beside the file, 8 or 16 bits a channel. obj and ply always have "
                    "them, 8-bit for none.",
                ),
                types.Scene.Input(
                    "scene", optional=True, tooltip="From FitDiff Sampler: the photo's expression and gaze."
                ),
                io.Boolean.Input(
                    "rig",
                    default=True,
                    optional=True,
                    tooltip="glb: joints Root, Neck, Head, Jaw, Eye_L, Eye_R, and a skin that moves with them.",
                ),
                io.Boolean.Input(
                    "visemes",
                    default=False,
                    optional=True,
                    tooltip="glb: after the 52 blendshapes, the 15 visemes of Oculus LipSync and mouthOpen, "
                    "mouthSmile, eyesClosed, eyesLookUp, eyesLookDown.",
                ),
                types.Motion.Input(
                    "motion",
                    optional=True,
                    tooltip="glb: from FitDiff Motion from Video; the file holds it as an animation.",
                ),
                io.Combo.Input(
                    "lod",
                    options=list(LODS),
                    default=LODS[0],
                    optional=True,
                    tooltip="glb: light has a third of the triangles, and the same blendshapes, joints and UVs.",
                ),
            ],
            outputs=outputs,
        )

    @classmethod
    def validate_inputs(cls, filename_prefix=None):
        return check_prefix(filename_prefix)

    @classmethod
    @host.with_gradients
    def execute(
        cls,
        avatar,
        filename_prefix,
        format,
        blendshapes=True,
        expression="neutral",
        texture_size=0,
        normals=NORMALS[0],
        unit="metres",
        map_files="none",
        scene=None,
        rig=True,
        visemes=False,
        motion=None,
        lod=LODS[0],
    ):
        suffix, scenes = suffix_of(format), None
        if wrong := format_error(suffix, unit):
            raise UserError(wrong)
        if expression == "photo":
            if scene is None:
                raise UserError(
                    "The photo's expression needs the scene; connect that output of FitDiff Sampler, or choose neutral."
                )
            scenes = scenes_of_heads(avatar, scene)
        refuse_preview(getattr(cls.hidden, "prompt", None), getattr(cls.hidden, "unique_id", None), suffix)
        if suffix == "obj":  # viewers look for NAME.mtl, and an OBJ cannot name a file with blanks
            filename_prefix = re.sub(r"\s+(?=[^/\\]*$)", "_", filename_prefix.strip())
        options = ExportOptions(
            suffix,
            texture_size or None,
            flip_green=format == FLIPPED or normals == NORMALS[1],
            unit=unit,
            map_files=map_files,
            blendshapes=blendshapes,
            extras=graph_texts(getattr(cls.hidden, "prompt", None), getattr(cls.hidden, "extra_pnginfo", None)),
            rig=rig,
            visemes=visemes,
            motion=motion,
            light=lod == "light",
        )
        with all_or_none():
            folder, files = save_heads(avatar, filename_prefix, options, cls.hidden, scenes)
            mesh = mesh_of(avatar, scenes)
        file = None
        camera = front_camera(mesh.vertices[0] * (UNITS[unit] if suffix != "glb" else 1), host.frontend_scales_models())
        if HAS_FILE_TYPE:
            file = Types.File3D(os.path.join(folder, files[0]["filename"]), suffix)
        ui = {"3d": files, **({"camera_info": [camera]} if camera else {})}
        return io.NodeOutput(below_output(files[0]), mesh, file if suffix == "glb" else None, file, camera, ui=ui)


def suffix_of(choice: str) -> str:
    return "glb" if choice == FLIPPED else choice
