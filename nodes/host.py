"""What depends on the ComfyUI host: schema keywords, folders, device, progress, inference mode."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import inspect
import logging
import math
import os
import re
from collections.abc import Callable
from typing import Any

import comfy.model_management
import comfy.utils
import folder_paths
import torch
from comfy.cli_args import args
from comfy_api.latest import io
from PIL import Image
from torch.overrides import TorchFunctionMode

from ..fitdiff_core import progress
from ..fitdiff_core.errors import UserError, out_of_memory
from ..fitdiff_core.head import HeadModel, load_head
from ..fitdiff_core.image import from_image
from .categories import category_of
from .memory import Keeper

MODEL_FOLDER = "fitdiff"
MODEL_SUFFIX = ".safetensors"
BUILT_IN = "built-in"
OUT_OF_MEMORY = "There is not enough memory for this; lower size, texture_size or batch, or close other programs."
BAR_STEPS = 100
MODELS_UNSCALED = (1, 44)  # first frontend seen to leave 3D models as they are; 1.38 scales them
# Hosts that have DynamicCombo (ComfyUI 0.7) compare each choice with its options themselves.
CHECKS_CHOICES = hasattr(io, "DynamicCombo")
LOADED_AT_MOST = 5  # models kept between prompts, in addition to those that the graph holds


class Choices(list):
    """Options as the type of a combo input, the way nodes of ComfyUI's first schema give them.

    Older hosts compare a choice with such a list, and not with the options of `io.Combo`: what no node knows would stop
    the graph halfway in place of being refused. Links of the types COMBO and * still fit.
    """

    def __ne__(self, other: object) -> bool:
        return other not in ("COMBO", "*") and super().__ne__(other)


def schema(node_id: str, display_name: str, **kw) -> io.Schema:
    """`io.Schema` with the keywords that this host knows. Older hosts do not know search_aliases and others."""
    known = inspect.signature(io.Schema).parameters
    kw = {"node_id": f"FitDiff_{node_id}", "display_name": display_name, "category": category_of(node_id), **kw}
    for given in kw.get("inputs", ()):
        # API prompts may leave out what has a default: ComfyUI refuses a prompt without a required input. A file to
        # upload stays required: the frontend adds its upload button to required inputs only.
        if getattr(given, "default", None) is not None and not getattr(given, "upload", None):
            given.optional = True
        if not CHECKS_CHOICES and isinstance(given, io.Combo.Input):
            given.get_io_type = functools.partial(Choices, given.options)
    return io.Schema(**{k: v for k, v in kw.items() if k in known})


def accepted(function: Callable, **kw) -> dict[str, Any]:
    """The keywords in `kw` that `function` accepts on this host."""
    return {k: v for k, v in kw.items() if k in inspect.signature(function).parameters}


def register_folders() -> None:
    """Register the folder `models/fitdiff`; extra_model_paths.yaml may add others."""
    folder = os.path.join(folder_paths.models_dir, MODEL_FOLDER)
    with contextlib.suppress(OSError):  # a read-only models folder
        os.makedirs(folder, exist_ok=True)
    folder_paths.add_model_folder_path(MODEL_FOLDER, folder)


def checkpoints() -> list[str]:
    """Files of `models/fitdiff` that could be checkpoints."""
    return [f for f in folder_paths.get_filename_list(MODEL_FOLDER) if f.lower().endswith(MODEL_SUFFIX)]


def insightface_folders() -> list[str]:
    """Folders of insightface packs: `models/insightface`, and those that other packs or a paths file add."""
    listed = folder_paths.folder_names_and_paths.get("insightface", ([], set()))[0]
    return list(dict.fromkeys([os.path.join(folder_paths.models_dir, "insightface"), *listed]))


def user_file(name: str, endings: str | tuple[str, ...] = "") -> str | None:
    """Path of a file as the page names it ("name" or "name [temp]"); None if none of ComfyUI's folders has it.

    endings: in lower case, of which the name must have one
    """
    try:
        path = os.path.abspath(folder_paths.get_annotated_filepath(name))
    except ValueError:  # newer hosts refuse names that lead out of the folder
        return None
    _, folder = folder_paths.annotated_filepath(name)
    folder = os.path.abspath(folder or folder_paths.get_input_directory())
    inside = path.startswith(os.path.join(folder, "")) and path.lower().endswith(endings)
    return path if inside and os.path.isfile(path) else None


def device() -> torch.device:
    return comfy.model_management.get_torch_device()


def frontend_scales_models() -> bool | None:
    """Whether the frontend scales a 3D model to 5 units; None if not known.

    Newer ones leave it as it is, so that a camera means something else there. The version is that of the installed
    package or of --front-end-version; a folder of --front-end-root has none.
    """
    if getattr(args, "front_end_root", None):
        return None
    found = re.search(r"@v?(\d+)\.(\d+)", str(getattr(args, "front_end_version", "")))
    if not found:
        try:
            found = re.match(r"(\d+)\.(\d+)", importlib.metadata.version("comfyui-frontend-package"))
        except importlib.metadata.PackageNotFoundError:
            return None
    return (int(found[1]), int(found[2])) < MODELS_UNSCALED if found else None


_keeper = Keeper(LOADED_AT_MOST)


def load_once(load: Callable[[], Any], kind: str, path: str | os.PathLike | None) -> Any:
    """`load()`, cached by kind, path, file time and device. path: None for files that the pack ships.

    ComfyUI may free what was loaded ("unload models", or memory for others); see `memory.Keeper`.
    """
    stamp = os.stat(path).st_mtime_ns if path and os.path.exists(path) else None
    return _keeper.get((kind, path), (stamp, str(device())), load, device())


def head() -> HeadModel:
    """The built-in head, which every checkpoint shares."""
    return load_once(lambda: load_head(device=device()), "head", None)


class StopWhenInterrupted(TorchFunctionMode):
    """Looks at ComfyUI's interrupt before each torch operation, so that every node stops within one of them."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        comfy.model_management.throw_exception_if_processing_interrupted()
        return func(*args, **(kwargs or {}))


class Bar:
    """Progress bar of a node, shown from its first report on. Called with the share done, 0..1."""

    def __init__(self) -> None:
        self.bar: Any = None  # comfy.utils.ProgressBar, which shows itself when it is made

    def __call__(self, share: float) -> None:
        self.bar = self.bar or comfy.utils.ProgressBar(BAR_STEPS)
        self.bar.update_absolute(round(share * BAR_STEPS), BAR_STEPS)


def with_gradients(execute: Callable) -> Callable:
    """Decorator for `execute`: what every node needs around its work.

    Inputs that the prompt leaves out take their defaults. NaN, which passes the limits of the host, is refused, and an
    unknown choice that comes by a link, which the host does not see when it checks the prompt. What ComfyUI unloaded
    comes back. Interrupts and progress reach the core. A lack of memory is explained. ComfyUI runs nodes under
    `torch.inference_mode()`, whose tensors cannot take part in a backward pass. Weights loaded and identities encoded
    there could not be used by the guidance; so this leaves that mode.
    """
    names = list(inspect.signature(execute).parameters)

    @functools.wraps(execute)
    def run(*args, **kw):
        kw = {k: v for k, v in defaults_of(args[0]).items() if k in names[len(args) :]} | kw
        for name, value in kw.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise UserError(f"{name} is {value}; give a finite number.")
        for name, options in choices_of(args[0]).items():
            if kw.get(name, options[0]) not in options:
                raise UserError(f"Unknown {name} '{kw[name]}'; choose one of {', '.join(options)}.")
        check = comfy.model_management.throw_exception_if_processing_interrupted
        with torch.inference_mode(False), torch.no_grad(), progress.listen(Bar(), check), StopWhenInterrupted():
            try:
                _keeper.bring_back()
                return execute(*args, **kw)
            except (MemoryError, RuntimeError) as e:
                # ComfyUI handles the exception of a GPU itself and unloads its models
                if isinstance(e, comfy.model_management.OOM_EXCEPTION) or not out_of_memory(e):
                    raise
                raise MemoryError(f"{OUT_OF_MEMORY} ({e})") from e

    return run


def defaults_of(node: Any) -> dict[str, Any]:
    """Name -> default of the inputs of a node class that have one."""
    schema = getattr(node, "SCHEMA", None)  # set by ComfyUI when it registers the class
    return {i.id: i.default for i in getattr(schema, "inputs", ()) if getattr(i, "default", None) is not None}


def choices_of(node: Any) -> dict[str, list[str]]:
    """Name -> options of the combo inputs of a node class, but for those that its `validate_inputs` checks: files."""
    check = getattr(node, "validate_inputs", None)  # a guider is no node and has none
    own = () if check is None else inspect.signature(check).parameters
    combos = [i for i in getattr(getattr(node, "SCHEMA", None), "inputs", ()) if isinstance(i, io.Combo.Input)]
    return {i.id: list(i.options) for i in combos if i.id not in own and i.options}


def image_in(image: torch.Tensor) -> torch.Tensor:
    """IMAGE `[B, H, W, C]` -> `[B, 3, H, W]` on the host's device, usable in a backward pass."""
    return from_image(image.clone()).to(device())


def masks_in(mask: torch.Tensor | None, count: int | None = None) -> list[torch.Tensor] | None:
    """MASK `[B, H, W]` or `[H, W]` -> a list of `[1, 1, H, W]` on the host's device. None stays None.

    count: number of images; a single mask is repeated for all. None: as many as there are masks. Raises UserError for a
    tensor of another rank and another number of masks.
    """
    if mask is None:
        return None
    if mask.ndim not in (2, 3) or not mask.numel():
        raise UserError(f"The mask has the shape {tuple(mask.shape)}; connect a MASK.")
    masks = list(mask.clone().float().to(device()).reshape(-1, 1, 1, *mask.shape[-2:]))
    if count is not None and len(masks) not in (1, count):
        raise UserError(f"There are {len(masks)} masks for {count} images; give one for all, or one for each.")
    return masks * count if count and len(masks) == 1 else masks


def masks_for(mask: torch.Tensor | None, photos: torch.Tensor) -> list[torch.Tensor] | None:
    """`masks_in` for photos `[B, 3, H, W]`: masks of the photo's proportions but of another size are scaled to it.

    Core's mask nodes often work at a size of their own. A mask of other proportions stays, and is refused later.
    """
    masks, (height, width) = masks_in(mask, len(photos)), photos.shape[-2:]

    def fit(one: torch.Tensor) -> torch.Tensor:
        h, w = one.shape[-2:]
        if (h, w) == (height, width) or abs(w * height - h * width) > max(
            height, width
        ):  # more than a pixel's rounding
            return one
        return torch.nn.functional.interpolate(one, (height, width), mode="bilinear", antialias=h > height)

    return masks and [fit(one) for one in masks]


class Progress:
    """`callback(i, n, denoised)` of the sampler: moves the progress bar, shows a preview, stops an interrupted run."""

    def __init__(self, total: int, preview: Callable[[torch.Tensor], torch.Tensor] | None = None, previews: int = 8):
        """total: steps. preview: denoised latent -> sRGB `[C, H, W]`; called about `previews` times in a run."""
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


_said_by: set[str] = set()  # nodes whose text on the page is not empty


def say(node: Any, lines: list[str]) -> dict[str, list[str]]:
    """Show warnings on a node of the page, in the log, and in the history: what this returns belongs into `ui`.

    node: the class that ComfyUI executes, with `io.Hidden.unique_id` in its schema. Without lines, the text of an
    earlier run is removed.
    """
    for line in lines:
        logging.warning("FitDiff: %s", line)
    number = getattr(getattr(node, "hidden", None), "unique_id", None)
    if number is not None and (lines or number in _said_by):
        with contextlib.suppress(ImportError, AttributeError):  # outside a server
            from server import PromptServer

            PromptServer.instance.send_progress_text("\n".join(lines), number)
        (_said_by.add if lines else _said_by.discard)(number)
    return {"text": lines} if lines else {}
