"""Which haircuts a photo allows."""

import numpy as np
import pytest
import torch

from fitdiff_core.filters import gaussian_blur
from fitdiff_core.hair.invent import pigment
from fitdiff_core.hair.kind import COILED_SHORT, CROPS, LONG, SHORT, TIED, Cut, candidates, strand_order
from fitdiff_core.hair.presets import PRESETS

NOTHING = float("nan")


def cut(top=0.03, side=0.02, hem=-0.01, ears=0.0, order=0.7) -> Cut:
    return Cut(top, side, hem, ears, order)


@pytest.mark.parametrize(
    ("seen", "names"),
    [
        (cut(top=0.01, side=0.006, order=0.3), COILED_SHORT),
        (cut(top=0.01, side=0.006, order=0.45), CROPS),
        (cut(top=0.01, side=0.006, order=0.65), SHORT),
        (cut(top=NOTHING, side=NOTHING, order=NOTHING), CROPS),
        (cut(hem=-0.2, ears=0.9), LONG),
    ],
)
def test_lengths_and_texture_say_which_presets_may_be_tried(seen, names):
    assert candidates(seen, feminine=0.3) == names
    assert set(names) <= set(PRESETS)


def test_high_coils_are_an_afro_and_hanging_ones_are_long():
    assert "afro" in candidates(cut(top=0.05, order=0.3))
    assert "afro" not in candidates(cut(top=0.012, order=0.3))
    assert "long_curly" in candidates(cut(hem=-0.2, ears=0.9, order=0.35))


def test_sleek_hair_off_the_ears_is_tied_for_women_alone():
    sleek = cut(top=0.01, side=0.005, order=0.8)
    assert candidates(sleek, feminine=0.7) == TIED
    assert candidates(sleek, feminine=0.2) == SHORT
    assert candidates(sleek._replace(ears=0.8), feminine=0.7) == SHORT
    assert candidates(sleek._replace(forehead=0.4), feminine=0.7) == SHORT


def test_the_less_order_the_more_wave():
    waves = [cut(hem=-0.2, order=o).wave for o in (0.5, 0.6, 0.7, 0.8)]
    assert waves == sorted(waves, reverse=True)
    assert waves[-1] == 0 == cut(order=NOTHING).wave


def test_swept_strands_have_more_order_than_coils():
    rng = torch.Generator().manual_seed(0)
    mask = torch.zeros(160, 160)
    mask[40:100, 40:120] = 1
    noise = torch.rand(1, 1, 480, 480, generator=rng)
    coils = 0.3 + gaussian_blur(noise, 1.0)[0, 0] * 0.2
    swept = 0.3 + noise[:, :, :1].expand(-1, -1, 480, -1)[0, 0] * 0.2
    orders = [strand_order(x[None].expand(3, -1, -1), mask) for x in (coils, swept)]
    assert orders[0] < 0.42 < 0.8 < orders[1] <= 1 + 1e-6


def test_too_little_hair_and_no_finer_view_have_no_order():
    mask = torch.zeros(160, 160)
    assert np.isnan(strand_order(torch.rand(3, 480, 480), mask))
    assert np.isnan(strand_order(None, mask + 1))


@pytest.mark.parametrize("colour", [(0.02, 0.022, 0.03), (0.3, 0.31, 0.36), (0.14, 0.15, 0.1)])
def test_natural_hair_is_neither_blue_nor_green(colour):
    made = pigment(np.array(colour))["dye"]
    if made is not None:
        red, green, blue = made
        assert red >= green * 0.97
        assert green >= blue * 0.97


def test_hair_that_is_dyed_blue_stays_blue():
    red, _, blue = pigment(np.array([0.03, 0.05, 0.5]))["dye"]
    assert blue > 3 * red
