"""The eyeLook weights that belong to a gaze: with them the lids follow the eyes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from ..export.blendshapes import LOOK_ANGLE, LOOKS


def look_weights(gaze: Tensor, names: Sequence[str]) -> Tensor:
    """Weights `[F, 52]` of a gaze `[F, 2]` (yaw, pitch, radians); NaN for shapes that are no eyeLook."""
    weights = gaze.new_full((len(gaze), len(names)), math.nan)
    for look, (across, up) in LOOKS.items():
        for side, sign in (("Left", 1.0), ("Right", -1.0)):
            if look + side in names:
                amount = (gaze[:, 0] * across * sign + gaze[:, 1] * up) / LOOK_ANGLE
                weights[:, list(names).index(look + side)] = amount.clamp(0, 1)
    return weights
