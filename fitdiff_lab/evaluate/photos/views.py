"""The head as the photo did not show it: from either side, and lit from the other side.

At the photo's own pose and light a render can be alike because the photo was painted on it; these views tell.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from fitdiff_core.avatar import Avatar
from fitdiff_core.image import LUMINANCE
from fitdiff_core.render import Camera, Light
from fitdiff_core.render.camera import rotation_matrix
from fitdiff_core.render.rig import combine_lights, directional_light, uniform_light
from fitdiff_core.scene import Scene

TURN = 20.0  # degrees
KEY_SIDE, KEY_UP = 55.0, 20.0  # degrees from the camera to the key light
KEY, AMBIENT = 2.3, 0.26  # irradiance and radiance, before the exposure: the far side is dark, not black


def face_centre(avatar: Avatar, scene: Scene) -> Tensor:
    """Middle of the face's landmarks, world `[B, 3]`, metres: what stays where it is when the camera turns."""
    points = avatar.head.landmarks(avatar.vertices(scene), "mesh")
    return (points.amin(1) + points.amax(1)) / 2


def turned(scene: Scene, degrees: float, centre: Tensor) -> Scene:
    """The camera goes round the vertical axis of the head through `centre` `[B, 3]`; positive to the subject's left.

    `centre` keeps its pixel and its distance, so the framing stays. The light stays with the head.
    """
    camera = scene.camera
    angle = torch.zeros_like(camera.rotation)
    angle[:, 1] = -math.radians(degrees)
    around = rotation_matrix(angle)  # the world, as the moved camera sees it, turns the other way
    matrix = camera.matrix()
    offset = (matrix @ (centre - (around @ centre[..., None])[..., 0])[..., None])[..., 0]
    return replace(
        scene, camera=Camera(camera.focal, axis_angle(matrix @ around), camera.translation + offset), crop=None
    )


def axis_angle(matrix: Tensor) -> Tensor:
    """`[B, 3, 3]` -> `[B, 3]`"""
    from fitdiff_core.fitting.pose import matrix_to_axis_angle

    return torch.stack([matrix_to_axis_angle(m.double()) for m in matrix]).to(matrix)


def yaw(scene: Scene, centre: Tensor) -> float:
    """Degrees from which the camera sees the face; 0 is frontal, positive where it stands to the subject's left."""
    x, _, z = (scene.camera.position() - centre)[0].tolist()
    return math.degrees(math.atan2(x, z))


def light_from(light: Light) -> Tensor:
    """Vector irradiance `[B, 3]`, world: where the light comes from on the whole, and how much more than from behind.

    Of the environment it is band 1 of its harmonics, of each lamp its direction times its irradiance; in luminance.
    """
    weights = light.sh.new_tensor(LUMINANCE)
    band = (light.sh[:, 1:4] @ weights) / 0.488602511902920  # y, z, x
    lamps = (light.direction * (light.color @ weights)[..., None]).sum(1)
    return band[:, [2, 0, 1]] + lamps


def frontal(light: Light, rotation: Tensor) -> Tensor:
    """Luminance `[B]` of a white surface that faces the camera. rotation `[B, 3, 3]`: world -> camera."""
    toward_camera = rotation[:, 2]
    matte = light.irradiance(toward_camera[:, None])[:, 0]
    cosine = (light.direction @ toward_camera[..., None]).clamp(min=0)
    return (matte + (light.color * cosine).sum(1) / math.pi) @ light.sh.new_tensor(LUMINANCE)


def other_side(scene: Scene) -> Light:
    """A key light from the other side of the picture than the scene's light comes from, and weak surroundings.

    White, and as bright on what faces the camera as the scene's: the exposure of a photo is no part of likeness.
    """
    matrix = scene.camera.matrix()
    seen = torch.einsum("bij,bj->bi", matrix, light_from(scene.light))
    sides = [-1.0 if x > 0 else 1.0 for x in seen[:, 0].tolist()]
    lights = []
    for side, rotation in zip(sides, matrix, strict=True):
        key = directional_light(side * KEY_SIDE, KEY_UP, (KEY, KEY, KEY)).to(rotation)  # in the camera's own axes
        lights.append(replace(key, direction=key.direction @ rotation))
    found = Light.cat(lights)
    found = combine_lights(found, uniform_light((AMBIENT, AMBIENT, AMBIENT)).to(found.sh))
    return found.scaled((frontal(scene.light, matrix) / frontal(found, matrix)).clamp(0.3, 3.0))


def looks(avatar: Avatar, scene: Scene) -> dict[str, Scene]:
    """View's name -> scene: at the photo's pose, from either side, and lit from the other side."""
    centre = face_centre(avatar, scene)
    return {
        "pose": scene,
        "left": turned(scene, TURN, centre),
        "right": turned(scene, -TURN, centre),
        "relit": replace(scene, light=other_side(scene)),
    }


def render_looks(avatar: Avatar, scene: Scene, size: int = 512) -> dict[str, Tensor]:
    """sRGB `[1, 3, size, size]` of every look."""
    from fitdiff_core.pipeline import render_avatar

    return {name: render_avatar(avatar, look, size)[0] for name, look in looks(avatar, scene).items()}
