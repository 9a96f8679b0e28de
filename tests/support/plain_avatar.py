"""A head of one skin colour, for pictures."""

from __future__ import annotations

import torch

from fitdiff_core.avatar import Avatar
from fitdiff_core.hair.presets import PRESETS
from fitdiff_core.head import load_head
from fitdiff_core.maps import TextureMaps


def plain_avatar() -> Avatar:
    """The mean head in one skin colour with dark irises and short hair."""
    head = load_head()
    eyes = head.region("eyes", 256)
    skin = torch.tensor([0.5, 0.33, 0.26]).view(1, 3, 1, 1)
    diffuse = skin * (1 - eyes) + eyes * (0.7 - 0.65 * head.region("iris", 256))
    up = torch.zeros(1, 3, 256, 256) + torch.tensor([0, 0, 1.0]).view(3, 1, 1)
    maps = TextureMaps(diffuse, torch.full_like(diffuse, 0.35), up)
    return Avatar(head, torch.zeros(1, head.n_identity), maps, (PRESETS["buzz_cut"],))
