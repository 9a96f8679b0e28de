from __future__ import annotations
from torch import Tensor
COARSE = 64
LEAST_ALBEDO = 4e-3
def log_albedo(x: Tensor) -> Tensor:
    return x.clamp(min=LEAST_ALBEDO).log()
