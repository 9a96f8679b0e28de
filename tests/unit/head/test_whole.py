"""The whole head: lids that shut, lips that stay shut, teeth inside the skin, and a neck that is closed."""

import pytest
import torch

from fitdiff_core.hair.lashes import grow_lashes
from fitdiff_core.head.corrections import full_expressions, posed
from fitdiff_core.head.inner_mouth import PATCH, TEETH, TONGUE, paint_mouth, patch_mask
from fitdiff_core.head.teeth import PATCH as TEETH_PATCH
from fitdiff_core.head.uv_template import region_mask
from fitdiff_core.head.whole import whole_head
from fitdiff_lab.evaluate.head_motion import chins_apart, lids_apart, lips_cross, teeth_outside, weights

PEOPLE = [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(17, marks=pytest.mark.slow)]


def person(head, seed):
    return torch.randn(1, head.n_identity, generator=torch.Generator().manual_seed(seed)).double()


@pytest.mark.parametrize("seed", PEOPLE)
def test_lids_shut_and_lips_stay(head, seed):
    shape = person(head, seed)
    assert lids_apart(head, shape) <= 0
    assert lips_cross(head, shape)[0] < 0.3
    assert chins_apart(head, shape) < 1


def test_without_the_corrections_they_do_not(head, monkeypatch):
    monkeypatch.setattr("fitdiff_lab.evaluate.head_motion.posed", lambda head, shape, e: head(shape, e))
    shape = person(head, 0)
    assert lids_apart(head, shape) > 1 and lips_cross(head, shape)[0] > 4


def test_half_open_lids_are_as_the_fit_found_them(head):
    shape, squint = person(head, 2), weights(head, {"eyeBlink": 0.3, "jawOpen": 0.2, "mouthSmile": 0.5})
    moved = (posed(head, shape, squint) - head(shape, squint)).norm(dim=-1).max()
    assert 0 < moved < 2e-4
    still = weights(head, {"mouthSmile": 1, "mouthClose": 0.3})
    assert torch.equal(posed(head, shape, still), head(shape, still))


def test_no_tooth_is_outside_the_skin(head):
    assert max(count for _, count in teeth_outside(head, person(head, 3))) == 0


def test_that_test_can_fail(head):
    """A head whose cheeks are drawn in by two centimetres."""
    shape, whole = person(head, 3), whole_head(head)
    rows = whole.mouth.mean[:, 0].abs() > 0
    original = whole.mouth.mean.clone()
    try:
        whole.mouth.mean[rows] *= torch.tensor([2.6, 1, 1]).double()
        assert max(count for _, count in teeth_outside(head, shape)) > 20
    finally:
        whole.mouth.mean = original


def test_the_head_models_own_vertices_come_first_and_unchanged(head):
    shape, whole = person(head, 4), whole_head(head)
    vertices, plain = whole.vertices(shape)[0], head(shape)[0]
    assert len(vertices) == whole.n_vertices == len(whole.uv) == len(whole.roughness)
    walls = torch.zeros(len(plain), dtype=torch.bool)
    walls[whole.mouth.wall_rows] = True
    neck = torch.zeros_like(walls)
    neck[whole.neck.rows] = True
    assert not (neck & (head.vertex_region("neck") == 0)).any()
    assert torch.equal(vertices[: len(plain)][~walls & ~neck], plain[~walls & ~neck])
    assert (vertices[: len(plain)] - plain)[walls].norm(dim=1).max() < 0.009
    assert torch.equal(whole.triangles[: len(head.triangles)], head.triangles)
    light = whole.light_at(vertices[None])
    assert light.shape == (1, whole.n_vertices) and (light >= 0).all() and (light <= 1).all()
    assert torch.equal(light[:, : len(plain)], head.light_at(plain[None]))


def test_tongue_and_molars(head):
    shape, mouth = person(head, 5), whole_head(head).mouth
    rest = mouth.vertices(shape, None)[0]
    out = mouth.vertices(shape, weights(head, {"tongueOut": 1.0}))[0]
    lips = head.landmarks(head(shape))[0, 60:68, 2].max()
    tongue = mouth.kind == TONGUE
    assert rest[tongue, 2].max() < lips - 0.004 < lips + 0.004 < out[tongue, 2].max()
    assert torch.equal(out[~tongue], rest[~tongue])
    opened = mouth.vertices(shape, weights(head, {"jawOpen": 1.0}))[0]
    drop = (rest - opened)[:, 1]
    molars = mouth.kind == TEETH
    low = molars & (mouth.jaw > 0.5)
    assert drop[low].min() > 0.005 and drop[molars & ~low].abs().max() < 1e-6
    assert 0.3 < low.sum() / molars.sum() < 0.8


def test_the_neck_is_closed_and_its_border_goes_round(head):
    whole = whole_head(head)
    cut = whole.parts["Cut"]
    faces = whole.triangles[(whole.triangles >= cut.start).all(1)]
    assert len(faces) == len(whole.border) and len(whole.border.unique()) == len(whole.border)
    vertices = whole.vertices(person(head, 6))[0]
    ring = vertices[whole.border]
    assert torch.equal(vertices[cut][: len(ring)], ring), "the underside begins at the edge"
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    normal = torch.linalg.cross(b - a, c - a)
    assert (normal[:, 1] < 0).all(), "seen from below"
    assert ring[0, 2] == pytest.approx(float(ring[:, 2].max()), abs=2e-3) and ring[len(ring) // 4, 0] > 0.02
    assert (ring - ring.roll(1, 0)).norm(dim=1).max() < 0.02


def test_lashes_grow_on_the_lids_and_look_down_with_them(head):
    shape = person(head, 7)
    opened, shut = (grow_lashes(head, shape, posed(head, shape, weights(head, {"eyeBlink": w}))[0]) for w in (0.0, 1.0))
    assert len(opened.positions) == 2 * 5 * 2 * (46 + 24)
    root, tip = (
        opened.positions.view(2, 70, 5, 2, 3).mean(3)[:, :, 0],
        opened.positions.view(2, 70, 5, 2, 3).mean(3)[:, :, -1],
    )
    length = (tip - root).norm(dim=-1)
    assert 0.001 < length.min() and length.max() < 0.013
    upper = (tip - root)[:, :46]
    assert (upper[..., 2] > 0).float().mean() > 0.9 and upper[..., 1].mean() > 0.001, "forward and up"
    down = shut.positions.view(2, 70, 5, 2, 3).mean(3)
    assert (down[:, :46, -1, 1] - tip[:, :46, 1]).mean() < -0.006
    again = grow_lashes(head, shape, posed(head, shape, weights(head, {"eyeBlink": 0.0}))[0])
    assert torch.equal(again.positions, opened.positions)


def test_the_patch_of_the_mouth_meets_nothing_else(head):
    used = region_mask(head, "all", 512) > 0
    assert not (used & patch_mask(512)).any()
    assert PATCH[1] > TEETH_PATCH[3] + 4 / 512
    maps = torch.rand(1, 9, 256, 256)
    painted = paint_mouth(maps)
    assert torch.equal(painted[..., ~patch_mask(256)], maps[..., ~patch_mask(256)])
    low, high = painted[0, :3, 215, :], painted[0, :3, 204, :]
    columns = patch_mask(256)[210]
    assert low[:, columns].mean() < 0.3 * high[:, columns].mean(), "dark where little light arrives"


def test_single_expressions_are_corrected_by_their_weight(head):
    shape, i = person(head, 8), head.expression_names.index("eyeBlinkLeft")
    one = torch.eye(52)[i : i + 1].double()
    assert torch.allclose(full_expressions(head, shape)[i][None], posed(head, shape, one))


@pytest.mark.parametrize("seed", [0, 5])
def test_the_neck_ends_in_a_level_round_edge(head, seed):
    shape = 0.8 * torch.randn(1, head.n_identity, generator=torch.Generator().manual_seed(seed))
    whole = whole_head(head)
    edge = whole.vertices(shape)[0][whole.border]
    assert edge[:, 1].max() - edge[:, 1].min() < 1e-4
    flat = (edge - (edge[0] + edge[len(edge) // 2]) / 2)[:, [0, 2]].norm(dim=1)
    assert flat.max() / flat.min() < 1.15
    moved = torch.zeros(head.n_vertices)
    moved[whole.neck.rows] = whole.neck.offsets(head(shape))[0].norm(dim=1)
    assert moved.max() > 0.01 and moved[head.vertex_region("face") > 0.5].max() < 1e-3
    # no step: neighbours in the neck move nearly alike
    tri = head.triangles[(head.triangles < head.teeth_rows.start).all(1)]
    tri = tri[(head.vertex_region("neck")[tri] > 0.99).all(1)]
    assert (moved[tri].amax(1) - moved[tri].amin(1)).max() < 0.008
