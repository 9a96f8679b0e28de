"""The main job in one node: a photo in, a head with its maps, pictures and a GLB out."""

from __future__ import annotations

from comfy_api.latest import io

from ..fitdiff_core import heads, pipeline
from ..fitdiff_core.export import ExportOptions
from ..fitdiff_core.export.mesh import whole_meshes
from ..fitdiff_core.export.textures import map_batch_images
from ..fitdiff_core.files import all_or_none
from ..fitdiff_core.hair.presets import PRESETS
from ..fitdiff_core.image import to_image
from . import host, types
from .export import below_output, camera_output, front_camera, graph_texts, save_heads
from .faces import faces_in
from .guidance import warning_lines
from .sampling import DEFAULT, diffuse_preview, seed_input, steps_input
from .widgets import check_prefix, photo_detail_input, prefix_input

PICTURE_SIZE = 512  # pixels a side of each picture in the preview


def networks() -> heads.Networks:
    """The built-in networks, shared with the nodes that load them."""
    model = host.load_once(lambda: pipeline.load_model(None, host.device()), "model", None)
    recognizer = host.load_once(
        lambda: pipeline.load_recognizer(device=host.device()), f"recognizer {host.BUILT_IN}", None
    )
    return heads.Networks(model, recognizer, recognizer)


class PhotoToHead(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            "PhotoToHead",
            "FitDiff Photo to Head (3D face avatar)",
            description="One photo of a face becomes a relightable 3D head: an avatar with its maps, pictures of it, "
            "and a GLB with 52 facial expressions. It does what the single FitDiff nodes do, with their defaults.",
            search_aliases=[
                "photo to 3d head",
                "face to 3d",
                "avatar",
                "relight face",
                "facial expression",
                "portrait",
            ],
            is_output_node=True,
            inputs=[
                io.Image.Input("image", tooltip="A photo. A batch is taken as photos of one person."),
                seed_input(),
                steps_input(),
                photo_detail_input(
                    "photo_detail",
                    "How much of the photo's own fine detail goes into the maps. 0 is pure FitDiff; faster.",
                ),
                types.face_input(),
                prefix_input("fitdiff/head"),
                types.faces_input(),
                types.photo_mask_input("One for each image, or one for all."),
                io.Combo.Input(
                    "hair",
                    options=["auto", "none", *PRESETS],
                    default="auto",
                    tooltip="auto: as in the (first) photo. none, or a style by name; FitDiff Hair changes it further.",
                ),
            ],
            outputs=[
                types.Avatar.Output("avatar", display_name="avatar"),
                types.Scene.Output("scene", display_name="scene", tooltip="Camera, light and expression of the photo."),
                io.Image.Output("diffuse", display_name="diffuse", tooltip="Diffuse albedo in UV, free of light."),
                io.Image.Output("specular", display_name="specular", tooltip="Specular albedo in UV."),
                io.Image.Output("normal", display_name="normal", tooltip="Tangent-space normals in UV."),
                io.Image.Output(
                    "picture",
                    display_name="picture",
                    tooltip="Side by side: the photo, the head in its light, in the studio, and in dramatic light.",
                ),
                io.String.Output("model_file", display_name="model_file", tooltip="Path of the GLB, for Preview 3D."),
                camera_output(),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo, io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, filename_prefix=None):
        return check_prefix(filename_prefix)

    @classmethod
    @host.with_gradients
    def execute(
        cls,
        image,
        seed=0,
        steps=DEFAULT.steps,
        photo_detail=1.0,
        face=0,
        filename_prefix="fitdiff/head",
        faces=None,
        mask=None,
        hair="auto",
    ):
        photos, nets = host.image_in(image), networks()
        batch = list(photos)
        masks = host.masks_for(mask, photos)
        chosen = faces_in(photos, face, faces=faces)
        settings = heads.HeadSettings(
            seed, photo_detail=photo_detail, hair=hair, sampling=pipeline.SampleSettings(steps)
        )
        fitted = heads.fit_head(batch, nets, settings.guidance, faces=chosen, masks=masks)
        progress = host.Progress(steps, diffuse_preview(nets.model))
        head = heads.make_head(batch, nets, fitted, settings, masks, callback=progress)
        said = host.say(cls, [*warning_lines(fitted.guidance), *head.notes])
        picture, _ = heads.preview(head, fitted.guidance, PICTURE_SIZE)
        options = ExportOptions("glb", extras=graph_texts(cls.hidden.prompt, cls.hidden.extra_pnginfo))
        with all_or_none():
            _, files = save_heads(head.avatar, filename_prefix, options, cls.hidden)
        maps = map(to_image, map_batch_images(head.avatar.maps).values())
        camera = front_camera(whole_meshes(head.avatar).vertices[0], host.frontend_scales_models())
        return io.NodeOutput(
            head.avatar,
            head.scenes[0],
            *maps,
            to_image(picture),
            below_output(files[0]),
            camera,
            ui={"3d": files, **said},
        )
