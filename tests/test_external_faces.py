"""External detections from core ComfyUI nodes: their mesh in place of our detector's, and boxes that select a face."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fitdiff_core import pipeline
from fitdiff_core.errors import UserError
from fitdiff_core.face import external_faces, load_detector
from fitdiff_core.head import load_head

from .core_faces import core_box, core_landmarks


class Blind:
    """A detector that must not be asked."""

    def detect(self, image):
        raise AssertionError("the detector looked")


@pytest.fixture(scope="module")
def face(photo, detector):
    return detector.detect(photo[0])[0]


@pytest.fixture(scope="module")
def two(photo):
    """The sample, and beside it her mirror image at 60 %."""
    small = F.interpolate(photo.flip(3), scale_factor=0.6, mode="bilinear", antialias=True)
    canvas = torch.full((1, 3, 512, 512 + small.shape[3]), 0.5)
    canvas[..., :512], canvas[..., : small.shape[2], 512:] = photo, small
    return canvas


@pytest.fixture(scope="module")
def pair(two, detector):
    found = detector.detect(two[0])
    assert len(found) == 2
    return found


# --- landmarks ---------------------------------------------------------------------------------------------------------


def test_a_mesh_from_core_is_the_same_mesh(photo, face):
    (given,) = external_faces(photo, Blind(), landmarks=core_landmarks([[face]], 512, 512))
    torch.testing.assert_close(given.mesh[:, :2], face.mesh[:, :2], atol=1e-3, rtol=0)
    torch.testing.assert_close(given.mesh[:, 2], face.mesh[:, 2], atol=0.3, rtol=0.02)
    torch.testing.assert_close(given.box, face.box, atol=1e-3, rtol=0)
    assert given.keypoints.shape == (6, 2) and (given.keypoints[:2] - face.keypoints[:2]).norm(dim=1).max() < 6
    assert given.score == pytest.approx(0.93) and given.mesh_score > 0.99


def test_the_identity_comes_from_the_given_points(photo, face, recognizer):
    own = pipeline.encode(photo, recognizer)
    faces = pipeline.find_faces(photo, recognizer, landmarks=core_landmarks([[face]], 512, 512))
    same = pipeline.encode(photo, recognizer, faces=faces)
    assert float((own.embedding * same.embedding).sum()) > 0.9999
    moved = core_landmarks([[face]], 512, 512)
    moved["frames"][0][0]["landmarks_xy"] += 25
    elsewhere = pipeline.encode(photo, recognizer, faces=pipeline.find_faces(photo, recognizer, landmarks=moved))
    assert float((own.embedding * elsewhere.embedding).sum()) < 0.98
    assert (own.crop - elsewhere.crop).abs().mean() > 0.05


def test_faces_of_a_frame_are_counted_from_the_largest(two, pair):
    landmarks = core_landmarks([pair[::-1]], *two.shape[2:])
    for index in (0, 1):
        (given,) = external_faces(two, Blind(), index, landmarks)
        assert (given.box - pair[index].box).abs().max() < 0.01
    with pytest.raises(UserError, match="no face number 2: 2 faces were found"):
        external_faces(two, Blind(), 2, landmarks)


def test_each_photo_has_its_own_frame(photo, face):
    mirrored = photo.flip(3)
    (other,) = load_detector().detect(mirrored[0])
    both = torch.cat([photo, mirrored])
    given = external_faces(both, Blind(), landmarks=core_landmarks([[face], [other]], 512, 512))
    assert (given[0].box - face.box).abs().max() < 0.01 and (given[1].box - other.box).abs().max() < 0.01
    with pytest.raises(UserError, match="Photo 2 of 2: The face landmarks hold no face"):
        external_faces(both, Blind(), landmarks=core_landmarks([[face], []], 512, 512))


def test_guidance_fits_the_given_points(photo, face, recognizer):
    model = type("M", (), {"head": load_head()})
    own = pipeline.prepare_guidance(photo, model, recognizer)
    (given,) = pipeline.find_faces(photo, recognizer, landmarks=core_landmarks([[face]], 512, 512))
    same = pipeline.prepare_guidance(photo, model, recognizer, face=given)
    torch.testing.assert_close(same.mesh, own.mesh, atol=0.01, rtol=0)
    torch.testing.assert_close(same.scene.camera.translation, own.scene.camera.translation, atol=1e-3, rtol=0)
    torch.testing.assert_close(same.scene.expression, own.scene.expression, atol=0.03, rtol=0)


# --- boxes -------------------------------------------------------------------------------------------------------------


def test_a_box_chooses_the_face(two, pair, detector):
    for face in pair:
        (given,) = external_faces(two, detector, boxes=core_box(face))  # one dict: core's Bounding Box node
        assert torch.equal(given.mesh, face.mesh)
    rows = [[core_box(pair[1]), core_box(pair[0])]]  # a list for each image: Face Landmarker, SDPose, RT-DETR, SAM3
    for index, face in enumerate(pair):
        (given,) = external_faces(two, detector, index, boxes=rows)
        assert torch.equal(given.mesh, face.mesh)
    with pytest.raises(UserError, match="no box number 2: there are 2"):
        external_faces(two, detector, 2, boxes=rows)
    person = {
        "x": 512,
        "y": 0,
        "width": 307,
        "height": 307,
    }  # all of the second picture, as a detector of people draws it
    (given,) = external_faces(two, detector, boxes=person)
    assert torch.equal(given.mesh, pair[1].mesh)


def test_a_box_chooses_among_given_meshes(two, pair):
    landmarks = core_landmarks([pair], *two.shape[2:])
    (given,) = external_faces(two, Blind(), landmarks=landmarks, boxes=core_box(pair[1]))
    assert (given.box - pair[1].box).abs().max() < 0.01
    with pytest.raises(UserError, match="no face in the box of 30 x 30 pixels at 2, 480"):
        external_faces(two, Blind(), landmarks=landmarks, boxes={"x": 2, "y": 480, "width": 30, "height": 30})


def test_one_box_serves_every_photo(photo, face, detector):
    both = photo.expand(2, -1, -1, -1)
    assert len(external_faces(both, detector, boxes=[[core_box(face)]])) == 2


def test_a_box_makes_the_detector_look_closer(photo, face, detector):
    small = F.interpolate(photo, scale_factor=0.25, mode="bilinear", antialias=True)
    crowd = torch.full((1, 3, 1536, 2048), 0.4)
    crowd[..., 900:1028, 1500:1628] = small
    assert not detector.detect(crowd[0])
    where = face.box / 4 + torch.tensor([1500.0, 900.0, 1500.0, 900.0])
    x0, y0, x1, y1 = where.tolist()
    (found,) = external_faces(
        crowd, detector, boxes={"x": x0 - 3, "y": y0 - 3, "width": x1 - x0 + 6, "height": y1 - y0 + 6}
    )
    assert (found.box - where).abs().max() < 3
    assert (found.points5 - face.points5 / 4 - torch.tensor([1500.0, 900.0])).abs().max() < 2


# --- objects of another form -------------------------------------------------------------------------------------------


def spoilt(face, **change):
    landmarks = core_landmarks([[face]], 512, 512)
    landmarks["frames"][0][0].update(change)
    return landmarks


LANDMARKS = {
    "a list": (lambda f: [[f]], "a list.* not of the form that ComfyUI's MediaPipe Face Landmarker gives"),
    "another dict": (lambda f: {"people": []}, r"a dict with \['people'\]"),
    "frames of faces": (lambda f: {"frames": core_landmarks([[f]], 512, 512)["frames"][0]}, "not of the form"),
    "two frames": (lambda f: core_landmarks([[f], [f]], 512, 512), "of 2 images, here are 1"),
    "another image": (
        lambda f: core_landmarks([[f]], 512, 640),
        "an image of 640 x 512 pixels, this one has 512 x 512",
    ),
    "no face": (lambda f: core_landmarks([[]], 512, 512), "hold no face; lower min_confidence"),
    "a face without points": (lambda f: {"frames": [[{"bbox": 1}]]}, r"no 'landmarks_xy' \(a dict with \['bbox'\]\)"),
    "68 points": (lambda f: spoilt(f, landmarks_xy=np.zeros((68, 2))), r"\(68, 2\); this needs MediaPipe's face mesh"),
    "flat points": (lambda f: spoilt(f, landmarks_3d=np.zeros((478, 2))), r"'landmarks_3d' .* is \(478, 2\)"),
    "NaN": (lambda f: spoilt(f, landmarks_xy=np.full((478, 2), np.nan)), "NaN or infinite"),
}
BOXES = {
    "a word": ("face", r"\(a str\) are not of ComfyUI's form"),
    "numbers": ([[1, 2, 3, 4]], "needs the numbers x, y, width and height"),
    "corners": ({"x0": 1, "y0": 2, "x1": 3, "y1": 4}, r"needs the numbers .* \['x0', 'x1', 'y0', 'y1'\]"),
    "none at all": ([], "boxes are empty"),
    "none in the photo": ([[]], "no box number 0: there are 0"),
    "of three photos": ([[], [], []], "of 3 images, here are 1"),
    "no width": ({"x": 1, "y": 2, "width": 0, "height": 4}, "encloses nothing"),
    "infinite": ({"x": 1, "y": 2, "width": float("inf"), "height": 4}, "encloses nothing"),
    "outside": (
        {"x": 5000, "y": 5000, "width": 50, "height": 50},
        "no face in the box of 50 x 50 pixels at 5000, 5000",
    ),
}


@pytest.mark.parametrize("case", LANDMARKS)
def test_landmarks_of_another_form_are_refused(photo, face, case):
    make, says = LANDMARKS[case]
    with pytest.raises(UserError, match=says):
        external_faces(photo, Blind(), landmarks=make(face))


@pytest.mark.parametrize("case", BOXES)
def test_boxes_of_another_form_are_refused(photo, detector, case):
    boxes, says = BOXES[case]
    with pytest.raises(UserError, match=says):
        external_faces(photo, detector, boxes=boxes)


def test_nothing_given_leaves_it_to_the_detector(photo, recognizer):
    assert pipeline.find_faces(photo, recognizer) is None
