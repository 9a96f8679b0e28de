"""Hair of a photo: the segmenter, its training, and the outline of a style."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fitdiff_core.errors import UserError
from fitdiff_core.hair.growth import Strands
from fitdiff_core.hair.outline import CENTRE, corrected, directions, factor, reshape
from fitdiff_core.hair.photo import SIDE, View, see_hair
from fitdiff_core.hair.scalp import Roots
from fitdiff_core.hair.segmenter import INPUTS, HairSegmenter, view_planes
from fitdiff_core.hair.style import OUTLINE, HairStyle
from fitdiff_core.photo_networks import load_delighter, load_segmenter, read_network
from fitdiff_core.render.camera import Camera
from fitdiff_lab.dataset.hair_masks import load_views
from fitdiff_lab.train import hair_segmenter


class Air:
    """A body that nothing touches."""

    def __call__(self, p):
        return np.ones(p.shape[:-1]), np.broadcast_to([0.0, 0.0, 1.0], p.shape)

    def push_out(self, p, distance):
        return p


def strands(points):
    n = len(points)
    roots = Roots(np.zeros((n, 3), int), np.ones((n, 3)), points[:, 0], np.zeros(n))
    return Strands(points, np.zeros_like(points), roots, np.zeros(n), np.arange(n))


def test_an_outline_moves_tips_and_leaves_roots():
    left = [[0.08, 0.02, 0.0], [0.10, 0.02, 0.0]]  # straight to the subject's left, direction 0
    right = [[-0.08, 0.02, 0.0], [-0.10, 0.02, 0.0]]
    outline = np.zeros(OUTLINE)
    outline[0] = np.log(1.5)
    moved = reshape(strands(np.array([left, right])), HairStyle(outline=tuple(outline)), Air()).points
    assert np.allclose(moved[0], [[0.08, 0.02, 0], [0.11, 0.02, 0]])
    assert np.allclose(moved[1], right)


def test_directions_go_round_once_and_factors_are_interpolated():
    angle = np.linspace(0, 2 * np.pi, OUTLINE, endpoint=False)
    xy = CENTRE + np.stack([np.cos(angle), np.sin(angle)], 1)
    assert np.allclose(directions(xy), np.arange(OUTLINE))
    outline = np.zeros(OUTLINE)
    outline[1] = 0.4
    between = CENTRE + [np.cos(angle[1] / 2), np.sin(angle[1] / 2)]
    assert np.isclose(factor(outline, between), np.exp(0.2))


def test_a_corrected_outline_follows_what_is_known():
    inner, drawn = np.full(OUTLINE, 0.09), np.full(OUTLINE, 0.11)
    wanted = np.full(OUTLINE, 0.113)
    wanted[12:] = np.nan
    outline = np.array(corrected(HairStyle(), wanted, drawn, inner).outline)
    assert np.allclose(outline[2:10], np.log(1.15)) and np.allclose(outline[14:22], 0)


def test_a_style_refuses_half_an_outline():
    with pytest.raises(UserError, match="outline"):
        HairStyle(outline=(0.1, 0.2))


def view(image=None):
    """A head as a disc; its upper half is scalp."""
    t = (torch.arange(SIDE) + 0.5) / SIDE * 2 - 1
    y, x = torch.meshgrid(t, t, indexing="ij")
    on = (x**2 + y**2) < 0.1
    edge = torch.where(on, -y * 0.2, -1.0)
    metre = torch.stack([x * 0.3, -y * 0.3], -1)
    face = (on & (y > 0.1)).float()
    camera = Camera(torch.ones(1), torch.zeros(1, 3), torch.tensor([[0.0, 0.0, -1.0]]))
    image = torch.full((3, SIDE, SIDE), 0.5) if image is None else image
    return View(
        image, torch.ones(SIDE, SIDE, dtype=torch.bool), camera, torch.zeros(SIDE, SIDE), edge, face, 0 * x, metre
    )


def test_hair_hats_and_bald_heads_are_told_apart():
    plain = view()
    scalp = (plain.edge > 0).float()
    skin = torch.tensor([0.8, 0.6, 0.5])[:, None, None].expand(3, SIDE, SIDE)
    black = torch.lerp(skin, torch.full_like(skin, 0.05), scalp)
    haired = see_hair(view(black), scalp)
    assert haired.known and haired.bare < 0.1 and haired.color.max() < 0.02
    bald = see_hair(view(skin.clone()), torch.zeros(SIDE, SIDE))
    assert bald.known and bald.bare > 0.9
    blue = torch.lerp(skin, torch.tensor([0.1, 0.2, 0.8])[:, None, None].expand_as(skin), scalp)
    assert not see_hair(view(blue), torch.zeros(SIDE, SIDE)).known


def test_the_segmenter_answers_for_each_pixel_and_not_beyond_the_photo():
    v = view()
    v.valid[:, : SIDE // 2] = False
    found = HairSegmenter().eval().find(v)
    assert found.shape == (SIDE, SIDE) and not found[:, : SIDE // 2].any() and (found[:, SIDE // 2 :] > 0).all()


def test_the_segmenter_learns_and_is_saved(tmp_path):
    v = view()
    planes = view_planes(v.image, v.valid, v.edge, v.face, v.ears, v.metre)
    assert planes.shape == (INPUTS, SIDE, SIDE)
    wide = torch.nn.functional.pad(planes, (24, 24, 24, 24))[None].expand(32, -1, -1, -1)
    path = tmp_path / "views.safetensors"
    save_file({"planes": wide.half().contiguous(), "mask": (wide[:, 4:5] > 0).byte() * 255}, path)
    assert load_views(path)["planes"].shape[0] == 32
    options = ["--data", str(path), "--out", str(tmp_path / "run"), "--batch", "1", "--precision", "fp32"]
    assert hair_segmenter.main([*options, "--threads", "1", "--steps", "2"]) == 0
    assert (tmp_path / "run" / "hair_segmenter.safetensors").is_file()


def test_the_shipped_networks_are_read_and_a_missing_file_is_named(tmp_path):
    assert load_delighter() is load_delighter() and load_segmenter() is load_segmenter()
    with pytest.raises(UserError, match="no file"):
        read_network("hair", HairSegmenter, type(HairSegmenter().config), tmp_path / "none.safetensors")
