"""Frames of a film: a video file, an animated picture, or a folder of pictures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageSequence
from torch import Tensor

from .errors import UserError
from .files import PICTURES
from .image import load_photo
from .motion import check_fps

ANIMATED = (".webp", ".gif", ".apng", ".png")
FPS = 25.0  # of folders, which do not tell
LONGEST = 1280  # px of a frame's longer side; faces need no more
MOST = 20_000  # frames


@dataclass
class Film:
    """A film that is read frame by frame.

    frames: `[3, H, W]` each, sRGB 0..1. fps: frames a second. count: number of frames, None where unknown
    """

    frames: Iterator[Tensor]
    fps: float
    count: int | None


def open_film(path: str | Path, fps: float | None = None) -> Film:
    """Open a film.

    path: a video file (needs the package av), an animated WebP, GIF or PNG, or a folder of pictures in the order of
        their names. fps: frames a second that are wanted; None: as the file says, and 25 for a folder
    Raises UserError for what cannot be read, also while the frames are read.
    """
    path = Path(path)
    if fps is not None:
        check_fps(fps)
    if path.is_dir():
        return _folder(path, fps or FPS)
    if not path.is_file():
        raise UserError(f"No such video: '{path}'. Give a video file, or a folder of pictures.")
    if path.suffix.lower() in ANIMATED:
        return _animated(path, fps)
    return _video(path, fps)


def _folder(path: Path, fps: float) -> Film:
    def number(file: Path) -> list[Any]:  # frame_10 comes after frame_9
        return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", file.name.lower())]

    files = sorted((f for f in path.iterdir() if f.suffix.lower() in PICTURES), key=number)
    if not files:
        raise UserError(f"The folder {path} holds no pictures ({', '.join(PICTURES[:4])}, ...).")
    first = load_photo(files[0]).shape

    def frames() -> Iterator[Tensor]:
        for file in files:
            picture = load_photo(file)
            if picture.shape != first:
                raise UserError(f"{file.name} is of another size than {files[0].name}; the frames of a film are alike.")
            yield _small(picture[0])

    return Film(frames(), check_fps(fps), len(files))


def _animated(path: Path, fps: float | None) -> Film:
    try:
        with Image.open(path) as im:
            count = getattr(im, "n_frames", 1)
            length = 0.0
            for frame in ImageSequence.Iterator(im):
                frame.load()  # a WebP knows how long a frame lasts only then
                length += float(frame.info.get("duration", 0) or 0) / 1000
    except Exception as e:  # Pillow's readers raise many types for damaged files
        raise UserError(f"Cannot read {path} as an animated picture ({e}).") from e
    if count < 2:
        raise UserError(f"{path} is one picture, not a film; give a video, an animated picture or a folder of frames.")
    rate = count / length if length > 0 else FPS

    def frames() -> Iterator[tuple[float, Tensor]]:
        with Image.open(path) as im:
            for i, frame in enumerate(ImageSequence.Iterator(im)):
                pixels = np.asarray(frame.convert("RGB"), np.float32) / 255
                yield i / rate, torch.from_numpy(pixels).permute(2, 0, 1)

    wanted = check_fps(fps or rate)
    return Film((_small(f) for f in at_rate(frames(), wanted)), wanted, round(count / rate * wanted))


def _video(path: Path, fps: float | None) -> Film:
    try:
        import av
    except ImportError:
        raise UserError(
            f"To read the video {path.name}, install PyAV (`pip install av`), or give a folder with its frames as "
            "pictures (ffmpeg -i VIDEO frames/%05d.png)."
        ) from None
    try:
        container = av.open(str(path))
        stream = container.streams.video[0]
    except (av.FFmpegError, IndexError, OSError, ValueError) as e:
        raise UserError(
            f"Cannot read {path} as a video ({e}). Save it again as MP4, or give a folder of frames."
        ) from e
    rate = check_fps(fps or float(stream.average_rate or stream.guessed_rate or FPS))
    length = float(container.duration or 0) / 1e6

    def frames() -> Iterator[tuple[float, Tensor]]:
        try:
            with container:
                start = None
                for i, frame in enumerate(container.decode(stream)):
                    time = i / rate if frame.time is None else frame.time
                    start = time if start is None else start
                    pixels = np.rot90(frame.to_ndarray(format="rgb24"), round(getattr(frame, "rotation", 0) / 90))
                    yield time - start, torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)
        except (av.FFmpegError, OSError) as e:
            raise UserError(f"The video {path} is damaged ({e}). Save it again as MP4.") from e

    return Film((_small(f) for f in at_rate(frames(), rate)), rate, round(length * rate) or None)


def at_rate(frames: Iterator[tuple[float, Tensor]], fps: float) -> Iterator[Tensor]:
    """Frames with their times in seconds -> frames at a constant rate: for each moment the latest frame.

    Raises UserError for more than MOST.
    """
    given, last = 0, None
    for time, frame in frames:
        while last is not None and given / fps < time - 0.25 / fps:
            yield last
            given += 1
        last = frame
        if given > MOST:
            raise UserError(f"The film has more than {MOST} frames; cut it into shorter ones.")
    if last is not None:
        yield last


def _small(frame: Tensor) -> Tensor:
    """A frame whose longer side is at most LONGEST."""
    height, width = frame.shape[-2:]
    scale = LONGEST / max(height, width)
    if scale >= 1:
        return frame.contiguous()
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return F.interpolate(frame[None].contiguous(), size, mode="bilinear", antialias=True)[0].clamp(0, 1)
