"""The part of Protocol Buffers' wire format that reading an ONNX file needs. Fields are identified by number."""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterator

import numpy as np

# exceptions that reading a damaged file can raise
DAMAGE = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, struct.error)
Message = dict[int, list]  # field number -> its values in order: int (varint), bytes (fixed 32/64) or memoryview


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """(number, position after it) of the varint at position `at`. Raises ValueError if it has more than 64 bits."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number is longer than 64 bits")


def fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Each (number, value) of a message. Nested messages are not parsed, so large weights can be skipped.

    Raises ValueError for damaged data.
    """
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == 2:
            size, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if at + size > end:
            raise ValueError("the file ends in the middle of a field")
        yield number, data[at : at + size]
        at += size


def message(data: memoryview) -> Message:
    """All fields of a message, grouped by number."""
    grouped: Message = defaultdict(list)
    for number, value in fields(data):
        grouped[number].append(value)
    return grouped


def text(values: list) -> str:
    """Value of a string field: the last one, as protobuf specifies; "" if there is none."""
    return bytes(values[-1]).decode() if values else ""


def integers(values: list) -> list[int]:
    """Values of a repeated int64 or int32 field, packed or not."""
    result = []
    for value in values:
        if isinstance(value, int):
            result.append(value)
            continue
        at = 0
        while at < len(value):
            number, at = _varint(value, at)
            result.append(number)
    return [v - (1 << 64) if v >> 63 else v for v in result]


def floats(values: list, dtype: str = "<f4") -> np.ndarray:
    """Values of a repeated float field (or double, by `dtype`), packed or not."""
    return np.frombuffer(b"".join(bytes(v) for v in values), dtype)


def float32(values: list) -> float:
    """Value of a float field; 0 if there is none."""
    return struct.unpack("<f", values[-1])[0] if values else 0.0
