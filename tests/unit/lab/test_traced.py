"""The comparison with a path tracer: what happens without one, and that both scatter light alike."""

from __future__ import annotations

import math
import shutil

import pytest
import torch

from fitdiff_core.errors import UserError
from fitdiff_core.portrait.scatter import profile_radius
from fitdiff_lab.evaluate import traced


def test_without_blender_it_says_what_to_install(monkeypatch):
    monkeypatch.delenv("FITDIFF_BLENDER", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="pip install bpy"):
        traced.blender()
    monkeypatch.setenv("FITDIFF_BLENDER", "/somewhere/bin/python")
    assert traced.blender() == ["/somewhere/bin/python"]


def test_cycles_gets_the_same_profile():
    albedo = torch.tensor([0.6, 0.4, 0.3])
    radius = torch.tensor(traced.cycles_radius(albedo))
    shape = 1.9 - albedo + 3.5 * (albedo - 0.8) ** 2
    torch.testing.assert_close(radius / (4 * math.pi) / shape, profile_radius(albedo))
    assert radius[0] > radius[1] > radius[2]
