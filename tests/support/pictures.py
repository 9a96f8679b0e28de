"""What the pictures of workflows and nodes show: read by the tests, and by the tools in tests/host that make them."""

from __future__ import annotations

import json

from tests.support.paths import ROOT

PANELS = {  # workflow -> the nodes whose pictures make its square card in the template browser; "sample": the photo
    "photo_to_head": ("4",),
    "driven_head": ("7",),
    "photo_to_avatar": ("sample", "16", "17", "13"),
    "several_photos": ("17", "18", "19", "20"),
    "random_cast": ("7",),
    "identity_walk": ("21",),
    "avatar_relit_passes": ("16", "17", "19", "20"),
    "maps_upscaled": ("17", "18"),
}
FOLDER = ROOT / "web" / "docs" / "pictures"  # below web/, because help pages in ComfyUI can show nothing else
WIDTH = 330  # page pixels of a node
SCALE = 2  # screen pixels of a page pixel: text stays sharp on fine screens


def shows(info: dict) -> str:
    """A node's inputs and outputs by name, as one line of JSON. `info`: of /object_info."""
    inputs = [name for kind in ("required", "optional") for name in info["input"].get(kind, {})]
    return json.dumps({"inputs": sorted(inputs), "outputs": info["output_name"]})
