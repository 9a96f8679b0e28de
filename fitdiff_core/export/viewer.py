"""One HTML file that shows a head and needs nothing else: the page of FitDiff Stage, three.js and the GLB."""

from __future__ import annotations

import base64
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..files import write_atomic
from ..render.panoramas import PANORAMAS, panorama_file
from ..stage import stage_payload
from .glb import encode_glb

if TYPE_CHECKING:
    from ..avatar import Avatar
    from ..scene import Scene

WEB = Path(__file__).resolve().parents[2] / "web" / "stage"
MODULES = ("materials", "world", "style", "stage")  # in the order of their imports
POLICY = (  # no request at all
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src blob: data:; "
    "connect-src blob: data:"
)
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="%(policy)s">
<title>%(title)s</title>
<style>
html, body, #stage { height: 100%%; margin: 0; background: #17181a }
#stage { border-radius: 0 }
</style>
<div id="stage"></div>
<script type="application/json" id="data">%(data)s</script>
<script type="module">
%(script)s
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;
const data = JSON.parse(document.getElementById("data").textContent);
const files = Object.fromEntries(Object.entries(data.panoramas).map(([name, text]) => [name, bytes(text)]));
window.stage = new Stage(document.getElementById("stage"));
stage.show(bytes(data.glb), { ...data.tables, files }, "").then(() => { window.loaded = true; });
</script>
</html>
"""


def write_viewer(path: str | os.PathLike, avatar: Avatar, scene: Scene | None = None, title: str = "FitDiff") -> Path:
    """Write the page; it opens from a disk, without a server or the network. Returns the path.

    avatar: batch 1. scene: its camera, light and expression are what the page begins with; None is a studio portrait
    Raises UserError as `write_glb`, and where the page's parts are not installed.
    """
    data: dict[str, Any] = {
        "glb": base64.b64encode(encode_glb(avatar, rig=False)).decode(),
        "tables": stage_payload(avatar, scene),
        "panoramas": {name: base64.b64encode(panorama_file(name).read_bytes()).decode() for name in PANORAMAS},
    }
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    safe = re.sub(r"[<>&\"]", "_", title)
    return write_atomic(path, (PAGE % {"policy": POLICY, "title": safe, "data": text, "script": script()}).encode())


def script() -> str:
    """The page's modules as one script: without imports, so that a browser runs it from a file too."""
    try:
        three = (WEB / "three.min.mjs").read_text(encoding="utf-8")
        modules = [(WEB / f"{name}.mjs").read_text(encoding="utf-8") for name in MODULES]
    except OSError as e:
        raise UserError(f"The viewer's files are not here ({e}); use FitDiff from its repository or as a pack.") from e
    at = three.rindex("export{")
    names = re.findall(r"([\w$]+)(?: as ([\w$]+))?", three[at + 7 : three.index("}", at)])
    table = ",".join(f"{public or name}:{name}" for name, public in names)
    body = [re.sub(r"^(import [^\n]*;\n|export )", "", m, flags=re.MULTILINE) for m in modules]
    text = "\n".join([f"const THREE=(()=>{{{three[:at]};return{{{table}}}}})();", *body])
    return text.replace("</script", "<\\/script")
