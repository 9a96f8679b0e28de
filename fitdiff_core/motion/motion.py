"""A motion: what a face does from frame to frame, apart from whose face it is."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..batching import repeat
from ..errors import UserError
from ..render import Camera
from ..render.camera import rotation_matrix
from ..render.viewer_camera import axis_angle
from ..scene import N_EXPRESSION, Scene

TURNS = ("as filmed", "added", "still")
SMALLEST, LARGEST = 1.0, 240.0  # frames a second


@dataclass(frozen=True)
class Motion:
    """Facial action over F frames.

    weights: `[F, 52]` ARKit blendshape weights, 0..1
    turn: `[F, 3]` rotation of the head, axis times angle in radians, in the axes of the camera (x right, y up, z to the
        camera). Zero faces the camera, or, where the motion is `relative`, leaves the head as it is
    gaze: `[F, 2]` yaw and pitch of both eyes against the head, radians, positive to the subject's left and up
    fps: frames a second
    seen: `[F]` bool, false where no face was found and the values are between those of the neighbours
    notes: what there is to say about it, a line each
    relative: whether the turn comes on top of how a scene sees the head, and does not replace it
    """

    weights: Tensor
    turn: Tensor
    gaze: Tensor
    fps: float = 25.0
    seen: Tensor | None = None
    notes: tuple[str, ...] = ()
    relative: bool = False

    def __len__(self) -> int:
        return len(self.weights)

    @property
    def seconds(self) -> float:
        return len(self) / self.fps

    def check(self) -> Motion:
        """The motion itself. Raises UserError for values that are not finite, of other shapes or out of range."""
        n = len(self)
        shapes = {"weights": (n, N_EXPRESSION), "turn": (n, 3), "gaze": (n, 2)}
        for name, shape in shapes.items():
            value = getattr(self, name)
            if tuple(value.shape) != shape or not n:
                raise UserError(f"The motion's {name} is {tuple(value.shape)}, not {shape}; read the motion again.")
            if not torch.isfinite(value).all():
                raise UserError(f"The motion's {name} holds NaN or infinite values; read the motion again.")
        check_fps(self.fps)
        return self

    def stronger(self, strength: float) -> Motion:
        """The weights times `strength`, at most 1; turn and gaze stay."""
        return replace(self, weights=(self.weights * strength).clamp(0, 1))

    def rest(self) -> Tensor:
        """The head's usual rotation `[3, 3]`, float64: the mean over all frames."""
        u, _, v = torch.linalg.svd(rotation_matrix(self.turn.double().cpu()).mean(0))
        sign = torch.tensor([1.0, 1.0, float(torch.det(u @ v))]).double()
        return (u * sign) @ v

    def turning(self, head: str) -> Motion:
        """The motion with another turn of the head.

        head: "as filmed": it faces the camera as in the film, whatever way it faced in the scene. "added": what it
            turns from its usual rotation, on top of the scene's. "still": as in the scene
        Raises UserError for another word.
        """
        if head not in TURNS:
            raise UserError(f"Unknown turn of the head '{head}'; choose one of {', '.join(TURNS)}.")
        if head == "as filmed":
            return self
        if head == "still":
            return replace(self, turn=torch.zeros_like(self.turn), relative=True)
        turned = self.rest().T @ rotation_matrix(self.turn.double().cpu())
        return replace(self, turn=torch.stack([axis_angle(m) for m in turned]).to(self.turn), relative=True)

    def scenes(self, scene: Scene) -> Scene:
        """The scene in motion: F pictures by its own camera, in its own light.

        scene: of one picture. Raises UserError for a scene of several.
        """
        if len(scene) != 1:
            raise UserError(f"A motion is put on one picture, not on {len(scene)}; connect a scene of one picture.")
        n, own = len(self), scene.camera
        before, turn = (rotation_matrix(x.double().cpu()) for x in (own.rotation, self.turn))
        if not self.relative:
            turn = before.mT @ turn
        rotation = torch.stack([axis_angle(m) for m in before @ turn])
        camera = Camera(repeat(own.focal, n), rotation.to(own.rotation), repeat(own.translation, n))
        light = scene.light.turned(turn.mT.to(scene.light.sh))
        weights, gaze = self.weights.to(scene.expression), self.gaze.to(scene.gaze)
        return Scene(camera, light, weights, gaze, scene.size)


def check_fps(fps: float) -> float:
    """Frames a second as a number. Raises UserError out of range."""
    if not SMALLEST <= fps <= LARGEST:
        raise UserError(f"A motion has from {SMALLEST:g} to {LARGEST:g} frames a second (got {fps:g}).")
    return float(fps)
