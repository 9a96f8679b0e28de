"""An encoder of Radiance pictures, plain and run-length."""

from __future__ import annotations

import struct

import numpy as np

HEADER = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n%s\n-Y %d +X %d\n"


def rgbe(image: np.ndarray) -> np.ndarray:
    """`[H, W, 3]` -> `[H, W, 4]` bytes: the largest channel's exponent serves all."""
    top = image.max(-1)
    mantissa, exponent = np.frexp(top)
    scale = np.where(top > 1e-32, mantissa * 256 / np.maximum(top, 1e-38), 0)
    e = np.where(top > 1e-32, exponent + 128, 0)
    return np.concatenate([(image * scale[..., None]).astype(np.uint8), e[..., None].astype(np.uint8)], -1)


def plain(image, extra=b""):
    return HEADER % (extra, *image.shape[:2]) + rgbe(image).tobytes()


def runs(image):
    """The modern form: a marker for each line, then four planes of runs (longer than 3) and literals."""
    out = HEADER % (b"", *image.shape[:2])
    for line in rgbe(image):
        out += b"\2\2" + struct.pack(">H", len(line))
        for channel in range(4):
            row, x = line[:, channel], 0
            while x < len(row):
                n = 1
                while x + n < len(row) and n < 127 and row[x + n] == row[x]:
                    n += 1
                out += bytes([128 + n, row[x]]) if n > 3 else bytes([1, row[x]])
                x += n if n > 3 else 1
    return out
