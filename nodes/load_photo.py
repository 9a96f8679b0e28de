"""Node that loads a photo: a file of the user's input folder, or the sample that comes with the pack."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from pathlib import Path

import folder_paths
import torch
from comfy_api.latest import io

from ..fitdiff_core.film import open_film
from ..fitdiff_core.image import load_photo, to_image
from . import host

SAMPLE_FILE = Path(__file__).resolve().parents[1] / "samples" / "eileen_collins.jpg"
# The page shows what is chosen by asking the host for the file, and the host serves only input, output and temp.
SAMPLE = "fitdiff/sample.jpg [temp]"
# frames of an invented person who talks: an input for FitDiff Motion from Video
PERFORMANCE_FILE = SAMPLE_FILE.with_name("performance.webp")
PERFORMANCE = "fitdiff/performance.webp [temp]"
SHIPPED = {SAMPLE: SAMPLE_FILE, PERFORMANCE: PERFORMANCE_FILE}


def offer_sample() -> None:
    """Put copies of the samples into the temp folder, for the page's preview. The node itself reads the pack's files.

    Without a server there is no page, and nothing is written.
    """
    if getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None) is None:
        return
    for name, file in SHIPPED.items():
        copy = Path(folder_paths.get_annotated_filepath(name))
        with contextlib.suppress(OSError):  # without a copy there is only no preview
            if not copy.exists():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)


def photos() -> list[str]:
    """The samples, then the pictures of the input folder."""
    offer_sample()
    folder = folder_paths.get_input_directory()
    files = [f for f in os.listdir(folder) if os.path.isfile(os.path.join(folder, f))] if os.path.isdir(folder) else []
    return [*SHIPPED, *sorted(folder_paths.filter_files_content_types(files, ["image"]))]


def photo_path(image: str) -> str | None:
    """Path of the chosen photo; None if it is not a file in one of ComfyUI's folders."""
    return str(SHIPPED[image]) if image in SHIPPED else host.user_file(image)


class LoadPhoto(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            "LoadPhoto",
            "FitDiff Load Photo",
            description="Loads a photo of a face: your own, or the sample that comes with this pack. It is turned "
            "upright, and shrunk to 2048 pixels if it is larger.",
            search_aliases=["face photo", "portrait", "sample photo"],
            inputs=[
                io.Combo.Input(
                    "image",
                    options=photos(),
                    default=SAMPLE,
                    upload=io.UploadType.image,
                    tooltip="A file of the input folder, or a sample: a photo, or the frames of a talking face. Choose "
                    "your own by the button below.",
                ),
            ],
            outputs=[io.Image.Output("photo", display_name="image")],
        )

    @classmethod
    def validate_inputs(cls, image=None):
        if image is None or photo_path(image):
            return True
        return f"There is no photo '{image}' in the input folder; upload it, or choose another."

    @classmethod
    def fingerprint_inputs(cls, image=SAMPLE):
        path = photo_path(image)
        return (image, os.stat(path).st_mtime_ns if path else 0)

    @classmethod
    @host.with_gradients
    def execute(cls, image=SAMPLE):
        if image == PERFORMANCE:
            return io.NodeOutput(to_image(torch.stack(list(open_film(PERFORMANCE_FILE).frames))))
        return io.NodeOutput(to_image(load_photo(photo_path(image) or image)))
