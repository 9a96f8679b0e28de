"""three.js r145 opens the exported GLB: its loader throws at an accessor without data."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fitdiff_core.avatar import Avatar
from fitdiff_core.export import write_glb
from fitdiff_core.head import load_head
from fitdiff_core.maps import TextureMaps

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]


def test_an_old_loader_opens_it_too(tmp_path):
    three = pytest.importorskip("tests.host.three", reason="playwright is not installed: run `make install-test`")
    if not three.installed(three.OLD_THREE):
        pytest.skip("three.js r145 or Chromium is missing: run `make host`")
    head = load_head()
    grey = torch.full((1, 3, 32, 32), 0.4)
    up = torch.zeros_like(grey) + torch.tensor([0, 0, 1.0]).view(3, 1, 1)
    avatar = Avatar(head, torch.zeros(1, head.n_identity), TextureMaps(grey, grey, up))
    with three.open_viewer(write_glb(tmp_path / "a.glb", avatar), three=three.OLD_THREE) as viewer:
        meshes = viewer.about()
        assert {"Head_Mesh", "Teeth_Mesh", "Mouth_Mesh", "Lashes_Mesh", "Eye_L_Mesh", "Eye_R_Mesh"} <= set(meshes)
        for mesh in meshes.values():
            assert tuple(mesh["targets"]) == head.expression_names
        jaw, neutral = viewer.picture({"jawOpen": 1}), viewer.picture({})
        assert (np.abs(jaw - neutral).max(-1) > 0.06).sum() > 300
        assert viewer.problems == []
