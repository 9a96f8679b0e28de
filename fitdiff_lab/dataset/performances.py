"""Training frames of the network that reads expressions: synthetic people who talk, blink and look around.

    python -m fitdiff_lab.dataset.performances --out DIR [--people 60] [--clips 2] [--frames 16]

Each clip is one person in one light, with a different expression, gaze and head turn in each frame. A file of DIR has
the frames, the points that the mesh network sees in them, and the truth.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from fitdiff_core.avatar import Avatar
from fitdiff_core.errors import command
from fitdiff_core.face import load_detector
from fitdiff_core.files import atomic_path
from fitdiff_core.head import load_head
from fitdiff_core.head.corrections import posed
from fitdiff_core.head.visemes import VISEMES, mixture
from fitdiff_core.motion.looks import look_weights
from fitdiff_core.motion.track import FaceTracker
from fitdiff_core.scene import Scene

from ..cli import command_parser
from ..synthetic.people import random_person
from ..synthetic.photograph import take_photograph
from ..synthetic.scenes import random_scene
from ..synthetic.shapes import random_shape
from ..synthetic.skin import SkinGenerator

SIZE = 256  # side of a frame, px
MIXES = (  # (odds, shapes, least and largest weight), drawn each by itself
    (0.18, ("mouthSmile",), 0.1, 0.9),
    (0.08, ("mouthFrown",), 0.1, 0.7),
    (0.08, ("mouthPress",), 0.1, 0.7),
    (0.08, ("mouthStretch",), 0.1, 0.6),
    (0.08, ("mouthUpperUp",), 0.1, 0.6),
    (0.08, ("mouthLowerDown",), 0.1, 0.6),
    (0.08, ("mouthPucker",), 0.1, 0.8),
    (0.08, ("mouthFunnel",), 0.1, 0.7),
    (0.06, ("mouthRollLower", "mouthRollUpper"), 0.1, 0.6),
    (0.06, ("mouthShrugLower", "mouthShrugUpper"), 0.1, 0.6),
    (0.12, ("jawOpen",), 0.05, 0.6),
    (0.05, ("jawLeft",), 0.1, 0.6),
    (0.05, ("jawRight",), 0.1, 0.6),
    (0.05, ("mouthLeft",), 0.1, 0.6),
    (0.05, ("mouthRight",), 0.1, 0.6),
    (0.04, ("cheekPuff",), 0.2, 0.8),
    (0.18, ("browInnerUp",), 0.1, 0.9),
    (0.18, ("browOuterUp",), 0.1, 0.9),
    (0.18, ("browDown",), 0.1, 0.9),
    (0.12, ("eyeSquint", "cheekSquint"), 0.1, 0.8),
    (0.10, ("eyeWide",), 0.1, 0.8),
    (0.10, ("noseSneer",), 0.1, 0.7),
)


@dataclass
class CorrectedAvatar(Avatar):
    """An avatar whose lids shut in photographs of it, as in pictures and files."""

    def vertices(self, scene: Scene | None = None) -> Tensor:
        assert scene is not None
        return posed(self.head, self.shape, scene.expression, scene.gaze)


def random_weights(names: tuple[str, ...], rng: np.random.Generator) -> Tensor:
    """A frame of a performance, `[1, 52]`: one in eight is neutral but for the eyes."""
    w = dict.fromkeys(names, 0.0)

    def add(shape: str, amount: float) -> None:
        lean = 1.0 if rng.random() < 0.7 else rng.uniform(0.3, 1)
        for name, share in ((shape, 1.0), (f"{shape}Left", lean), (f"{shape}Right", 2 - lean if lean > 1 else 1.0)):
            if name in w:
                w[name] += amount * share

    if rng.random() > 0.12:
        if rng.random() < 0.6:
            for name in rng.choice(list(VISEMES), 2, replace=False):
                share = rng.uniform(0.2, 0.9)
                for shape, v in mixture(str(name), names).items():
                    w[shape] += share * v
        for odds, shapes, low, high in MIXES:
            if rng.random() < odds:
                amount = rng.uniform(low, high)
                for shape in shapes:
                    add(shape, amount)
    draw = rng.random()
    blink = 0.0 if draw < 0.55 else 1.0 if draw < 0.72 else rng.uniform(0.1, 1)
    add("eyeBlink", blink) if rng.random() < 0.9 else w.__setitem__("eyeBlinkLeft", blink)
    return torch.tensor([[min(max(w[n], 0.0), 1.0) for n in names]])


def make_clip(avatar: Avatar, attributes, rng: np.random.Generator, tracker: FaceTracker, frames: int) -> dict:
    """Tensors of one clip: frames uint8, mesh points, weights, gaze and the camera's rotation."""
    head, names = avatar.head, avatar.head.expression_names
    light, person, rows = None, CorrectedAvatar(avatar.head, avatar.shape, avatar.maps), []
    while len(rows) < frames:
        scene = random_scene(rng, names, (SIZE, SIZE))
        light = light or scene.light
        gaze = torch.from_numpy(np.clip(rng.normal(0, [0.17, 0.10]), -0.48, 0.34)).float()[None]
        looks = look_weights(gaze, names)
        weights = torch.where(looks.isnan(), random_weights(names, rng), looks.nan_to_num())
        scene = replace(scene, expression=weights, gaze=gaze, light=light)
        photo = take_photograph(person, scene, rng, attributes if rng.random() < 0.7 else None)
        points = scene.camera.project(head.landmarks(person.vertices(scene), "mesh"), (SIZE, SIZE))[0]
        mesh = tracker.look(photo[0], torch.cat([points, torch.zeros(len(points), 1)], 1))
        if mesh is None:
            continue
        rows.append(
            {
                "frames": (photo[0] * 255).round().byte(),
                "mesh": mesh,
                "weights": weights[0],
                "gaze": gaze[0],
                "rotation": scene.camera.rotation[0],
            }
        )
    return {key: torch.stack([row[key] for row in rows]) for key in rows[0]}


@command
def main(argv: list[str] | None = None) -> int:
    p = command_parser("dataset.performances", __doc__)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--people", type=int, default=60, help="skins (default: %(default)s)")
    p.add_argument("--clips", type=int, default=2, help="of each skin, with another shape (default: %(default)s)")
    p.add_argument("--frames", type=int, default=16, help="of each clip (default: %(default)s)")
    p.add_argument("--seed", type=int, default=51)
    args = p.parse_args(argv)
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    head = load_head()
    skins, tracker = SkinGenerator(head, 512), FaceTracker(load_detector(), head)
    for i in range(args.people):
        path = args.out / f"{args.seed}_{i:04d}.safetensors"
        if path.exists():
            continue
        seed, clips = args.seed * 100_003 + i, []
        maps, _ = skins.sample(seed)
        for k in range(args.clips):
            rng = np.random.default_rng([seed, k])
            attributes = random_person(seed)
            avatar = Avatar(head, random_shape(head, rng, attributes), maps)
            clips.append(make_clip(avatar, attributes, rng, tracker, args.frames))
        tensors = {key: torch.stack([c[key] for c in clips]) for key in clips[0]}
        with atomic_path(path) as file:
            save_file(tensors, str(file))
        print(path.name, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
