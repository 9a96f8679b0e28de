"""Panoramas with values above 1: Radiance .hdr (RGBE), and .exr where OpenEXR is installed.

Format: G. Ward, "Real pixels", Graphics Gems II (1991), with the run lengths of Radiance's color.c.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError

SUFFIXES = (".hdr", ".pic", ".exr")
MAX_PIXELS = 16384 * 8192  # a panorama of 16k
LONGEST_RLE = 32767
NO_OPENEXR = (
    "Reading .exr needs the Python package OpenEXR, 3.3 or newer: pip install OpenEXR, or convert the panorama to "
    "Radiance .hdr, which needs nothing."
)


def load_hdr(path: str | os.PathLike) -> Tensor:
    """A .hdr or .exr file -> linear RGB `[1, 3, H, W]`, float32, row 0 at the top; not clipped.

    Raises UserError for a missing, damaged, oversized or unknown file.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"No such panorama: {path}. Give the path of a .hdr or .exr file.")
    if path.suffix.lower() == ".exr":
        pixels = _read_exr(path)
    else:
        try:
            pixels = decode_rgbe(path.read_bytes())
        except OSError as e:
            raise UserError(f"Cannot read {path} ({e.strerror or e}).") from e
        except UserError as e:
            raise UserError(f"{path.name}: {e}") from None
    if not np.isfinite(pixels).all():
        raise UserError(f"{path.name} holds NaN or infinite values; save it again.")
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]


def decode_rgbe(data: bytes) -> np.ndarray:
    """The bytes of a Radiance picture -> `[H, W, 3]` float32, linear. Raises UserError for damaged or unknown data."""
    if not data.startswith((b"#?RADIANCE", b"#?RGBE")):
        raise UserError("this is not a Radiance picture (it does not begin with #?RADIANCE).")
    end = data.find(b"\n\n")
    match = re.match(rb"-Y (\d{1,6}) \+X (\d{1,6})\n", data[end + 2 : end + 40]) if end > 0 else None
    if match is None:
        raise UserError(
            "the header has no size that is understood (-Y height +X width); save it upright, from the top left."
        )
    header = data[:end].decode("latin-1").splitlines()
    settings = [line.split("=", 1) for line in header if "=" in line and not line.startswith("#")]
    if any(k == "FORMAT" and v.strip() != "32-bit_rle_rgbe" for k, v in settings):
        raise UserError("the colours are not RGB (FORMAT=32-bit_rle_rgbe); convert it to RGB.")
    height, width = int(match[1]), int(match[2])
    if not 0 < height * width <= MAX_PIXELS:
        raise UserError(f"{width} x {height} pixels cannot be read; scale it down.")
    body = data[end + 2 + match.end() :]
    if height > len(body):  # less than one byte a line: stop before any memory is allocated
        raise UserError("the file is cut off; download it again.")
    rgbe = _scanlines(body, height, width)
    exposure = 1.0
    for k, v in settings:
        if k == "EXPOSURE":
            try:
                exposure *= float(v)
            except ValueError:
                raise UserError(f"the exposure '{v}' is not a number.") from None
    if not 0 < exposure < 1e30:
        raise UserError(f"an exposure of {exposure:g} cannot be right.")
    scale = np.where(rgbe[..., 3:] > 0, np.ldexp(1.0, rgbe[..., 3:].astype(np.int32) - 136), 0.0)
    return (rgbe[..., :3] * scale / exposure).astype(np.float32)


def _scanlines(body: bytes, height: int, width: int) -> np.ndarray:
    """Decode plain or run-length coded lines -> RGBE bytes `[H, W, 4]`."""
    out = np.empty((height, width, 4), np.uint8)
    at = 0
    for y in range(height):
        start = body[at : at + 4]
        if len(start) < 4:
            raise UserError(f"the file is cut off at line {y} of {height}; download it again.")
        if 8 <= width <= LONGEST_RLE and start[:2] == b"\2\2" and start[2] * 256 + start[3] == width:
            at = _planes(body, at + 4, out[y])
        else:
            at = _pixels(body, at, out[y])
    return out


def _planes(body: bytes, at: int, line: np.ndarray) -> int:
    """Decode a line of four planes of runs and literals (Radiance 2.0 and later); returns the offset of its end."""
    width = len(line)
    for channel in range(4):
        plane = bytearray()
        while len(plane) < width:
            if at + 2 > len(body):
                raise UserError("the file is cut off within a line; download it again.")
            count = body[at]
            if count > 128:
                plane += body[at + 1 : at + 2] * (count - 128)
                at += 2
            else:
                plane += body[at + 1 : at + 1 + count]
                at += 1 + count
            if count == 0 or at > len(body) or len(plane) > width:
                raise UserError("a run of pixels cannot be right; the file is damaged, download it again.")
        line[:, channel] = np.frombuffer(bytes(plane), np.uint8)
    return at


def _pixels(body: bytes, at: int, line: np.ndarray) -> int:
    """Decode a line of whole pixels; (1, 1, 1, n) repeats the previous one n times. Returns the offset of its end."""
    width, x, shift = len(line), 0, 0
    flat = np.frombuffer(body, np.uint8, min(4 * width, len(body) - at) // 4 * 4, at).reshape(-1, 4)
    if len(flat) == width and not (flat[:, :3] == 1).all(1).any():  # no runs: the usual case
        line[:] = flat
        return at + 4 * width
    while x < width:
        pixel = body[at : at + 4]
        at += 4
        if len(pixel) < 4:
            raise UserError("the file is cut off within a line; download it again.")
        if pixel[:3] == b"\1\1\1":
            count = pixel[3] << shift
            if x == 0 or x + count > width or shift > 16:
                raise UserError("a run of pixels cannot be right; the file is damaged, download it again.")
            line[x : x + count] = line[x - 1]
            x, shift = x + count, shift + 8
        else:
            line[x] = np.frombuffer(pixel, np.uint8)
            x, shift = x + 1, 0
    return at


def _read_exr(path: Path) -> np.ndarray:
    """The RGB or luminance channels of an .exr file as `[H, W, 3]` float32."""
    try:
        from OpenEXR import File
    except ImportError as e:
        raise UserError(NO_OPENEXR) from e
    try:
        with File(str(path)) as file:
            channels = {name: c.pixels for name, c in file.channels().items()}
    except (RuntimeError, ValueError, OSError, TypeError) as e:
        raise UserError(f"Cannot read {path.name} as EXR ({e}); save it again.") from e
    for name in ("RGB", "RGBA"):
        if name in channels:
            return np.asarray(channels[name], np.float32)[..., :3]
    if "Y" in channels:
        return np.repeat(np.asarray(channels["Y"], np.float32)[..., None], 3, -1)
    raise UserError(f"{path.name} has no R, G and B channels (it has {', '.join(channels)}); save it as RGB.")
