"""What hides the skin is found: strands are, and what belongs to the face is not."""

import pytest
import torch

from fitdiff_core.fitting.photo import FittedPhoto, fit_photo
from fitdiff_core.fitting.strands import line_depth, strands
from fitdiff_core.pipeline import find_faces

SIZE = 256
HAIR = 60  # rows of hair at the top


def face(tone=0.6):
    """Flat skin `[1, 3, SIZE, SIZE]` under dark hair, and the hair's mask."""
    image = torch.full((1, 3, SIZE, SIZE), tone)
    hair = torch.zeros(1, 1, SIZE, SIZE)
    hair[:, :, :HAIR] = 1
    return torch.where(hair > 0, 0.05, image), hair


def line(image, top, bottom, x=128, width=3, factor=0.35):
    """The picture with a vertical line, and where it is."""
    where = torch.zeros(1, 1, *image.shape[-2:])
    where[:, :, top:bottom, x : x + width] = 1
    return torch.where(where > 0, image * factor, image), where


def found(image, hair, beard=None):
    none = torch.zeros_like(hair)
    return strands(image, hair, none, none if beard is None else beard)


def share(mask, where):
    return float((mask * where).sum() / where.sum())


@pytest.mark.parametrize("tone", [0.25, 0.6, 0.9])
def test_a_strand_that_hangs_from_the_hair_is_found_on_any_skin(tone):
    image, hair = face(tone)
    image, where = line(image, HAIR, 190)
    mask = found(image, hair)
    assert share(mask, where) > 0.9
    beside = torch.zeros_like(where)
    beside[:, :, HAIR:, :100] = 1
    assert share(mask, beside) < 0.02


def test_a_line_that_does_not_come_from_the_hair_belongs_to_the_face():
    image, hair = face()
    image, where = line(image, 100, 190)
    assert share(found(image, hair), where) == 0


def test_a_wrinkle_is_shallower_than_a_strand():
    image, hair = face()
    image, where = line(image, HAIR, 190, factor=0.9)
    assert share(found(image, hair), where * (torch.arange(SIZE)[:, None] > HAIR + 12)) == 0


def test_a_mole_and_a_light_line_are_no_strands():
    image, hair = face()
    image[:, :, 100:105, 100:105] *= 0.3
    image, _ = line(image, HAIR, 190, x=200, factor=1.5)
    assert not found(image, hair)[:, :, HAIR + 12 :].any()
    assert float(line_depth(image)[0, 0, 120:180, 200:203].max()) == 0


def test_lines_of_a_beard_belong_to_the_face():
    image, hair = face()
    image, where = line(image, HAIR, 190)
    assert share(found(image, hair, beard=torch.ones_like(hair)), where) == 0


@pytest.fixture(scope="module")
def fitted(photo, head) -> FittedPhoto:
    return fit_photo(photo, find_faces(photo)[0], head)


def in_photo(fitted: FittedPhoto, x: float, y: float) -> tuple[int, int]:
    """A place of the crop, as pixels of the photo."""
    m = fitted.scene.photo_crop()[0]
    px, py = torch.linalg.inv(m[:, :2]) @ (torch.tensor([x, y]) - m[:, 2])
    return round(float(px)), round(float(py))


def test_a_strand_over_a_real_face_is_hidden_and_a_mole_is_not(photo, head, fitted):
    x, y = (float(v) for v in fitted.mesh[0, 205])  # a cheek
    changed = photo.clone()
    (left, top), (_, bottom) = in_photo(fitted, x - 12, y - 130), in_photo(fitted, x, y)
    changed[:, :, max(top, 0) : bottom, left : left + 4] *= 0.3
    mole = in_photo(fitted, *(float(v) for v in fitted.mesh[0, 425]))  # the other cheek
    changed[:, :, mole[1] - 1 : mole[1] + 2, mole[0] - 1 : mole[0] + 2] *= 0.5
    seen = fit_photo(changed, find_faces(changed)[0], head).visible_mask((photo.shape[-2], photo.shape[-1]))
    before = fitted.visible_mask((photo.shape[-2], photo.shape[-1]))
    middle = (top + 2 * bottom) // 3
    assert before[0, 0, middle:bottom, left + 2].mean() > 0.9  # bare skin
    assert seen[0, 0, middle:bottom, left + 2].mean() < 0.3
    assert seen[0, 0, mole[1], mole[0]] > 0.9


def test_brows_lids_and_lips_are_seen_in_light_and_dark_pictures(photo, head, fitted):
    dark = photo * 0.4
    for one in (fitted, fit_photo(dark, find_faces(dark)[0], head)):
        points = one.mesh[0, [55, 285, 159, 386, 13, 14, 4, 205, 425]].round().long()
        assert one.visible[0, 0, points[:, 1], points[:, 0]].mean() > 0.95


def test_the_shares_of_the_face_sum_to_one(fitted):
    shown = fitted.shown()
    assert sum(shown.values()) == pytest.approx(1) and shown["seen"] > 0.5
