"""Make docs/export.jpg: one exported GLB in three.js (above) and in Blender (below), in three poses of its blendshapes.

python -m tests.host.shots avatar.glb      (needs the test host, and Blender: see tests/host/blender.py)
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from .blender import render
from .install import ROOT
from .three import open_viewer

SIDE = 320
POSES = (
    {"jawOpen": 0.0},
    {"jawOpen": 0.6, "mouthSmileLeft": 0.7, "mouthSmileRight": 0.7},
    {"eyeLookInLeft": 0.8, "eyeLookOutRight": 0.8, "browInnerUp": 1.0, "mouthPucker": 0.8},
)


def main(glb: Path) -> None:
    with open_viewer(glb, SIDE) as viewer:
        above = [viewer.picture(weights) for weights in POSES]
    below = []
    with tempfile.TemporaryDirectory() as folder:
        for i, weights in enumerate(POSES):
            picture = Path(folder) / f"{i}.png"
            render(glb, picture, SIDE, 32, weights)
            below.append(np.asarray(Image.open(picture).convert("RGB")) / 255.0)
    sheet = np.concatenate([np.concatenate(row, 1) for row in (above, below)])
    Image.fromarray((sheet * 255 + 0.5).astype(np.uint8)).save(ROOT / "docs" / "export.jpg", quality=88)
    print("docs/export.jpg")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
