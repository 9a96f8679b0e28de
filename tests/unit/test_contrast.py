"""An albedo keeps features and moles, and loses black shadows and white gleams."""

import pytest
import torch

from fitdiff_core.contrast import BRIGHTEST, FREE, darkest, limited, soft
from fitdiff_core.fitting.regions import regions
from fitdiff_core.maps import ALBEDO_EPSILON

SIZE = 128


def spot(factor, side, size=SIZE):
    """Skin with a square of another lightness in its middle, and the log of the skin."""
    albedo = torch.full((1, 3, size, size), 0.4)
    around = (albedo + ALBEDO_EPSILON).log()
    a, b = (size - side) // 2, (size + side) // 2
    albedo[:, :, a:b, a:b] *= factor
    return albedo, around


def middle(x):
    return float(x[0, 0, SIZE // 2, SIZE // 2])


def test_a_wide_black_patch_gets_lighter_and_a_beard_does_not():
    albedo, around = spot(0.1, 32)
    skin, beard = (limited(albedo, around, torch.full((1, 1, SIZE, SIZE), x)) for x in (0.5, FREE))
    assert middle(skin) > 0.2
    assert middle(beard) == pytest.approx(middle(albedo))


def test_a_mole_and_a_fold_stay():
    for factor, side in ((0.3, 1), (0.85, 32)):
        albedo, around = spot(factor, side)
        assert middle(limited(albedo, around, torch.full((1, 1, SIZE, SIZE), 0.5))) < 1.2 * middle(albedo)


def test_a_gleam_is_dimmed_at_any_size():
    for side in (1, 24):
        albedo, around = spot(2.4, side)
        assert middle(limited(albedo, around, torch.full((1, 1, SIZE, SIZE), 0.5))) < 0.4 * 1.7


def test_what_is_within_the_limit_is_kept_and_the_rest_stays_near_it():
    x = torch.tensor([-9.0, -0.1, 0.1, 9.0])
    assert soft(x, BRIGHTEST)[1:3].equal(x[1:3]) and soft(x, BRIGHTEST).abs().max() <= 1.31 * BRIGHTEST


def test_brows_may_be_darker_than_skin_and_less_beside_what_is_hidden(head):
    limits = darkest(head, 256)
    brows, face = (regions(head, (n,), 256) > 0.95 for n in ("brows", "face"))
    features = regions(
        head, ("brows", "eyelids", "lips", "eyes", "mouth_interior", "nose", "scalp", "ears", "neck"), 256
    )
    plain = face & (torch.nn.functional.max_pool2d(features, 21, 1, 10) < 0.05)
    assert limits[brows].median() > 1.2 and limits[plain].median() == pytest.approx(0.7, abs=0.02)
    beside = darkest(head, 256, hidden=torch.ones(1, 1, 128, 128))
    assert beside[plain].max() < 0.2 and beside[brows].median() > 1
