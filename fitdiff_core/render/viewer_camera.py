"""Cameras of ComfyUI's 3D viewer (LOAD3D_CAMERA): from and to our own.

The viewer is three.js: right-handed, y up, the camera looks down its -z, as here. Its dictionary holds `position` and
`target` {x, y, z}, `zoom`, `cameraType`, and from 2026 on also `quaternion`, `fov` (vertical, degrees) and `aspect`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UserError
from .camera import Camera, rotation_matrix

OLD_FOV = 75.0  # degrees; viewers that do not say it show this one at first
OLD_SIZE = 5.0  # units of the longest side that those viewers scale a model to
ORTHOGRAPHIC_DISTANCE = 20.0  # times the height shown: from so far away the perspective hardly shows
FROM_VIEWER = "Connect camera_info of core's 3D nodes, or of FitDiff Scene Camera."


def camera_from_viewer(info: Any, bounds: tuple[Tensor, Tensor] | None = None) -> Camera:
    """LOAD3D_CAMERA -> one camera, metres.

    info: the viewer's dictionary
    bounds: (lowest, highest) corner `[3]` of the mesh, metres. Viewers before 2026, which give no `fov`, scale a model
        to 5 units, put its feet at y = 0 and centre it; this is taken back. None: the camera is in metres already

    An orthographic camera becomes a perspective one from far away. Raises UserError for another kind of value, for
    numbers that are not finite, and for a camera without a direction.
    """
    position, target = (_point(info, name) for name in ("position", "target"))
    zoom, fov = _number(info, "zoom", 1.0), _number(info, "fov", OLD_FOV)
    if zoom <= 0 or not 0 < fov < 180:
        raise UserError(f"The camera has the zoom {zoom} and the field of view {fov}. {FROM_VIEWER}")
    if "fov" not in info and bounds is not None:
        low, high = (b.double().cpu() for b in bounds)
        unit = float((high - low).max()) / OLD_SIZE
        floor = torch.stack([(low[0] + high[0]) / 2, low[1], (low[2] + high[2]) / 2])
        position, target = (p * unit + floor for p in (position, target))
    axes = _axes(info, position, target)
    height = math.tan(math.radians(fov) / 2)
    if info.get("cameraType") == "orthographic":
        frustum = info.get("frustum") or {}
        half = abs(_number(frustum, "top", 1.0) - _number(frustum, "bottom", -1.0)) / 2 or 1.0
        back = ORTHOGRAPHIC_DISTANCE * half
        position, height = target + axes[2] * back, half / back
    rotation = axis_angle(axes)
    matrix = rotation_matrix(rotation)
    one = torch.tensor([zoom / height])
    return Camera(one.float(), rotation[None].float(), -(matrix @ position)[None].float())


def turn_camera(camera: Camera, degrees: Tensor) -> Camera:
    """One camera -> `[F]` cameras, turned around the head's vertical axis to the subject's left. degrees: `[F]`."""
    matrix, turns = camera.matrix()[0].double().cpu(), []
    for angle in torch.deg2rad(degrees.detach().double().cpu()):
        turns.append(axis_angle(matrix @ rotation_matrix(torch.stack([0 * angle, angle, 0 * angle])).T))
    n, like = len(turns), camera.rotation
    return Camera(
        camera.focal.expand(n), torch.stack(turns).to(like.dtype).to(like.device), camera.translation.expand(n, 3)
    )


def camera_to_viewer(camera: Camera, aspect: float = 1.0) -> dict[str, Any]:
    """One camera -> LOAD3D_CAMERA in metres, for the GLB of the same head. aspect: width / height of the picture."""
    if len(camera) != 1:
        raise UserError(f"The 3D viewer has one camera, the scene has {len(camera)}; pick one picture.")
    axes = camera.matrix()[0].detach().double().cpu()
    position = camera.position()[0].detach().double().cpu()
    # the point of the line of sight nearest to the middle of the head, which the viewer turns around
    distance = max(float(-(position @ -axes[2])), 0.1)
    target = position - axes[2] * distance
    fov = math.degrees(2 * math.atan(1 / float(camera.focal[0])))
    w, x, y, z = _quaternion(axes.T).tolist()
    return {
        "position": dict(zip("xyz", position.tolist(), strict=True)),
        "target": dict(zip("xyz", target.tolist(), strict=True)),
        "zoom": 1,
        "cameraType": "perspective",
        "quaternion": {"x": x, "y": y, "z": z, "w": w},
        "fov": fov,
        "aspect": aspect,
        "near": distance / 100,
        "far": distance * 100,
    }


def _number(info: Mapping, name: str, default: float) -> float:
    value = info.get(name, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise UserError(f"The camera's {name} is {value!r}, no finite number. {FROM_VIEWER}")
    return float(value)


def _point(info: Any, name: str, axes: str = "xyz") -> Tensor:
    point = info.get(name) if isinstance(info, Mapping) else None
    if not isinstance(point, Mapping) or not set(axes) <= set(point):
        raise UserError(f"This is no camera of the 3D viewer: it has no {name} with {', '.join(axes)}. {FROM_VIEWER}")
    return torch.tensor([_number(point, axis, 0.0) for axis in axes], dtype=torch.float64)


def _axes(info: Mapping, position: Tensor, target: Tensor) -> Tensor:
    """Rows: the camera's x, y and z (backwards) in the world, `[3, 3]`."""
    if "quaternion" in info:
        q = _point(info, "quaternion", "xyzw")
        if q.norm() > 1e-6:
            return _quaternion_matrix(q / q.norm()).T
    back = position - target
    if back.norm() < 1e-6:
        raise UserError(f"The camera stands where it looks to. {FROM_VIEWER}")
    back = back / back.norm()
    up = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    if abs(float(back @ up)) > 1 - 1e-9:  # straight from above or below
        up = torch.tensor([0.0, 0.0, -math.copysign(1, float(back[1]))], dtype=torch.float64)
    right = F.normalize(torch.linalg.cross(up, back), dim=0)
    return torch.stack([right, torch.linalg.cross(back, right), back])


def _quaternion_matrix(q: Tensor) -> Tensor:
    """(x, y, z, w) -> rotation matrix."""
    x, y, z, w = q.tolist()
    return torch.tensor(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ],
        dtype=torch.float64,
    )


def _quaternion(matrix: Tensor) -> Tensor:
    """Rotation matrix -> (w, x, y, z), stable for every angle: the eigenvector of Bar-Itzhack (2000)."""
    m = matrix
    k = torch.stack(
        [
            torch.stack([m[0, 0] + m[1, 1] + m[2, 2], m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]]),
            torch.stack([m[2, 1] - m[1, 2], m[0, 0] - m[1, 1] - m[2, 2], m[0, 1] + m[1, 0], m[0, 2] + m[2, 0]]),
            torch.stack([m[0, 2] - m[2, 0], m[0, 1] + m[1, 0], m[1, 1] - m[0, 0] - m[2, 2], m[1, 2] + m[2, 1]]),
            torch.stack([m[1, 0] - m[0, 1], m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], m[2, 2] - m[0, 0] - m[1, 1]]),
        ]
    )
    q = torch.linalg.eigh(k).eigenvectors[:, -1]
    return q if q[0] >= 0 else -q


def axis_angle(matrix: Tensor) -> Tensor:
    """Rotation matrix -> axis times angle, `[3]`."""
    w, *xyz = _quaternion(matrix)
    axis = torch.stack(xyz)
    sine = axis.norm()
    return axis * (2 * torch.atan2(sine, w) / sine) if sine > 1e-12 else axis * 2
