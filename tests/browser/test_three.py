"""three.js opens the exported GLB in a real browser, finds everything in it, and moves the face by ARKit names."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fitdiff_core.avatar import Avatar
from fitdiff_core.export import write_glb
from fitdiff_core.head import load_head
from fitdiff_core.maps import TextureMaps
from fitdiff_core.scene import Scene

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]
PARTS = ("Head", "Teeth", "Mouth", "EyeWet", "Lashes", "Eye_L", "Eye_R")
BACKGROUND = np.array([0x30, 0x30, 0x34]) / 255


@pytest.fixture(scope="module")
def head_in_browser(tmp_path_factory):
    """(viewer, avatar, scene): a mean head in pale skin with dark eyes."""
    three = pytest.importorskip("tests.host.three", reason="playwright is not installed: run `make install-test`")
    if not three.installed():
        pytest.skip("three.js or Chromium is missing: run `make host`")
    head = load_head()
    eyes = head.region("eyes", 256)
    skin = torch.tensor([0.5, 0.33, 0.26]).view(1, 3, 1, 1)
    diffuse = skin * (1 - eyes) + eyes * (0.7 - 0.65 * head.region("iris", 256))
    up = torch.zeros(1, 3, 256, 256) + torch.tensor([0, 0, 1.0]).view(3, 1, 1)
    avatar = Avatar(head, torch.zeros(1, head.n_identity), TextureMaps(diffuse, torch.full_like(diffuse, 0.35), up))
    expression = torch.zeros(1, 52)
    expression[0, head.expression_names.index("mouthPucker")] = 0.6
    scene = replace(Scene.portrait(), expression=expression, gaze=torch.tensor([[0.2, 0.1]]))
    path = write_glb(tmp_path_factory.mktemp("three") / "avatar.glb", avatar, scene=scene)
    with three.open_viewer(path) as viewer:
        yield viewer, avatar, scene


def test_everything_arrives(head_in_browser):
    viewer, avatar, scene = head_in_browser
    meshes = viewer.about()
    assert set(meshes) == {f"{name}_Mesh" for name in PARTS}
    for name, mesh in meshes.items():
        plain = name.removesuffix("_Mesh")
        assert mesh["material"] == {"Head": "Skin"}.get(plain, plain) and mesh["type"] == "MeshPhysicalMaterial"
        assert mesh["bones"] == ["Root", "Neck", "Head", "Jaw", "Eye_L", "Eye_R"]
        assert mesh["clearcoat"] == (1 if plain.startswith("Eye_") else 0)
        if plain == "Lashes":
            assert mesh["maps"] == ["map"] and mesh["cutoff"] == pytest.approx(0.4)
        else:
            assert mesh["tangents"] and mesh["maps"] == ["map", "normalMap", "specularColorMap"]
        assert tuple(mesh["targets"]) == avatar.head.expression_names and mesh["normals"] == 52
    np.testing.assert_allclose(meshes["Head_Mesh"]["weights"], scene.expression[0], atol=1e-6)
    assert viewer.problems == []


def test_face_moves_by_name(head_in_browser):
    """The jaw opens below the eyes and nowhere else; each action shows; back at zero the picture is the first one."""
    viewer, _, _ = head_in_browser
    start, neutral = viewer.picture(), viewer.picture({})
    side = len(neutral)
    head = np.abs(neutral - BACKGROUND).max(-1) > 0.04
    middle = slice(int(0.4 * side), int(0.6 * side))
    assert head[middle, middle].all(), "the head covers the centre"
    assert not head[:, : side // 12].any() and 0.2 < head.mean() < 0.7
    shade = neutral[middle, middle].mean((0, 1))
    assert shade[0] > shade[2] and 0.2 < shade.mean() < 0.9, "lit skin, neither black nor burnt out"
    assert changed(start, neutral).sum() > 100, "the file's own weights show"

    jaw = changed(viewer.picture({"jawOpen": 1}), neutral)
    assert jaw[side // 2 :].mean() > 0.03 and jaw[: side // 3].mean() < 0.002
    for weights in ({"eyeBlinkLeft": 1, "eyeBlinkRight": 1}, {"browInnerUp": 1}, {"mouthSmileLeft": 1}):
        assert changed(viewer.picture(weights), neutral).sum() > 60, weights
    looks = viewer.picture({"eyeLookInLeft": 1, "eyeLookOutRight": 1})
    assert changed(looks, neutral)[side // 4 : side // 2].sum() > 60
    np.testing.assert_array_equal(viewer.picture({}), neutral)
    assert viewer.problems == []


def changed(a, b):
    return np.abs(a - b).max(-1) > 0.06
