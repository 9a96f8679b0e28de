"""three.js and Blender play the animation of an exported GLB: weights, neck and head, eyes."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch
from PIL import Image

from fitdiff_core.export import write_glb
from fitdiff_core.expressions import head_rotation
from fitdiff_core.head.model import gaze_rotation
from fitdiff_core.motion import Motion
from fitdiff_core.render.camera import rotation_matrix
from fitdiff_core.render.viewer_camera import axis_angle
from tests.host.blender import blender, render
from tests.support.plain_avatar import plain_avatar

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]
FPS = 10.0
YAW, LOOK = 25.0, 15.0  # degrees in frame 10


@pytest.fixture(scope="module")
def animated(tmp_path_factory):
    """(file, motion): the head turns, the mouth opens and the eyes look aside for a second, and back for another."""
    avatar = plain_avatar().with_hair(None)
    share = torch.cat([torch.linspace(0, 1, 11), torch.linspace(0.9, 0, 10)])
    weights = torch.zeros(21, 52)
    weights[:, avatar.head.expression_names.index("jawOpen")] = 0.6 * share
    turn = torch.stack([axis_angle(head_rotation(YAW * s, 0, 0).double()) for s in share.tolist()]).float()
    gaze = torch.stack([share * math.radians(LOOK), torch.zeros(21)], 1)
    motion = Motion(weights, turn, gaze, FPS)
    return write_glb(tmp_path_factory.mktemp("animation") / "driven.glb", avatar, motion=motion), motion


def rotation(x: float, y: float, z: float, w: float) -> torch.Tensor:
    """Rotation `[3, 3]` of a quaternion."""
    axis = torch.tensor([x, y, z], dtype=torch.float64)
    return rotation_matrix(axis / axis.norm().clamp(min=1e-12) * 2 * math.atan2(float(axis.norm()), w))


def degrees(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(axis_angle(a @ b.mT).norm().rad2deg())


def test_three_plays_it(animated, tmp_path):
    three = pytest.importorskip("tests.host.three", reason="playwright is not installed: run `make install-test`")
    if not three.installed():
        pytest.skip("three.js or Chromium is missing: run `make host`")
    path, motion = animated
    start = time.perf_counter()
    with three.open_viewer(path) as viewer:
        (clip,) = viewer.clips()
        assert clip["name"] == "Performance" and clip["seconds"] == pytest.approx(2.0) and clip["tracks"] == 9
        rest, first = viewer.play(0.0), viewer.picture()
        seen, turned = viewer.play(1.0), viewer.picture()
        assert viewer.problems == []
        between = viewer.play(0.55)
    print(f"three.js: {time.perf_counter() - start:.1f} s")
    Image.fromarray((np.concatenate([first, turned], 1) * 255).astype(np.uint8)).save(tmp_path / "three.png")
    assert max(rest["jawOpen"]) == 0 and sorted(seen["jawOpen"])[2:] == pytest.approx([0.6] * 5)
    assert max(between["jawOpen"]) == pytest.approx(0.33, abs=1e-3)
    head = rotation_matrix(motion.turn[10].double())
    assert degrees(rotation(*seen["bones"]["Head"]), head) < 0.01
    assert 5 < degrees(rotation(*seen["bones"]["Neck"]), torch.eye(3).double()) < 12
    look = gaze_rotation(motion.gaze[10:11].double())[0]
    for eye in ("Eye_L", "Eye_R"):
        assert degrees(rotation(*seen["bones"][eye]), head @ look) < 0.01
    assert np.abs(turned - first).mean() > 0.01


def test_blender_plays_it(animated, tmp_path):
    if blender() is None:
        pytest.skip("no Blender here: install it, or `pip install bpy`, or set FITDIFF_BLENDER")
    path, _ = animated
    start = time.perf_counter()
    seen = render(path, tmp_path / "blender.png", 160, 4, {"second": 1.0}, "PLAYED")
    print(f"Blender: {time.perf_counter() - start:.1f} s")
    moved = {name: w for name, w in seen["jawOpen"].items() if not name.startswith("Eye_")}
    assert len(moved) == 5 and list(moved.values()) == pytest.approx([0.6] * 5, abs=1e-3)
    assert 2 * math.degrees(math.acos(min(1.0, abs(seen["bones"]["Head"][0])))) == pytest.approx(YAW, abs=0.1)
    for eye in ("Eye_L", "Eye_R"):
        angle = 2 * math.degrees(math.acos(min(1.0, abs(seen["bones"][eye][0]))))
        assert angle == pytest.approx(YAW + LOOK, abs=0.1)
    assert np.asarray(Image.open(tmp_path / "blender.png").convert("L")).std() > 5
