"""Contact sheets: rows of square pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

PANEL = 256


def contact_sheet(
    rows: list[tuple[str | list[str], list[Image.Image]]], path: Path, titles: Sequence[str] = (), side_by_side: int = 2
) -> None:
    """Write a contact sheet.

    rows: (label or one label for each picture, pictures).
    path: of the JPEG.
    titles: of the columns, at the foot of the first row.
    side_by_side: rows beside each other, so that a sheet of short rows stays compact.
    """
    columns = max(len(images) for _, images in rows)
    high = -(-len(rows) // side_by_side)
    sheet = Image.new("RGB", (side_by_side * columns * PANEL, high * PANEL))
    draw = ImageDraw.Draw(sheet)
    for i, (label, images) in enumerate(rows):
        x, y = (i // high) * columns * PANEL, (i % high) * PANEL
        for k, image in enumerate(images):
            sheet.paste(image.resize((PANEL, PANEL), Image.Resampling.LANCZOS), (x + k * PANEL, y))
        for k, text in enumerate([label] if isinstance(label, str) else label):
            _write(draw, (x + k * PANEL + 4, y + 4), text, (255, 255, 0))
        if i % high == 0:
            for k, title in enumerate(titles):
                _write(draw, (x + k * PANEL + 4, y + PANEL - 16), title, (255, 255, 255))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, quality=88)


def _write(draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, colour: tuple[int, int, int]) -> None:
    """Text with a black shadow, to be readable on white."""
    draw.text((at[0] + 1, at[1] + 1), text, fill=(0, 0, 0))
    draw.text(at, text, fill=colour)
