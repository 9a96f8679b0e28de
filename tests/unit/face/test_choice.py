"""Which face is meant: orders that a few pixels do not change, one choice for identity and guidance, cut faces."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from fitdiff_core.errors import UserError
from fitdiff_core.face import ChosenFaces, Face, FaceSource, choose_faces, parse_choice, select_face, warp
from fitdiff_core.face.choice import photo_digest
from fitdiff_core.face.detect import box_order
from fitdiff_core.face.drawing import CHOSEN, draw_faces
from fitdiff_core.guidance import Guidance
from fitdiff_core.identity import embedding_outliers
from fitdiff_core.sampling import check_faces

ROW = [(424, 94, 519, 201), (93, 93, 187, 199), (1083, 94, 1177, 199), (752, 92, 845, 196)]  # four faces of one size
SHIFTED = [(431, 94, 525, 200), (1090, 94, 1184, 199), (100, 93, 193, 198), (759, 93, 851, 195)]  # 7 pixels further


def boxes(corners):
    return [torch.tensor(c, dtype=torch.float32) for c in corners]


def face_at(*corners, photo=""):
    mesh = torch.zeros(468, 3)
    return Face(torch.tensor(corners, dtype=torch.float32), 1.0, torch.zeros(6, 2), mesh, 1.0, photo)


@pytest.mark.parametrize("corners", [ROW, SHIFTED])
def test_equal_faces_stand_from_left_to_right(corners):
    assert [corners[i][0] for i in box_order(boxes(corners))] == sorted(c[0] for c in corners)


def test_clearly_larger_faces_come_first():
    corners = [(0, 0, 50, 50), (500, 0, 600, 100), (200, 0, 299, 99)]
    assert box_order(boxes(corners)) == [2, 1, 0], "the two large ones from left to right, then the small one"
    assert box_order(boxes(corners), left_to_right=True) == [0, 2, 1]


@pytest.mark.parametrize(
    ("which", "left"),
    [("largest", 93), (1, 424), ("3", 1083), ("left-to-right", 93), ("left to right:2", 752), ("largest:2", 752)],
)
def test_which_selects(which, left):
    assert float(select_face([face_at(*c) for c in ROW], which).box[0]) == left


@pytest.mark.parametrize("which", ["second", "left-to-right:x", "", ":", "smallest:1", True, None, 1.5])
def test_other_choices_are_user_errors(which):
    with pytest.raises(UserError, match="'largest' or an index"):
        parse_choice(which)


def test_identity_and_guidance_of_different_faces_are_an_error():
    left, right = (FaceSource("photo", box) for box in ((0.0, 0.0, 90.0, 90.0), (200.0, 0.0, 290.0, 95.0)))

    def check(identity, guidance):
        guided = [guidance_of(source) for source in guidance]
        check_faces(SimpleNamespace(sources=tuple(identity)), guided)

    check([left], [left])
    check([left, right], [right])
    check([left], [FaceSource("another photo", right.box)])
    check([left], [None])
    with pytest.raises(UserError, match="different faces of the same photo .90 x 90 px at 0, 0, and 90 x 95 px at 200"):
        check([left], [right])


def guidance_of(source):
    """A guidance that knows only its source."""
    return Guidance(SimpleNamespace(photo=SimpleNamespace(source=source)))


def test_chosen_faces_belong_to_their_photos():
    photo, other = torch.rand(2, 3, 20, 20).unbind(0)
    chosen = ChosenFaces(((),), (face_at(0, 0, 5, 5, photo=photo_digest(photo)),))
    assert chosen.of([photo.clone()]) == list(chosen.chosen)
    with pytest.raises(UserError, match="found in another image"):
        chosen.of([other])
    with pytest.raises(UserError, match="faces are of 1 images, here are 2"):
        chosen.of([photo, photo])


def test_boxes_are_drawn_and_the_chosen_one_is_green():
    photo = torch.full((3, 200, 300), 0.5)
    faces = [face_at(20, 50, 90, 140), face_at(180, 50, 250, 140)]
    picture = draw_faces(photo, faces, faces[1])[0]
    green = torch.tensor(CHOSEN)[:, None, None] / 255
    is_green = (picture - green).abs().amax(0) < 0.01
    assert picture.shape == photo.shape and is_green[:, 150:].any() and not is_green[:, :150].any()
    assert torch.equal(picture[:, 60:130, 110:170], (photo * 255 + 0.5).byte().float()[:, 60:130, 110:170] / 255)


def test_outliers_among_embeddings():
    network = SimpleNamespace(same_threshold=0.6, distance=lambda a, b: (a - b).norm(dim=1))
    a, b, c = torch.tensor([[1.0, 0.0], [0.96, 0.28], [0.0, 1.0]])
    assert embedding_outliers(torch.stack([a, b]), network) == []
    assert [o[:2] for o in embedding_outliers(torch.stack([a, c]), network)] == [(1, 0)]
    assert [o[:2] for o in embedding_outliers(torch.stack([c, a, b]), network)] == [(0, 2)]


def test_a_face_cut_by_the_frame_is_found_beside_a_smaller_whole_one(photo, detector):
    """The large face is cut at the right edge; nothing but the search with a border finds it."""
    picture = torch.full((1, 3, 560, 640), 0.55)
    (face,) = detector.detect(photo[0])
    x0, y0, x1, y1 = face.box.tolist()
    scale = 240 / (x1 - x0)
    big = torch.tensor([[[scale, 0, 640 - 0.53 * 240 - scale * x0], [0, scale, 90 - scale * y0]]])
    ones = warp(torch.ones_like(photo), big, 640)[..., :560, :]
    picture = picture * (1 - ones) + warp(photo, big, 640)[..., :560, :] * ones
    picture[..., 60:260, 20:220] = warp(photo, torch.tensor([[[200 / 512, 0, 0], [0, 200 / 512, 0]]]), 200)
    faces = choose_faces([picture[0]], detector)
    assert len(faces.found[0]) == 2
    assert faces.chosen[0].box[0] > 320 and faces.chosen[0].area > 3 * faces.found[0][1].area
    (left,) = choose_faces([picture[0]], detector, "left-to-right").chosen
    assert left.box[2] < 220
