"""From latent to avatar, and an avatar's maps out to other nodes and back."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from ..fitdiff_core import pipeline
from ..fitdiff_core.avatar import Avatar
from ..fitdiff_core.errors import UserError
from ..fitdiff_core.export.textures import map_images
from ..fitdiff_core.image import srgb_to_linear, to_image
from ..fitdiff_core.maps import TextureMaps
from . import host, types

NAMES = ("diffuse", "specular", "normal")
# what undoes the picture encoding of `map_images`
FROM_IMAGE = {"diffuse": srgb_to_linear, "specular": srgb_to_linear, "normal": lambda x: x * 2 - 1}


def maps_to_images(maps: TextureMaps) -> list[torch.Tensor]:
    """Diffuse, specular and normal as IMAGE `[B, H, W, 3]`."""
    heads = [map_images(maps[i]) for i in range(len(maps))]
    return [to_image(torch.stack([head[name] for head in heads])) for name in NAMES]


def replace_maps(avatar: Avatar, images: dict[str, torch.Tensor]) -> Avatar:
    """A new avatar with the maps named in `images` (`[B, 3, H, W]`, as IMAGEs are encoded) in place of its own.

    All maps take the largest size among them. One image serves every head of a batch, one head every image.
    """
    batch = max([len(avatar), *(len(x) for x in images.values())])
    for name, x in images.items():
        if x.shape[-1] != x.shape[-2]:
            raise UserError(
                f"The {name} map is {x.shape[-1]}x{x.shape[-2]} pixels; it must be square, in the avatar's UV layout."
            )
    for name, n in {"avatar": len(avatar), **{k: len(x) for k, x in images.items()}}.items():
        if n not in (1, batch):
            raise UserError(
                f"{name} holds a batch of {n}, another input one of {batch}; connect batches of equal size or of 1."
            )
    size = max([*avatar.maps.size, *(x.shape[-1] for x in images.values())])
    planes = []
    for name in NAMES:
        plane = FROM_IMAGE[name](images[name]).to(avatar.shape.device) if name in images else getattr(avatar.maps, name)
        planes.append(plane.expand(batch, -1, -1, -1))
    # resized one by one: they may come in three sizes
    maps = TextureMaps.from_stack(torch.cat([p if p.shape[-1] == size else scale(p, size) for p in planes], 1))
    return Avatar(avatar.head, avatar.shape.expand(batch, -1), maps)


def scale(x: torch.Tensor, size: int) -> torch.Tensor:
    return torch.nn.functional.interpolate(x, (size, size), mode="bilinear", antialias=True, align_corners=False)


class DecodeUV(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            "DecodeUV",
            "FitDiff Decode UV",
            description="Decodes a latent into an avatar: facial shape and the reflectance maps of its skin, teeth and eyes.",
            inputs=[
                types.Model.Input("model", tooltip="The model that the latent was sampled with."),
                io.Latent.Input("latent", tooltip="From FitDiff Sampler."),
            ],
            outputs=[
                types.Avatar.Output("avatar", display_name="avatar"),
                io.Image.Output("diffuse", display_name="diffuse", tooltip="Diffuse albedo in UV, free of light."),
                io.Image.Output(
                    "specular",
                    display_name="specular",
                    tooltip="Specular albedo in UV; linear 0.5 is a reflectance of 4 %.",
                ),
                io.Image.Output(
                    "normal", display_name="normal", tooltip="Tangent-space normals in UV, green points up."
                ),
            ],
        )

    @classmethod
    @host.with_gradients
    def execute(cls, model, latent):
        samples = latent.get("samples") if isinstance(latent, dict) else None
        if samples is None:
            raise UserError("The latent holds no samples; connect the output of FitDiff Sampler.")
        avatar = pipeline.decode(model, samples.clone())
        return io.NodeOutput(avatar, *maps_to_images(avatar.maps))


class ReplaceMaps(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            "ReplaceMaps",
            "FitDiff Replace Maps",
            description="Swaps maps of an avatar for your own: upscaled, painted over, or made by another model.",
            inputs=[
                types.Avatar.Input("avatar", tooltip="The avatar to change; the one connected stays as it is."),
                io.Image.Input(
                    "diffuse", optional=True, tooltip="New diffuse albedo, in the avatar's UV layout; any size."
                ),
                io.Image.Input("specular", optional=True, tooltip="New specular albedo, in the avatar's UV layout."),
                io.Image.Input("normal", optional=True, tooltip="New tangent-space normals, green pointing up."),
            ],
            outputs=[types.Avatar.Output("changed", display_name="avatar")],
        )

    @classmethod
    @host.with_gradients
    def execute(cls, avatar, diffuse=None, specular=None, normal=None):
        given = {"diffuse": diffuse, "specular": specular, "normal": normal}
        images = {k: host.image_in(v) for k, v in given.items() if v is not None}
        return io.NodeOutput(replace_maps(avatar, images))
