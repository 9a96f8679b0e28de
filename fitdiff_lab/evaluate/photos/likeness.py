"""Likeness of two pictures by each available recogniser.

Only a judge that takes no part in the guidance measures likeness. The guiding recogniser is shown too: the gap between
both tells how far the guidance has overfitted to it.
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
    """A user's `Judge` (see `common.load_judge`). It keeps the embedding of each photo."""

    guided = False

    def __init__(self, path: str):
        self.judge, self.name = load_judge(path), Path(path).stem
        self._photos: dict[str, object] = {}

    def embed(self, image: Path | Image.Image):
        return self.judge.embed(str(image) if isinstance(image, Path) else image)

    def similarity(self, photo: Path, image: Path | Image.Image) -> float:
        """Cosine; NaN where it finds no face in one of the pictures."""
        if str(photo) not in self._photos:
            self._photos[str(photo)] = self.embed(photo)
        return self.between(self._photos[str(photo)], self.embed(image))

    @staticmethod
    def between(a, b) -> float:
        return NAN if a is None or b is None else float(a @ b)


class OwnRecogniser:
    """A recogniser of this project: the built-in one, or an ArcFace `.onnx` file or pack folder.

    source: "built-in" or a path. guided: whether it took part in the guidance.
    It detects the face in the render, so a render in which no face can be seen has no likeness.
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
        """`Recognizer.similarity`: 1 for the same picture, 0 for another person; NaN where a picture has no face."""
        if str(photo) not in self._photos:
            self._photos[str(photo)] = self.embed(photo)
        return self.between(self._photos[str(photo)], self.embed(image))

    def between(self, a, b) -> float:
        return NAN if a is None or b is None else float(self.recognizer.similarity(a, b))


def pixels_of(image: Image.Image) -> torch.Tensor:
    """sRGB `[1, 3, H, W]` in 0..1 of a PIL picture."""
    import numpy as np

    return torch.from_numpy(np.asarray(image.convert("RGB"), np.float32) / 255).permute(2, 0, 1)[None].contiguous()


def recognisers(judges: Sequence[str] = (), packs: Sequence[str] = ()) -> list[JudgeFile | OwnRecogniser]:
    """The judges, then the packs, then the built-in recogniser, which takes part in the guidance."""
    found = [*map(JudgeFile, judges), *(OwnRecogniser(p, False) for p in packs), OwnRecogniser("built-in", True)]
    names = [r.name for r in found]
    for i, r in enumerate(found):
        if names.count(r.name) > 1:
            r.name = f"{r.name} {i + 1}"
    return found


def score(photo: Path, image: Path | Image.Image, recognisers: Sequence) -> dict[str, float]:
    """Likeness of a render to a photo by each recogniser's name, rounded."""
    with torch.no_grad():
        values = {r.name: r.similarity(photo, image) for r in recognisers}
    return {k: v if math.isnan(v) else round(v, 4) for k, v in values.items()}
