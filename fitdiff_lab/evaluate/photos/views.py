"""Views of a head that the photo does not show: from both sides, and lit from the other side.

At the photo's own pose and light a render can be alike because the photo was fitted there; these views measure the
head.
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

TURN = 20.0  # degrees between the photo's view and a view from the side
KEY_SIDE, KEY_UP = 55.0, 20.0  # degrees from the camera to the key light
KEY, AMBIENT = 2.3, 0.26  # irradiance and radiance before the exposure


def face_centre(avatar: Avatar, scene: Scene) -> Tensor:
    """Middle of the face's landmarks in the world, `[B, 3]` metres: the point about which the camera turns."""
    points = avatar.head.landmarks(avatar.vertices(scene), "mesh")
    return (points.amin(1) + points.amax(1)) / 2


def turned(scene: Scene, degrees: float, centre: Tensor) -> Scene:
    """The scene with the camera moved around the vertical axis through `centre` `[B, 3]`.

    degrees: positive to the subject's left. The centre keeps its pixel and its distance. The light stays with the head.
    """
    camera = scene.camera
    angle = torch.zeros_like(camera.rotation)
    angle[:, 1] = -math.radians(degrees)
    around = rotation_matrix(angle)  # seen from the moved camera, the world turns the other way
    matrix = camera.matrix()
    offset = (matrix @ (centre - (around @ centre[..., None])[..., 0])[..., None])[..., 0]
    return replace(
        scene, camera=Camera(camera.focal, axis_angle(matrix @ around), camera.translation + offset), crop=None
    )


def axis_angle(matrix: Tensor) -> Tensor:
    """Axis-angle vectors `[B, 3]`, radians, of rotation matrices `[B, 3, 3]`."""
    from fitdiff_core.fitting.pose import matrix_to_axis_angle

    return torch.stack([matrix_to_axis_angle(m.double()) for m in matrix]).to(matrix)


def yaw(scene: Scene, centre: Tensor) -> float:
    """Yaw of the camera about the face, degrees: 0 is frontal, positive is to the subject's left."""
    x, _, z = (scene.camera.position() - centre)[0].tolist()
    return math.degrees(math.atan2(x, z))


def light_from(light: Light) -> Tensor:
    """Vector irradiance `[B, 3]` in the world, luminance: the main direction of the light, and how directed it is.

    The sum of band 1 of the environment's harmonics, and of direction times irradiance of each directional light.
    """
    weights = light.sh.new_tensor(LUMINANCE)
    band = (light.sh[:, 1:4] @ weights) / 0.488602511902920  # y, z, x
    lamps = (light.direction * (light.color @ weights)[..., None]).sum(1)
    return band[:, [2, 0, 1]] + lamps


def frontal(light: Light, rotation: Tensor) -> Tensor:
    """Luminance `[B]` of a white surface that faces the camera. rotation: `[B, 3, 3]`, world to camera."""
    toward_camera = rotation[:, 2]
    matte = light.irradiance(toward_camera[:, None])[:, 0]
    cosine = (light.direction @ toward_camera[..., None]).clamp(min=0)
    return (matte + (light.color * cosine).sum(1) / math.pi) @ light.sh.new_tensor(LUMINANCE)


def other_side(scene: Scene) -> Light:
    """A key light on the other side of the picture than the scene's light, and weak ambient light.

    It is white. A surface that faces the camera is as bright as in the scene, because exposure is not part of likeness.
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
    """{view: scene}: at the photo's pose, from both sides, and lit from the other side."""
    centre = face_centre(avatar, scene)
    return {
        "pose": scene,
        "left": turned(scene, TURN, centre),
        "right": turned(scene, -TURN, centre),
        "relit": replace(scene, light=other_side(scene)),
    }


def render_looks(avatar: Avatar, scene: Scene, size: int = 512) -> dict[str, Tensor]:
    """{view: render}, sRGB `[1, 3, size, size]` each."""
    from fitdiff_core.pipeline import render_avatar

    return {name: render_avatar(avatar, look, size)[0] for name, look in looks(avatar, scene).items()}
