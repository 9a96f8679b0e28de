"""The small networks that read a photo, from one safetensors file: `delighter` and `hair`."""

from __future__ import annotations

import os
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from .errors import UserError
from .metadata import DAMAGE, is_count, json_table, list_of

if TYPE_CHECKING:
    from .delight.network import Delighter
    from .hair.segmenter import HairSegmenter

FORMAT = "fitdiff-photo-1"
ASSET = Path(__file__).parent / "assets" / "photo.safetensors"
REPAIR = "Reinstall FitDiff, or make the file with: python -m fitdiff_lab.train.release_photo"


def widths(value: Any) -> bool:
    """Features at each level of a UNet, of a size that cannot fill the memory."""
    return list_of(is_count)(value) and 2 <= len(value) <= 8 and all(w <= 512 and w % 8 == 0 for w in value)


@lru_cache(maxsize=1)
def load_delighter() -> Delighter:
    """The shipped delighting network. Raises UserError for a missing or damaged file."""
    from .delight.network import Delighter, DelighterConfig

    return read_network("delighter", Delighter, DelighterConfig)


@lru_cache(maxsize=1)
def load_segmenter() -> HairSegmenter:
    """The shipped hair segmenter. Raises UserError for a missing or damaged file."""
    from .hair.segmenter import HairSegmenter, SegmenterConfig

    return read_network("hair", HairSegmenter, SegmenterConfig)


def read_network(part: str, kind: type[nn.Module], config: type, path: str | os.PathLike | None = None) -> Any:
    """One network of the file, frozen, on the CPU, fp32.

    part: the prefix of its tensors. kind: its class, made from `config`. path: None for the shipped file
    Raises UserError where the file is missing, damaged, or of another architecture.
    """
    path = Path(path or ASSET)
    if not path.is_file():
        raise UserError(f"The networks that read photos are missing: no file {path}. {REPAIR}")
    try:
        with safe_open(str(path), "pt") as f:
            metadata = f.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise UserError(f"{path} holds no networks for photos (format {metadata.get('format')!r}). {REPAIR}")
            described = json_table(metadata["architecture"])[part]
            if set(described) != {x.name for x in fields(config)} or not all(widths(v) for v in described.values()):
                raise ValueError(f"the architecture of {part} is {str(described)[:60]}")
            names = [n for n in f.keys() if n.startswith(part + ".")]  # noqa: SIM118 (not a dict)
            tensors = {n[len(part) + 1 :]: f.get_tensor(n).float() for n in names}
        with torch.inference_mode(False):  # other callers may want gradients
            network = kind(config(**{k: tuple(v) for k, v in described.items()}))
            network.load_state_dict(tensors)
    except UserError:  # a subclass of ValueError, but no damage
        raise
    except (SafetensorError, *DAMAGE) as e:
        raise UserError(f"{path} is damaged ({type(e).__name__}: {e}). {REPAIR}") from e
    return network.train(False).requires_grad_(False)
