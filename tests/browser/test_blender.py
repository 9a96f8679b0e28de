"""Blender opens the GLB: objects, materials, shape keys, and a picture that looks like a head.

Needs Blender on the path, the `bpy` package, or FITDIFF_BLENDER (a blender executable, or a Python that has bpy).
Skipped without.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from fitdiff_core.avatar import Avatar
from fitdiff_core.export import write_glb
from fitdiff_core.head import load_head
from fitdiff_core.maps import TextureMaps
from fitdiff_core.scene import Scene
from tests.host.blender import blender, render

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
SIDE = 160


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """(what Blender reports, pictures, avatar, scene)"""
    if blender() is None:
        pytest.skip("no Blender here: install it, or `pip install bpy`, or set FITDIFF_BLENDER")
    folder = tmp_path_factory.mktemp("blender")
    head = load_head()
    eyes = head.region("eyes", 256)
    diffuse = torch.tensor([0.5, 0.33, 0.26]).view(1, 3, 1, 1) * (1 - eyes) + eyes * (
        0.7 - 0.65 * head.region("iris", 256)
    )
    up = torch.zeros(1, 3, 256, 256) + torch.tensor([0, 0, 1.0]).view(3, 1, 1)
    avatar = Avatar(head, torch.zeros(1, head.n_identity), TextureMaps(diffuse, torch.full_like(diffuse, 0.35), up))
    expression = torch.zeros(1, 52)
    expression[0, head.expression_names.index("mouthPucker")] = 0.5
    scene = replace(Scene.portrait(), expression=expression)
    glb = write_glb(folder / "a.glb", avatar, scene=scene)
    pictures = {}
    for name, weights in (("shut", {}), ("open", {"jawOpen": 1})):
        picture = folder / f"{name}.png"
        report = render(glb, picture, SIDE, 4, weights)
        pictures[name] = np.asarray(Image.open(picture).convert("RGB")) / 255.0
    return report, pictures, avatar, scene


def test_objects_materials_and_shape_keys(opened):
    report, _, avatar, _ = opened
    assert set(report) == {"Head", "Teeth", "Eye_L", "Eye_R"}
    for name, mesh in report.items():
        assert mesh["material"] == {"Head": "Skin"}.get(name, name)
        assert mesh["custom_normals"] and mesh["uv"] == 1
        assert {"Base Color", "Normal"} <= set(mesh["linked"])
        assert mesh["color_spaces"] == ["Non-Color", "sRGB", "sRGB"]
    assert list(report["Head"]["keys"]) == list(avatar.head.expression_names)
    assert sum(mesh["triangles"] for mesh in report.values()) == len(avatar.head.triangles)
    assert report["Eye_L"]["origin"][0] > 0.02 > -0.02 > report["Eye_R"]["origin"][0]


def test_the_photos_weights_are_set(opened):
    report, _, avatar, scene = opened
    np.testing.assert_allclose(list(report["Head"]["keys"].values()), scene.expression[0], atol=1e-6)


def test_it_looks_like_a_head(opened):
    _, pictures, _, _ = opened
    shut, jaw = pictures["shut"], pictures["open"]
    middle = shut[SIDE // 3 : SIDE // 2, 2 * SIDE // 5 : 3 * SIDE // 5]
    assert 0.15 < middle.mean() < 0.9 and middle[..., 0].mean() > 1.1 * middle[..., 2].mean(), "lit skin in the middle"
    assert shut[: SIDE // 12, : SIDE // 6].max() < 0.3, "nothing in the corner"
    moved = np.abs(jaw - shut).max(-1) > 0.12
    assert moved[SIDE // 2 :].mean() > 3 * moved[: SIDE // 2].mean() and moved[SIDE // 2 :].mean() > 0.03
