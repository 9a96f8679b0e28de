"""How alike two pictures are, asked of every recogniser at hand.

Only a judge that took no part in the guidance tells likeness; the guiding one is shown beside it because the gap between
the two tells how far the guidance fooled it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from .common import load_judge

NAN = float("nan")


class JudgeFile:
    """A user's `Judge` (see `common.load_judge`), with what it saw of each photo kept."""

    guided = False

    def __init__(self, path: str):
        self.judge, self.name = load_judge(path), Path(path).stem
        self._photos: dict[str, object] = {}

    def embed(self, image: Path | Image.Image):
        return self.judge.embed(str(image) if isinstance(image, Path) else image)

    def similarity(self, photo: Path, image: Path | Image.Image) -> float:
        """Cosine; NaN where it finds no face in one of the two."""
        if str(photo) not in self._photos:
            self._photos[str(photo)] = self.embed(photo)
        return self.between(self._photos[str(photo)], self.embed(image))

    @staticmethod
    def between(a, b) -> float:
        return NAN if a is None or b is None else float(a @ b)


class OwnRecogniser:
    """One of this project's recognisers: the built-in one or an ArcFace `.onnx` file or pack folder.

    It finds the face in the render itself, so a render without a face that one can see has no likeness.
    """

    def __init__(self, source: str, guided: bool):
        from fitdiff_core import pipeline

        self.recognizer, self.guided = pipeline.load_recognizer(source), guided
        self.name = self.recognizer.name
        self._photos: dict[str, torch.Tensor | None] = {}

    def embed(self, image: Path | Image.Image) -> torch.Tensor | None:
        """`[1, D]` of the largest face, or None."""
        from fitdiff_core import pipeline
        from fitdiff_core.errors import UserError
        from fitdiff_core.image import load_photo

        try:
            pixels = load_photo(image) if isinstance(image, Path) else pixels_of(image)
            return pipeline.encode(pixels, self.recognizer).embedding
        except UserError:
            return None

    def similarity(self, photo: Path, image: Path | Image.Image) -> float:
        """`Recognizer.similarity`: 1 the same picture, 0 a stranger; NaN where there is no face in one of the two."""
        if str(photo) not in self._photos:
            self._photos[str(photo)] = self.embed(photo)
        return self.between(self._photos[str(photo)], self.embed(image))

    def between(self, a, b) -> float:
        return NAN if a is None or b is None else float(self.recognizer.similarity(a, b))


def pixels_of(image: Image.Image) -> torch.Tensor:
    """PIL -> sRGB `[1, 3, H, W]`"""
    import numpy as np

    return torch.from_numpy(np.asarray(image.convert("RGB"), np.float32) / 255).permute(2, 0, 1)[None].contiguous()


def recognisers(judges: Sequence[str] = (), packs: Sequence[str] = ()) -> list[JudgeFile | OwnRecogniser]:
    """The judges first, then packs, then the built-in recogniser, which took part in the guidance."""
    found = [*map(JudgeFile, judges), *(OwnRecogniser(p, False) for p in packs), OwnRecogniser("built-in", True)]
    names = [r.name for r in found]
    for i, r in enumerate(found):
        if names.count(r.name) > 1:
            r.name = f"{r.name} {i + 1}"
    return found


def score(photo: Path, image: Path | Image.Image, recognisers: Sequence) -> dict[str, float]:
    """By recogniser's name, rounded."""
    with torch.no_grad():
        values = {r.name: r.similarity(photo, image) for r in recognisers}
    return {k: v if math.isnan(v) else round(v, 4) for k, v in values.items()}
