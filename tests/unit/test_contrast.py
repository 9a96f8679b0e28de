"""An albedo keeps features and moles, and loses black shadows and white gleams."""

import pytest
import torch

from fitdiff_core.contrast import FINE, FREE, LIMITS, ContrastLimits, forehead, soft
from fitdiff_core.fitting.regions import regions
from fitdiff_core.maps import ALBEDO_EPSILON

SIZE = 128
FACE = LIMITS["face"]


def spot(factor, side, size=SIZE):
    """Skin with a square of another lightness in its middle, and the log of the skin."""
    albedo = torch.full((1, 3, size, size), 0.4)
    around = (albedo + ALBEDO_EPSILON).log()
    a, b = (size - side) // 2, (size + side) // 2
    albedo[:, :, a:b, a:b] *= factor
    return albedo, around


def everywhere(*steps):
    """The same limits in every texel."""
    return ContrastLimits(torch.tensor(steps).view(1, 3, 1, 1).expand(1, 3, SIZE, SIZE), torch.zeros(1, 1, SIZE, SIZE))


def middle(x):
    return float(x[0, 0, SIZE // 2, SIZE // 2])


def test_a_wide_black_patch_gets_lighter_and_a_beard_does_not():
    albedo, around = spot(0.1, 32)
    skin, beard = (everywhere(*x).impose(albedo, around) for x in ((0.5, 0.35, 0.2), (FREE, FREE, FREE)))
    assert middle(skin) > 0.2
    assert middle(beard) == pytest.approx(middle(albedo))


def test_a_mole_and_a_fold_stay():
    for factor, side in ((0.4, 1), (0.85, 32)):
        albedo, around = spot(factor, side)
        assert middle(everywhere(*FACE).impose(albedo, around)) < 1.2 * middle(albedo)


def test_a_gleam_is_dimmed_at_any_size():
    for side in (1, 24):
        albedo, around = spot(2.4, side)
        assert middle(everywhere(*FACE).impose(albedo, around)) < 0.4 * 1.35 * 2.718 ** (FACE[1] + FINE)


def test_a_strand_on_the_forehead_fades_more_than_on_a_cheek():
    albedo, around = spot(0.1, 3)
    forehead_limits, cheek = (everywhere(*x).impose(albedo, around) for x in ((0.06, 0.06, 0.03), FACE))
    assert middle(forehead_limits) > 1.5 * middle(cheek)


def test_lips_are_compared_with_the_lips_of_the_reference(head):
    limits = ContrastLimits.of(head, 128)
    reference = torch.full((1, 3, 128, 128), 0.4)
    reference = torch.where(limits.lips > 0.5, 0.2, reference)
    around = limits.around(torch.full((1, 3, 8, 8), 0.4).log(), reference)
    lips, cheek = limits.lips[0, 0] > 0.99, regions(head, ("face",), 128)[0, 0] > 0.99
    assert around[0, 0][lips].exp().median() == pytest.approx(0.2, rel=0.1)
    assert around[0, 0][cheek].exp().median() == pytest.approx(0.4, rel=0.01)
    pale = limits.impose(torch.full((1, 3, 128, 128), 0.4), around)[0, 0]
    assert pale[lips].median() < 0.37 and pale[cheek].median() == pytest.approx(0.4, rel=0.02)


def test_what_is_within_the_limit_is_kept_and_the_rest_stays_near_it():
    x = torch.tensor([-9.0, -0.1, 0.1, 9.0])
    assert soft(x, 0.35)[1:3].equal(x[1:3]) and soft(x, 0.35).abs().max() <= 1.31 * 0.35


def test_brows_may_be_darker_than_skin_and_less_beside_what_is_hidden(head):
    limits = ContrastLimits.of(head, 256).steps[:, :1]
    brows, face = (regions(head, (n,), 256) > 0.95 for n in ("brows", "face"))
    features = regions(
        head, ("brows", "eyelids", "lips", "eyes", "mouth_interior", "nose", "scalp", "ears", "neck"), 256
    )
    plain = face & (torch.nn.functional.max_pool2d(features, 21, 1, 10) < 0.05)
    above = forehead(head, 256) > 0
    assert limits[brows].median() > 1.2 and limits[plain & ~above].median() == pytest.approx(FACE[0], abs=0.02)
    assert limits[plain & above].median() < 0.1
    beside = ContrastLimits.of(head, 256, hidden=torch.ones(1, 1, 128, 128)).steps[:, :1]
    assert beside[plain].max() < 0.2 and beside[brows].median() > 1
