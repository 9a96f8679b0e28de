"""The command that compares a head's colours with its photo's."""

import math

import pytest
import torch

from fitdiff_core.render import Light
from fitdiff_lab.evaluate.photos.colour import AREAS, key_of, shift, summary


def test_shift_is_picture_less_photo_where_neither_is_burnt_out():
    photo = torch.tensor([0.7, 0.55, 0.5])[None, :, None, None].repeat(1, 1, 8, 8)
    redder = photo * torch.tensor([1.05, 0.95, 1.0])[:, None, None]
    redder[..., :2] = 1.0  # a highlight
    everywhere = torch.ones(8, 8, dtype=torch.bool)
    change, own = shift(redder, photo, everywhere)
    assert change[1] > 4 and abs(change[2]) < 4
    assert own == pytest.approx(shift(photo, photo, everywhere)[1])
    assert shift(photo, photo, everywhere)[0] == pytest.approx([0, 0, 0])


def test_means_of_shifts_and_of_their_amounts():
    rows = [{"shifts": {"render": {area: [1.0, sign * 2.0, 0.0] for area in AREAS}}} for sign in (1, -1)]
    found = summary(rows)["render"]["lips"]
    assert found["L"] == 1 and found["a"] == 0 and found["|a|"] == 2
    assert summary([]) == {}


def test_a_key_lights_angles_and_tint():
    up = math.sin(math.radians(30))
    light = Light(torch.zeros(1, 9, 3), torch.tensor([[[0.0, up, math.cos(math.radians(30))]]]), torch.ones(1, 1, 3))
    assert key_of(light)["angles"] == pytest.approx([0, 30], abs=0.01)
    assert key_of(light)["tint"] == pytest.approx([1, 1, 1])
    assert key_of(Light.ambient(1)) is None
