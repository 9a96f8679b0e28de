"""The report as one HTML file: tables, then each photo with its renders. It embeds the pictures and has no scripts."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path

from PIL import Image

from .common import cell
from .modes import MODES, VIEWS, WHAT
from .summary import head, sections

SIDE = 224
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 1500px; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: .4rem 0 1.6rem; } th, td { padding: .25rem .7rem; text-align: left; }
tr + tr { border-top: 1px solid #ddd; } th { font-weight: 600; } h3 { margin-bottom: 0; }
.photo { border-top: 2px solid #888; margin-top: 2rem; } .photo td { padding: .1rem; font-size: 12px; color: #555; }
.photo tr + tr { border: 0; } .photo td { width: 224px; vertical-align: top; } img { display: block; width: 100%; }
"""


def picture(image: Image.Image) -> str:
    """An `<img>` element with an embedded JPEG."""
    small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=82)
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}">'


def table(rows: list[list[str]]) -> str:
    """HTML of a table; the first row is the header."""

    def line(tag: str, row: list[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(c).replace('`', '')}</{tag}>" for c in row) + "</tr>"

    return "<table>" + line("th", rows[0]) + "".join(line("td", r) for r in rows[1:]) + "</table>"


def block(name: str, found: dict, pictures: dict[str, dict[str, Image.Image]], photo: Image.Image | None) -> str:
    """HTML of one photo: a column for each mode, a row for each view, the likeness under each picture.

    name: of the photo. found: its results. pictures: {mode: {view: picture}}. photo: its crop, or None.
    """
    runs = " ".join(f"{m}: {r['error']}" for m, r in found["runs"].items() if r["exit"] != 0)
    yaw = "" if found["yaw"] is None else f", yaw {round(found['yaw'])}°"
    lines = [f'<div class="photo"><h3>{html.escape(name)}{yaw}</h3>']
    if runs:
        lines.append(f"<p>{html.escape(runs)}</p>")
    modes = [m for m in MODES if m in pictures]
    if modes:
        lines.append(
            "<table><tr><th>photo</th>" + "".join(f"<th>{WHAT[m].replace('`', '')}</th>" for m in modes) + "</tr>"
        )
        for i, (view, what) in enumerate(VIEWS.items()):
            first = picture(photo) if i == 0 and photo is not None else ""
            cells = [f"<td>{first}{what}</td>"]
            for mode in modes:
                scores = ", ".join(f"{k} {cell(v)}" for k, v in found["likeness"][mode][view].items())
                cells.append(f"<td>{picture(pictures[mode][view])}{html.escape(scores)}</td>")
            lines.append("<tr>" + "".join(cells) + "</tr>")
        lines.append("</table>")
    return "\n".join([*lines, "</div>"])


def write_page(path: Path, report: dict, blocks: list[str]) -> None:
    """Write the page. report: the content of `results.json`. blocks: `block` of each photo."""
    lines = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>FitDiff benchmark</title>'
        f"<style>{STYLE}</style></head><body><h1>FitDiff benchmark</h1><p>{html.escape(head(report))}</p>",
    ]
    for title, rows in sections(report):
        lines += [f"<h3>{html.escape(title)}</h3>", table(rows)]
    path.write_text("\n".join([*lines, *blocks, "</body></html>"]), "utf-8")
