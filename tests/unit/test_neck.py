"""The neck is even, and nothing else changes."""

import torch

from fitdiff_core.fitting.regions import regions
from fitdiff_core.maps import TextureMaps
from fitdiff_core.neck import even_neck

SIZE = 256


def test_stripes_on_the_neck_are_gone_and_its_colour_stays(head):
    stripes = 0.3 + 0.05 * (torch.arange(SIZE) // 4 % 2).float().expand(2, 3, SIZE, SIZE)
    normal = torch.zeros(2, 3, SIZE, SIZE)
    normal[:, 2] = 1
    maps = TextureMaps(stripes, stripes, normal)
    found = even_neck(maps, head)
    neck = regions(head, ("neck",), SIZE) * (1 - regions(head, ("mouth_interior",), SIZE))
    front = neck[0, 0].clone() > 0.99
    front[: SIZE * 3 // 4] = False  # the rim below the chin
    for x in (found.diffuse, found.specular):
        assert x[0, 0][front].std() < 0.2 * stripes[0, 0][front].std()
        assert abs(float(x[0, 0][front].mean() - stripes[0, 0][front].mean())) < 0.01
    elsewhere = (neck == 0).expand_as(stripes)
    assert torch.equal(found.diffuse[elsewhere], stripes[elsewhere]) and found.normal is normal
