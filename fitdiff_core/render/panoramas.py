"""Six small panoramas that the pack ships (Poly Haven, CC0), as lights."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from torch import Tensor

from ..errors import UserError
from .hdr import load_hdr
from .light import PRESETS, Light

FOLDER = Path(__file__).resolve().parents[1] / "assets" / "panoramas"
# name: (name in npm's @pmndrs/assets, degrees that it was turned to the subject's left)
PANORAMAS: dict[str, tuple[str, float]] = {
    "softboxes": ("studio", 20.0),
    "apartment": ("apartment", 0.0),
    "warehouse": ("warehouse", 0.0),
    "clouds": ("sky", 0.0),
    "forest": ("forest", 0.0),
    "dusk": ("sunset", 0.0),
}


NAMES = (*PRESETS, *PANORAMAS)


def panorama_file(name: str) -> Path:
    """Path of a shipped panorama. Raises UserError for an unknown name, or a missing file."""
    if name not in PANORAMAS:
        raise UserError(f"Unknown panorama '{name}'; choose one of {', '.join(PANORAMAS)}.")
    path = FOLDER / f"{name}.hdr"
    if not path.is_file():
        raise UserError(f"The panorama {path} is missing; install the pack again.")
    return path


@lru_cache(maxsize=len(PANORAMAS))
def panorama(name: str) -> Tensor:
    """Linear radiance `[1, 3, 128, 256]` of a shipped panorama. Not to be changed. Errors as `panorama_file`."""
    return load_hdr(panorama_file(name))


def named_light(name: str) -> Light:
    """A preset or a shipped panorama as a light of batch 1. Raises UserError for an unknown name."""
    if name not in NAMES:
        raise UserError(f"Unknown light '{name}'; choose one of {', '.join(NAMES)}.")
    return panorama_light(name) if name in PANORAMAS else Light.preset(name)


def panorama_light(name: str, lamps: int = 1) -> Light:
    """A shipped panorama as a light of batch 1, see `Light.from_environment`."""
    return Light.from_environment(panorama(name), lamps)
