"""A head in Mitsuba 3 (`pip install mitsuba`): photographs of known people by a renderer that is not ours.

Mitsuba has path tracing, cast shadows, light between surfaces, lamps of finite size, and Disney's principled BSDF. Our
renderer
has none of these: it has Lambert, spherical harmonics, and occlusion from the head file. Both use the same mesh, maps
and camera.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from fitdiff_core.errors import UserError
from fitdiff_core.render import Camera
from fitdiff_core.render.light import toward
from fitdiff_core.render.normals import vertex_normals

SKIN_ROUGHNESS, EYE_ROUGHNESS = 0.46, 0.16  # means of the head file
BOUNCES = 4  # of a light path


@dataclass(frozen=True)
class Lamp:
    """A light-emitting sphere.

    yaw, pitch: degrees from the direction that the head faces; positive to the subject's left and up.
    irradiance: linear RGB on a surface at the origin that faces the lamp.
    distance, radius: metres.
    """

    yaw: float
    pitch: float
    irradiance: tuple[float, float, float]
    distance: float = 1.2
    radius: float = 0.04

    def position(self) -> list[float]:
        yaw, pitch = torch.tensor(math.radians(self.yaw)), torch.tensor(math.radians(self.pitch))
        return (toward(yaw, pitch) * self.distance).tolist()


@dataclass(frozen=True)
class Lighting:
    """Lamps, and a constant radiance from all directions.

    An irradiance of pi gives a white Lambert surface radiance 1.
    """

    lamps: tuple[Lamp, ...] = ()
    ambient: tuple[float, float, float] = field(default=(0.0, 0.0, 0.0))


def load_mitsuba(threads: int | None = None):
    """The package, set to a variant that runs on any CPU. Raises UserError where it is not installed."""
    try:
        import mitsuba as mi
    except ImportError as e:
        raise UserError(
            "The pictures of the light test are rendered by Mitsuba 3; install it: pip install mitsuba"
        ) from e
    if mi.variant() is None:
        mi.set_variant("scalar_rgb")  # the only one that needs neither LLVM nor a GPU
        mi.set_log_level(mi.LogLevel.Error)
    if threads:
        import drjit  # Mitsuba's own compiler

        drjit.set_thread_count(threads)
    return mi


def head_in_mitsuba(mi, vertices: Tensor, head, maps) -> dict:
    """Scene entries of a head: meshes of the skin, the left eye and the right eye.

    mi: Mitsuba. vertices: `[V, 3]` metres. head: its `HeadModel`. maps: of batch 1. Each mesh has a principled BSDF
    with the normal map. Mitsuba's `specular` is one number, where 0.5 means F0 = 4 % as in
    our maps: here it is the mean over the skin.
    """
    tri, normals = head.triangles, vertex_normals(vertices[None], head.triangles)[0]
    half = (head.n_vertices - head.n_skin) // 2
    starts = (0, head.n_skin, head.n_skin + half, head.n_vertices)
    skin = head.region("skin", maps.size[0]) > 0.5
    specular = (float(maps.specular[0][:, skin].mean()), 0.5, 0.5)
    out = {}
    for k, name in enumerate(("skin", "left_eye", "right_eye")):
        low, high = starts[k], starts[k + 1]
        rows = slice(low, high)
        mine = tri[((tri >= low) & (tri < high)).all(1)] - low
        bsdf = _bsdf(mi, maps, specular[k], EYE_ROUGHNESS if k else SKIN_ROUGHNESS)
        out[name] = _mesh(mi, name, vertices[rows], normals[rows], head.uv[rows], mine, bsdf)
    return out


def _mesh(mi, name: str, vertices: Tensor, normals: Tensor, uv: Tensor, triangles: Tensor, bsdf):
    properties = mi.Properties()
    properties["bsdf"] = bsdf
    mesh = mi.Mesh(name, len(vertices), len(triangles), properties, has_vertex_normals=True, has_vertex_texcoords=True)
    parameters = mi.traverse(mesh)
    flipped = uv * torch.tensor([1.0, -1.0]) + torch.tensor([0.0, 1.0])  # Mitsuba's v runs down the picture
    for key, value in (("vertex_positions", vertices), ("vertex_normals", normals), ("vertex_texcoords", flipped)):
        parameters[key] = np.ascontiguousarray(value.cpu().numpy(), np.float32).ravel()
    parameters["faces"] = np.ascontiguousarray(triangles.cpu().numpy(), np.uint32).ravel()
    parameters.update()
    return mesh


def _bsdf(mi, maps, specular: float, roughness: float):
    # raw, because the diffuse map is linear and normals are not colours
    def picture(x: Tensor) -> dict:
        values = np.ascontiguousarray(x[0].permute(1, 2, 0).cpu().numpy(), np.float32)
        return {"type": "bitmap", "bitmap": mi.Bitmap(values), "raw": True, "wrap_mode": "clamp"}

    surface = {"type": "principled", "base_color": picture(maps.diffuse), "roughness": roughness, "specular": specular}
    return mi.load_dict(
        {
            "type": "twosided",
            "bsdf": {"type": "normalmap", "normalmap": picture(maps.normal * 0.5 + 0.5), "bsdf": surface},
        }
    )


def sensor(mi, camera: Camera, size: tuple[int, int]) -> dict:
    """A camera (one entry) with a film of `size` (H, W).

    Mitsuba's looks along +z with x to the left: half a turn about y.
    """
    pose = np.eye(4)
    pose[:3, :3] = camera.matrix()[0].double().cpu().numpy().T @ np.diag([-1.0, 1.0, -1.0])
    pose[:3, 3] = camera.position()[0].double().cpu().numpy()
    return {
        "type": "perspective",
        "fov": math.degrees(2 * math.atan(1 / float(camera.focal[0]))),
        "fov_axis": "y",
        "near_clip": 0.01,
        "far_clip": 100.0,
        "to_world": mi.ScalarTransform4f(pose),
        "film": {
            "type": "hdrfilm",
            "width": size[1],
            "height": size[0],
            "pixel_format": "rgba",
            "rfilter": {"type": "box"},
        },
        "sampler": {"type": "multijitter"},
    }


def render_scene(mi, shapes: dict, camera: Camera, light: Lighting, size: tuple[int, int], samples: int) -> Tensor:
    """Path-traced linear RGBA `[1, 4, H, W]`, colours times coverage. Lamps and surroundings are not visible.

    shapes: `head_in_mitsuba`. size: (H, W). samples: of a pixel, for each source. Each source is rendered alone and the
    pictures are added. So the tracer never chooses between sources, which would be most of the noise. Raises UserError
    for a scene without light.
    """
    sources = []
    for lamp in light.lamps:
        # a sphere of radiance L and radius r at distance d gives the irradiance pi L r^2 / d^2
        gain = lamp.distance**2 / (math.pi * lamp.radius**2)
        radiance = {"type": "rgb", "value": [gain * v for v in lamp.irradiance]}
        sources.append(
            {
                "type": "sphere",
                "center": lamp.position(),
                "radius": lamp.radius,
                "emitter": {"type": "area", "radiance": radiance},
            }
        )
    if any(light.ambient):
        sources.append({"type": "constant", "radiance": {"type": "rgb", "value": list(light.ambient)}})
    if not sources:
        raise UserError("The scene has no light; give a lamp or an ambient radiance.")
    view, total = sensor(mi, camera, size), torch.zeros(*size, 4)
    for seed, source in enumerate(sources):
        integrator = {"type": "path", "max_depth": BOUNCES + 1, "hide_emitters": True}
        scene = mi.load_dict({"type": "scene", "integrator": integrator, "sensor": view, **shapes, "light": source})
        image = torch.from_numpy(np.array(mi.render(scene, spp=samples, seed=seed), np.float32))
        total[..., :3] += image[..., :3]
        total[..., 3] = image[..., 3]
    return total.permute(2, 0, 1)[None]
