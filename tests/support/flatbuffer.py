"""Writes small FlatBuffers, for tests of the `.tflite` reader."""

from __future__ import annotations

import struct

import numpy as np


def build(root: dict) -> bytes:
    """A FlatBuffer. A table is `{field: value}`; a value is an int, an array (a vector) or a list of tables."""
    data = bytearray(4)
    struct.pack_into("<I", data, 0, _table(data, root))
    return bytes(data)


def _table(data: bytearray, fields: dict) -> int:
    """Append a table with its vtable and all that it refers to; returns its position."""
    n = max(fields, default=-1) + 1
    slots = {i: 4 + 4 * k for k, i in enumerate(sorted(fields))}
    _align(data)
    vtable = len(data)
    data += struct.pack("<HH", 4 + 2 * n, 4 + 4 * len(fields)) + b"".join(
        struct.pack("<H", slots.get(i, 0)) for i in range(n)
    )
    _align(data)
    at = len(data)
    data += struct.pack("<i", at - vtable) + bytes(4 * len(fields))
    for i, value in fields.items():
        place = at + slots[i]
        word = value & 0xFFFFFFFF if isinstance(value, int) else _value(data, value) - place
        struct.pack_into("<I", data, place, word)
    return at


def _value(data: bytearray, value: dict | list | np.ndarray) -> int:
    """Append a table or vector; returns its position."""
    if isinstance(value, dict):
        return _table(data, value)
    _align(data)
    at = len(data)
    data += struct.pack("<I", len(value))
    if isinstance(value, np.ndarray):
        data += value.tobytes()
        return at
    data += bytes(4 * len(value))
    for k, item in enumerate(value):
        place = at + 4 + 4 * k
        struct.pack_into("<I", data, place, _table(data, item) - place)
    return at


def _align(data: bytearray) -> None:
    data += bytes(-len(data) % 4)


def tiny_tflite() -> bytes:
    """A network of two operators: a convolution with 2 filters of 3 x 3 on an image of 8 x 8, and ReLU."""
    r = np.random.default_rng(0)
    weights = [r.normal(0, 1, (2, 3, 3, 3)).astype("<f4"), np.zeros(2, "<f4")]
    shapes = [(1, 8, 8, 3), (2, 3, 3, 3), (2,), (1, 8, 8, 2), (1, 8, 8, 2)]
    tensors = [{0: np.array(s, "<i4"), 1: 0, 2: i if i in (1, 2) else 0} for i, s in enumerate(shapes)]
    conv = {0: 0, 1: np.array([0, 1, 2], "<i4"), 2: np.array([3], "<i4"), 4: {0: 0, 1: 1, 2: 1, 3: 0}}
    relu = {0: 1, 1: np.array([3], "<i4"), 2: np.array([4], "<i4")}
    subgraph = {0: tensors, 1: np.array([0], "<i4"), 2: np.array([4], "<i4"), 3: [conv, relu]}
    buffers = [{}, *({0: np.frombuffer(w.tobytes(), np.uint8)} for w in weights)]
    return build({0: 3, 1: [{0: 3, 3: 3}, {0: 19, 3: 19}], 2: [subgraph], 4: buffers})
