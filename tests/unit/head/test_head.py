"""The shipped head: its file, its linear algebra, atlas, eyes, landmarks and regions."""

import json
import struct

import pytest
import torch

from fitdiff_core.errors import UserError
from fitdiff_core.head import load_head
from fitdiff_core.head.model import ASSET, gaze_rotation

ARKIT_FIRST, ARKIT_LAST = "eyeBlinkLeft", "tongueOut"
# Face-mesh points of both halves of the face, subject's right and left (MediaPipe's numbering).
MESH_PAIRS = {33: 263, 133: 362, 61: 291, 50: 280, 159: 386, 145: 374, 98: 327, 105: 334, 205: 425}
MESH_MIDDLE = (1, 4, 6, 9, 13, 14, 17, 164, 168, 199)


@pytest.fixture(scope="module")
def mean(head):
    return head(torch.zeros(1, head.n_identity))


@pytest.fixture(scope="module")
def people(head):
    return head(torch.randn(12, head.n_identity, generator=torch.Generator().manual_seed(5)))


def signed_areas(uv, triangles):
    a, b, c = uv[triangles].unbind(1)
    return ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) / 2


def triangle_areas(points, triangles):
    a, b, c = points[triangles].unbind(1)
    return torch.linalg.cross(b - a, c - a).norm(dim=1) / 2


# -- the model -----------------------------------------------------------------------------------------------------


def test_the_head_file_has_the_promised_sizes(head, mean):
    assert ASSET.stat().st_size < 15e6
    assert 17_000 < head.n_skin < 20_000 and mean.shape == (1, head.n_vertices, 3)
    assert (head.n_vertices - head.n_skin) % 2 == 0
    assert head.uv.shape == (head.n_vertices, 2) and head.uv.min() >= 0 and head.uv.max() <= 1
    assert head.triangles.dtype == torch.int64 and len(head.triangles.unique()) == head.n_vertices
    assert len(head.expression_names) == 52 == len(set(head.expression_names))
    assert (head.expression_names[0], head.expression_names[-1]) == (ARKIT_FIRST, ARKIT_LAST)
    assert 100 <= head.n_identity <= 140


def test_frame_is_metres_with_the_face_to_z_and_the_left_eye_at_x(head, mean):
    points = head.landmarks(mean)[0]
    assert 0.13 < float(points[16, 0] - points[0, 0]) < 0.18  # width between the ears
    assert points[0:17:16, 1:].mean(0).abs().max() < 0.02  # centred between the ears
    assert points[30, 2] > 0.07 and points[30, 1] < points[27, 1]
    centres = mean[0, head.n_skin :].view(2, -1, 3).mean(1)
    assert centres[0, 0] > 0.02 > -0.02 > centres[1, 0]


def test_vertices_are_linear_in_identity_and_expression(head):
    g = torch.Generator().manual_seed(1)
    a, b = (torch.randn(1, head.n_identity, generator=g, dtype=torch.float64) for _ in range(2))
    e, f = (torch.rand(1, 52, generator=g, dtype=torch.float64) for _ in range(2))
    mix = head(0.3 * a + 0.7 * b, 0.3 * e + 0.7 * f)
    torch.testing.assert_close(mix, 0.3 * head(a, e) + 0.7 * head(b, f), rtol=0, atol=1e-12)


def test_expressions_add_nothing_at_zero_and_leave_the_eyeballs_alone(head, mean):
    still = head(torch.zeros(1, head.n_identity), torch.zeros(1, 52), torch.zeros(1, 2))
    torch.testing.assert_close(still, mean, rtol=0, atol=1e-7)
    moved = head(torch.zeros(52, head.n_identity), torch.eye(52)) - mean
    assert (moved[:, head.n_skin :] == 0).all()
    most = moved.norm(dim=-1).amax(1) * 1000
    moving = [i for i, n in enumerate(head.expression_names) if n != "tongueOut"]
    assert most[moving].min() > 0.5 and most.max() < 45


def test_jaw_opens_downwards_and_blinks_lower_one_lid_only(head, mean):
    def act(name):
        weights = torch.zeros(1, 52)
        weights[0, head.expression_names.index(name)] = 1
        return head.landmarks(head(torch.zeros(1, head.n_identity), weights))[0] - head.landmarks(mean)[0]

    assert act("jawOpen")[8, 1] < -0.008
    blink = act("eyeBlinkLeft")
    assert blink[43:45, 1].max() < -0.004 and blink[36:42].norm(dim=1).max() < 0.001


def test_a_coefficient_of_one_is_a_natural_amount(people, mean):
    """Whitened coefficients: random heads differ from the mean by millimetres, not by 0 and not by centimetres."""
    spread = (people - mean)[:, ::37].norm(dim=-1).mean() * 1000
    assert 1.5 < spread < 8


def test_vertices_pass_gradcheck(head):
    rows = torch.tensor([10, 5000, head.n_skin + 7, head.n_vertices - 3])

    def few(identity, expression, gaze):
        i = torch.cat([identity, identity.new_zeros(1, head.n_identity - 3)], 1)
        e = torch.cat([expression, expression.new_zeros(1, 50)], 1)
        return head(i, e, gaze)[:, rows] * 100

    values = [
        torch.tensor([v], dtype=torch.float64, requires_grad=True) for v in ([0.5, -1, 2], [0.2, 0.7], [0.1, -0.2])
    ]
    assert torch.autograd.gradcheck(few, values)


def test_gaze_turns_the_eyes_about_their_centres(head, mean):
    gaze = torch.tensor([[0.4, 0.2]])
    yaw, pitch = 0.4, 0.2
    direction = torch.tensor([0, 0, 1.0]) @ gaze_rotation(gaze)[0].T
    wanted = torch.tensor([yaw, pitch])
    torch.testing.assert_close(torch.stack([torch.atan2(direction[0], direction[2]), torch.asin(direction[1])]), wanted)
    turned = head(torch.zeros(1, head.n_identity), None, gaze)
    torch.testing.assert_close(turned[:, : head.n_skin], mean[:, : head.n_skin])
    m = (head.n_vertices - head.n_skin) // 2
    for first in (head.n_skin, head.n_skin + m):
        before, after = mean[0, first : first + m], turned[0, first : first + m]
        torch.testing.assert_close(torch.pdist(before[:60]), torch.pdist(after[:60]), rtol=0, atol=1e-6)
        assert (after[0] - before[0])[:2].min() > 0.001  # the pupil goes to the subject's left and up


def test_triangles_face_outwards(head, mean):
    v = mean[0]
    a, b, c = v[head.triangles].unbind(1)
    volume = (a * torch.linalg.cross(b, c)).sum(1) / 6
    eyes = (head.triangles >= head.n_skin).any(1)
    assert volume[~eyes].sum() > 0.002  # a head's litres
    for side in (0, 1):
        m = (head.n_vertices - head.n_skin) // 2
        own = (
            eyes
            & (head.triangles >= head.n_skin + side * m).all(1)
            & (head.triangles < head.n_skin + (side + 1) * m).all(1)
        )
        normal = torch.linalg.cross(b[own] - a[own], c[own] - a[own])
        centre = v[head.n_skin + side * m : head.n_skin + (side + 1) * m].mean(0) - torch.tensor([0, 0, 0.01])
        assert ((normal * (a[own] - centre)).sum(1) > 0).float().mean() > 0.98


# -- the atlas -----------------------------------------------------------------------------------------------------


def test_the_atlas_has_no_folds_and_keeps_clear_of_the_eye_island(head):
    skin = (head.triangles < head.teeth_rows.start).all(1)
    areas = signed_areas(head.uv, head.triangles[skin])
    assert (areas > 0).all()
    u0, v0, u1, v1 = head.eye_island
    centre, radius = head.uv.new_tensor([(u0 + u1) / 2, (v0 + v1) / 2]), (u1 - u0) / 2
    assert ((head.uv[: head.n_skin] - centre).norm(dim=1) > radius + 1.5 / 512).all()


def test_most_of_the_atlas_is_face(head, mean):
    skin = head.triangles[(head.triangles < head.n_skin).all(1)]
    flat, solid = signed_areas(head.uv, skin), triangle_areas(mean[0], skin)
    face = head.vertex_region("face")[skin].mean(1) > 0.5
    assert flat.sum() > 0.85 and flat[face].sum() > 0.55
    texels_per_mm = (flat[face] / solid[face]).sqrt().median() * 512 / 1000
    assert texels_per_mm > 1.8


def test_the_atlas_is_its_own_mirror_image(head):
    skin = head.uv[: head.teeth_rows.start]
    mirrored = torch.stack([1 - skin[:, 0], skin[:, 1]], 1)
    sample = torch.arange(0, len(skin), 9)
    assert torch.cdist(mirrored[sample], skin, compute_mode="donot_use_mm_for_euclid_dist").amin(1).max() < 1e-5


def test_uv_positions_agree_with_the_vertices(head, mean):
    size = 256
    positions, valid = head.uv_positions(mean, size)
    assert positions.shape == (1, 3, size, size) and valid.shape == (size, size)
    assert 0.85 < valid.float().mean() < 1
    points = head.landmark_ids[27:36]
    x = (head.uv[points, 0] * size).long()
    y = ((1 - head.uv[points, 1]) * size).long()  # row 0 is v = 1
    assert (positions[0, :, y, x].T - mean[0, points]).norm(dim=1).max() < 0.002


def test_eye_island_follows_the_polar_angle(head, mean):
    m = (head.n_vertices - head.n_skin) // 2
    uv, ball = head.uv[head.n_skin : head.n_skin + m], mean[0, head.n_skin : head.n_skin + m]
    assert (head.uv[head.n_skin + m :] == uv).all()
    centre = head.uv.new_tensor([sum(head.eye_island[::2]) / 2, sum(head.eye_island[1::2]) / 2])
    radius = (head.eye_island[2] - head.eye_island[0]) / 2
    offset = head.eyeball
    angle = torch.rad2deg(torch.atan2(offset[:, :2].norm(dim=1), offset[:, 2]))
    shown = angle < head.eye_angle - 1
    torch.testing.assert_close(
        ((uv - centre).norm(dim=1) / radius * head.eye_angle)[shown], angle[shown], atol=0.05, rtol=0
    )
    right, up = ball[:, 0] - ball[0, 0], ball[:, 1] - ball[0, 1]
    assert ((uv[:, 0] - centre[0]) * right).min() > -1e-6 and ((uv[:, 1] - centre[1]) * up).min() > -1e-6


# -- eyes in their sockets ------------------------------------------------------------------------------------------


def test_eyes_sit_behind_the_lids_of_random_heads(head, people):
    """The rims of the lids lie on the ball: no gap one could look through, and the ball does not bulge past them."""
    m = (head.n_vertices - head.n_skin) // 2
    points = head.landmarks(people)
    for first, lids in ((head.n_skin, range(42, 48)), (head.n_skin + m, range(36, 42))):
        ball = people[:, first : first + m]
        radius = head.eyeball.norm(dim=1)[-1]
        centre = ball[:, 0] - head.eyeball[0]
        gap = (points[:, list(lids)] - centre[:, None]).norm(dim=-1) - radius
        inner = gap[:, 1:3].mean(1), gap[:, 4:6].mean(1)  # middles of the upper and the lower lid
        for lid in inner:
            assert lid.min() > -0.0015 and lid.max() < 0.004
        assert (points[:, list(lids), 2].mean(1) < ball[..., 2].amax(1)).all()  # the cornea shows


# -- landmarks -----------------------------------------------------------------------------------------------------


def test_landmarks_have_their_numbers_and_mirror(head, mean):
    p68, p5, mesh = (head.landmarks(mean, w)[0] for w in ("68", "5", "mesh"))
    assert p68.shape == (68, 3) and p5.shape == (5, 3) and mesh.shape == (468, 3)
    flip = torch.tensor([-1.0, 1, 1])
    for a, b in ((36, 45), (39, 42), (48, 54), (31, 35), (17, 26), (4, 12)):
        assert (p68[a] - p68[b] * flip).norm() < 0.0015
    assert p5[0, 0] < 0 < p5[1, 0] and p5[2, 2] == p5[:, 2].max()
    for a, b in MESH_PAIRS.items():
        assert mesh[a, 0] < 0 < mesh[b, 0] and (mesh[a] - mesh[b] * flip).norm() < 0.0015
    assert mesh[list(MESH_MIDDLE), 0].abs().max() < 0.0015


def test_face_mesh_meets_the_68_points_where_both_name_the_same_spot(head, mean):
    p68, mesh = head.landmarks(mean)[0], head.landmarks(mean, "mesh")[0]
    for ours, theirs in ((36, 33), (39, 133), (42, 362), (45, 263), (48, 61), (54, 291), (30, 4), (8, 152)):
        assert (p68[ours] - mesh[theirs]).norm() < (0.02 if ours == 8 else 0.006), (ours, theirs)
    assert mesh[13, 1] > mesh[14, 1]  # inner rims of the upper and of the lower lip
    assert mesh[159, 1] > mesh[145, 1]


def test_the_outline_of_the_face_counts_less(head):
    weights = head.landmark_weights("mesh")
    assert weights.shape == (468,) and weights.min() >= 0 and weights.max() <= 1
    outline, inner = weights[[234, 454, 172, 397]], weights[[33, 263, 61, 291, 4, 168]]
    assert outline.max() < 0.3 < inner.min()


def test_landmarks_are_differentiable(head):
    identity = torch.zeros(1, head.n_identity, requires_grad=True)
    head.landmarks(head(identity), "mesh").square().sum().backward()
    assert torch.isfinite(identity.grad).all() and identity.grad.abs().max() > 0


# -- regions -------------------------------------------------------------------------------------------------------


def test_regions_cover_what_they_name(head):
    size = 256
    masks = {name: head.region(name, size) for name in head.region_names}
    for name, mask in masks.items():
        assert mask.shape == (size, size) and mask.min() >= 0 and mask.max() <= 1, name
        assert mask.sum() > 20, name
    for a, b in (("ears", "face"), ("scalp", "face"), ("lips", "nose"), ("brows", "lips"), ("eyes", "skin"),
                 ("mouth_interior", "face"), ("brows", "eyelids")):  # fmt: skip
        shared = torch.minimum(masks[a], masks[b]).sum() / min(masks[a].sum(), masks[b].sum())
        assert shared < 0.12, (a, b, float(shared))
    rows = torch.arange(size)[:, None].float()
    height = {n: float((masks[n] * rows).sum() / masks[n].sum()) for n in ("brows", "nose", "lips")}
    assert height["brows"] < height["nose"] < height["lips"]  # image orientation: row 0 at the top


def test_regions_agree_with_the_vertices(head):
    assert head.vertex_region("lips")[head.landmark_ids[[51, 57]]].min() > 0.3
    assert head.vertex_region("nose")[head.landmark_ids[30]] > 0.5
    assert head.vertex_region("eyes")[: head.n_skin].max() == 0 and head.vertex_region("eyes")[head.n_skin :].min() == 1
    iris = head.vertex_region("iris")
    assert 0 < iris.sum() < head.vertex_region("eyes").sum() / 2


def test_the_mouth_is_occluded_and_the_eyes_are_smooth(head):
    assert head.occlusion.shape == head.roughness.shape == (head.n_vertices,)
    inside, cheek = head.vertex_region("mouth_interior") > 0.5, head.landmark_ids[30]
    assert head.occlusion[inside].mean() < 0.5 < head.occlusion[cheek] <= 1
    assert head.roughness[head.n_skin :].max() < head.roughness[cheek]


# -- mistakes ------------------------------------------------------------------------------------------------------


def test_unknown_names_are_answered_with_the_known_ones(head, mean):
    with pytest.raises(UserError, match="lips"):
        head.region("moustache")
    with pytest.raises(UserError, match="mesh"):
        head.landmarks(mean, "98")


def test_a_missing_or_damaged_file_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="missing"):
        load_head(tmp_path / "none.safetensors")
    whole = ASSET.read_bytes()
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="damaged"):
        load_head(cut)
    noise = tmp_path / "noise.safetensors"
    noise.write_bytes(b"not a head at all")
    with pytest.raises(UserError, match="damaged"):
        load_head(noise)
    length = struct.unpack("<Q", whole[:8])[0]
    header = json.loads(whole[8 : 8 + length])
    header["__metadata__"]["format"] = "something else"
    foreign = json.dumps(header).encode()
    other = tmp_path / "other.safetensors"
    other.write_bytes(struct.pack("<Q", len(foreign)) + foreign + whole[8 + length :])
    with pytest.raises(UserError, match="not a head model"):
        load_head(other)


def test_attribute_directions_point_where_their_names_say(head, mean):
    assert head.attribute_directions.shape == (6, head.n_identity) == (len(head.attribute_names), head.n_identity)
    at = {name: head.attribute_directions[i][None] for i, name in enumerate(head.attribute_names)}

    def points(name, amount):
        return head.landmarks(head(amount * at[name]))[0]

    def jaw(p):
        return float(p[12, 0] - p[4, 0])

    def nose(p):
        return float((p[35, 0] - p[31, 0]) / (p[45, 0] - p[36, 0]))

    assert jaw(points("feminine", 0.5)) < jaw(head.landmarks(mean)[0]) < jaw(points("feminine", -0.5))
    assert jaw(points("weight", 0.5)) > jaw(points("weight", -0.5)) + 0.002  # metres
    assert nose(points("african", 0.6)) > nose(points("caucasian", 0.6))
    assert torch.allclose(sum(at[n] for n in ("african", "asian", "caucasian")), torch.zeros(1), atol=1e-3)


def test_a_head_file_without_attributes_loads_and_one_with_wrong_ones_is_refused(tmp_path):
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(str(ASSET), "pt") as f:
        data, metadata = {k: f.get_tensor(k) for k in f.keys()}, f.metadata()  # noqa: SIM118
    info = json.loads(metadata["head"])
    directions, names = data.pop("attribute_directions"), info.pop("attribute_names")
    path = tmp_path / "head.safetensors"
    save_file(data, str(path), {**metadata, "head": json.dumps(info)})
    old = load_head(path)
    assert old.attribute_names == () and old.attribute_directions.shape == (0, old.n_identity)
    save_file(
        data | {"attribute_directions": directions[:2]},
        str(path),
        {**metadata, "head": json.dumps(info | {"attribute_names": names})},
    )
    with pytest.raises(UserError, match="damaged"):
        load_head(path)
