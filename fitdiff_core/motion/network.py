"""A small network that corrects fitted expressions by what eyes and mouth look like.

The mesh points hardly see shut lids and pressed lips, and they take some shapes for others. The network is given the
fit, how far the points moved, the head's rotation, and patches of eyes and mouth. It is trained on rendered people:
`python -m fitdiff_lab.train.motion`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..errors import UserError
from ..metadata import DAMAGE
from .patches import EYE, MOUTH, POINTS, evened

ASSET = Path(__file__).resolve().parent.parent / "assets" / "motion.safetensors"
FORMAT = "fitdiff-motion-1"
HIDDEN, EYE_CODE, MOUTH_CODE = 128, 24, 32
POSE = 9 + 3  # rotation; gaze and its confidence
REPAIR = "Reinstall FitDiff, or train it again with: python -m fitdiff_lab.train.motion"


@dataclass
class Seen:
    """What the network is given of F frames.

    fit: `[F, 52]` weights. moved: `[F, P, 2]` mm, see `patches.moved_points`. rotation: `[F, 3, 3]`
    gaze: `[F, 2]` radians. sure: `[F]`. eyes: `[F, 2, 20, 32]`. mouth: `[F, 32, 40]`, see `patches.cut_patches`
    """

    fit: Tensor
    moved: Tensor
    rotation: Tensor
    gaze: Tensor
    sure: Tensor
    eyes: Tensor
    mouth: Tensor


class ExpressionNetwork(nn.Module):
    """Of `Seen`: corrected weights `[F, 52]` and gaze `[F, 2]`, and what is missing of the head's rotation `[F, 3]`.

    The latter is axis times angle in the axes of the camera.
    """

    def __init__(self, shapes: int = 52):
        super().__init__()
        self.eye = _encoder(EYE, (8, 16, 24), EYE_CODE)
        self.mouth = _encoder(MOUTH, (8, 16, 24), MOUTH_CODE)
        given = 2 * EYE_CODE + MOUTH_CODE + shapes + 2 * len(POINTS) + POSE
        self.joint = nn.Sequential(nn.Linear(given, HIDDEN), nn.ReLU(), nn.Dropout(0.25), nn.Linear(HIDDEN, shapes + 5))

    def forward(self, seen: Seen) -> tuple[Tensor, Tensor, Tensor]:
        """Not clamped, for training."""
        n = len(seen.fit)
        eyes = self.eye(evened(seen.eyes).flatten(0, 1)[:, None]).reshape(n, -1)
        mouth = self.mouth(evened(seen.mouth)[:, None])
        pose = torch.cat([seen.rotation.flatten(1), 3 * seen.gaze, seen.sure[:, None]], 1)
        out = self.joint(torch.cat([eyes, mouth, seen.fit, seen.moved.flatten(1) / 4, pose], 1))
        shapes, gaze, turn = out[:, :-5], out[:, -5:-3], out[:, -3:]
        return seen.fit + shapes, seen.gaze * seen.sure[:, None] + gaze / 3, turn / 6

    @torch.no_grad()
    def read(self, seen: Seen) -> tuple[Tensor, Tensor, Tensor]:
        """Weights 0..1, gaze, and what is missing of the rotation."""
        weights, gaze, turn = self(seen)
        return weights.clamp(0, 1), gaze, turn


def _encoder(size: tuple[int, int], widths: tuple[int, ...], code: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    height, width, before = *size, 1
    for k in widths:
        layers += [nn.Conv2d(before, k, 3, 2, 1), nn.ReLU()]
        height, width, before = -(-height // 2), -(-width // 2), k
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(before * height * width, code), nn.ReLU())


def load_network(path: str | Path | None = None) -> ExpressionNetwork:
    """The shipped network, or another file of its format. Raises UserError for a missing or damaged file."""
    path = Path(path or ASSET)
    if not path.is_file():
        raise UserError(f"The network that reads expressions is missing: no file {path}. {REPAIR}")
    network = ExpressionNetwork()
    try:
        with safe_open(str(path), "pt") as f:
            if (f.metadata() or {}).get("format") != FORMAT:
                raise UserError(f"{path} is no network that reads expressions. {REPAIR}")
            tensors = {key: f.get_tensor(key).float() for key in f.keys()}  # noqa: SIM118 (not a dict)
        network.load_state_dict(tensors)
        if not all(bool(torch.isfinite(t).all()) for t in tensors.values()):
            raise ValueError("values that are not finite")
    except UserError:
        raise
    except (SafetensorError, *DAMAGE) as e:
        raise UserError(f"{path} is damaged ({type(e).__name__}: {e}). {REPAIR}") from e
    return network.train(False)
