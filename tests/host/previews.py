"""Make the pictures that the template browser shows beside each workflow: run it, and lay its results side by side.

python -m tests.host.previews [NAME ...]      (or `make previews`; needs the test host)
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
from pathlib import Path

from PIL import Image

from tests.support.pictures import PANELS

from .client import Client
from .install import ROOT
from .server import Server

SIDE = 400  # pixels of one panel
WIDEST = 1600  # pixels of a single picture


def square(image: Image.Image) -> Image.Image:
    """The middle square, scaled to one panel."""
    side = min(image.size)
    x, y = (image.width - side) // 2, (image.height - side) // 2
    return image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS, (x, y, x + side, y + side))


def side_by_side(images: list[Image.Image]) -> Image.Image:
    """Panels in a row. A single picture, such as a contact sheet, is kept whole."""
    if len(images) == 1:
        images[0].thumbnail((WIDEST, WIDEST), Image.Resampling.LANCZOS)
        return images[0]
    picture = Image.new("RGB", (SIDE * len(images), SIDE))
    for i, image in enumerate(images):
        picture.paste(square(image), (SIDE * i, 0))
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
            files = [
                {"filename": p, "type": "input"} if p.endswith(".jpg") else run.outputs[p]["images"][0] for p in panels
            ]
            picture = side_by_side([Image.open(io.BytesIO(client.view(f))).convert("RGB") for f in files])
            picture.save(ROOT / "workflows" / f"{name}.jpg", quality=88, optimize=True)
            print(f"workflows/{name}.jpg")


if __name__ == "__main__":
    main(sys.argv[1:])
