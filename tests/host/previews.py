"""Make the pictures that the template browser shows beside each workflow: run it, and lay its results side by side.

    python -m tests.host.previews      (or `make previews`; needs the test host)
"""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path

from PIL import Image

from .client import Client
from .install import ROOT
from .server import Server

SIDE = 400  # pixels of one panel
PANELS = {  # workflow -> the files in input/ or the nodes whose pictures to show
    "photo_to_avatar": ("eileen_collins.jpg", "16", "17", "13"),
    "random_identity": ("7", "8", "10"),
}


def square(image: Image.Image) -> Image.Image:
    """The middle square, scaled to one panel."""
    side = min(image.size)
    x, y = (image.width - side) // 2, (image.height - side) // 2
    return image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS, (x, y, x + side, y + side))


def main() -> None:
    with tempfile.TemporaryDirectory() as base, Server(Path(base)) as server:
        client = Client(server.url)
        for name, panels in PANELS.items():
            prompt = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text())
            run = client.run(prompt, timeout=900)
            if run.end != "execution_success":
                raise SystemExit(f"{name}: {run.end} {run.error}")
            picture = Image.new("RGB", (SIDE * len(panels), SIDE))
            for i, panel in enumerate(panels):
                file = {"filename": panel, "type": "input"} if panel.endswith(".jpg") else run.outputs[panel]["images"][0]
                picture.paste(square(Image.open(io.BytesIO(client.view(file)))), (SIDE * i, 0))
            picture.save(ROOT / "workflows" / f"{name}.jpg", quality=88, optimize=True)
            print(f"workflows/{name}.jpg")


if __name__ == "__main__":
    main()
