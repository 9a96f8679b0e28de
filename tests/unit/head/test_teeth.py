"""Teeth stand behind the lips of whoever it is, follow the jaw, and have a patch of the atlas to themselves."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fitdiff_core.head.teeth import PATCH, paint, patch_mask
from fitdiff_core.head.uv_template import region_mask
from fitdiff_core.render import Camera
from fitdiff_core.render.rasterizer import rasterize
from tests.support.expressions import weights_of

SIZE = 320
FACES = {
    "rest": {},
    "smile": {"mouthSmile": 0.9, "jawOpen": 0.15},
    "laugh": {"mouthSmile": 0.8, "jawOpen": 0.3, "mouthUpperUp": 0.5},
    "jaw": {"jawOpen": 0.8},
    "funnel": {"jawOpen": 0.3, "mouthFunnel": 0.7},
    "pucker": {"mouthPucker": 1},
    "press": {"mouthPress": 1},
    "roll": {"mouthRollUpper": 1, "mouthRollLower": 1},
    "aside": {"jawLeft": 1, "mouthLeft": 0.6},
    "forth": {"jawForward": 1},
    "kept shut": {"jawOpen": 0.6, "mouthClose": 0.6},
}


def seen(head, vertices, camera):
    """(`[S, S]` bool: teeth, the same: where the lips leave an opening), row 0 at the bottom."""
    clip = camera.clip(vertices)
    face = rasterize(clip, head.triangles, (SIZE, SIZE))[0, ..., 3].long()
    of_teeth = (head.triangles >= head.teeth_rows.start).all(1) & (head.triangles < head.n_skin).all(1)
    teeth = (face > 0) & of_teeth[(face - 1).clamp(min=0)]
    inner = head.landmarks(clip[..., :2] / clip[..., 3:])[0, 60:68]
    fan = torch.tensor([[0, i, i + 1] for i in range(1, 7)])
    points = torch.cat([inner, torch.zeros(8, 1), torch.ones(8, 1)], 1)
    both = torch.cat([fan, fan.flip(1)])
    opening = rasterize(points[None], both, (SIZE, SIZE))[0, ..., 3] > 0
    return teeth, opening


@pytest.mark.parametrize("n", [1, pytest.param(8, marks=pytest.mark.slow)])
def test_teeth_show_between_the_lips_and_nowhere_else(head, n):
    """Of the mean head, and of random heads."""
    random = torch.randn(7, head.n_identity, generator=torch.Generator().manual_seed(0))
    people = torch.cat([torch.zeros(1, head.n_identity), random])[:n]
    shown = dict.fromkeys(FACES, 0)
    for identity in people:
        for name, actions in FACES.items():
            vertices = head(identity[None], weights_of(head, **actions))
            middle = tuple(head.landmarks(vertices)[0, 48:68].mean(0).tolist())
            for yaw, pitch in ((0, 0), (35, 0), (-35, 10), (0, -20)):
                teeth, opening = seen(head, vertices, Camera.orbit(yaw, pitch, 0.8, 7.0, middle))
                near = (
                    F.max_pool2d(opening[None, None].float(), 33, 1, 16)[0, 0] > 0
                )  # 5 mm: eight points tell the rim no better
                outside = int((teeth & ~near).sum())
                assert outside < 10, (name, yaw, pitch, outside)  # a square millimetre, in the corner of the mouth
                if not yaw and not pitch:
                    shown[name] += int(teeth.sum())
    assert shown["laugh"] > shown["smile"] > n * 800 > 20 * shown["rest"], shown
    assert shown["kept shut"] < n * 100 and shown["press"] < n * 100, shown


def test_the_upper_row_stays_and_the_lower_follows_the_jaw(head):
    moved = head(torch.zeros(52, head.n_identity), torch.eye(52)) - head(torch.zeros(1, head.n_identity))
    most = moved[:, head.teeth_rows].norm(dim=-1)
    jaw = {head.expression_names.index(n) for n in ("jawOpen", "jawForward", "jawLeft", "jawRight")}
    assert all((most[i].max() > 0.003) == (i in jaw) for i in range(52))
    still = most[sorted(jaw)].amax(0) < 1e-6
    assert 0.3 < still.float().mean() < 0.8
    at = head(torch.zeros(1, head.n_identity))[0, head.teeth_rows, 1]
    assert at[still].mean() > at[~still].mean() + 0.005, "the row that stays is the upper one"
    drop = moved[head.expression_names.index("jawOpen"), head.teeth_rows][~still]
    assert drop[:, 1].max() < -0.01


def test_teeth_keep_their_form(head):
    """A similarity of them: distances within the rows change by one factor for each person."""
    at = head(torch.randn(6, head.n_identity, generator=torch.Generator().manual_seed(1)))[:, head.teeth_rows]
    mean = head(torch.zeros(1, head.n_identity))[0, head.teeth_rows]
    pairs = torch.randint(len(mean), (400, 2), generator=torch.Generator().manual_seed(2))
    pairs = pairs[(mean[pairs[:, 0]] - mean[pairs[:, 1]]).norm(dim=1) > 0.01]
    ratio = (at[:, pairs[:, 0]] - at[:, pairs[:, 1]]).norm(dim=-1) / (mean[pairs[:, 0]] - mean[pairs[:, 1]]).norm(
        dim=-1
    )
    assert (ratio / ratio.mean(1, keepdim=True) - 1).abs().max() < 0.03
    assert 0.8 < ratio.mean(1).min() and ratio.mean(1).max() < 1.25


def test_lips_touch_at_rest(head):
    """Of half of all heads; the others part or press them by little."""
    people = head(torch.randn(100, head.n_identity, generator=torch.Generator().manual_seed(3)))
    points = head.landmarks(people)
    gap = (points[:, 61:64] - points[:, [67, 66, 65]])[..., 1].amax(1)
    assert -0.001 < gap.median() < 0.0002 and gap.quantile(0.9) < 0.001


def test_the_patch_in_the_atlas_is_of_the_teeth_alone(head):
    u0, v0, u1, v1 = PATCH
    uv = head.uv[head.teeth_rows]
    assert (uv > uv.new_tensor([u0, v0])).all() and (uv < uv.new_tensor([u1, v1])).all()
    clear = F.max_pool2d(patch_mask(512)[None, None].float(), 9, 1, 4)[0, 0] > 0
    others = [n for n in head.region_names if n not in ("teeth", "mouth_interior")]
    assert all(not (clear & (region_mask(head, n, 512) > 0)).any() for n in others)
    used = region_mask(head, "all", 512) > 0
    assert (used & patch_mask(512)).sum() > 0.3 * patch_mask(512).sum() and not (used & clear & ~patch_mask(512)).any()
    assert torch.equal(region_mask(head, "teeth", 512) > 0, patch_mask(512))


@pytest.mark.parametrize("size", [256, 512, 1024])
def test_paint_changes_the_patch_and_lets_gradients_pass_elsewhere(size):
    maps = torch.rand(2, 9, size, size, requires_grad=True)
    painted = paint(maps)
    patch = patch_mask(size)
    assert torch.equal(painted[..., ~patch], maps[..., ~patch])
    teeth = painted[..., patch]
    assert teeth[:, :3].min() > 0.3 and (teeth[:, 0] > teeth[:, 2]).all(), "ivory"
    assert torch.equal(teeth[:, 6:], torch.tensor([0.0, 0.0, 1.0])[:, None].expand_as(teeth[:, 6:]))
    painted.sum().backward()
    assert torch.equal(maps.grad, (~patch).float().expand_as(maps))
    np.testing.assert_allclose(
        F.avg_pool2d(painted, 2)[..., patch_mask(size // 2)].detach(),
        paint(F.avg_pool2d(maps, 2))[..., patch_mask(size // 2)].detach(),
        atol=0.01,
    )


def test_what_was_painted_in_inference_mode_serves_gradients_too():
    with torch.inference_mode():
        paint(torch.rand(1, 9, 48, 48))
    maps = torch.rand(1, 9, 48, 48, requires_grad=True)
    paint(maps).sum().backward()
    assert maps.grad.sum() > 0


def test_light_reaches_teeth_through_the_lips_only(head):
    shut, ajar, wide = (head(torch.zeros(1, head.n_identity), weights_of(head, jawOpen=w)) for w in (0.0, 0.15, 0.7))
    light = [head.light_at(v)[0] for v in (shut, ajar, wide)]
    teeth = [x[head.teeth_rows].max() for x in light]
    assert teeth[0] < 0.02 < 0.15 < teeth[1] < teeth[2] <= 0.9 + 1e-3
    others = torch.ones(head.n_vertices, dtype=torch.bool)
    others[head.teeth_rows] = False
    assert all(torch.equal(x[others], head.occlusion[others]) for x in light)
