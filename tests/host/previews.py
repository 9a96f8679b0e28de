"""Make the pictures that the template browser shows beside each workflow: run it, and lay its results into a square.

python -m tests.host.previews [NAME ...]      (or `make previews`; needs the test host)
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageOps

from tests.support.paths import SAMPLE
from tests.support.pictures import PANELS

from .client import Client
from .install import ROOT
from .server import Server

SIDE = 800  # pixels of a card


def cut(image: Image.Image, width: int, height: int) -> Image.Image:
    """The middle of a picture in this size."""
    return ImageOps.fit(image.convert("RGB"), (width, height), Image.Resampling.LANCZOS)


def cells(image: Image.Image) -> list[Image.Image]:
    """The squares of a picture of squares in a row; any other picture is one."""
    n = round(image.width / image.height)
    return [
        image.crop((round(i * image.width / n), 0, round((i + 1) * image.width / n), image.height)) for i in range(n)
    ]


def card(images: list[Image.Image]) -> Image.Image:
    """One to four pictures in a square, of more four in even steps: templates have square cards."""
    images = [cell for image in images for cell in cells(image)]
    if len(images) > 4:
        images = [images[round(i * (len(images) - 1) / 3)] for i in range(4)]
    half = SIDE // 2
    places = {
        1: [(0, 0, SIDE, SIDE)],
        2: [(0, 0, half, SIDE), (half, 0, half, SIDE)],
        3: [(0, 0, half, half), (half, 0, half, SIDE), (0, half, half, half)],  # the second is the large one
        4: [(0, 0, half, half), (half, 0, half, half), (0, half, half, half), (half, half, half, half)],
    }
    picture = Image.new("RGB", (SIDE, SIDE))
    for image, (x, y, width, height) in zip(images, places[len(images)], strict=True):
        picture.paste(cut(image, width, height), (x, y))
    return picture


def main(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as base, Server(Path(base)) as server:
        client = Client(server.url)
        for name in names or PANELS:
            panels = PANELS[name]
            prompt = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text())
            run = client.run(prompt, timeout=900)
            if run.end != "execution_success":
                raise SystemExit(f"{name}: {run.end} {run.error}")
            pictures = [
                Image.open(SAMPLE if p == "sample" else io.BytesIO(client.view(run.outputs[p]["images"][0])))
                for p in panels
            ]
            picture = card([p.convert("RGB") for p in pictures])
            picture.save(ROOT / "workflows" / f"{name}.jpg", quality=88, optimize=True)
            print(f"workflows/{name}.jpg")


if __name__ == "__main__":
    main(sys.argv[1:])
