"""Lips have the photo's colour; shine goes, and what is darker than the skin around it stays."""

import torch

from fitdiff_core.detail.add import plain_skin
from fitdiff_core.detail.shine import without_shine
from fitdiff_core.detail.tints import lip_tone
from fitdiff_core.fitting.regions import lip_area
from fitdiff_core.head import load_head

SIZE = 256
SKIN = torch.tensor([0.42, 0.26, 0.19]).view(1, 3, 1, 1)
REDDER = torch.tensor([-0.05, -0.35, -0.2]).view(1, 3, 1, 1)  # log


def areas():
    head = load_head()
    return lip_area(head, SIZE), plain_skin(head, SIZE)


def mean(x, weight):
    return (x * weight).sum((2, 3)) / weight.sum()


def test_lips_get_the_photos_colour_whatever_its_light():
    lips, skin = areas()
    model = SKIN.expand(1, 3, SIZE, SIZE).clone()
    light = torch.tensor([0.3, -0.1, -0.4]).view(1, 3, 1, 1)  # of the whole photo
    photo = model * (REDDER * lips + light).exp()
    tone = lip_tone(photo, model, torch.ones_like(lips), lips, skin)
    assert (mean(tone, lips * (lips > 0.9)) - REDDER[..., 0, 0]).abs().max() < 0.08
    assert tone[:, :, lips[0, 0] == 0].abs().max() == 0


def test_a_highlight_or_a_tooth_on_the_lips_changes_their_colour_little():
    lips, skin = areas()
    model = SKIN.expand(1, 3, SIZE, SIZE).clone()
    photo = model * (REDDER * lips).exp()
    columns = torch.arange(SIZE) % 6 < 2  # a third of the lips
    bright = torch.where((lips > 0.5) & columns, torch.tensor(0.8), photo)
    tone = lip_tone(bright, model, torch.ones_like(lips), lips, skin)
    naive = ((bright + 0.01) / (model + 0.01)).log()
    inner = (lips > 0.9).float()
    error, plain = ((mean(x, inner) - REDDER[..., 0, 0]).abs().max() for x in (tone, naive))
    assert error < 0.12 and error < 0.3 * plain


def test_lips_that_the_photo_does_not_show_stay():
    lips, skin = areas()
    model = SKIN.expand(1, 3, SIZE, SIZE).clone()
    assert lip_tone(0.5 * model, model, (lips == 0).float(), lips, skin).abs().max() < 0.01


def test_pale_patches_get_the_tint_of_the_skin_and_dark_ones_stay():
    skin = torch.ones(1, 1, SIZE, SIZE)
    patch = torch.zeros(1, 1, SIZE, SIZE)
    patch[..., 100:106, 100:106] = 1
    inside = patch[0, 0] > 0
    plain = SKIN.expand(1, 3, SIZE, SIZE)
    chalk = plain + 0.12 * patch
    found = without_shine(chalk, skin)
    tint = [float((x[:, 0] / x[:, 2])[..., inside].mean()) for x in (chalk, found, plain)]
    assert abs(tint[1] - tint[2]) < 0.25 * abs(tint[0] - tint[2]), tint
    light = [float(x[..., inside].mean()) for x in (chalk, found, plain)]
    assert light[2] < light[1] < light[2] + 0.8 * (light[0] - light[2]), light
    mole = plain * (1 - 0.5 * patch)
    assert (without_shine(mole, skin) - mole)[..., inside].abs().max() < 1e-6
    assert torch.equal(without_shine(chalk, 0 * skin), chalk)
