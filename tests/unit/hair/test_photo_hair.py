"""Hair of a photo: the segmenter, its training, and the outline of a style."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fitdiff_core.errors import UserError
from fitdiff_core.hair.growth import Strands
from fitdiff_core.hair.mask import by_colour
from fitdiff_core.hair.outline import (
    CENTRE,
    FACE,
    MOVED,
    corrected,
    directions,
    factor,
    limited,
    moved_opening,
    opened,
    opening_of,
    reshape,
)
from fitdiff_core.hair.photo import SIDE, View, head_places, see_hair
from fitdiff_core.hair.scalp import Roots
from fitdiff_core.hair.segmenter import INPUTS, HairSegmenter, view_planes
from fitdiff_core.hair.style import FAR, OPENING, OUTLINE, HairStyle
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
    left = [[0.08, 0.02, 0.0], [0.12, 0.02, 0.0]]  # straight to the subject's left, direction 0
    right = [[-0.08, 0.02, 0.0], [-0.12, 0.02, 0.0]]
    outline = np.zeros(OUTLINE)
    outline[0] = np.log(1.2)
    moved = reshape(strands(np.array([left, right])), HairStyle(outline=tuple(outline)), Air()).points
    assert np.allclose(moved[0], [[0.08, 0.02, 0], [0.144, 0.02, 0]])
    assert np.allclose(moved[1], right)


def test_hair_before_the_ears_ends_at_the_opening():
    """A strand that falls into the face is cut; one behind the ears is not, one that lies in the face is left out."""
    opening = np.full(OPENING, 0.06)
    fall = np.array([[0.0, FACE[1] + 0.12, 0.08], [0.0, FACE[1] + 0.02, 0.08]])
    behind, within = fall - [0, 0, 0.15], np.array([[0.0, FACE[1] + 0.03, 0.08], [0.0, FACE[1] + 0.01, 0.08]])
    cut = opened(strands(np.stack([fall, behind, within])), HairStyle(opening=tuple(opening))).points
    assert len(cut) == 2
    assert np.isclose(cut[0, -1, 1], FACE[1] + 0.06, atol=0.02) and np.allclose(cut[0, 0], fall[0])
    assert np.allclose(cut[1], behind)


def test_the_opening_is_where_hair_begins():
    """Hair above a line and beside the face: the line is found upwards, and nothing downwards."""
    t = (np.arange(SIDE) + 0.5) / SIDE * 2 - 1
    places = np.stack(np.meshgrid(t * 0.3, -t * 0.3), -1)
    far = np.linalg.norm(places - FACE, axis=-1)
    hair = (places[..., 1] > FACE[1] + 0.05) & (far < 0.15)
    found = opening_of(hair, np.ones_like(hair), places)
    assert len(found) == OPENING
    assert np.isclose(found[OPENING // 4], 0.05, atol=0.006)
    assert found[3 * OPENING // 4] == FAR
    ends = np.ones_like(hair)
    ends[places[..., 1] < FACE[1] - 0.1] = False  # the picture ends below
    assert 0.09 < opening_of(hair, ends, places)[3 * OPENING // 4] < 0.12


def test_a_narrow_gap_between_locks_is_no_opening():
    t = (np.arange(SIDE) + 0.5) / SIDE * 2 - 1
    places = np.stack(np.meshgrid(t * 0.3, -t * 0.3), -1)
    hair = np.linalg.norm(places - FACE, axis=-1) > 0.06
    up = directions(places, OPENING, FACE) - OPENING // 4
    narrow, wide = (np.array(opening_of(hair & (np.abs(up) > n), np.ones_like(hair), places)) for n in (1.0, 6.0))
    assert narrow[OPENING // 4] < 0.08
    assert wide[OPENING // 4] > 0.2


def test_an_opening_moves_by_what_the_drawn_hair_lacks():
    """Hair that was drawn 8 mm too low is cut higher, by no more than MOVED, and not where nothing is known."""
    as_tuple = lambda x: tuple(np.full(OPENING, x))  # noqa: E731
    assert np.allclose(moved_opening(as_tuple(0.06), as_tuple(0.06), as_tuple(0.052)), 0.068)
    assert np.allclose(moved_opening(as_tuple(0.06), as_tuple(0.06), as_tuple(0.01)), 0.06 + MOVED)
    assert np.allclose(moved_opening(as_tuple(FAR), as_tuple(FAR), as_tuple(0.05)), FAR)


def test_hair_beside_the_neck_ends_at_the_limit():
    """What is seen behind the neck tells nothing, and what lies on the head has an outline."""
    hangs = np.array([[0.09, 0.0, 0.0], [0.09, -0.06, 0.0], [0.09, -0.2, 0.0]])
    behind, high = hangs * [0.1, 1, 1], hangs + [0, 0.3, 0]
    limit = tuple(np.full(OUTLINE, 0.15))
    cut = limited(strands(np.stack([hangs, behind, high])), HairStyle(limit=limit)).points
    assert np.linalg.norm(cut[0, -1, :2] - CENTRE) < 0.18
    assert np.allclose(cut[1], behind) and np.allclose(cut[2], high)


def test_directions_go_round_once_and_factors_are_interpolated():
    angle = np.linspace(0, 2 * np.pi, OUTLINE, endpoint=False)
    xy = CENTRE + np.stack([np.cos(angle), np.sin(angle)], 1)
    assert np.allclose(directions(xy), np.arange(OUTLINE))
    outline = np.zeros(OUTLINE)
    outline[1] = 0.4
    between = CENTRE + [np.cos(angle[1] / 2), np.sin(angle[1] / 2)]
    assert np.isclose(factor(outline, between), np.exp(0.2))


def test_a_corrected_outline_follows_what_is_known():
    """Directions that the photo doesn't show are as on the other side of the head."""
    inner, drawn = np.full(OUTLINE, 0.09), np.full(OUTLINE, 0.11)
    wanted = np.full(OUTLINE, 0.121)
    wanted[8:17] = np.nan
    outline = np.array(corrected(HairStyle(), wanted, drawn, inner).outline)
    assert np.allclose(outline, np.log(1.1))
    again = corrected(HairStyle(outline=tuple(outline)), drawn, drawn, inner)
    assert np.allclose(again.outline, outline)
    assert corrected(HairStyle(), np.full(OUTLINE, np.nan), drawn, inner) == HairStyle()


@pytest.mark.parametrize("field", ["outline", "opening", "limit"])
def test_a_style_refuses_half_an_outline(field):
    with pytest.raises(UserError, match=field):
        HairStyle(**{field: (0.1, 0.2)})


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


def test_colour_tells_a_fringe_that_the_segmenter_doubts():
    """Over the forehead, doubt becomes hair where the colour is the hair's, and stays where it is the skin's."""
    plain = view()
    plain.face = ((plain.metre[..., 0] ** 2 + plain.metre[..., 1] ** 2) < 0.009).float()
    plain.edge = torch.where(plain.face > 0, plain.metre[..., 1] - 0.04, -1.0)
    hair = (plain.edge > -0.025) & (plain.face > 0)
    skin = torch.tensor([0.8, 0.6, 0.5])[:, None, None].expand(3, SIDE, SIDE)
    plain.image = torch.where(hair, torch.tensor([0.25, 0.15, 0.1])[:, None, None], skin)
    sure = (plain.edge > 0.0).float()
    doubt = torch.where((plain.edge > -0.04) & (plain.edge <= 0.0), 0.2, sure)
    found = by_colour(plain, doubt)
    inside = (plain.face > 0) & (plain.edge > -0.02) & (plain.edge < -0.003)
    below = (plain.face > 0) & (plain.edge > -0.038) & (plain.edge < -0.03)
    assert found[inside].min() > 0.5 and found[below].max() < 0.5
    assert torch.equal(by_colour(plain, torch.zeros(SIDE, SIDE)), torch.zeros(SIDE, SIDE))


def test_places_beside_the_head_lie_in_the_frontal_plane():
    """The camera looks along -z from a metre away: the plane through the head's centre is seen at its own size."""
    plain = view()
    plain.edge = torch.full((SIDE, SIDE), -1.0)
    places = head_places(plain)
    t = (torch.arange(SIDE) + 0.5) / SIDE * 2 - 1
    assert torch.allclose(places[0, :, 0], t, atol=1e-5) and torch.allclose(places[:, 0, 1], -t, atol=1e-5)


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
