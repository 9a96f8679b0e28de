"""Masks of the atlas' regions, and the template to paint over."""

from __future__ import annotations

import pytest
import torch

from fitdiff_core.errors import UserError
from fitdiff_core.filters import gaussian_blur_replicate
from fitdiff_core.head.uv_template import OUTLINES, REGIONS, region_mask, template


def test_every_region_of_the_head_has_a_mask(head):
    assert set(REGIONS) == {*head.region_names, "all"} and set(OUTLINES) < set(REGIONS)
    for name in REGIONS:
        mask = region_mask(head, name, 128)
        assert mask.shape == (128, 128) and mask.min() >= 0 and 0.9 < mask.max() <= 1, name
    everything = region_mask(head, "all", 128)
    for name in ("lips", "scalp", "neck", "mouth_interior"):
        assert (region_mask(head, name, 128) <= everything + 1e-6).all(), name
    assert 0.8 < everything.mean() < 1
    with pytest.raises(UserError, match="lips"):
        region_mask(head, "tail")


def test_masks_lie_where_the_landmarks_do(head):
    """The corner of the mouth is lip, the tip of the nose is nose: row 0 is v = 1."""
    size = 256
    for name, landmark in (("lips", 51), ("nose", 30), ("brows", 19), ("brows", 24)):
        u, v = head.uv[head.landmark_ids[landmark]].tolist()
        y, x = int((1 - v) * size), int(u * size)
        assert region_mask(head, name, size)[y - 3 : y + 4, x - 3 : x + 4].max() > 0.5, name


def test_feather_softens_edges_and_keeps_the_area(head):
    hard, soft = region_mask(head, "lips", 256), region_mask(head, "lips", 256, 12.0)
    assert soft.sum().item() == pytest.approx(hard.sum().item(), rel=0.01)
    steep = (hard[:, 1:] - hard[:, :-1]).abs().max()
    assert (soft[:, 1:] - soft[:, :-1]).abs().max() < 0.5 * steep
    edge = torch.zeros(64, 64)
    edge[:, 32:] = 1
    row = gaussian_blur_replicate(edge, 3.0)[32]
    assert row[20] < 1e-3 and row[44] > 1 - 1e-3 and row[31:33].mean().item() == pytest.approx(0.5, abs=1e-5)
    assert row[32 + 3].item() == pytest.approx(0.5 * (1 + torch.erf(torch.tensor(3.5 / 3 / 2**0.5)).item()), abs=0.01)


def test_template_shows_outlines_and_names(head):
    plain, named = template(head, 512, names=False), template(head, 512)
    assert named.shape == (1, 3, 512, 512) and named.min() >= 0 and named.max() <= 1
    colors = {tuple((c * 255).round().long().tolist()) for c in plain[0].flatten(1).T.unique(dim=0)}
    assert set(OUTLINES.values()) <= colors, "every region is outlined"
    written = (plain != named).any(1)[0]
    assert 0.002 < written.float().mean() < 0.05
    assert plain[0].median().item() == pytest.approx(118 / 255, abs=0.07), "mid-grey"


def test_template_names_the_subjects_sides(head, monkeypatch):
    """Seen from the front, the subject's left brow lies in the right half of the atlas."""

    left = head.uv[head.landmark_ids[24], 0]
    from fitdiff_core.head import uv_template

    vertices = head(torch.zeros(1, head.n_identity))[0]
    assert vertices[head.landmark_ids[24], 0] > 0
    assert uv_template._left_is_right_of_middle(head) == bool(left > 0.5)
