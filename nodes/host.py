"""What differs from host to host: schema keywords, folders, device, progress, inference mode. Everything else is
core."""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import os
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import comfy.model_management
import comfy.utils
import folder_paths
import torch
from comfy_api.latest import io
from PIL import Image

from ..fitdiff_core.errors import UserError, out_of_memory
from ..fitdiff_core.head import HeadModel, load_head
from ..fitdiff_core.image import from_image

CATEGORY = "FitDiff"
MODEL_FOLDER = "fitdiff"
MODEL_SUFFIX = ".safetensors"
BUILT_IN = "built-in"
OUT_OF_MEMORY = "There is not enough memory for this; lower size, texture_size or batch, or close other programs."
LOADED_AT_MOST = 5  # models kept between prompts, beside what the graph itself holds


def schema(node_id: str, display_name: str, **kw) -> io.Schema:
    """`io.Schema` with the keywords this host knows; newer ones (search_aliases, ...) are dropped on older hosts."""
    known = inspect.signature(io.Schema).parameters
    kw = {"node_id": f"FitDiff_{node_id}", "display_name": display_name, "category": CATEGORY, **kw}
    return io.Schema(**{k: v for k, v in kw.items() if k in known})


def accepted(function: Callable, **kw) -> dict[str, Any]:
    """The keywords among `kw` that `function` takes on this host."""
    return {k: v for k, v in kw.items() if k in inspect.signature(function).parameters}


def register_folders() -> None:
    """Make `models/fitdiff` known (extra_model_paths.yaml may have added others)."""
    folder = os.path.join(folder_paths.models_dir, MODEL_FOLDER)
    with contextlib.suppress(OSError):  # a models folder that may only be read
        os.makedirs(folder, exist_ok=True)
    folder_paths.add_model_folder_path(MODEL_FOLDER, folder)


def checkpoints() -> list[str]:
    """Files of `models/fitdiff` that could be checkpoints."""
    return [f for f in folder_paths.get_filename_list(MODEL_FOLDER) if f.lower().endswith(MODEL_SUFFIX)]


def insightface_folders() -> list[str]:
    """Where face nodes keep insightface packs: `models/insightface`, and what other packs or a paths file added."""
    listed = folder_paths.folder_names_and_paths.get("insightface", ([], set()))[0]
    return list(dict.fromkeys([os.path.join(folder_paths.models_dir, "insightface"), *listed]))


def device() -> torch.device:
    return comfy.model_management.get_torch_device()


_loaded: OrderedDict[tuple, Any] = OrderedDict()


def load_once(load: Callable[[], Any], kind: str, path: str | os.PathLike | None) -> Any:
    """`load()`, or what it gave before for this kind, path, file time and device. path: None for what the pack
    ships."""
    stamp = os.stat(path).st_mtime_ns if path and os.path.exists(path) else None
    key = (kind, path, stamp, str(device()))
    if key not in _loaded:
        for old in [k for k in _loaded if k[:2] == key[:2]]:
            del _loaded[old]  # the file was replaced: the old weights are of no more use
        _loaded[key] = load()
    _loaded.move_to_end(key)
    while len(_loaded) > LOADED_AT_MOST:
        _loaded.popitem(last=False)
    return _loaded[key]


def head() -> HeadModel:
    """The built-in head, which every checkpoint shares."""
    return load_once(lambda: load_head(device=device()), "head", None)


def with_gradients(execute: Callable) -> Callable:
    """Decorator for `execute` that leaves ComfyUI's inference mode and refuses NaN and infinite numbers.

    ComfyUI runs nodes under `torch.inference_mode()`. Tensors made there can never take part in a backward pass, so
    weights loaded and identities encoded there would break a later guidance. NaN passes the limits of ComfyUI's number
    inputs.
    """

    @functools.wraps(execute)
    def run(*args, **kw):
        for name, value in kw.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise UserError(f"{name} is {value}; give a finite number.")
        with torch.inference_mode(False), torch.no_grad():
            try:
                return execute(*args, **kw)
            except (MemoryError, RuntimeError) as e:
                # a GPU's own exception goes through: at that ComfyUI unloads its models
                if isinstance(e, comfy.model_management.OOM_EXCEPTION) or not out_of_memory(e):
                    raise
                raise MemoryError(f"{OUT_OF_MEMORY} ({e})") from e

    return run


def image_in(image: torch.Tensor) -> torch.Tensor:
    """IMAGE `[B, H, W, C]` -> `[B, 3, H, W]` on the host's device, free to take part in a backward pass."""
    return from_image(image.clone()).to(device())


def masks_in(mask: torch.Tensor | None, count: int | None = None) -> list[torch.Tensor] | None:
    """MASK `[B, H, W]` or `[H, W]` -> `[1, 1, H, W]` for each of count images (None: as many as there are), on the
    host's device; a single one does for all. None stays None."""
    if mask is None:
        return None
    if mask.ndim not in (2, 3) or not mask.numel():
        raise UserError(f"The mask has the shape {tuple(mask.shape)}; connect a MASK.")
    masks = list(mask.clone().float().to(device()).reshape(-1, 1, 1, *mask.shape[-2:]))
    if count is not None and len(masks) not in (1, count):
        raise UserError(f"There are {len(masks)} masks for {count} images; give one for all, or one for each.")
    return masks * count if count and len(masks) == 1 else masks


class Progress:
    """`callback(i, n, denoised)` of the sampler: moves the node's bar, shows a preview, ends the run when
    interrupted."""

    def __init__(self, total: int, preview: Callable[[torch.Tensor], torch.Tensor] | None = None, previews: int = 8):
        """preview: denoised latent -> sRGB `[C, H, W]`; called some `previews` times in a run."""
        self.bar = comfy.utils.ProgressBar(total)
        self.preview = preview
        self.every = max(1, total // previews)

    def __call__(self, i: int, n: int, denoised: torch.Tensor | None = None) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        picture = None
        if self.preview is not None and denoised is not None and ((i + 1) % self.every == 0 or i + 1 == n):
            pixels = self.preview(denoised).clamp(0, 1).mul(255).byte().permute(1, 2, 0).cpu().numpy()
            picture = ("JPEG", Image.fromarray(pixels), 512)
        self.bar.update_absolute(i + 1, n, picture)
